"""The space in which LCAs are clustered: a linear map, which a phenotype model can carry."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from parfocal_training.errors import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Kind = Literal["discriminants", "components", "whitened", "lca"]

EXPLAINED = 0.95
MOST_COMPONENTS = 32
DISCRIMINANTS = 3
FLOOR = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """A cell lies at (lca - mean) @ axes: `mean` (d,), `axes` (d, q), float64.

    `explained` is the share of the variance that the axes keep.
    """

    mean: Floats
    axes: Floats
    explained: float

    def at(self, lca: NDArray[np.floating]) -> Floats:
        """Places of LCAs (..., d): (..., q)."""
        placed: Floats = (lca.astype(np.float64) - self.mean) @ self.axes
        return placed


def fitted(lca: NDArray[np.floating], kind: Kind, components: int | None, within: Floats) -> Space:
    """The space of n LCAs (n, d).

    `discriminants` measures in units of the spread that a cell's own copies have (their covariance
    `within` (d, d)) and keeps the components in which cells differ most: Fisher's discriminants of
    cells, which the network was trained to tell apart; `DISCRIMINANTS` of them, or `components`.
    `lca` is the paper's: values as they are. `components` gives every value the SD 1, so that none
    counts more for its unit, and keeps the first principal components: `components` of them, or as
    many as explain 95 % of the variance, at most 32. `whitened` gives these the SD 1 as well.

    Raises
    ------
    DataError
        All cells have one LCA.
    """
    values = lca.astype(np.float64)
    mean, sd = values.mean(0), values.std(0)
    alive = sd > 1e-6 * sd.max()  # a unit that is silent for every cell says nothing
    if not sd.max() > 0:
        raise DataError(
            f"all {len(lca)} cells have the same LCA: the network tells no cells apart, train it "
            "for longer"
        )
    if kind == "lca":
        return Space(mean, np.eye(len(mean)), 1.0)
    unit = np.diag(np.where(alive, 1 / np.where(alive, sd, 1), 0))  # (d, d)
    if kind == "discriminants":
        unit = _whitening(within)
    _, singular, rows = np.linalg.svd((values - mean) @ unit, full_matrices=False)
    share = singular**2 / (singular**2).sum()
    q = components or _enough(share, kind)
    q = min(q, int((share > 1e-9).sum()))
    rows = rows[:q] * np.sign(rows[np.arange(q), np.abs(rows[:q]).argmax(1)])[:, None]
    axes = unit @ rows.T  # (d, q)
    if kind == "whitened":
        axes = axes * (np.sqrt(len(values)) / singular[:q])
    return Space(mean, axes, float(share[:q].sum()))


def _enough(share: Floats, kind: Kind) -> int:
    """Components that are kept when nobody says how many."""
    if kind == "discriminants":
        return DISCRIMINANTS
    return min(MOST_COMPONENTS, int(np.searchsorted(share.cumsum(), EXPLAINED)) + 1)


def _whitening(within: Floats) -> Floats:
    """The map (d, d) after which copies of a cell spread by 1 in every direction.

    A hundredth of the mean variance is added to each direction: in some, copies hardly differ.
    """
    variance, directions = np.linalg.eigh(within)
    mapped: Floats = directions / np.sqrt(np.maximum(variance, 0) + FLOOR * variance.mean())
    return mapped


def spread_of(copies: NDArray[np.floating]) -> Floats:
    """Covariance (d, d) of the copies (m, c, d) of m cells about their own cell's mean."""
    values = copies.astype(np.float64)
    off = (values - values.mean(1, keepdims=True)).reshape(-1, values.shape[2])
    m, c = values.shape[:2]
    pooled: Floats = off.T @ off / max(m * (c - 1), 1)
    return pooled
