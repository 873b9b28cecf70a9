"""What is seen in pairs of frames: cells, nuclei, their shift, and what networks call the cells."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from parfocal.calibrate import NoveltyScore, softmax
from parfocal.images import ImageError
from parfocal.normalize import Reference
from parfocal.prepare import Prepare, to_gray
from parfocal.reasons import SENTENCES
from parfocal.types import Detector, Finds, Gray, Pixels
from parfocal_training.checkpoint import Checkpoint, read_checkpoint
from parfocal_training.crops import read_frame
from parfocal_training.dataset import Row
from parfocal_training.errors import DataError
from parfocal_training.model import ConvNet
from parfocal_training.nuclei import Nuclei, find_nuclei, one_channel
from parfocal_training.registration import Shift, own_shift
from parfocal_training.train import answer

SAME_FIELD = 0.01
"""Relative difference of the two frames' proportions above which they cannot show one field."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What decides how frames are looked at; `frame_um_per_px` is for frames that say nothing."""

    data: Path
    labelled: str
    max_shift_px: float
    frame_um_per_px: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """One repeat: a trained network and what makes its answers calls."""

    name: str
    checkpoint: Checkpoint
    model: ConvNet
    reference: Reference
    novelty: NoveltyScore


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What one network says of the cells `chosen` (n,) among a frame's finds.

    `probability` (n,) is that of the labelled line, `accepted` (n,) where it does not abstain.
    """

    chosen: NDArray[np.int64]
    probability: NDArray[np.float64]
    accepted: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """One pair of frames before its shift is settled; `frame` is the brightfield's (h, w)."""

    row: Row
    um_per_px: float
    frame: tuple[int, int]
    trained_on: bool
    finds: Finds
    nuclei: Nuclei
    own: Shift | None
    answers: tuple[Answers, ...]


def read_network(folder: Path, name: str) -> Network:
    """A finished training, ready to answer."""
    checkpoint, model = read_checkpoint(folder)
    return Network(
        name=name,
        checkpoint=checkpoint,
        model=model,
        reference=checkpoint.pixels.reference_distribution(),
        novelty=NoveltyScore(checkpoint.novelty, len(checkpoint.classes)),
    )


def observed(
    rows: Sequence[Row],
    networks: Sequence[Network],
    detector: Detector,
    asked: Asked,
    console: Console,
) -> Iterator[Observed]:
    """Each pair of frames: cells, nuclei, own shift, and the answers of every network."""
    prepares = [Prepare(network.checkpoint.pixels, detector) for network in networks]
    hashes = {digest for network in networks for digest in network.checkpoint.data_sha256s}
    with Progress(console=console, disable=not console.is_terminal) as bar:
        for row in bar.track(rows, description="looking at frames"):
            bright, scale, digest = readable(asked.data, row.path, to_gray)
            um_per_px = row.um_per_px or scale or asked.frame_um_per_px
            if not um_per_px:
                raise DataError(
                    f"nothing says how large a pixel of '{row.path}' is: add the column um_per_px "
                    "to flasks.csv or give --frame-um-per-px"
                )
            nuclei = nuclei_of(asked.data, row, bright.shape, um_per_px)
            finds = detector(bright, um_per_px)
            yield Observed(
                row=row,
                um_per_px=um_per_px,
                frame=bright.shape,
                trained_on=digest in hashes,
                finds=finds,
                nuclei=nuclei,
                own=own_shift(nuclei, finds, bright.shape, um_per_px, asked.max_shift_px),
                answers=tuple(
                    answers_of(network, prepare, bright, um_per_px, finds, asked.labelled)
                    for network, prepare in zip(networks, prepares, strict=True)
                ),
            )


def readable(folder: Path, path: str, made: Callable[[Pixels], Gray]) -> tuple[Gray, float, str]:
    """One channel of an image, the pixel size that its file states (0: none), and its SHA-256.

    Raises
    ------
    DataError
        The file is not a whole, readable image.
    """
    try:
        frame, digest = read_frame(folder / path)
    except ImageError as error:
        raise DataError(f"'{path}' cannot be used: {SENTENCES[error.reason]}") from error
    return made(frame.pixels), frame.um_per_px or 0.0, digest


def nuclei_of(folder: Path, row: Row, frame: tuple[int, ...], um_per_px: float) -> Nuclei:
    """The nuclei of a row's fluorescence frame, which may be binned otherwise.

    Raises
    ------
    DataError
        It does not have the proportions of the brightfield frame.
    """
    glow, _, _ = readable(folder, row.fluorescence, one_channel)
    ratio = np.array(glow.shape) / frame
    if abs(ratio[0] / ratio[1] - 1) > SAME_FIELD:
        raise DataError(
            f"'{row.fluorescence}' has {glow.shape[1]}x{glow.shape[0]} px and '{row.path}' "
            f"{frame[1]}x{frame[0]}: a pair must show the same field"
        )
    return find_nuclei(glow, um_per_px / float(ratio[1]))


def answers_of(
    network: Network,
    prepare: Prepare,
    bright: Gray,
    um_per_px: float,
    finds: Finds,
    labelled: str,
) -> Answers:
    """What a network says of the single cells of a frame, cut as the daemon cuts them."""
    cells = prepare.cut_finds(bright, um_per_px, finds)
    if not len(cells.crops):
        return Answers(cells.chosen, np.zeros(0), np.zeros(0, np.bool_))
    wide = cells.crops if cells.crops.dtype == np.uint8 else cells.crops.astype(np.int32)
    logits, lca = answer(network.model, torch.from_numpy(wide), network.reference)
    measured, classes = network.checkpoint.measured, network.checkpoint.classes
    p = softmax(logits.numpy().astype(np.float64) / measured.calibration.temperature)
    sure = p.max(1) >= measured.abstention.min_probability
    known = network.novelty(lca.numpy()) <= measured.abstention.max_novelty
    return Answers(cells.chosen, p[:, classes.index(labelled)], sure & known)


def rows_of(answers: Answers) -> Iterator[tuple[int, float, bool]]:
    """Place among the finds, probability of the labelled line, and whether accepted."""
    for i, p, accepted in zip(answers.chosen, answers.probability, answers.accepted, strict=True):
        yield int(i), float(p), bool(accepted)
