"""A field as the network sees it, with what is there and what was found."""

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.annotate import outline
from parfocal.types import Finds
from parfocal_training.detector.fields import Labels
from parfocal_training.detector.score import FieldScore

FOUND, TRUE, REJECTED = (240, 228, 0), (86, 180, 233), (150, 150, 150)
"""RGB: yellow outlines are finds, blue ones truth, grey ones what was found and rejected."""
ZOOM = 2


def overlay(contrast: NDArray[np.float32], truth: Labels, finds: Finds, score: FieldScore) -> bytes:
    """PNG, twice the size of the field's view, with a line of counts."""
    level = float(np.percentile(np.abs(contrast), 98)) + 1e-3
    gray = np.clip(128 + contrast * (110 / level), 0, 255).astype(np.uint8)
    picture = cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)
    picture = cv2.resize(picture, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_LINEAR)
    outline(picture, truth, TRUE)
    cells = np.array([False, *(reason is None for reason in finds.reasons)])
    outline(picture, np.where(cells[finds.labels], 0, finds.labels), REJECTED)
    outline(picture, np.where(cells[finds.labels], finds.labels, 0), FOUND)
    text = (
        f"{score.name}: {score.hits} found, {score.missed} missed, {score.false} false, "
        f"{score.splits} split  (yellow found, blue truth, grey rejected)"
    )
    cv2.rectangle(picture, (0, 0), (picture.shape[1], 30), (0, 0, 0), -1)
    cv2.putText(picture, text, (8, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.6, FOUND[::-1], 1, cv2.LINE_AA)
    return bytes(cv2.imencode(".png", picture)[1])
