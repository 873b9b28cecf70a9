"""What is seen in pairs of frames: cells, nuclei, their shift, and what networks call the cells."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from parfocal.images import ImageError
from parfocal.prepare import Prepare, to_gray
from parfocal.reasons import SENTENCES
from parfocal.types import Detector, Finds, Gray, Pixels
from parfocal_training.crops import read_frame
from parfocal_training.dataset import Row, listed
from parfocal_training.dataset_faults import MIXED
from parfocal_training.errors import DataError
from parfocal_training.mixed.networks import Answers, Network, answers_of
from parfocal_training.mixed.nuclei import Nuclei, find_nuclei, one_channel
from parfocal_training.mixed.registration import FrameShift, Shift, agreed_shifts, own_shift
from parfocal_training.mixed.truth import Truths, cell_truths

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


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A pair of frames whose shift is settled, with the truth of each of its finds."""

    seen: Observed
    shift: FrameShift
    truths: Truths


def paired_rows(folder: Path) -> tuple[Row, ...]:
    """The mixed images of a data set, each with its fluorescence frame.

    Raises
    ------
    DataError
        Everything that is missing, in one sentence.
    """
    rows, faults = listed(folder)
    wrong = [fault.text for fault in faults if fault.severity == "error"]
    rows = tuple(row for row in rows if row.cell_line == MIXED)
    wrong += [f"'{row.path}' has no fluorescence" for row in rows if not row.fluorescence]
    if not rows and not wrong:
        wrong = [f"no image has the cell_line '{MIXED}'"]
    if wrong:
        raise DataError(
            f"'{folder}' cannot be used: {'; '.join(wrong)}. List pairs in flasks.csv with path, "
            "cell_line mixed, and fluorescence, the path of the paired frame"
        )
    return rows


def observed(
    rows: Sequence[Row],
    networks: Sequence[Network],
    detector: Detector,
    asked: Asked,
    console: Console,
) -> Iterator[Observed]:
    """Each pair of frames: cells, nuclei, own shift, and the answers of every network."""
    cutters = [(network, Prepare(network.checkpoint.pixels, detector)) for network in networks]
    hashes = {digest for network in networks for digest in network.checkpoint.data_sha256s}
    with Progress(console=console, disable=not console.is_terminal) as bar:
        for row in bar.track(rows, description="looking at frames"):
            yield _looked_at(row, detector, cutters, hashes, asked)


def _looked_at(
    row: Row,
    detector: Detector,
    cutters: Sequence[tuple[Network, Prepare]],
    hashes: set[str],
    asked: Asked,
) -> Observed:
    bright, scale, digest = readable(asked.data, row.path, to_gray)
    um_per_px = row.um_per_px or scale or asked.frame_um_per_px
    if not um_per_px:
        raise DataError(
            f"nothing says how large a pixel of '{row.path}' is: add the column um_per_px "
            "to flasks.csv or give --frame-um-per-px"
        )
    nuclei = nuclei_of(asked.data, row, bright.shape, um_per_px)
    finds = detector(bright, um_per_px)
    return Observed(
        row=row,
        um_per_px=um_per_px,
        frame=bright.shape,
        trained_on=digest in hashes,
        finds=finds,
        nuclei=nuclei,
        own=own_shift(nuclei, finds, bright.shape, um_per_px, asked.max_shift_px),
        answers=tuple(
            answers_of(network, prepare, bright, um_per_px, finds, asked.labelled)
            for network, prepare in cutters
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


def judged(seen: Sequence[Observed]) -> list[Judged]:
    """All frames with the shift that their set agrees on and the truths it gives."""
    shifts = agreed_shifts([one.own for one in seen], [one.um_per_px for one in seen])
    return [
        Judged(
            one,
            shift,
            cell_truths(one.nuclei, one.finds, shift.used_px, one.frame, one.um_per_px),
        )
        for one, shift in zip(seen, shifts, strict=True)
    ]
