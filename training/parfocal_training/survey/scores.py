"""Statistics of the answers: shares right, agreement, and the network's lead over people."""

from collections.abc import Sequence
from itertools import combinations

import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.intervals import wilson
from parfocal_training.survey.answers import Person
from parfocal_training.survey.key import SheetPart

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

REPEATS = 2000
"""Draws of a bootstrap."""


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """Right answers of n; Wilson's 95 % interval takes the images as independent."""

    right: int
    n: int
    accuracy: float
    low: float
    high: float


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """How much persons answer alike: Fleiss' kappa, and the share of equal answers of each two.

    `kappa` is None where everybody gave one and the same answer throughout: chance then explains
    all agreement.
    """

    kappa: float | None
    mean: float
    least: float
    most: float
    pairs: tuple[tuple[str, str, float], ...]


class NetworkScore(msgspec.Struct, frozen=True, kw_only=True):
    """The network on the same images, and beside persons.

    `silent` of the images got no answer (no cell was found in the frame) and count as wrong;
    `ahead` is its accuracy less the persons' mean with a 95 % interval; `agreement` is the share
    of equal answers with each person, in their order.
    """

    score: Score
    silent: int
    ahead: float
    ahead_low: float
    ahead_high: float
    agreement: tuple[float, ...]


class PartScores(msgspec.Struct, frozen=True, kw_only=True):
    """What one part gave; `mean_low` to `mean_high` hold for other persons and other fields."""

    number: int
    kind: str
    title: str
    persons: tuple[Score, ...]
    mean: float
    sd: float | None
    mean_low: float
    mean_high: float
    n_units: int
    agreement: Agreement | None
    network: NetworkScore | None


def score_of(right: Sequence[bool] | NDArray[np.bool_]) -> Score:
    """Share of right answers with its interval."""
    k, n = int(np.sum(right)), len(right)
    low, high = wilson(k, n)
    return Score(right=k, n=n, accuracy=k / n, low=low, high=high)


def fleiss_kappa(answers: Ints, classes: int) -> float | None:
    """Agreement of raters beyond chance (Fleiss 1971) from answers (raters, images)."""
    raters = len(answers)
    counts = np.stack([(answers == c).sum(0) for c in range(classes)], 1)  # (images, classes)
    observed = float(((counts * (counts - 1)).sum(1) / (raters * (raters - 1))).mean())
    expected = float(((counts.sum(0) / counts.sum()) ** 2).sum())
    return None if expected == 1 else (observed - expected) / (1 - expected)


def agreement(names: Sequence[str], answers: Ints, classes: int) -> Agreement | None:
    """Agreement within (persons, images); None for a single person."""
    if len(names) < 2:
        return None
    pairs = tuple(
        (names[a], names[b], float((answers[a] == answers[b]).mean()))
        for a, b in combinations(range(len(names)), 2)
    )
    shares = [share for _, _, share in pairs]
    return Agreement(
        kappa=fleiss_kappa(answers, classes),
        mean=float(np.mean(shares)),
        least=min(shares),
        most=max(shares),
        pairs=pairs,
    )


def resampled_means(values: Floats, units: Sequence[str], rng: np.random.Generator) -> Floats:
    """Means (REPEATS,) of values (persons, images) with persons and fields drawn anew together.

    Everybody answers the same images, so neither persons nor answers are independent: drawing both
    sides with replacement (Owen 2007, the pigeonhole bootstrap) is on the safe side.
    """
    names, number = np.unique(np.array(units), return_inverse=True)
    weights = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), REPEATS)
    by_image = weights[:, number].astype(np.float64)  # (repeats, images)
    persons = len(values)
    by_person = rng.multinomial(persons, np.full(persons, 1 / persons), REPEATS)  # (repeats, p)
    sums = ((by_person @ values) * by_image).sum(1)
    means: Floats = sums / (persons * by_image.sum(1))
    return means


def _interval(means: Floats) -> tuple[float, float]:
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def part_scores(
    part: SheetPart,
    place: int,
    persons: Sequence[Person],
    network: Ints | None,
    rng: np.random.Generator,
) -> PartScores:
    """All figures of the part at a place of the key; `network` answers (images,), -1: none."""
    asked = part.of("unlabelled")
    truth = np.array([part.classes.index(image.truth) for image in asked], np.int64)
    answers = np.array([person.answers[place] for person in persons], np.int64)  # (persons, images)
    right = answers == truth
    shares, units = right.mean(1), [image.unit for image in asked]
    low, high = _interval(resampled_means(right.astype(np.float64), units, rng))
    return PartScores(
        number=part.number,
        kind=part.kind,
        title=part.title,
        persons=tuple(score_of(row) for row in right),
        mean=float(shares.mean()),
        sd=float(shares.std(ddof=1)) if len(persons) > 1 else None,
        mean_low=low,
        mean_high=high,
        n_units=len(set(units)),
        agreement=agreement([p.name for p in persons], answers, len(part.classes)),
        network=None if network is None else _network(network, truth, answers, units, rng),
    )


def _network(
    said: Ints, truth: Ints, answers: Ints, units: Sequence[str], rng: np.random.Generator
) -> NetworkScore:
    ahead = (said == truth).astype(np.float64) - (answers == truth)  # (persons, images)
    low, high = _interval(resampled_means(ahead, units, rng))
    return NetworkScore(
        score=score_of(said == truth),
        silent=int((said < 0).sum()),
        ahead=float(ahead.mean()),
        ahead_low=low,
        ahead_high=high,
        agreement=tuple(float((row == said).mean()) for row in answers),
    )


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Spearman's rho; None with fewer than three pairs or where one side is all equal."""
    if len(x) < 3 or len(set(x)) < 2 or len(set(y)) < 2:
        return None
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _ranks(values: Sequence[float]) -> Floats:
    """Ranks from 0 on; ties share their mean rank."""
    _, number, counts = np.unique(np.array(values), return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts + 1) / 2)[number]
    return ranks


def experience(persons: Sequence[Person], parts: Sequence[PartScores]) -> tuple[float | None, int]:
    """Spearman's rho of years and mean accuracy, and how many gave their years."""
    pairs = [
        (p.years, mean_accuracy(parts, i)) for i, p in enumerate(persons) if p.years is not None
    ]
    return rank_correlation([y for y, _ in pairs], [a for _, a in pairs]), len(pairs)


def mean_accuracy(parts: Sequence[PartScores], person: int) -> float:
    """Share of right answers of the person at a place, averaged over the parts."""
    return float(np.mean([part.persons[person].accuracy for part in parts]))
