"""Designs of simulated experiments: which flasks there are, and what is held equal between them.

The designs follow Yao, Rochman and Sun (2019): flask pairs in which nothing but the cell line is
controlled (Fig. 2c, 3e), sixteen flasks of two densities and two passages (Fig. 3b-d), and mixed
flasks with a fluorescent nuclear label on one line (Fig. 4). One more has six planted phenotypes
whose shares change with density (`planted`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import exp, log
from typing import Literal

import numpy as np

from parfocal.simulator.flask import Flask, draw_flask
from parfocal.simulator.lines import HEK293A, HT1080
from parfocal.simulator.parameters import CellType, Fluorescence
from parfocal.simulator.planted import PLANTED

TYPES: tuple[CellType, ...] = (HEK293A, HT1080)
LABELLED = HT1080.name

Design = Literal["series", "varied", "pairs", "density", "mixed", "phenotypes"]
DESIGNS: tuple[Design, ...] = ("series", "varied", "pairs", "density", "mixed", "phenotypes")

LOW_PER_MM2, HIGH_PER_MM2 = 30.0, 150.0
"""Settled cells a day after 0.1 and 0.5 million were seeded in a T75: a fifth of one another."""

PAIR_DENSITY_PER_MM2 = (35.0, 160.0)
PAIR_PASSAGES = (5, 30)
VARIED_PER_MM2 = (30.0, 350.0)
"""From a day after sparse seeding to where cells begin to form a sheet."""

PASSAGES = (8, 22)
PAIRS = 4
PHENOTYPE_FLASKS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """A flask of a design and its line in `flasks.csv`."""

    flask: Flask
    name: str
    line: str
    density: str
    passage: int
    pair: str = ""


def planned(
    design: Design, flasks: int, density_per_mm2: float, share: float | None, seed: int
) -> Iterator[Planned]:
    """The flasks of a design, in order.

    Parameters
    ----------
    design : "series", "varied", "pairs", "density", "mixed" or "phenotypes"
        `series` and `mixed` have as many flasks as asked for, at one density; `varied` as many,
        one line each in turn, density and passage as they fall; `pairs` and `phenotypes` have
        eight and `density` sixteen, with densities of their own.
    flasks : int
    density_per_mm2 : float
    share : float or None
        Of the first line in every flask of `series`; None takes one line a flask, in turn.
        `mixed` takes a half for None.
    seed : int
    """
    if design == "pairs":
        yield from _pairs(seed)
    elif design == "varied":
        for number in range(flasks):
            kind, rng = TYPES[number % len(TYPES)], np.random.default_rng((seed, 4, number))
            yield _as_it_falls(rng, kind, VARIED_PER_MM2, f"sim-{seed}-{number}")
    elif design == "density":
        yield from _densities(seed)
    elif design == "phenotypes":
        yield from _phenotypes(seed)
    else:
        for number in range(flasks):
            rng = np.random.default_rng((seed, number))
            yield _one(rng, design, number, density_per_mm2, share, seed)


def _one(
    rng: np.random.Generator,
    design: Design,
    number: int,
    density: float,
    share: float | None,
    seed: int,
) -> Planned:
    name, said = f"sim-{seed}-{number}", f"{density:g}"
    if design == "mixed":
        share = 0.5 if share is None else share
    if share is None:
        kind = TYPES[number % len(TYPES)]
        return Planned(draw_flask(rng, ((kind, 1.0),), density), name, kind.name, said, 10)
    both = ((TYPES[0], share), (TYPES[1], 1 - share))
    label = Fluorescence(LABELLED) if design == "mixed" else None
    return Planned(draw_flask(rng, both, density, fluorescence=label), name, "mixed", said, 10)


def _pairs(seed: int) -> Iterator[Planned]:
    """Pairs of flasks, one of each line; density, passage and all traits are as they fall."""
    for pair in range(PAIRS):
        for number, kind in enumerate(TYPES):
            rng = np.random.default_rng((seed, 1, pair, number))
            name = f"sim-{seed}-pair{pair + 1}-{kind.name}"
            flask = _as_it_falls(rng, kind, PAIR_DENSITY_PER_MM2, name)
            yield replace(flask, pair=str(pair + 1))


def _as_it_falls(
    rng: np.random.Generator, kind: CellType, between: tuple[float, float], name: str
) -> Planned:
    """A flask whose density (log-uniform) and passage nobody controlled."""
    least, most = between
    density = exp(rng.uniform(log(least), log(most)))
    passage = int(rng.integers(*PAIR_PASSAGES))
    flask = draw_flask(rng, ((kind, 1.0),), density, passage)
    return Planned(flask, name, kind.name, f"{density:.0f}", passage)


def _densities(seed: int) -> Iterator[Planned]:
    """Two lines, two densities, two passages, two flasks of each."""
    for kind in TYPES:
        for word, density in (("low", LOW_PER_MM2), ("high", HIGH_PER_MM2)):
            for passage in PASSAGES:
                for copy in "ab":
                    rng = np.random.default_rng((seed, 2, *map(ord, f"{kind.name}{word}{copy}"),
                                                 passage))  # fmt: skip
                    flask = draw_flask(rng, ((kind, 1.0),), density, passage)
                    name = f"sim-{seed}-{kind.name}-{word}-p{passage}{copy}"
                    yield Planned(flask, name, kind.name, word, passage)


def _phenotypes(seed: int) -> Iterator[Planned]:
    """The planted line at two densities, four flasks of each."""
    for word, density in (("low", LOW_PER_MM2), ("high", HIGH_PER_MM2)):
        for number in range(PHENOTYPE_FLASKS):
            rng = np.random.default_rng((seed, 3, int(density), number))
            flask = draw_flask(rng, ((PLANTED, 1.0),), density)
            name = f"sim-{seed}-{PLANTED.name}-{word}-{number + 1}"
            yield Planned(flask, name, PLANTED.name, word, 10)
