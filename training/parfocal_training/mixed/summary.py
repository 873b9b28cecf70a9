"""Every number of the experiment, gathered for `figures.json` and the report."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from parfocal.simulator.save import truth_folder
from parfocal.types import Detector
from parfocal_training.checkpoint import Checkpoint
from parfocal_training.errors import DataError
from parfocal_training.mixed.frames import Judged
from parfocal_training.mixed.networks import Network, rows_of
from parfocal_training.mixed.rates import Called, Interval
from parfocal_training.mixed.registration import FrameShift
from parfocal_training.mixed.scores import Score, Spread, over_repeats, score


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Every number of the experiment: content of `figures.json`.

    `truths` counts the cells that could be asked about; `shifts` are by frame; `repeats` and
    `accepted` (cells on which it does not abstain; None: on all) have one score a network;
    `trained_on` names frames that a network has seen, `other_detector` networks whose crops another
    one found.
    """

    schema: str = "parfocal.mixed/1"
    simulated: bool
    labelled: str
    unlabelled: str
    models: tuple[str, ...]
    truths: dict[str, int]
    n_nuclei: int
    rejected_light: dict[str, int]
    rejected_objects: dict[str, int]
    shifts: dict[str, FrameShift]
    trained_on: tuple[str, ...]
    other_detector: tuple[str, ...]
    abstains: bool
    repeats: tuple[Score, ...]
    accepted: tuple[Score | None, ...]
    over_repeats: dict[str, Spread]
    over_repeats_accepted: dict[str, Spread]


def figures_of(
    frames: Sequence[Judged],
    networks: Sequence[Network],
    classes: tuple[str, str],
    detector: Detector,
    data: Path,
) -> Figures:
    """Every number of the report; `classes` are the labelled line and the other one.

    Raises
    ------
    DataError
        There is no cell of known line.
    """
    every, accepted = scores_of(frames, networks, classes[0])
    seen = [frame.seen for frame in frames]
    return Figures(
        simulated=truth_folder(data.resolve()).is_dir(),
        labelled=classes[0],
        unlabelled=classes[1],
        models=tuple(network.name for network in networks),
        truths=dict(Counter(f.truths[i] for f in frames for i in f.seen.answers[0].chosen)),
        n_nuclei=sum(len(one.nuclei) for one in seen),
        rejected_light=dict(sum((one.nuclei.rejected for one in seen), Counter())),
        rejected_objects=dict(Counter(str(r) for one in seen for r in one.finds.reasons if r)),
        shifts={frame.seen.row.path: frame.shift for frame in frames},
        trained_on=tuple(one.row.path for one in seen if one.trained_on),
        other_detector=tuple(
            network.name
            for network in networks
            if network.checkpoint.detector.fingerprint != detector.fingerprint
        ),
        abstains=any(one.checkpoint.measured.abstention.min_probability > 0 for one in networks),
        repeats=tuple(every),
        accepted=tuple(accepted),
        over_repeats=over_repeats(every),
        over_repeats_accepted=over_repeats([one for one in accepted if one is not None]),
    )


def scores_of(
    frames: Sequence[Judged], networks: Sequence[Network], labelled: str
) -> tuple[list[Score], list[Score | None]]:
    """Scores of each network on all cells of known line, and on those it does not abstain on."""
    every: list[Score] = []
    accepted: list[Score | None] = []
    for repeat, network in enumerate(networks):
        cells = called(frames, repeat)
        if not len(cells):
            raise DataError(
                f"none of {len(frames)} frames shows a single cell of sure truth: look at the "
                "registration, at --max-shift-px and at what the detector finds"
            )
        every.append(score(cells, 0, known_rates(network.checkpoint, labelled)))
        kept = cells.of(cells.accepted)
        accepted.append(score(kept, len(cells) - len(kept), None) if len(kept) else None)
    return every, accepted


def called(frames: Sequence[Judged], repeat: int) -> Called:
    """All cells of known line with one network's calls."""
    cells = [
        (frame.seen.row.path, frame.seen.row.flask, frame.truths[i] == "labelled", p, accepted)
        for frame in frames
        for i, p, accepted in rows_of(frame.seen.answers[repeat])
        if frame.truths[i] != "ambiguous"
    ]
    return Called(
        frames=tuple(cell[0] for cell in cells),
        flasks=tuple(cell[1] for cell in cells),
        truth=np.array([cell[2] for cell in cells], np.bool_),
        called=np.array([cell[3] >= 0.5 for cell in cells], np.bool_),
        accepted=np.array([cell[4] for cell in cells], np.bool_),
    )


def known_rates(checkpoint: Checkpoint, labelled: str) -> Interval | None:
    """Sensitivity and specificity that left-out groups of the training showed, if they were."""
    confusion = checkpoint.measured.confusion
    if confusion is None:
        return None
    counts = np.array(confusion.counts, np.float64)
    share = np.diag(counts) / np.maximum(counts.sum(1), 1)
    at = checkpoint.classes.index(labelled)
    return float(share[at]), float(share[1 - at])
