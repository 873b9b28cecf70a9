"""What a network answers to the images that people were asked about."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parfocal.card import DetectorRules
from parfocal.types import Detector, Gray
from parfocal_training.checkpoint import Checkpoint, read_checkpoint
from parfocal_training.crops import cut_frames, detector_named
from parfocal_training.cropset import CropRules
from parfocal_training.errors import DataError, UsageError
from parfocal_training.model import ConvNet
from parfocal_training.survey.key import Key, SheetPart
from parfocal_training.survey.scores import Ints
from parfocal_training.survey.unlabelled import kept_crops, kept_frames
from parfocal_training.trained import calibrated_answers

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A network with what is known of its training."""

    checkpoint: Checkpoint
    model: ConvNet

    def probabilities(self, crops: Gray) -> Floats:
        """Calibrated probabilities (n, classes) of raw crops (n, s, s)."""
        return calibrated_answers(self.model, self.checkpoint, crops)[0]


def network_answers(
    key: Key, folder: Path, checkpoint: Path, detector_name: str, frame_um_per_px: float
) -> tuple[dict[int, Ints], list[str]]:
    """What a network says to each part whose classes it knows, and what a reader must be told.

    `folder` holds the images that are asked for. Persons must choose one of two classes, so the
    network's others are left aside. Of a frame it takes the mean over the cells; -1: none found.
    """
    network = Trained(*read_checkpoint(checkpoint))
    known = network.checkpoint
    said: dict[int, Ints] = {}
    warnings = [*_seen_in_training(key, known), *_other_pixels(key, known)]
    for part in key.parts:
        if not set(part.classes) <= set(known.classes):
            named = " and ".join(part.classes)
            warnings.append(f"Part {part.number}: the network was not trained to tell {named}.")
            continue
        if part.kind == "frames":
            detector = detector_named(detector_name)
            p, n_cells = _frame_probabilities(part, network, folder, detector, frame_um_per_px)
            warnings.append(_about_cells(part, n_cells, known, detector))
        else:
            p = network.probabilities(kept_crops(folder, part))
        said[part.number] = _chosen(p, [known.classes.index(name) for name in part.classes])
    return said, warnings


def _chosen(p: Floats, columns: list[int]) -> Ints:
    """Which of the columns is largest in each row; -1 where a row is NaN."""
    silent = np.isnan(p).any(1)
    choice = np.nan_to_num(p[:, columns]).argmax(1)
    return np.where(silent, -1, choice).astype(np.int64)


def _seen_in_training(key: Key, known: Checkpoint) -> Iterator[str]:
    trained = set(known.data_sha256s)
    for part in key.parts:
        asked = part.of("unlabelled")
        n = sum(image.file_sha256 in trained for image in asked)
        if n:
            yield (
                f"Part {part.number}: the network was trained on the image files of {n} of the "
                f"{len(asked)} images asked for, so its score there is no test of it. Train it on "
                "what `survey make --rest` writes."
            )


def _other_pixels(key: Key, known: Checkpoint) -> Iterator[str]:
    mine, its = key.um_per_px, known.pixels.um_per_px
    if abs(mine - its) > 1e-3 * its:
        raise UsageError(
            f"the network was trained at {its} um/px, the crops of the survey have {mine}: make "
            "both from one crop set"
        )
    if key.flat_field_um != known.pixels.flat_field_um:
        yield (
            f"The crops' illumination was evened over {key.flat_field_um:g} um, those of the "
            f"training over {known.pixels.flat_field_um:g} um (0: not)."
        )
    if key.masked != bool(known.pixels.masked):
        with_them, without = ("persons", "network")[:: -1 if key.masked else 1]
        yield f"The {with_them} saw what lies around a cell, the {without} did not."


def _frame_probabilities(
    part: SheetPart, network: Trained, folder: Path, detector: Detector, frame_um_per_px: float
) -> tuple[Floats, int]:
    """Mean probabilities (frames, classes) over the cells of each frame, and how many cells.

    NaN where a frame shows none.
    """
    rules = _crop_rules(network.checkpoint, detector)
    asked, rows = part.of("unlabelled"), kept_frames(folder, part)
    means, n_cells = np.full((len(rows), len(network.checkpoint.classes)), np.nan), 0
    made = cut_frames(folder, rows, rules, detector, frame_um_per_px)
    for place, (image, cut) in enumerate(zip(asked, made, strict=True)):
        if cut.sha256 != image.sha256:
            raise DataError(f"'{folder / rows[place].path}' is not the frame of this key")
        if cut.crops is not None and len(cut.crops):
            means[place] = network.probabilities(cut.crops).mean(0)
            n_cells += len(cut.crops)
    return means, n_cells


def _crop_rules(known: Checkpoint, detector: Detector) -> CropRules:
    return CropRules(
        um_per_px=known.pixels.um_per_px,
        crop_px=known.pixels.crop_px,
        margin_px=0,
        flat_field_um=known.pixels.flat_field_um,
        masked=known.pixels.masked,
        detector=DetectorRules(name=detector.name, fingerprint=detector.fingerprint),
    )


def _about_cells(part: SheetPart, n_cells: int, known: Checkpoint, detector: Detector) -> str:
    note = f"Part {part.number}: the network answers by the mean over {n_cells} cells in all."
    if known.detector.fingerprint != detector.fingerprint:
        note += f" {detector.name} found them, {known.detector.name} those of the training."
    return note
