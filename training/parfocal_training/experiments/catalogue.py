"""The experiments by name: what the paper asked, what it found, and how the runs are designed.

The paper gives every test 10 repeats, and its figures for accuracy in words; those of the density
experiment stand in its Fig. 3 only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec

from parfocal_training.cropset import CropSet
from parfocal_training.experiments import designs
from parfocal_training.experiments.designs import Run
from parfocal_training.experiments.newflask import new_flask
from parfocal_training.experiments.summary import SeriesFigures
from parfocal_training.experiments.unknown import units_of, unknown


@dataclass(frozen=True, slots=True)
class PaperFigure:
    """The paper's accuracy for series whose name begins so, and the paper's words for it."""

    series: str
    accuracy: float
    words: str


WITHIN = PaperFigure("", 0.95, "more than 95 %")
POOLS = {1: (0.70, "about 70 % or less"), 2: (0.80, "up to 80 %"), 3: (0.80, "up to 80 %")}
"""By the number of pairs of flasks that a network was trained on."""


@dataclass(frozen=True, slots=True, eq=False)
class Experiment:
    """One experiment; `paper` holds what the paper found for series of this name.

    `pools`: the names of its series tell how many pairs of flasks were trained on. `unit` is what
    its intervals draw again: whole flasks, fields where it never leaves a flask, or what the design
    holds out. `novelty`: it asks how strange lines are that were never seen. `own_recipes`: its
    runs say how they are trained.
    """

    name: str
    question: str
    found: str
    design: Callable[[CropSet, int, int, str], list[Run]]
    repeats: int
    unit: Literal["flask", "field", "held-out part"] = "flask"
    paper: tuple[PaperFigure, ...] = ()
    pools: bool = False
    novelty: bool = False
    own_recipes: bool = False

    def beside_the_paper(self, one: SeriesFigures) -> SeriesFigures:
        """A series with the paper's accuracy, where it gives one."""
        for found in self.paper:
            if one.series.startswith(found.series):
                return msgspec.structs.replace(one, paper=found.accuracy, paper_words=found.words)
        return one


def _whole(
    design: Callable[[CropSet, int, int], list[Run]],
) -> Callable[[CropSet, int, int, str], list[Run]]:
    """A design that leaves out whole flasks has no choice of what to split."""
    return lambda crop_set, repeats, seed, _: design(crop_set, repeats, seed)


EXPERIMENTS = {
    one.name: one
    for one in (
        Experiment(
            "within",
            "Can the lines be told apart inside one pair of flasks? (Fig. 2a)",
            "more than 95 % in every pair, 10 repeats of a random 80/20 split of cells",
            designs.within,
            repeats=10,
            unit="field",
            paper=(WITHIN,),
        ),
        Experiment(
            "cross",
            "Does a network trained on some pairs of flasks know another pair? (Fig. 2c, 3e)",
            "about 70 % or less from one pair, up to 80 % from pools of two or three",
            _whole(designs.cross),
            repeats=10,
            paper=tuple(PaperFigure(f"{n} of ", *found) for n, found in POOLS.items()),
            pools=True,
        ),
        Experiment(
            "same-type",
            "Can two flasks of ONE line be told apart? (Fig. 2e)",
            "more than 95 %: a flask occupies a part of morphological space of its own",
            designs.same_type,
            repeats=10,
            unit="field",
            paper=(WITHIN,),
        ),
        Experiment(
            "density",
            "Do density and passage explain why flasks differ? (Fig. 3b-d)",
            "the same density generalizes whatever the passage, another density does not, and "
            "mixed densities do",
            _whole(designs.density),
            repeats=10,
        ),
        Experiment(
            "pooled",
            "How does accuracy on an unknown flask grow with the pool trained on? (Fig. 3d-e)",
            "up to 80 % with two or three pairs",
            _whole(designs.pooled),
            repeats=10,
            paper=tuple(PaperFigure(f"pool of {n}", *found) for n, found in POOLS.items()),
            pools=True,
        ),
        Experiment(
            "new-flask",
            "What helps on a flask that no network has seen? (beyond the paper)",
            "pooling flasks is the one remedy named; a pool of three pairs gives up to 80 %",
            _whole(new_flask),
            repeats=1,
            own_recipes=True,
        ),
        Experiment(
            "unknown",
            "Is a cell line noticed that no network has seen, and are many lines told apart? "
            "(beyond the paper)",
            "not asked: its networks answer with one of the lines they know, whatever they see",
            _whole(unknown),
            repeats=1,
            unit="held-out part",
            novelty=True,
        ),
    )
}


def unit_name(one: Experiment, crop_set: CropSet) -> str:
    """In a word, what an interval of this experiment draws again."""
    if one.unit == "flask":
        return crop_set.index.group_kind
    return designs.unit_kind(crop_set, "field") if one.unit == "field" else one.unit


def units(one: Experiment, crop_set: CropSet) -> tuple[str, ...]:
    """For each crop, what an interval of this experiment draws again."""
    if one.unit == "flask":
        return crop_set.groups
    if one.unit == "held-out part":
        return units_of(crop_set)
    return tuple(designs.unit_of(row, "field") for row in crop_set.index.rows)
