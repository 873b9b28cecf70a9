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
from parfocal_training.recipe import Recipe
from parfocal_training.train import Labelled, lca_of

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
    """Class means and the shrunk common precision (Ledoit-Wolf) of the LCA; no scores yet."""
    lca, labels = [], []
    options = recipe.augmentation.masked() if crops.masked else recipe.augmentation
    for copy in range(1 + copies_of(len(crops.crops))):
        for some, of in zip(torch.split(crops.crops, 8), torch.split(crops.labels, 8), strict=True):
            if copy:
                some = augment(some, options, model.config.crop_px, generator)
            lca.append(lca_of(model, some, reference).cpu().numpy().astype(np.float64))
            labels.append(of.cpu().numpy())
    return _novelty(np.concatenate(lca), np.concatenate(labels), model.config.classes)


def _novelty(lca: NDArray[np.float64], labels: NDArray[np.int64], classes: int) -> Novelty:
    mean = np.stack([lca[labels == c].mean(0) for c in range(classes)])  # (classes, d)
    fitted = LedoitWolf(assume_centered=True).fit(lca - mean[labels])
    return Novelty(
        mean=to_base64(mean.astype("<f4")),
        precision=to_base64(fitted.precision_.astype("<f4")),
        d=lca.shape[1],
        scores=(),
    )


def distances(known: Novelty, lca: torch.Tensor, classes: int) -> NDArray[np.float64]:
    """Distance of each LCA (n, d) to the nearest class, computed by the daemon's own code: (n,)."""
    return NoveltyScore(known, classes).distance(lca.cpu().numpy())


def thinned(scores: NDArray[np.float64]) -> tuple[float, ...]:
    """At most `MAX_SCORES` sorted distances, evenly spaced by rank."""
    ordered = np.sort(scores)
    if len(ordered) > MAX_SCORES:
        ordered = ordered[np.linspace(0, len(ordered) - 1, MAX_SCORES).round().astype(int)]
    return tuple(float(f"{score:.6g}") for score in ordered)
