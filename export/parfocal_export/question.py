"""The golden question: crops drawn, not photographed, so that no laboratory's images travel."""

import numpy as np
from numpy.typing import NDArray


def golden_crops(n: int, side_px: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Drawn cells: a dark rim round a bright, grainy body on a noisy ground; (n, side, side)."""
    at = np.arange(side_px) - side_px / 2
    out = np.empty((n, side_px, side_px), np.uint8)
    for crop in out:
        turn, long_px = rng.uniform(0, np.pi), side_px * rng.uniform(0.12, 0.25)
        wide_px = long_px * rng.uniform(0.3, 0.8)
        along = np.cos(turn) * at[None, :] + np.sin(turn) * at[:, None]
        across = np.cos(turn) * at[:, None] - np.sin(turn) * at[None, :]
        r = np.hypot(along / long_px, across / wide_px)  # 1 at the rim
        rim = -60 * np.exp(-(((r - 1) / 0.12) ** 2)) + 40 * np.exp(-(((r - 1.25) / 0.12) ** 2))
        grain = rng.normal(0, 1, r.shape) * np.where(r < 1, 14, 5)
        crop[...] = np.clip(165 + rim + 8 * (r < 1) + grain, 0, 255).round().astype(np.uint8)
    return out
