"""The configuration: one TOML file, every key known, a wrong one answered with the nearest."""

import difflib
import os
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

PLACES = (
    Path("parfocal.toml"),
    Path(os.path.expanduser("~/.config/parfocal/parfocal.toml")),
    Path("/etc/parfocal/parfocal.toml"),
)
"""Where `parfocal run` looks when no --config is given; the first that exists wins."""


class ConfigError(Exception):
    """A configuration that cannot be used; the message says where and what to do."""


Trigger = Literal["continuous", "software", "external"]


class CameraSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A camera that parfocal drives, and how it is set; what is None stays as the driver has it.

    Parameters
    ----------
    config_file : str
        A Micro-Manager configuration (`MMConfig.cfg`); or else `device`.
    device : tuple of str
        Device library and name, as `parfocal camera list` prints them.
    exposure_ms, gain, binning, pixel_type
        As the driver takes them.
    roi : tuple of int
        left, top, width, height in camera pixels.
    properties : dict
        Further properties of the driver, set first.
    trigger : str
        continuous: it runs freely. software: each frame is asked for. external: frames come when
        somebody triggers them, and none is no fault.
    gate : str
        Which frames are kept and classified. every: one in `every_s` seconds; 0 keeps each. rest:
        one sharp frame of each rest of a flask that is pushed by hand, and no place twice.
    buffer_mb : int
        Memory for frames that were not looked at yet.
    open_wall_s : float
        A driver that takes longer to open is given up and tried again.
    """

    config_file: str = ""
    device: tuple[str, str] | None = None
    exposure_ms: float | None = None
    gain: float | None = None
    binning: int | None = None
    pixel_type: str | None = None
    roi: tuple[int, int, int, int] | None = None
    properties: dict[str, str | int | float] = {}
    trigger: Trigger = "continuous"
    gate: Literal["every", "rest"] = "every"
    every_s: float = 2.0
    buffer_mb: int = 256
    open_wall_s: float = 30.0


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where images come from: a folder that others fill, or one that parfocal's camera fills.

    `polled` None lets the file system decide.
    """

    kind: Literal["folder", "camera"] = "folder"
    path: str = ""
    um_per_px: float | None = None
    polled: bool | None = None
    camera: CameraSettings = CameraSettings()


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which bundle, on which device. `threads` 0 lets onnxruntime choose.

    `shadow` names a second bundle, "" for none: its answers are stored and never published.
    """

    bundle: str = "hek293a-ht1080"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    sha256: str | None = None
    threads: int = 0
    shadow: str = ""


class DetectorChoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which detector finds the cells: `auto`, `classical`, a shipped name or a bundle file."""

    name: str = "auto"
    sha256: str | None = None


class Publish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the two sockets listen."""

    live: str = "tcp://127.0.0.1:5640"
    replay: str = "tcp://127.0.0.1:5641"


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds on one image."""

    max_pixels: int = 64_000_000
    max_bytes: int = 256 * 1024 * 1024
    max_cells: int = 1024
    read_wall_s: float = 15.0
    read_cpu_s: int = 10
    infer_wall_s: float = 120.0


class FlaskRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What flask sessions must say, and when one that nobody closed ends.

    Parameters
    ----------
    required : tuple of str
        A flask is not opened without these; one that is declared without them is flagged.
    close_after_h : float
        Hours without a frame after which a session is closed; 0 never does.
    qr : bool or "stage"
        Whether a QR code in an image declares its flask. stage: it does what a hand scanner does,
        so that the images after it are of that flask too.
    folder_names : bool
        Whether a folder named like F12_HT1080_P7 declares the flask of the images in it.
    """

    required: tuple[Literal["cell_line", "passage", "note"], ...] = ()
    close_after_h: float = 12.0
    qr: bool | Literal["stage"] = False
    folder_names: bool = False


class VerdictRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a flask was looked at enough: half width of the 95 % interval of its declared share."""

    half_width: float = 0.05


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration of a rig."""

    rig: str = "rig"
    state_dir: str = "/var/lib/parfocal"
    source: Source = Source()
    model: Model = Model()
    detector: DetectorChoice = DetectorChoice()
    publish: Publish = Publish()
    limits: Limits = Limits()
    flask: FlaskRules = FlaskRules()
    verdict: VerdictRules = VerdictRules()


def find(path: Path | None) -> Path | None:
    """The configuration file to read: the given one, else the first of `PLACES` that exists."""
    return path or next((place for place in PLACES if os.path.exists(place)), None)


def load(path: Path | None, overrides: tuple[str, ...] = ()) -> Settings:
    """Settings from a TOML file and `table.key=value` overrides.

    Raises
    ------
    ConfigError
        The file is missing or not TOML, a key is unknown (the nearest one is named), a value does
        not fit, or an override is no `key=value`.
    """
    where = find(path)
    if where is None and not overrides:
        places = ", ".join(map(str, PLACES))
        raise ConfigError(f"no configuration: give --config FILE, or make one of {places}")
    tree = _read(where) if where else {}
    for override in overrides:
        _override(tree, override)
    settings = parse(tree, str(where or "--set"))
    return settings


def parse(tree: dict[str, Any], where: str) -> Settings:
    """Settings from a parsed TOML tree; `where` names it in errors."""
    _check_keys(tree, Settings, "", where)
    try:
        settings = msgspec.convert(tree, Settings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_plain(str(error))}") from error
    _check_values(settings, where)
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(f"there is no configuration file {path}") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"--set takes table.key=value, got '{override}'")
    *tables, name = key.strip().split(".")
    for table in tables:
        tree = tree.setdefault(table, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {override}: {table} is not a table")
    tree[name] = _value(text.strip())


def _value(text: str) -> object:
    """A TOML value, or the text itself where it is none (so that paths need no quotes)."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _check_keys(tree: dict[str, Any], kind: type[msgspec.Struct], prefix: str, where: str) -> None:
    names = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in tree.items():
        if key not in names:
            near = difflib.get_close_matches(key, names, 1, 0.5)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(names)}"
            raise ConfigError(f"{where}: there is no key {prefix}{key}; {hint}")
        table = names[key]
        if isinstance(table, type) and issubclass(table, msgspec.Struct):
            if not isinstance(value, dict):
                raise ConfigError(f"{where}: {prefix}{key} is a table, write [{prefix}{key}]")
            _check_keys(value, table, f"{prefix}{key}.", where)


def _check_values(settings: Settings, where: str) -> None:
    rig = settings.rig
    if not rig or not all(c.isalnum() or c in "-_" for c in rig):
        raise ConfigError(f"{where}: rig is '{rig}'; use letters, digits, - and _")
    scale = settings.source.um_per_px
    if scale is not None and not 0.01 <= scale <= 100:
        raise ConfigError(f"{where}: source.um_per_px is {scale}, not between 0.01 and 100")
    _check_camera(settings.source, where)
    _check_rules(settings, where)
    limits = settings.limits
    if min(limits.max_pixels, limits.max_bytes, limits.max_cells, limits.read_cpu_s) < 1:
        raise ConfigError(f"{where}: the limits must be at least 1")
    if not all(0 < wall_s <= 86_400 for wall_s in (limits.read_wall_s, limits.infer_wall_s)):
        raise ConfigError(f"{where}: limits of time lie between 0 and 86400 seconds")
    if settings.model.threads < 0:
        raise ConfigError(f"{where}: model.threads is {settings.model.threads}, at least 0")


def _check_rules(settings: Settings, where: str) -> None:
    spans = {
        "flask.close_after_h": (settings.flask.close_after_h, 0.0, 8760.0),
        "verdict.half_width": (settings.verdict.half_width, 0.005, 0.5),
    }
    for name, (value, low, high) in spans.items():
        if not low <= value <= high:
            raise ConfigError(f"{where}: {name} is {value}, not between {low:g} and {high:g}")


def _check_camera(source: Source, where: str) -> None:
    camera, table = source.camera, "source.camera"
    if camera.config_file and camera.device:
        raise ConfigError(f"{where}: {table} has config_file and device: give one of them")
    if source.kind == "camera" and not (camera.config_file or camera.device):
        raise ConfigError(
            f"{where}: source.kind is 'camera', so set {table}.device or {table}.config_file; "
            "`parfocal camera list` says what there is"
        )
    spans = {
        "exposure_ms": (camera.exposure_ms, 0.001, 60_000.0),
        "every_s": (camera.every_s, 0.0, 86_400.0),
        "open_wall_s": (camera.open_wall_s, 1.0, 600.0),
        "buffer_mb": (camera.buffer_mb, 8, 65_536),
        "binning": (camera.binning, 1, 64),
    }
    for name, (value, low, high) in spans.items():
        if value is not None and not low <= value <= high:
            raise ConfigError(
                f"{where}: {table}.{name} is {value}, not between {low:g} and {high:g}"
            )
    if camera.roi and not (min(camera.roi[:2]) >= 0 and min(camera.roi[2:]) >= 1):
        raise ConfigError(
            f"{where}: {table}.roi is {list(camera.roi)}; it takes left, top, width, height"
        )


def _plain(text: str) -> str:
    """Msgspec's message with `$.source.path` written as `source.path`."""
    return text.replace("`$.", "`").replace("`", "'")


def state_home() -> Path:
    """Folder for the state of commands that are not the daemon (XDG)."""
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(home) / "parfocal"
