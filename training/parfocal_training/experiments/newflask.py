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


def _with(recipe: Recipe, **changes: object) -> Recipe:
    return msgspec.structs.replace(recipe, **changes)


PLAIN = _with(FIELD, network="compact", crops_seen=WORK, precision="f32")
PAPERS = _with(PAPER_RECIPE, network="compact", crops_seen=6000, batch=8)

METHODS: dict[str, Recipe] = {
    "paper's recipe": PAPERS,
    "plain": PLAIN,
    "flask augmentation": _with(PLAIN, augmentation=FLASK.augmentation),
    "mixed statistics": _with(PLAIN, mix_statistics=0.5),
    "pre-trained": _with(PLAIN, pretraining=WORK),
    "together": _with(
        FLASK, crops_seen=WORK, balance="groups", mix_statistics=0.5, pretraining=WORK
    ),
}
"""One change each against `plain`, then all that are of use at once."""


def new_flask(crop_set: CropSet, repeats: int, seed: int) -> list[Run]:
    """Every method from one pair, and the paper's recipe from all pairs but one."""
    designed = cross(crop_set, repeats, seed)
    sizes = {int(run.tests[0].series.split()[0]) for run in designed}
    runs = []
    for method, recipe in METHODS.items():
        runs += [_named(run, method, recipe) for run in designed if _size(run) == min(sizes)]
    largest = max(sizes)
    if largest > min(sizes):
        name = f"paper's recipe, {largest} pairs"
        runs += [_named(run, name, PAPERS) for run in designed if _size(run) == largest]
    return runs


def _size(run: Run) -> int:
    return int(run.tests[0].series.split()[0])


def _named(run: Run, method: str, recipe: Recipe) -> Run:
    tests = tuple(HeldOut(method, test.on, test.cells) for test in run.tests)
    short = method.replace("'s", "").replace(",", "").replace(" ", "-")
    return replace(run, name=f"{short}-{run.name}", tests=tests, recipe=recipe)
