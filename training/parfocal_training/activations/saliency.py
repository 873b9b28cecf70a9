"""Which regions of a crop carry a network's answer, two ways (`checks` tests them).

Both maps are signed and in log odds of the answered class: above 0 a region supports the answer,
below 0 it speaks against. What takes the place of a region is always the crop's own background,
never a grey or black patch that no microscope shows. Occlusion acts on the normalized crop:
covered before, quantile normalization would spread the grey levels of all that is left.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parfocal_training.activations.network import Image, log_odds, on_network, support
from parfocal_training.errors import DataError
from parfocal_training.model import ConvNet
from parfocal_training.pixels.orientation import foreground

Floats = NDArray[np.float64]

CAM_PX = 7
"""Least side of the map that Grad-CAM reads: below it a pixel of the map is half a cell."""


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window of `side_px`, moved by `stride_px`, with edges blurred by `edge_px`."""

    side_px: int
    stride_px: int
    edge_px: float = 1.5

    def starts(self, crop_px: int) -> list[int]:
        """Where windows begin along one axis; the outermost ones reach over the edge."""
        half = self.side_px // 2
        return list(range(-half, crop_px - half + self.stride_px, self.stride_px))


def background(crop: Image, rng: np.random.Generator) -> Image:
    """A crop (s, s) of this crop's own background: its level, its noise and the noise's grain.

    Gaussian noise, smoothed to the correlation of neighbouring background pixels, about the median
    of what lies outside the central cell.
    """
    outside = ~cv2.dilate(foreground(crop).astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    if outside.sum() < 0.05 * crop.size:
        outside[:] = True
    level = np.median(crop[outside])
    sd = 1.4826 * float(np.median(np.abs(crop[outside] - level)))  # of noise, not of neighbours
    grain = _grain(np.where(outside, np.clip(crop - level, -3 * sd, 3 * sd), 0))
    noise = cv2.GaussianBlur(rng.normal(0, 1, crop.shape), (0, 0), grain)
    made: Image = (level + sd * noise / max(float(noise.std()), 1e-9)).astype(np.float32)
    return made


def _grain(residual: Image) -> float:
    """SD in pixels of the Gaussian that gives white noise this correlation of neighbours."""
    power = float((residual**2).mean())
    lag = float((residual[:, 1:] * residual[:, :-1]).mean()) / power if power > 0 else 0.0
    return float(np.clip(0.5 / np.sqrt(-np.log(np.clip(lag, 0.05, 0.9))), 0.3, 2.0))


def occlusion(
    model: ConvNet, crop: Image, fill: Image, answer: int, window: Window
) -> tuple[Floats, Floats]:
    """Fall of the log odds when a window shows background instead of the crop.

    Returns
    -------
    map : ndarray of shape (s, s)
        At each pixel the mean fall over the windows that cover it, smoothed by half a stride.
    falls : ndarray of shape (r, r)
        The fall of each window.
    """
    side = len(crop)
    starts = window.starts(side)
    whole = support(model, crop[None], answer)[0]
    total, weight = np.zeros((side, side)), np.zeros((side, side))
    falls = np.empty((len(starts), len(starts)))
    for i, top in enumerate(starts):
        masks = np.stack([_cover(side, top, left, window) for left in starts])  # (r, s, s)
        falls[i] = whole - support(model, crop + masks * (fill - crop), answer)
        total += np.tensordot(falls[i], masks, 1)
        weight += masks.sum(0)
    falls_px = total / np.maximum(weight, 1e-6)  # steps of a stride, which say nothing
    return np.asarray(cv2.GaussianBlur(falls_px, (0, 0), window.stride_px / 2)), falls


def _cover(side: int, top: int, left: int, window: Window) -> Image:
    mask = np.zeros((side, side), np.float32)
    height, width = top + window.side_px, left + window.side_px
    mask[max(top, 0) : max(height, 0), max(left, 0) : max(width, 0)] = 1
    soft: Image = cv2.GaussianBlur(mask, (0, 0), window.edge_px).astype(np.float32, copy=False)
    return soft


def grad_cam(model: ConvNet, crop: Image, fill: Image, answer: int) -> Floats:
    """Grad-CAM (Selvaraju et al. 2017) at the last maps of 7 px and more, enlarged to (s, s).

    Signed, and of the maps' difference to those of the background alone: batch normalization
    leaves maps with offsets of their own, and what does not differ from an empty crop supports
    nothing. In log odds a pixel of those maps.
    """
    kept, blank = _block_maps(model, crop), _block_maps(model, fill)
    large = [i for i, maps in enumerate(kept) if maps.shape[-1] >= CAM_PX]
    if not large:
        raise DataError(f"no block of this network has maps of {CAM_PX} px for Grad-CAM")
    layer = large[-1]
    maps = kept[layer].requires_grad_(True)  # (1, maps, side, side)
    rest = _from(model, crop, layer, maps)
    (slope,) = torch.autograd.grad(log_odds(rest, answer).sum(), maps)
    weight = slope.mean((2, 3), keepdim=True)  # (1, maps, 1, 1)
    cam = (weight * (maps - blank[layer])).sum(1)[0].detach().cpu().numpy().astype(np.float64)
    enlarged = cv2.resize(cam, (len(crop), len(crop)), interpolation=cv2.INTER_CUBIC)
    return np.asarray(enlarged, np.float64)


@torch.no_grad()
def _block_maps(model: ConvNet, crop: Image) -> list[Tensor]:
    kept: list[Tensor] = []
    hooks = [
        block.register_forward_hook(lambda _m, _in, out: kept.append(out)) for block in model.blocks
    ]
    model(on_network(crop[None], model))
    for hook in hooks:
        hook.remove()
    return kept


def _from(model: ConvNet, crop: Image, layer: int, maps: Tensor) -> Tensor:
    """Logits with the maps of one block put in place of its own."""
    hook = model.blocks[layer].register_forward_hook(lambda _m, _in, _out: maps)
    logits: Tensor = model(on_network(crop[None], model))[0]
    hook.remove()
    return logits
