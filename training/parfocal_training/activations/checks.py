"""Whether a saliency map says anything: deletion curves and networks with random weights.

A map that names what the network uses makes the answer fall faster than a random order does when
its pixels are hidden, and faster than an order that knows only that cells lie in the middle
(Petsiuk et al. 2018). A map that looks the same for a network that has learnt nothing shows the
picture, not the network (Adebayo et al. 2018).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal_training.activations.network import Image, fast, support
from parfocal_training.activations.saliency import Window, background, grad_cam, occlusion
from parfocal_training.model import ConvNet, initialized

Floats = NDArray[np.float64]

SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6)
"""Shares of the pixels of a crop that the deletion curves hide."""

METHODS = ("occlusion", "Grad-CAM")
RANDOM, MIDDLE = "random patches", "from the middle"
RANDOM_ORDERS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Saliency:
    """What carries the answer to one cell, with its checks.

    `maps` (s, s) and `curves` (1 + len(SHARES),) by name; `same` are rank correlations with the
    network whose last 0, 1, ... parts are random (occlusion: None but for all parts), `same_size`
    those of the absolute values when all are.
    """

    maps: dict[str, Floats]
    curves: dict[str, Floats]
    same: dict[str, list[float | None]]
    same_size: dict[str, float]


def saliency(
    model: ConvNet, crop: Image, answer: int, window: Window, rng: np.random.Generator, seed: int
) -> Saliency:
    """Both maps of one normalized crop (s, s) for a class, and their checks."""
    fill, side = background(crop, rng), len(crop)
    covered, _ = occlusion(model, crop, fill, answer, window)
    maps = {"occlusion": covered, "Grad-CAM": grad_cam(model, crop, fill, answer)}
    curves = {name: deletion(model, crop, fill, answer, one) for name, one in maps.items()}
    drawn = [
        deletion(model, crop, fill, answer, smooth_order(side, window, rng))
        for _ in range(RANDOM_ORDERS)
    ]
    curves[RANDOM] = np.mean(drawn, axis=0)
    curves[MIDDLE] = deletion(model, crop, fill, answer, centre_order(side))
    same, same_size = _against_random(model, crop, fill, answer, window, maps, seed)
    return Saliency(maps, curves, same, same_size)


def _against_random(
    model: ConvNet,
    crop: Image,
    fill: Image,
    answer: int,
    window: Window,
    maps: dict[str, Floats],
    seed: int,
) -> tuple[dict[str, list[float | None]], dict[str, float]]:
    parts = len(model.blocks) + 1
    others = [grad_cam(randomised(model, n, seed), crop, fill, answer) for n in range(1, parts + 1)]
    cam = [rank_correlation(maps["Grad-CAM"], other) for other in others]
    # half the windows each way tell as much at a quarter of the cost
    coarse = Window(window.side_px, 2 * window.stride_px, window.edge_px)
    covered, _ = occlusion(randomised(model, parts, seed), crop, fill, answer, coarse)
    same: dict[str, list[float | None]] = {
        "occlusion": [1.0, *[None] * (parts - 1), rank_correlation(maps["occlusion"], covered)],
        "Grad-CAM": [1.0, *cam],
    }
    ends = {"occlusion": covered, "Grad-CAM": others[-1]}
    sizes = {name: rank_correlation(np.abs(maps[name]), np.abs(ends[name])) for name in METHODS}
    return same, sizes


def mean_probability(curve: Floats) -> float:
    """Area under a deletion curve over the shares hidden, divided by the largest: 0 to 1."""
    at = np.array([0.0, *SHARES])
    return float(((curve[1:] + curve[:-1]) / 2 * np.diff(at)).sum() / at[-1])


def deletion(model: ConvNet, crop: Image, fill: Image, answer: int, order: Floats) -> Floats:
    """Probability of the answered class as pixels are hidden, largest `order` first.

    Returns
    -------
    ndarray of shape (1 + len(SHARES),)
        At 0 and at each of `SHARES`.
    """
    levels = np.quantile(order, [1 - share for share in SHARES])
    hidden = [np.where(order >= level, fill, crop) for level in levels]
    odds = support(model, np.stack([crop, *hidden]), answer)
    probability: Floats = 1 / (1 + np.exp(-odds))
    return probability


def smooth_order(side: int, window: Window, rng: np.random.Generator) -> Floats:
    """A random order of pixels (s, s) that deletes patches as large as a saliency map does."""
    noise = rng.normal(0, 1, (side, side))
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), window.side_px / 2), np.float64)


def centre_order(side: int) -> Floats:
    """An order (s, s) from the middle outwards, which knows only that cells are centred."""
    y, x = np.indices((side, side)) - (side - 1) / 2
    return np.asarray(-np.hypot(x, y), np.float64)


def rank_correlation(one: Floats, other: Floats) -> float:
    """Spearman's correlation of two maps of one shape; NaN if one is flat."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    ranks = [np.argsort(np.argsort(values.ravel())).astype(float) for values in (one, other)]
    return float(np.corrcoef(np.stack(ranks))[0, 1])


def randomised(model: ConvNet, parts: int, seed: int) -> ConvNet:
    """The network with its last `parts` drawn anew: the head, then blocks from the last down."""
    device = next(model.parameters()).device
    fresh = initialized(model.config, seed).to(device)
    n = len(model.blocks)
    kept = tuple(f"blocks.{i}." for i in range(n + 1 - parts)) if parts else ("",)
    old = {name: value for name, value in model.state_dict().items() if name.startswith(kept)}
    fresh.load_state_dict(fresh.state_dict() | old)
    return fast(fresh)
