"""Which fields of view or flasks are asked about, so that none of them is labelled too."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from parfocal_training.survey.candidates import Candidate
from parfocal_training.survey.choice import Choice, Name

Counts = Mapping[str, Counter[str]]
"""Of each unit: how many of each class."""

TRIES = 300
"""Random orders in which fields are tried before labelled and unlabelled images share some."""


def apart(
    choice: Choice, labelled: int, ask: Mapping[str, int], rng: np.random.Generator
) -> tuple[str, list[Candidate], list[Candidate]]:
    """What separates the roles, and the images for labels and to be asked for that it leaves."""
    if choice.disjoint:
        return choice.disjoint, list(choice.labelled), list(choice.unlabelled)
    for name, unit in choice.apart:
        away = _units_to_ask(choice, unit, labelled, ask, rng)
        if away is not None:
            told = [c for c in choice.labelled if unit(c) not in away]
            return name, told, [c for c in choice.unlabelled if unit(c) in away]
    return "none", list(choice.labelled), list(choice.unlabelled)


def _units_to_ask(
    choice: Choice, unit: Name, labelled: int, ask: Mapping[str, int], rng: np.random.Generator
) -> set[str] | None:
    """Units whose images are asked for, such that the others have enough labelled ones.

    They are as many as can be spared, up to half of all: answers about one field say little.
    """
    free, told = _counted(choice, unit, choice.unlabelled), _counted(choice, unit, choice.labelled)
    once = {name: Counter(dict.fromkeys(counts, 1)) for name, counts in free.items()}
    units = sum(once.values(), Counter[str]())
    for _ in range(TRIES):
        spare = sum(told.values(), Counter[str]())
        spare.subtract(dict.fromkeys(ask, labelled))
        order = [str(name) for name in rng.permutation(sorted(free))]
        away: set[str] = set()
        if _grown(away, order, free, ask, told, spare):
            half = {n: min(ask[n], units[n] // 2) for n in ask}
            _grown(away, order, once, half, told, spare)
            return away
    return None


def _counted(choice: Choice, unit: Name, images: Sequence[Candidate]) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {}
    for c in images:
        counts.setdefault(unit(c), Counter())[choice.truth(c)] += 1
    return counts


def _grown(
    away: set[str],
    order: Sequence[str],
    size: Counts,
    goal: Mapping[str, int],
    told: Counts,
    spare: Counter[str],
) -> bool:
    """Take units in this order until the goal is met, as long as what they cost can be spared."""
    got = sum((size[name] for name in away), Counter[str]())
    for name in order:
        useful = any(size[name][n] and got[n] < goal[n] for n in goal)
        if name not in away and useful and all(told[name][n] <= spare[n] for n in goal):
            away.add(name)
            got.update(size[name])
            spare.subtract(told[name])
    return all(got[n] >= goal[n] for n in goal)
