"""Quantile normalization on the training device, equal bit for bit to the daemon's."""

from functools import lru_cache

import torch
from torch import Tensor

from parfocal.normalize import Reference


def levels_of(crops: Tensor) -> int:
    """Grey levels that the integer type can hold: 256 for uint8, else 65,536.

    PyTorch computes little on uint16, so 16-bit crops travel as int32.
    """
    if crops.dtype == torch.uint8:
        return 256
    if crops.dtype in (torch.uint16, torch.int32):
        return 65536
    raise ValueError(f"crops must be uint8, uint16 or int32 levels, got {crops.dtype}")


def normalize_batch(crops: Tensor, reference: Reference) -> Tensor:
    """Crops with the reference's grey-level distribution.

    Parameters
    ----------
    crops : tensor of shape (n, h, w), uint8, uint16 or int32 holding 0-65535
    reference : Reference
        Of h * w pixels, levels 0-255.

    Returns
    -------
    tensor of shape (n, h, w), float32, on the device of `crops`
        Exactly `parfocal.normalize.normalize` of the same crops (`tests/test_train_normalize.py`):
        integer counts, sums below 2**53 in float64, one division, one rounding to float32.
    """
    return _looked_up(_tables(crops, reference), crops)


def normalize_with_margin(crops: Tensor, margin_px: int, reference: Reference) -> Tensor:
    """Crops (n, s, s) whose middle, without the margin, has the reference's distribution.

    The middle is what `normalize_batch` makes of it; the margin's levels go the same way, those
    that the middle does not have by their rank in it. Returns (n, s, s), float32.
    """
    side = crops.shape[-1] - margin_px
    middle = crops[:, margin_px:side, margin_px:side]
    return _looked_up(_tables(middle, reference), crops)


def _tables(crops: Tensor, reference: Reference) -> Tensor:
    """What each level of each crop becomes: (n, levels) float32."""
    if crops.ndim != 3 or crops.shape[1] * crops.shape[2] != reference.pixels:
        raise ValueError(
            f"crops of shape {tuple(crops.shape)} do not match a reference of "
            f"{reference.pixels} pixels"
        )
    n, levels = len(crops), levels_of(crops)
    flat = crops.reshape(n, -1).long()  # (n, h * w)
    histogram = torch.zeros(n, levels, dtype=torch.int64, device=crops.device)
    histogram.scatter_add_(1, flat, histogram.new_ones(()).expand_as(flat))
    width = histogram.clamp(min=1)  # a level that is absent gets what one pixel at its rank would
    last = histogram.cumsum(1)
    upper = torch.where(histogram > 0, last, (last + 1).clamp(max=reference.pixels))
    sums = _sums(reference, crops.device)  # (h * w + 1,) float64
    return ((sums[upper] - sums[upper - width]) / width).float()


@lru_cache(maxsize=8)
def _sums(reference: Reference, device: torch.device) -> Tensor:
    """Kept on the device: to carry them there for every batch makes a GPU wait."""
    return torch.from_numpy(reference.sums).to(device)


def _looked_up(tables: Tensor, crops: Tensor) -> Tensor:
    return tables.gather(1, crops.reshape(len(crops), -1).long()).view(crops.shape)
