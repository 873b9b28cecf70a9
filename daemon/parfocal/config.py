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


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where images come from. `polled` None lets the file system decide."""

    kind: Literal["folder"] = "folder"
    path: str = ""
    um_per_px: float | None = None
    polled: bool | None = None


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which bundle, on which device. `threads` 0 lets onnxruntime choose."""

    bundle: str = "hek293a-ht1080"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    sha256: str | None = None
    threads: int = 0


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


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration of a rig."""

    rig: str = "rig"
    state_dir: str = "/var/lib/parfocal"
    source: Source = Source()
    model: Model = Model()
    detector: DetectorChoice = DetectorChoice()
    publish: Publish = Publish()
    limits: Limits = Limits()


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
    limits = settings.limits
    if min(limits.max_pixels, limits.max_bytes, limits.max_cells, limits.read_cpu_s) < 1:
        raise ConfigError(f"{where}: the limits must be at least 1")
    if not all(0 < wall_s <= 86_400 for wall_s in (limits.read_wall_s, limits.infer_wall_s)):
        raise ConfigError(f"{where}: limits of time lie between 0 and 86400 seconds")
    if settings.model.threads < 0:
        raise ConfigError(f"{where}: model.threads is {settings.model.threads}, at least 0")


def _plain(text: str) -> str:
    """Msgspec's message with `$.source.path` written as `source.path`."""
    return text.replace("`$.", "`").replace("`", "'")


def state_home() -> Path:
    """Folder for the state of commands that are not the daemon (XDG)."""
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(home) / "parfocal"
