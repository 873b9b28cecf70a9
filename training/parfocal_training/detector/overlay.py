"""A field as the network sees it, with what is there and what was found."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.types import Finds
from parfocal_training.detector.fields import Labels
from parfocal_training.detector.score import FieldScore

FOUND, TRUE, REJECTED = (0, 228, 240), (233, 180, 86), (150, 150, 150)
"""BGR: yellow outlines are finds, blue ones truth, grey ones what was found and rejected."""
ZOOM = 2


def overlay(contrast: NDArray[np.float32], truth: Labels, finds: Finds, score: FieldScore) -> bytes:
    """PNG, twice the size of the field's view, with a line of counts."""
    level = float(np.percentile(np.abs(contrast), 98)) + 1e-3
    gray = np.clip(128 + contrast * (110 / level), 0, 255).astype(np.uint8)
    picture = cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)
    picture = cv2.resize(picture, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_LINEAR)
    _outline(picture, truth, TRUE)
    cells = np.array([False, *(reason is None for reason in finds.reasons)])
    _outline(picture, np.where(cells[finds.labels], 0, finds.labels), REJECTED)
    _outline(picture, np.where(cells[finds.labels], finds.labels, 0), FOUND)
    text = (
        f"{score.name}: {score.hits} found, {score.missed} missed, {score.false} false, "
        f"{score.splits} split  (yellow found, blue truth, grey rejected)"
    )
    cv2.rectangle(picture, (0, 0), (picture.shape[1], 30), (0, 0, 0), -1)
    cv2.putText(picture, text, (8, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.6, FOUND, 1, cv2.LINE_AA)
    return bytes(cv2.imencode(".png", picture)[1])


def _outline(picture: NDArray[Any], labels: Labels, colour: tuple[int, int, int]) -> None:
    size = (picture.shape[1], picture.shape[0])
    large = cv2.resize(labels.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    edge = np.zeros(large.shape, bool)
    edge[:, 1:] |= large[:, 1:] != large[:, :-1]
    edge[1:] |= large[1:] != large[:-1]
    picture[edge] = colour
