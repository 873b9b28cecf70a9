"""The networks that are tested, and what each calls the single cells of a frame."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parfocal.calibrate import NoveltyScore
from parfocal.prepare import Prepare
from parfocal.types import Finds, Gray
from parfocal_training.checkpoint import Checkpoint, read_checkpoint
from parfocal_training.errors import UsageError
from parfocal_training.model import ConvNet
from parfocal_training.trained import calibrated_answers


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """One repeat: a trained network and what makes its answers calls."""

    name: str
    checkpoint: Checkpoint
    model: ConvNet
    novelty: NoveltyScore


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What one network says of the cells `chosen` (n,) among a frame's finds.

    `probability` (n,) is that of the labelled line, `accepted` (n,) where it does not abstain.
    """

    chosen: NDArray[np.int64]
    probability: NDArray[np.float64]
    accepted: NDArray[np.bool_]


def read_network(folder: Path, name: str) -> Network:
    """A finished training, ready to answer."""
    checkpoint, model = read_checkpoint(folder)
    return Network(
        name=name,
        checkpoint=checkpoint,
        model=model,
        novelty=NoveltyScore(checkpoint.novelty, len(checkpoint.classes)),
    )


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
    p, lca = calibrated_answers(network.model, network.checkpoint, cells.crops)
    measured, classes = network.checkpoint.measured, network.checkpoint.classes
    sure = p.max(1) >= measured.abstention.min_probability
    known = network.novelty(lca) <= measured.abstention.max_novelty
    return Answers(cells.chosen, p[:, classes.index(labelled)], sure & known)


def rows_of(answers: Answers) -> Iterator[tuple[int, float, bool]]:
    """Place among the finds, probability of the labelled line, and whether accepted."""
    for i, p, accepted in zip(answers.chosen, answers.probability, answers.accepted, strict=True):
        yield int(i), float(p), bool(accepted)


def unlike_names(paths: Sequence[Path]) -> list[str]:
    """The last parts of each path, as many as tell them all apart.

    Raises
    ------
    UsageError
        A path is given twice: the same network is no repeat.
    """
    if len(set(paths)) < len(paths):
        raise UsageError("--model names a checkpoint twice: repeats are networks trained anew")
    names, parts = [path.name for path in paths], 1
    while len(set(names)) < len(names):
        parts += 1
        names = ["/".join(path.parts[-parts:]) for path in paths]
    return names


def two_classes(networks: Sequence[Network], labelled: str) -> tuple[str, str]:
    """The labelled line and the other one.

    Raises
    ------
    UsageError
        The networks do not know these two lines and no other.
    """
    known = networks[0].checkpoint.classes
    for network in networks:
        classes = network.checkpoint.classes
        if len(classes) != 2 or set(classes) != set(known):
            raise UsageError(
                f"--model '{network.name}' tells {', '.join(classes)} apart: all models must tell "
                "the same two cell lines apart"
            )
    if labelled not in known:
        raise UsageError(f"--labelled is '{labelled}', but the models know {' and '.join(known)}")
    return labelled, known[1 - known.index(labelled)]
