"""How novel the cells of a line never seen are beside those of known lines, with drawn samples.

A sample says how often each unit (a held-out group or image) was drawn: rows of (samples, units).
The area under the ROC curve (AUROC) is the probability that a cell of the line never seen is more
novel than a held-out cell of a known line.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp  # type: ignore[import-untyped]

from parfocal.calibrate import softmax
from parfocal_training.experiments.running import HeldOutResult
from parfocal_training.leftout import Bools, Floats, Ints

REFUSED_KNOWN = 0.05
"""Share of the known cells that a threshold on novelty may refuse."""

SHIPPED = "LCA distance"
"""The measure that models carry."""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """m cells: how novel each of them is, its image and its unit (numbers from 0 on), each (m,)."""

    novelty: Floats
    images: Ints
    units: Ints

    def of(self, chosen: Bools) -> "Scored":
        """These cells alone."""
        return Scored(self.novelty[chosen], self.images[chosen], self.units[chosen])

    def by_image(self, known: Floats) -> "Scored":
        """The images as cells: each with the mean rank of its own among these known cells."""
        _, first, number = np.unique(self.images, return_index=True, return_inverse=True)
        mean = np.bincount(number, rank(known, self.novelty)) / np.bincount(number)
        return Scored(mean, self.images[first], self.units[first])


def scores(test: HeldOutResult) -> dict[str, Floats]:
    """Each measure of novelty of the cells of a test, larger for stranger ones: (m,).

    Beside the one of the model cards two that read the logits, by the first way to answer: 1 minus
    the largest probability (Hendrycks and Gimpel 2017) and the energy (Liu et al. 2020).
    """
    logits = np.array(next(iter(test.logits.values())), np.float64)
    return {
        SHIPPED: np.array(test.distances, np.float64),
        "1 - max softmax": 1 - softmax(logits).max(1),
        "energy": -logsumexp(logits, axis=1),
    }


def rank(known: Floats, novelty: Floats) -> Floats:
    """Share of known cells that each cell is stranger than, ties counted half: (m,).

    As the novelty of the service, 1 minus a conformal p-value, but without its correction for few
    known cells, so that comparisons with more and with fewer of them agree.
    """
    ordered = np.sort(known)
    below, upto = (np.searchsorted(ordered, novelty, side) for side in ("left", "right"))
    return (below + upto) / (2 * len(known))


def auroc(known: Scored, strange: Scored, weights: Floats, others: Floats) -> Floats:
    """AUROC in each sample, ties counted half: (samples,).

    `weights` holds samples of the units of the known cells, `others` of the strange ones; NaN where
    none of a kind was drawn.
    """
    return _area({int(unit): (known.of(known.units == unit), strange)
                  for unit in np.unique(known.units)}, weights, others)  # fmt: skip


def image_auroc(known: Scored, strange: Scored, weights: Floats, others: Floats) -> Floats:
    """AUROC of images by the mean rank of their cells, in each sample: (samples,).

    Images of a known unit and strange ones are ranked among the known cells of all OTHER units: an
    image must not be its own measure, nor those it is compared with have another one.
    """
    pairs = {}
    for unit in np.unique(known.units):
        mine = known.units == unit
        other = known.novelty[~mine]
        pairs[int(unit)] = (known.of(mine).by_image(other), strange.by_image(other))
    return _area(pairs, weights, others)


def _area(pairs: dict[int, tuple[Scored, Scored]], weights: Floats, others: Floats) -> Floats:
    """From the known and the strange, as each known unit wants them compared."""
    n_units = weights.shape[1]
    wins, total = np.zeros((n_units, n_units)), np.zeros((n_units, n_units))
    for unit, (mine, theirs) in pairs.items():
        won = rank(mine.novelty, theirs.novelty)
        wins[unit] = len(mine.units) * np.bincount(theirs.units, won, n_units)
        total[unit] = len(mine.units) * np.bincount(theirs.units, minlength=n_units)
    return _over(((weights @ wins) * others).sum(1), ((weights @ total) * others).sum(1))


def refused(known: Scored, strange: Scored, weights: Floats, others: Floats) -> Floats:
    """Share of strange cells above the 95 % quantile of the known ones, in each sample."""
    order, units = np.argsort(known.novelty, kind="stable"), np.unique(strange.units)
    ordered, unit_of = known.novelty[order], known.units[order]
    by_unit = [np.sort(strange.novelty[strange.units == unit]) for unit in units]
    above = np.stack([len(one) - np.searchsorted(one, ordered, "right") for one in by_unit])
    size, out = np.array([len(one) for one in by_unit]), np.full(len(weights), np.nan)
    for sample, (mine, theirs) in enumerate(zip(weights, others[:, units], strict=True)):
        passed = mine[unit_of].cumsum()
        if passed[-1]:
            place = np.searchsorted(passed, (1 - REFUSED_KNOWN) * passed[-1], "left")
            out[sample] = theirs @ above[:, place] / (theirs @ size)
    return out


def balanced(right: Bools, labels: Ints, units: Ints, weights: Floats) -> Floats:
    """Balanced accuracy in each sample, over the classes that were drawn: (samples,)."""
    n_units, shares = weights.shape[1], []
    for label in np.unique(labels):
        mine = labels == label
        hits = np.bincount(units[mine], right[mine], n_units)
        shares.append(_over(weights @ hits, weights @ np.bincount(units[mine], minlength=n_units)))
    return mean_of_drawn(shares)


def voted(logits: Floats, labels: Ints, images: Ints) -> tuple[Bools, Ints]:
    """Whether the majority of an image's cells of a line is right, and the place of one of them.

    Where as many cells say one line as another, the larger mean probability decides.
    """
    n_classes = logits.shape[1]
    key = images * n_classes + labels  # a ready crop's field may hold two lines
    _, first, number = np.unique(key, return_index=True, return_inverse=True)
    votes = np.zeros((len(first), n_classes))
    np.add.at(votes, (number, logits.argmax(1)), 1)
    np.add.at(votes, number, softmax(logits) / (2 * np.bincount(number)[number, None]))
    return votes.argmax(1) == labels[first], first


def mean_of_drawn(samples: list[Floats]) -> Floats:
    """Mean of several figures in each sample, over those that are not NaN: (samples,)."""
    values = np.stack(samples)
    some = ~np.isnan(values)
    return _over(np.where(some, values, 0).sum(0), some.sum(0))


def _over(part: Floats, whole: Floats | Ints) -> Floats:
    with np.errstate(invalid="ignore"):
        share: Floats = part / whole
    return share
