"""The benchmark of what helps on a flask that no network has seen.

Every method is trained on ONE pair of flasks and tested on each other pair, at equal work. The
paper's recipe is also trained on all pairs but the tested one: the mark to reach from one pair.
"""

from dataclasses import replace

import msgspec

from parfocal_training.cropset import CropSet
from parfocal_training.experiments.designs import HeldOut, Run, cross
from parfocal_training.recipe import FIELD, FLASK, PAPER_RECIPE, Recipe

WORK = 4000
"""Crops that pass through training; constant rates are slow and get more (`PAPERS`)."""
TOGETHER = 3
"""Networks of the recipe `plain`, whose mean answer is a method as well."""


def _with(recipe: Recipe, name: str, **changes: object) -> Recipe:
    return msgspec.structs.replace(recipe, name=name, about="a method of new-flask", **changes)


PAPERS = _with(PAPER_RECIPE, "paper's recipe", network="compact", crops_seen=6000, batch=8)
PLAIN = _with(FIELD, "plain", network="compact", crops_seen=WORK, precision="f32")

METHODS = (
    PAPERS,
    _with(PAPERS, "paper's recipe, averaged weights", average_decay=FIELD.average_decay),
    PLAIN,
    _with(PLAIN, "balanced flasks", balance="groups"),
    _with(PLAIN, "flask augmentation", augmentation=FLASK.augmentation),
    _with(PLAIN, "mixed statistics", mix_statistics=0.5),
    _with(PLAIN, "pre-trained", pretraining=WORK),
    _with(
        FLASK,
        "all at once",
        crops_seen=WORK,
        balance="groups",
        mix_statistics=0.5,
        pretraining=WORK,
    ),
)
"""One change each against the paper's recipe or `plain`, then all that are of use at once."""


def new_flask(crop_set: CropSet, repeats: int, seed: int) -> list[Run]:
    """Every method from one pair, and the paper's recipe from all pairs but one.

    `plain` has `TOGETHER` times as many networks, so that their mean answer is seen as well.
    """
    designed = cross(crop_set, repeats * TOGETHER, seed)
    sizes = {_size(run) for run in designed}
    few = [run for run in designed if run.seed < seed + repeats]
    runs = []
    for recipe in METHODS:
        mine = designed if recipe is PLAIN else few
        runs += [_named(run, recipe.name, recipe) for run in mine if _size(run) == min(sizes)]
    largest = max(sizes)
    if largest > min(sizes):
        name = f"{PAPERS.name}, {largest} pairs"
        runs += [_named(run, name, PAPERS) for run in few if _size(run) == largest]
    return runs


def _size(run: Run) -> int:
    return int(run.tests[0].series.split()[0])


def _named(run: Run, method: str, recipe: Recipe) -> Run:
    tests = tuple(HeldOut(method, test.on, test.cells) for test in run.tests)
    trained_on = f"{run.trained_on}, {method}"
    return replace(
        run, name=f"{method}-{run.name}", trained_on=trained_on, tests=tests, recipe=recipe
    )
