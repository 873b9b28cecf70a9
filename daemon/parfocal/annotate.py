"""Draws results onto a preview of their image, for people to check."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.reader import Prepared
from parfocal.types import FrameResult

COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
)
"""RGB, Okabe and Ito: told apart by colour-blind eyes too."""
REJECTED = (150, 150, 150)


def annotated_finds(prepared: Prepared) -> bytes:
    """PNG of the preview with the outline and number of each cell, a cross and reason for rejects.

    The numbers are those of the label image and of `detect --json`.
    """
    picture = _picture(prepared.thumbnail)
    factor = picture.shape[1] / prepared.width_px
    labels = cv2.imdecode(np.frombuffer(prepared.masks, np.uint8), cv2.IMREAD_UNCHANGED)
    assert labels is not None  # the reader encoded it
    outline(picture, labels, COLOURS[0])
    for r in prepared.rejected:
        at = (round(r.x_px * factor), round(r.y_px * factor))
        cv2.drawMarker(picture, at, REJECTED, cv2.MARKER_TILTED_CROSS, 7, 1, cv2.LINE_AA)
        _write(picture, r.reason.value, (at[0] + 5, at[1] + 4), REJECTED)
    for number, i in enumerate(prepared.chosen, 1):
        x, y = prepared.points[i]
        _write(picture, str(number), (round(x * factor) - 6, round(y * factor) + 4), COLOURS[3])
    return bytes(cv2.imencode(".png", picture)[1])


def outline(picture: NDArray[Any], labels: NDArray[Any], rgb: tuple[int, int, int]) -> None:
    """Draw where labels of any size change onto a picture of the same field (h, w, 3) in BGR."""
    size = (picture.shape[1], picture.shape[0])
    near = cv2.resize(labels.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    edge = np.zeros(near.shape, np.bool_)
    edge[:, 1:] |= near[:, 1:] != near[:, :-1]
    edge[1:] |= near[1:] != near[:-1]
    picture[edge] = rgb[::-1]


def _picture(preview: bytes) -> NDArray[np.uint8]:
    picture = cv2.imdecode(np.frombuffer(preview, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError("the preview is no JPEG")
    return picture.astype(np.uint8, copy=False)


def _write(
    picture: NDArray[np.uint8], text: str, at: tuple[int, int], rgb: tuple[int, int, int]
) -> None:
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(picture, text, at, font, 0.36, (0, 0, 0), 2, cv2.LINE_AA)
    cv2.putText(picture, text, at, font, 0.36, rgb[::-1], 1, cv2.LINE_AA)


def annotated(preview: bytes, result: FrameResult) -> bytes:
    """PNG of the preview (JPEG bytes) with a box and class for each cell, a cross for each reject.

    Abstained cells have a thin box and a question mark.
    """
    picture = _picture(preview)
    factor = picture.shape[1] / result.image.width_px
    labels = sorted({c.label for c in result.cells} | set(result.composition))
    for r in result.rejected:
        at = (round(r.x_px * factor), round(r.y_px * factor))
        cv2.drawMarker(picture, at, REJECTED, cv2.MARKER_TILTED_CROSS, 7, 1, cv2.LINE_AA)
    for c in result.cells:
        colour = COLOURS[labels.index(c.label) % len(COLOURS)][::-1]
        corner = (round(c.left_px * factor), round(c.top_px * factor))
        far = (round((c.left_px + c.width_px) * factor), round((c.top_px + c.height_px) * factor))
        cv2.rectangle(picture, corner, far, colour, 2 if c.accepted else 1, cv2.LINE_AA)
        text = c.label if c.accepted else f"{c.label}?"
        above = (corner[0], max(10, corner[1] - 4))
        cv2.putText(picture, text, above, cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)
    return bytes(cv2.imencode(".png", picture)[1])
