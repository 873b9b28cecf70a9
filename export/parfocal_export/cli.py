"""`parfocal-export`: a finished training becomes one ONNX file for the daemon."""

import argparse
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from parfocal import __version__
from parfocal.bundle import load_any
from parfocal.card import ClassifierCard, DetectorCard
from parfocal_export.about import read_about
from parfocal_export.bundle import make_bundle
from parfocal_export.detector import make_detector_bundle
from parfocal_training.checkpoint import read_checkpoint
from parfocal_training.detector.checkpoint import is_detector, read_detector
from parfocal_training.errors import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_IO,
    TrainingError,
    sentence,
)
from parfocal_training.write import write_whole

log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """All options."""
    top = argparse.ArgumentParser(
        prog="parfocal-export",
        description="Make the model that parfocal runs from a training, and prove that they agree.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    top.add_argument("checkpoint", type=Path, help="folder made by parfocal-train")
    top.add_argument("-o", "--out", type=Path, required=True, help="ONNX file to write")
    top.add_argument("--about", type=Path, help="TOML: name, version, licence, description, ...")
    top.add_argument("--name", help="of the model; goes before the file's")
    top.add_argument("--model-version", help="of the model; goes before the file's")
    top.add_argument("--licence", help="of the weights; goes before the file's")
    top.add_argument("--precision", choices=("f32",), default="f32", help="of the weights")
    top.add_argument("--json", action="store_true", help="JSON Lines on stdout, nothing else")
    top.add_argument("--debug", action="store_true", help="show the traceback of an error")
    top.add_argument("--version", action="version", version=f"parfocal {__version__}")
    return top


def export(options: argparse.Namespace, console: Console) -> None:
    """Read, convert, prove, write, and read back what was written as the daemon would."""
    given = {"name": options.name, "version": options.model_version, "licence": options.licence}
    about, now = read_about(options.about, given), datetime.now(UTC)
    card: ClassifierCard | DetectorCard
    if is_detector(options.checkpoint):
        detector, net = read_detector(options.checkpoint)
        data, card, worst = make_detector_bundle(detector, net, about, now)
        what, extra = "a detector", dict[str, object](kind="detector")
    else:
        checkpoint, model = read_checkpoint(options.checkpoint)
        data, card, worst = make_bundle(checkpoint, model, about, now)
        what, extra = " / ".join(card.classes), {"classes": card.classes}
    write_whole(options.out, data)
    bundle = load_any(str(options.out))
    report = {"out": str(options.out), "sha256": bundle.sha256, "bytes": len(data),
              "name": card.name, **extra, "parity": worst}  # fmt: skip
    if options.json:
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
        return
    console.print(
        f"{options.out}: {card.name} {card.version}, {what}, "
        f"{len(data) / 1e6:.1f} MB, within {worst:.1g} of the trained network",
        soft_wrap=True,
    )
    console.print(f"sha256 {bundle.sha256}", soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Export and return the exit code."""
    options = parser().parse_args(argv)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    try:
        export(options, Console(stderr=options.json))
    except KeyboardInterrupt:
        log.error("interrupted; nothing was written")
        return EXIT_INTERRUPTED
    except (TrainingError, OSError) as error:
        if options.debug:
            log.exception("traceback")
        log.error("parfocal-export: %s", sentence(error))
        return error.exit_code if isinstance(error, TrainingError) else EXIT_IO
    return EXIT_DONE
