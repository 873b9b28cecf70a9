"""Whether the fraction of a phenotype differs between densities, with flasks as the units."""

import math
from itertools import combinations

import msgspec
import numpy as np
from scipy.stats import t as student  # type: ignore[import-untyped]

from parfocal_training.cropset import CropSet
from parfocal_training.phenotypes.space import Floats, Ints
from parfocal_training.seen import order

LEAST_FLASKS = 2
"""Flasks a side below which nothing is tested: one flask tells nothing about flasks."""

MOST_ARRANGEMENTS = 20_000


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Mean fraction of a phenotype at density `second` less that at `first`, over flasks.

    `p` is Welch's, `p_holm` corrected over all tests of the table, `p_permutation` exact over
    arrangements of whole flasks (or 20,000 of them) and not corrected.
    """

    cells: str
    phenotype: int
    first: str
    second: str
    flasks: tuple[int, int]
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    p_permutation: float


def differences(crop_set: CropSet, labels: Ints) -> tuple[tuple[Difference, ...], str]:
    """Every phenotype at two densities of one cell line, and why nothing was tested if so.

    Welch's test on one fraction a flask: flasks are the units, densities may vary unequally, and
    with two to four flasks a side no arrangement of them is rare enough to pass a correction for
    several phenotypes.
    """
    rows = [row.image for row in crop_set.index.rows]
    kind = crop_set.index.group_kind
    if kind != "flask":
        return (), f"Densities are not compared: cells are grouped by {kind}, not by flask."
    if not all(row.density for row in rows):
        return (), "Densities are not compared: they were not recorded for every cell."
    out: list[Difference] = []
    for line in crop_set.classes:
        of_line = np.array([row.cell_line == line for row in rows])
        flasks = _flasks_of(crop_set, labels, of_line)
        for first, second in combinations(sorted(flasks, key=order), 2):
            one, other = flasks[first], flasks[second]
            if min(len(one), len(other)) >= LEAST_FLASKS:
                out += _compared(line, (first, second), one, other, int(labels.max()) + 1)
    if not out:
        return (), (
            "Densities are not compared: no two densities of a cell line have at least "
            f"{LEAST_FLASKS} flasks each, and one flask tells nothing about flasks."
        )
    corrected = holm(np.array([one.p for one in out]))
    done = [
        msgspec.structs.replace(o, p_holm=float(p)) for o, p in zip(out, corrected, strict=True)
    ]
    return tuple(done), ""


def _flasks_of(crop_set: CropSet, labels: Ints, chosen: Ints) -> dict[str, list[Ints]]:
    """Clusters of the chosen cells, of each flask, under its density."""
    out: dict[str, dict[str, list[int]]] = {}
    for at in np.flatnonzero(chosen):
        row = crop_set.index.rows[at].image
        out.setdefault(row.density, {}).setdefault(row.group, []).append(int(labels[at]))
    return {d: [np.array(cells) for cells in flasks.values()] for d, flasks in out.items()}


def _compared(
    line: str, names: tuple[str, str], one: list[Ints], other: list[Ints], k: int
) -> list[Difference]:
    out = []
    for j in range(k):
        hits, cells = (
            [np.array([f(flask) for flask in side]) for side in (one, other)]
            for f in (lambda flask, j=j: (flask == j).sum(), len)
        )
        difference, half, p = welch(hits[0], cells[0], hits[1], cells[1])
        out.append(
            Difference(
                cells=line,
                phenotype=j + 1,
                first=names[0],
                second=names[1],
                flasks=(len(one), len(other)),
                difference=difference,
                low=difference - half,
                high=difference + half,
                p=p,
                p_holm=p,
                p_permutation=permutation(hits[0] / cells[0], hits[1] / cells[1]),
            )
        )
    return out


def welch(k1: Ints, n1: Ints, k2: Ints, n2: Ints) -> tuple[float, float, float]:
    """Difference of the mean fractions of flasks, half its 95 % interval, and Welch's p-value.

    k of n cells of each flask (m,). Flasks that happen to agree vary no less than the sampling of
    their cells, which is the least variance that is believed.
    """
    squared, degrees, means = [], [], []
    for k, n in ((k1, n1), (k2, n2)):
        p = (k.sum() + 0.5) / (n.sum() + 1)
        variance = max(float((k / n).var(ddof=1)), float((p * (1 - p) / n).mean()))
        squared.append(variance / len(k))
        degrees.append(len(k) - 1)
        means.append(float((k / n).mean()))
    se2 = sum(squared)
    df = se2**2 / sum(s**2 / d for s, d in zip(squared, degrees, strict=True))
    difference = means[1] - means[0]
    half = float(student.ppf(0.975, df)) * math.sqrt(se2)
    p_value = 2 * float(student.sf(abs(difference) / math.sqrt(se2), df))
    return difference, half, p_value


def permutation(one: Floats, other: Floats) -> float:
    """Share of arrangements of the flasks with a difference of means at least as large."""
    pooled, m = np.concatenate([one, other]), len(one)
    if math.comb(len(pooled), m) <= MOST_ARRANGEMENTS:
        chosen = np.array(list(combinations(range(len(pooled)), m)))
        extra = 0
    else:
        rng = np.random.default_rng(0)
        chosen = rng.random((MOST_ARRANGEMENTS, len(pooled))).argsort(1)[:, :m]
        extra = 1  # the arrangement that was seen is one of them
    first = pooled[chosen].sum(1)
    apart = np.abs((pooled.sum() - first) / len(other) - first / m)
    as_far = (apart >= abs(other.mean() - one.mean()) - 1e-12).sum()
    return float((as_far + extra) / (len(chosen) + extra))


def holm(p: Floats) -> Floats:
    """Holm's (1979) step-down correction of p-values (m,)."""
    order_of = np.argsort(p, kind="stable")
    scaled = np.maximum.accumulate(p[order_of] * np.arange(len(p), 0, -1))
    out = np.empty_like(p)
    out[order_of] = np.minimum(scaled, 1)
    return out
