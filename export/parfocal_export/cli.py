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
from parfocal.bundle import Bundle, BundleError, load, load_any
from parfocal.card import ClassifierCard, DetectorCard, Phenotypes
from parfocal_export.about import About, read_about
from parfocal_export.bundle import make_bundle
from parfocal_export.detector import make_detector_bundle
from parfocal_export.remeasure import held_out, remeasured, source
from parfocal_export.sentences import as_written
from parfocal_training import cropset
from parfocal_training.checkpoint import read_checkpoint
from parfocal_training.detector.checkpoint import is_detector, read_detector
from parfocal_training.errors import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    DataError,
    TrainingError,
    UsageError,
    exit_code,
    sentence,
)
from parfocal_training.networks import weights_sha256
from parfocal_training.options import between_0_and_1
from parfocal_training.phenotypes.store import read_model
from parfocal_training.write import write_whole

log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """All options."""
    top = argparse.ArgumentParser(
        prog="parfocal-export",
        description="Make the model that parfocal runs from a training, and prove that they agree.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    top.add_argument("checkpoint", type=Path,
                     help="folder made by parfocal-train; with --measure a bundle")  # fmt: skip
    top.add_argument("-o", "--out", type=Path, required=True, help="ONNX file to write")
    top.add_argument("--about", type=Path, help="TOML: name, version, licence, description, ...")
    top.add_argument("--name", help="of the model; goes before the file's")
    top.add_argument("--model-version", help="of the model; goes before the file's")
    top.add_argument("--licence", help="of the weights; goes before the file's")
    top.add_argument("--measure", type=Path, metavar="CROPS",
                     help="keep the weights of a bundle, and let these crops of flasks that it "
                     "never saw, those with split test where there are any, decide its "
                     "calibration, limits and figures")  # fmt: skip
    top.add_argument("--error-rate", type=between_0_and_1, default=0.05, metavar="SHARE",
                     help="of --measure: share of a new group's cells that may be accepted and "
                     "wrong")  # fmt: skip
    top.add_argument("--phenotypes", type=Path, metavar="DIR",
                     help="folder made by parfocal-train phenotypes with this very network: its "
                     "centroids, limits and names go into the model; None: a bundle that is "
                     "measured keeps those it has")  # fmt: skip
    top.add_argument("--precision", choices=("f32",), default="f32", help="of the weights")
    top.add_argument("--json", action="store_true", help="JSON Lines on stdout, nothing else")
    top.add_argument("--debug", action="store_true", help="show the traceback of an error")
    top.add_argument("--version", action="version", version=f"parfocal {__version__}")
    return top


def export(options: argparse.Namespace, console: Console) -> None:
    """Read, convert, prove, write, and read back what was written as the daemon would."""
    given = {"name": options.name, "version": options.model_version, "licence": options.licence}
    about, now = read_about(options.about, given), datetime.now(UTC)
    if options.phenotypes and (options.measure or is_detector(options.checkpoint)):
        raise UsageError(
            "--phenotypes belong to the checkpoint of a classifier: give the folder of its fit"
        )
    card: ClassifierCard | DetectorCard
    extra: dict[str, object]
    kept: tuple[str, ...] = ()
    proof = ""
    if options.measure:
        crop_set = held_out(cropset.load(options.measure))
        bundle = finished(options.checkpoint)
        data, card = remeasured(bundle, crop_set, about, options.error_rate, now)
        what, worst, kept = " / ".join(card.classes), 0.0, still_said(bundle.card, about)
        extra = {"classes": card.classes, "kept": kept}
        proof = f"its graph unchanged, measured on {len(crop_set)} crops of {source(crop_set)}"
    elif is_detector(options.checkpoint):
        detector, net = read_detector(options.checkpoint)
        data, card, worst = make_detector_bundle(detector, net, about, now)
        what, extra = "a detector", {"kind": "detector"}
    else:
        checkpoint, model = read_checkpoint(options.checkpoint)
        known = phenotypes_of(options.checkpoint, options.phenotypes)
        data, card, worst = make_bundle(checkpoint, model, about, now, known)
        what, extra = " / ".join(card.classes), {"classes": card.classes}
    write_whole(options.out, data)
    written = load_any(str(options.out))
    report = {"out": str(options.out), "sha256": written.sha256, "bytes": len(data),
              "name": card.name, **extra, "parity": worst}  # fmt: skip
    if options.json:
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
        return
    proof = proof or f"within {worst:.1g} of the trained network"
    console.print(
        f"{options.out}: {card.name} {card.version}, {what}, {len(data) / 1e6:.1f} MB, {proof}",
        soft_wrap=True,
    )
    console.print(f"sha256 {written.sha256}", soft_wrap=True)
    for one in kept:
        console.print(f"kept from the old card, see that it still holds: {one}", markup=False,
                      soft_wrap=True)  # fmt: skip
    if kept:
        console.print("keep = false in --about FILE leaves such sentences out")


def still_said(old: ClassifierCard, about: About) -> tuple[str, ...]:
    """A person's sentences that the new card takes over from the old one."""
    by_hand = as_written(old)
    said = (*by_hand.caveats, *(by_hand.not_for or ()))
    again = {*about.caveats, *about.not_for}
    return tuple(one for one in said if about.keep and one not in again)


def phenotypes_of(checkpoint: Path, folder: Path | None) -> Phenotypes | None:
    """The phenotypes that a folder holds, which must be those of this checkpoint's network.

    Raises
    ------
    DataError
        They are of other weights.
    """
    if folder is None:
        return None
    made = read_model(folder)
    if made.weights_sha256 != weights_sha256(checkpoint / "model.safetensors"):
        raise DataError(
            f"the phenotypes in '{folder}' are of another network than '{checkpoint}': run "
            f"parfocal-train phenotypes {checkpoint} CROPS -o OUT, and give OUT"
        )
    return made.phenotypes


def finished(path: Path) -> Bundle:
    """The bundle that is to be measured.

    Raises
    ------
    DataError
        It is none, or must not be used.
    """
    try:
        return load(str(path))
    except BundleError as error:
        raise DataError(str(error)) from error


def main(argv: Sequence[str] | None = None) -> int:
    """Export and return the exit code."""
    options = parser().parse_args(argv)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    try:
        export(options, Console(stderr=options.json))
    except KeyboardInterrupt:
        log.error("interrupted; nothing was written")
        return EXIT_INTERRUPTED
    except (TrainingError, OSError, MemoryError, RuntimeError) as error:
        code = exit_code(error)
        if code is None:
            raise
        if options.debug:
            log.exception("traceback")
        log.error("parfocal-export: %s", sentence(error))
        return code
    return EXIT_DONE
