"""Small fields with truth on disk, and a recipe that trains in a second."""

from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal_training.detector.network import DetectorConfig
from parfocal_training.detector.recipe import BASE, DetectorRecipe

QUICK: DetectorRecipe = msgspec.structs.replace(
    BASE,
    config=DetectorConfig(widths=(4, 4, 4, 4), blocks=(0, 0, 0, 0)),
    variation=msgspec.structs.replace(BASE.variation, tile_px=64),
    steps=6,
    fold_steps=4,
    batch=2,
    warm_up_steps=2,
    report_every=2,
)


def drawn_field(seed: int, side_px: int = 240) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """A frame of textured ellipses and its labels, both (side_px, side_px)."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((side_px, side_px), np.uint16)
    for k in range(9):
        at = (np.array([k % 3, k // 3]) + 0.5) * side_px / 3 + rng.uniform(-8, 8, 2)
        size = (float(rng.uniform(34, 60)), float(rng.uniform(22, 36)))
        turn = float(rng.uniform(0, 180))
        cv2.ellipse(labels, ((float(at[0]), float(at[1])), size, turn), k + 1, -1)
    frame = 140 + rng.normal(0, 3, labels.shape)
    frame += np.where(labels > 0, rng.normal(0, 28, labels.shape), 0)
    return np.clip(frame, 0, 255).astype(np.uint8), labels


def save_fields(folder: Path, n: int = 4, beside: bool = True) -> Path:
    """Images `field-0.png` and on, with their masks beside them or in `masks/`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    for k in range(n):
        frame, labels = drawn_field(k)
        cv2.imwrite(str(folder / f"field-{k}.png"), frame)
        name = f"field-{k}_masks.png" if beside else f"masks/field-{k}.png"
        cv2.imwrite(str(folder / name), labels)
    return folder
