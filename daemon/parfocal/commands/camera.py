"""`parfocal camera`: which cameras there are, and what the configured one shows and does."""

import argparse
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
from rich.table import Table

from parfocal import console
from parfocal.camera.device import CameraError, Described
from parfocal.camera.protocol import Seen
from parfocal.camera.spool import write
from parfocal.camera.visit import Visit, listed, visit
from parfocal.commands.arguments import (
    FAILED,
    OK,
    Commands,
    command,
    configured,
    jsonable,
    print_json,
)
from parfocal.config import CameraSettings, ConfigError, find, load
from parfocal.quantities import between, count
from parfocal.reasons import SENTENCES

LOOK_S = 0.5
PREVIEW_PX = 960
PATIENCE_S = 10.0
"""A camera that shows nothing for so long, and three exposures, is not waited for."""


def add_camera(commands: Commands) -> None:
    """Add the arguments of `parfocal camera` and its sub-commands."""
    text = "list cameras; look through the configured one, snap, or test it"
    made = commands.add_parser("camera", help=text, description=text)
    parts = made.add_subparsers(metavar="WHAT", required=True)
    listing = command(parts, "list", "cameras that the installed adapters know", run_list)
    jsonable(listing)
    snapping = command(parts, "snap", "save one frame losslessly", run_snap)
    snapping.add_argument("image", type=Path, metavar="IMAGE.png", help="a new file")
    testing = command(parts, "test", "rate, lost frames and exposure of many frames", run_test)
    testing.add_argument("--frames", type=count, default=100, metavar="N",
                         help="frames to look at (default: 100)")  # fmt: skip
    viewing = command(parts, "preview", "a small JPEG that is written again and again", run_preview)
    viewing.add_argument("--out", type=Path, default=Path("preview.jpg"), metavar="FILE",
                         help="where (default: preview.jpg); an image viewer that reloads shows "
                         "it live")  # fmt: skip
    viewing.add_argument("--frames", type=count, metavar="N",
                         help="end after N pictures (default: at Ctrl-C)")  # fmt: skip
    for part in (snapping, testing, viewing):
        _chosen(part)
    for part in (snapping, testing):
        jsonable(part)


def _chosen(made: argparse.ArgumentParser) -> None:
    configured(made)
    made.add_argument("--device", nargs=2, metavar=("LIBRARY", "NAME"),
                      help="this camera, as `parfocal camera list` prints it")  # fmt: skip
    made.add_argument("--exposure-ms", type=between(0.001, 60_000, "ms"), metavar="X",
                      help="this exposure")  # fmt: skip


def camera_of(options: argparse.Namespace) -> CameraSettings:
    """The camera of the configuration, with what the command line says instead."""
    camera = CameraSettings()
    if options.overrides or find(options.config):
        camera = load(options.config, tuple(options.overrides)).source.camera
    if options.device:
        library, name = options.device
        camera = msgspec.structs.replace(camera, device=(library, name), config_file="")
    if options.exposure_ms:
        camera = msgspec.structs.replace(camera, exposure_ms=options.exposure_ms)
    if not (camera.device or camera.config_file):
        raise ConfigError(
            "no camera is configured: give --device LIBRARY NAME as `parfocal camera list` prints "
            "it, or set source.camera.device"
        )
    return camera


def run_list(options: argparse.Namespace) -> int:
    """`parfocal camera list`: status 1 when an adapter cannot be loaded."""
    found = listed()
    if options.json:
        for device in found.devices:
            print_json(device)
    else:
        table = Table(box=None, header_style="bold")
        for name in ("library", "name", "what it is"):
            table.add_column(name, overflow="fold")
        for device in found.devices:
            table.add_row(device.library, device.name, device.fault or device.description)
        console.out().print(table)
    if found.adapters:
        console.say(f"adapters: {found.adapters}")
    if found.note:
        console.say(f"note: {found.note}")
    return FAILED if any(device.fault for device in found.devices) else OK


def run_snap(options: argparse.Namespace) -> None:
    """`parfocal camera snap`."""
    path = options.image
    if path.suffix.lower() != ".png":
        raise ConfigError(f"a frame is saved as PNG, which loses nothing: name it {path.stem}.png")
    if path.exists():
        raise ConfigError(f"{path} is there already: name a new file")
    with visit(camera_of(options)) as camera:
        seen = camera.snap(str(path.absolute()), patience_s(camera.described))
    if seen.keep_fault:
        raise CameraError(seen.keep_fault)
    if options.json:
        print_json({"path": str(path), **_facts(camera.described), **_light(seen)})
    else:
        print(f"{path}: {sentence(camera.described)}; {light(seen)}")


