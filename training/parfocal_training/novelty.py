"""How far a cell's last activations lie from everything the network was trained on."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf

from parfocal.calibrate import NoveltyScore, to_base64
from parfocal.card import Novelty
from parfocal.normalize import Reference
from parfocal_training.augment import augment
from parfocal_training.model import ConvNet
from parfocal_training.phenotypes.space import fitted, spread_of
from parfocal_training.recipe import Recipe
from parfocal_training.train import Labelled, answer

Floats = NDArray[np.float64]

ENOUGH_VIEWS = 4000
"""Of cells, for a precision of 288 dimensions."""
MAX_COPIES = 7
"""Augmented copies beside each crop; at least one, for novelty must not lie in what is varied."""

MAX_SCORES = 1000
"""Distances kept in a card; the p-value is then good to 0.001."""


def copies_of(n_crops: int) -> int:
    """Augmented copies of each of n crops beside the crop itself."""
    return min(max(math.ceil(ENOUGH_VIEWS / n_crops) - 1, 1), MAX_COPIES)


def neighbourhood(
    model: ConvNet,
    crops: Labelled,
    recipe: Recipe,
    reference: Reference,
    generator: torch.Generator,
) -> Novelty:
    """Class means of the LCA and the common precision around them; no scores yet."""
    views = []
    options = recipe.augmentation.masked() if crops.masked else recipe.augmentation
    for copy in range(1 + copies_of(len(crops.crops))):
        parts = []
        for some in torch.split(crops.crops, 8):
            if copy:
                some = augment(some, options, model.config.crop_px, generator)
            parts.append(answer(model, some, reference)[1].cpu().numpy().astype(np.float64))
        views.append(np.concatenate(parts))
    return surrounding(np.stack(views, 1), crops.labels.cpu().numpy(), model.config.classes)


def surrounding(views: Floats, labels: NDArray[np.int64], classes: int) -> Novelty:
    """What n cells of `labels` (n,), as imaged and varied (n, c, d), say of where LCAs lie.

    The squared distance is the mean of two, each Mahalanobis' from the mean of a class and divided
    by its number of directions: one in the leading principal components, which notices a picture
    unlike any; the other in the discriminants, the few directions in which cells differ most beside
    their own copies, which notices shapes that are rare. Other directions hold what nothing in the
    training decided, and drown both.
    """
    cells, d = views[:, 0], views.shape[2]
    mean = np.stack([cells[labels == c].mean(0) for c in range(classes)])  # (classes, d)
    off = views - mean[labels][:, None]
    precision = np.eye(d)
    if off[:, 0].std(0).max() > 0:
        within = spread_of(views)
        components = fitted(off[:, 0], "components", None, within).axes
        discriminants = fitted(off[:, 0], "discriminants", None, within).axes
        every = off.reshape(-1, d)
        precision = _precision(every, components) + _precision(every, discriminants)
    return Novelty(
        mean=to_base64(mean.astype("<f4")),
        precision=to_base64(precision.astype("<f4")),
        d=d,
        scores=(),
    )


def _precision(off: Floats, axes: Floats) -> Floats:
    """Precision (d, d) of deviations (n, d) in the span of axes (d, q), over 2 q.

    The covariance is shrunk (Ledoit and Wolf 2004).
    """
    inner = LedoitWolf(assume_centered=True).fit(off @ axes).precision_
    placed: Floats = axes @ inner @ axes.T / (2 * axes.shape[1])
    return placed


def distances(known: Novelty, lca: torch.Tensor, classes: int) -> NDArray[np.float64]:
    """Distance of each LCA (n, d) to the nearest class, computed by the daemon's own code: (n,)."""
    return NoveltyScore(known, classes).distance(lca.cpu().numpy())


def thinned(scores: NDArray[np.float64]) -> tuple[float, ...]:
    """At most `MAX_SCORES` sorted distances, evenly spaced by rank."""
    ordered = np.sort(scores)
    if len(ordered) > MAX_SCORES:
        ordered = ordered[np.linspace(0, len(ordered) - 1, MAX_SCORES).round().astype(int)]
    return tuple(float(f"{score:.6g}") for score in ordered)
