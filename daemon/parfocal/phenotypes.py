"""Which morphological phenotype a cell has: the nearest cluster of LCAs, or none of them."""

import unicodedata
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parfocal.calibrate import Array, from_base64
from parfocal.card import Metric, Phenotypes
from parfocal.types import Fraction

UNLIKE_ANY = "unlike any"
"""What a cell is called that lies beyond the limit of the nearest phenotype."""

MAX_NAME = 60
"""Most characters of a name: longer ones leave no room for numbers beside them."""

MOST_NAMED = 3
"""Phenotypes that a line of text names; the rest are counted."""


def default_names(k: int) -> tuple[str, ...]:
    """What k phenotypes are called until a person names them; `phenotype 1` is the largest."""
    return tuple(f"phenotype {j + 1}" for j in range(k))


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Where k clusters lie among q axes, and in a Gaussian mixture how wide they are.

    Parameters
    ----------
    centroids : ndarray of shape (k, q), float64
    precisions : ndarray of shape (k, q, q), float64, or None
        Cholesky factors of the inverse covariances; None: all clusters are round and alike, as in
        k-means.
    weights : ndarray of shape (k,), float64, or None
        Each component's share of the cells.
    """

    centroids: NDArray[np.float64]
    precisions: NDArray[np.float64] | None = None
    weights: NDArray[np.float64] | None = None

    def nearest(
        self, position: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The cluster (n,) of cells at (n, q), and the distance (n,) to it.

        Nearest is the one of the highest posterior probability, and distance Mahalanobis', where
        there are precisions.
        """
        n, (k, q) = len(position), self.centroids.shape
        if self.precisions is None or self.weights is None:
            # squared distance to each, less the cell's own square, which all have in common
            near = (position @ (-2 * self.centroids.T) + (self.centroids**2).sum(1)).argmin(1)
            off = position - self.centroids[near]  # (n, q)
            return near.astype(np.int64), np.sqrt(np.einsum("nq,nq->n", off, off))
        along = self.precisions.transpose(1, 0, 2).reshape(q, k * q)
        middles = np.einsum("kq,kqr->kr", self.centroids, self.precisions)
        squared = (((position @ along).reshape(n, k, q) - middles) ** 2).sum(2)  # (n, k)
        log_det = np.log(np.diagonal(self.precisions, axis1=1, axis2=2)).sum(1)  # triangular
        near = (squared - 2 * (log_det + np.log(self.weights))).argmin(1)
        return near.astype(np.int64), np.sqrt(squared[np.arange(n), near])


class Phenotyper:
    """Names the phenotype of each cell, as a card says.

    Parameters
    ----------
    card : Phenotypes
    d : int
        Number of activations that the network gives of a cell.

    Raises
    ------
    ValueError
        The card's numbers or names cannot be; the message names the first that cannot.
    """

    def __init__(self, card: Phenotypes, d: int) -> None:
        check_names(card.names)
        _check_counts(card)
        if card.d != d or d < 1:
            raise ValueError(f"phenotypes are of {card.d} activations, the network has {d}")
        self.names = answers(card)
        self.axes = _numbers("axes", card.axes, d)
        self.mean = _numbers("mean", card.mean, 1, d)[0]
        self.clusters = _clusters(card, self.axes.shape[1])
        self.limits = np.array(card.limits, np.float64)

    def __call__(self, lca: Array) -> list[str]:
        """Phenotype of each of n cells, `UNLIKE_ANY` included: lca is float32 (n, d)."""
        nearest, apart = self.nearest(lca)
        numbers = np.where(apart > self.limits[nearest], len(self.limits), nearest)
        return [self.names[number] for number in numbers.tolist()]

    def nearest(self, lca: Array) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Number of the nearest phenotype of each of n cells, and the distance: (n,) each."""
        return self.clusters.nearest((lca - self.mean) @ self.axes)


def answers(card: Phenotypes | None) -> tuple[str, ...]:
    """Everything that a cell's phenotype can be, `UNLIKE_ANY` last; empty for a model without."""
    return () if card is None else (*card.names, UNLIKE_ANY)