def run_test(options: argparse.Namespace) -> int:
    """`parfocal camera test`: status 1 when frames were lost or none came."""
    frame_s: list[float] = []
    n_missed = n_overflows = 0
    view = None
    with visit(camera_of(options)) as camera:
        last_s = time.monotonic()
        while len(frame_s) < options.frames and time.monotonic() - last_s < patience_s(
            camera.described
        ):
            new = camera.look(LOOK_S, 0, options.frames - len(frame_s))
            # what came before the first look is no loss
            n_missed += new.n_missed if frame_s else 0
            n_overflows += new.n_overflows
            frame_s += new.frame_s
            if new.frame_s:
                last_s, view = time.monotonic(), new.view
        # apart from the others: to grade a frame takes as long as one or two of them
        seen = camera.look(LOOK_S, PREVIEW_PX) if frame_s else Seen()
    seen = msgspec.structs.replace(seen, view=view)
    row = _rates(np.array(frame_s)) | {"n_missed": n_missed, "n_overflows": n_overflows}
    if options.json:
        print_json({**_facts(camera.described), **row, **_light(seen), "view": view})
    else:
        _print_test(camera.described, row, seen)
    return OK if frame_s and not n_missed else FAILED


def _rates(frame_s: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> dict[str, float | None]:
    """How many, how fast and how evenly: frame times, shape (n,), in seconds."""
    gaps_ms = 1e3 * np.diff(frame_s)
    if not len(gaps_ms):
        return {"frames": len(frame_s), "fps": None, "gap_ms": None, "gap_p95_ms": None}
    return {
        "frames": len(frame_s),
        "fps": round(1e3 / float(gaps_ms.mean()), 3),
        "gap_ms": round(float(np.median(gaps_ms)), 3),
        "gap_p95_ms": round(float(np.quantile(gaps_ms, 0.95)), 3),
    }


def _print_test(described: Described, row: dict[str, float | None], seen: Seen) -> None:
    print(sentence(described))
    if row["fps"] is None:
        waited = f"in {patience_s(described):g} s"
        none = f"no trigger came {waited}" if described.trigger == "external" else f"none {waited}"
        print(none if not row["frames"] else "1 frame: no rate can be told")
        return
    print(f"{row['frames']} frames, {row['fps']:.1f} per second; from one to the next "
          f"{row['gap_ms']:.1f} ms (95th percentile {row['gap_p95_ms']:.1f} ms)")  # fmt: skip
    print(f"{row['n_missed']} missed, {row['n_overflows']} overflows; {light(seen)}")
    if seen.view:
        print(SENTENCES[seen.view])


def run_preview(options: argparse.Namespace) -> None:
    """`parfocal camera preview`: until --frames or Ctrl-C."""
    out = options.out
    if out.suffix.lower() not in (".jpg", ".jpeg"):
        raise ConfigError(f"a preview is a JPEG: name it {out.stem}.jpg")
    with visit(camera_of(options)) as camera:
        console.say(f"{sentence(camera.described)}; see {out}, end with Ctrl-C")
        try:
            _refresh(camera, out, options.frames)
        except KeyboardInterrupt:
            console.say("")


def _refresh(camera: Visit, out: Path, n: int | None) -> None:
    end = "\r" if sys.stdout.isatty() else "\n"
    done, last_s, told = 0, time.monotonic(), None
    external = camera.described.trigger == "external"
    while n is None or done < n:
        seen = camera.look(LOOK_S, PREVIEW_PX)
        if not seen.preview:
            silent_s = time.monotonic() - last_s
            if not external and silent_s > patience_s(camera.described):
                raise CameraError(f"no frame came for {silent_s:.0f} s")
            continue
        write(out.absolute(), seen.preview)
        if seen.view and seen.view is not told:
            console.say(f"{SENTENCES[seen.view]:<79}")
        told = seen.view
        done, last_s = done + 1, time.monotonic()
        rate = len(seen.frame_s) / LOOK_S
        print(f"{light(seen)}, {rate:.0f} frames/s   ", end=end, flush=True)


def patience_s(described: Described) -> float:
    """How long a frame is waited for, before nothing is expected any more."""
    return PATIENCE_S + 3e-3 * described.exposure_ms


def sentence(described: Described) -> str:
    """The camera in a line."""
    return (
        f"{described.name} of {described.library}: {described.width_px}x{described.height_px} px, "
        f"{described.pixel_type}, {described.exposure_ms:g} ms, {described.trigger} trigger"
    )


def light(seen: Seen) -> str:
    """How the last frame is lit and how sharp it is."""
    return f"mean {seen.mean:.0%} of full scale, {seen.clipped:.1%} clipped, focus {seen.focus:.2f}"


def _light(seen: Seen) -> dict[str, float]:
    return {
        "mean": round(seen.mean, 4),
        "clipped": round(seen.clipped, 4),
        "focus": round(seen.focus, 4),
    }


def _facts(described: Described) -> dict[str, object]:
    facts: dict[str, object] = msgspec.to_builtins(described)
    return {key: value for key, value in facts.items() if key != "type"}