def phenotypes_text(found: dict[str, Fraction] | None) -> str:
    """The most frequent phenotypes in a line, with 95 % intervals; empty where there are none."""
    seen = {name: f for name, f in (found or {}).items() if f.n}
    if not seen:
        return ""
    strange = seen.pop(UNLIKE_ANY, None)
    ordered = sorted(seen, key=lambda name: -seen[name].n)
    parts = [_share(name, seen[name]) for name in ordered[:MOST_NAMED]]
    rarer = ordered[MOST_NAMED:]
    if rarer:
        parts.append(f"{len(rarer)} rarer: {sum(seen[name].n for name in rarer)}")
    if strange is not None:
        parts.append(_share(UNLIKE_ANY, strange))
    return f"phenotypes: {'  '.join(parts)}"


def _share(name: str, f: Fraction) -> str:
    return f"{name} {f.n} = {f.fraction:.0%} ({f.low:.0%}-{f.high:.0%})"


def check_names(names: tuple[str, ...]) -> None:
    """Refuse names that could not be shown or told apart.

    Raises
    ------
    ValueError
        Which, and why.
    """
    if not names:
        raise ValueError("phenotypes has no names")
    for name in names:
        if not name or name != name.strip() or not name.isprintable():
            raise ValueError(
                f"a phenotype is called {name!a}: names are printable, without margins"
            )
        if len(name) > MAX_NAME:
            raise ValueError(f"a phenotype's name has {len(name)} characters, not up to {MAX_NAME}")
        if name.casefold() == UNLIKE_ANY:
            raise ValueError(f"a phenotype is called {name!a}, which means none of them")
    if len({unicodedata.normalize("NFC", name) for name in names}) != len(names):
        raise ValueError("two phenotypes have the same name")


def _check_counts(card: Phenotypes) -> None:
    k = len(card.names)
    for what, values in (
        ("limits", card.limits),
        ("cells", card.cells),
        ("weights", (1.0,) * k if card.weights is None else card.weights),
    ):
        if len(values) != k:
            raise ValueError(f"phenotypes.{what} has {len(values)} values for {k} names")
        for value in values:
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"phenotypes.{what} has {value}, not a finite number above 0")
    _check_metric("unlike_any", card.unlike_any, 0)
    _check_metric("stability", card.stability, -1)  # clusterings can agree less than by chance


def _clusters(card: Phenotypes, q: int) -> Clusters:
    k = len(card.names)
    centroids = _numbers("centroids", card.centroids, k, q)
    if card.precisions is None and card.weights is None:
        return Clusters(centroids)
    if card.precisions is None or card.weights is None:
        raise ValueError("phenotypes has one of precisions and weights: a mixture has both")
    precisions = _numbers("precisions", card.precisions, k * q, q).reshape(k, q, q)
    if not (np.diagonal(precisions, axis1=1, axis2=2) > 0).all():
        raise ValueError("phenotypes.precisions has a factor whose diagonal is not above 0")
    if np.triu(precisions, 1).any() and np.tril(precisions, -1).any():
        raise ValueError("phenotypes.precisions has a factor that is not triangular")
    return Clusters(centroids, precisions, np.array(card.weights))


def _check_metric(what: str, metric: Metric, least: float) -> None:
    for value in (metric.value, metric.low, metric.high):
        if value is not None and not least <= value <= 1:
            raise ValueError(f"phenotypes.{what} is {value}, not between {least} and 1")


def _numbers(what: str, text: str, rows: int, columns: int = 0) -> NDArray[np.float64]:
    """The finite numbers of a text made by `to_base64`: shape (rows, columns), 0 taking any."""
    values = from_base64(text)
    columns = columns or max(1, values.size // rows)
    if values.size != rows * columns:
        raise ValueError(f"phenotypes.{what} has {values.size} values, not {rows} x {columns}")
    if not np.isfinite(values).all():
        raise ValueError(f"phenotypes.{what} holds numbers that are not finite")
    return values.reshape(rows, -1).astype(np.float64)
