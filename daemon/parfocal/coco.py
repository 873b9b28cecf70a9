"""Instance labels as a COCO file, which annotation tools read and write."""

from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

CELL = 1
"""The one category."""


class Coco:
    """One file for many images; each outline is a closed polygon in frame pixels."""

    def __init__(self, made_by: str) -> None:
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._made_by = made_by

    def add(self, name: str, masks: bytes) -> None:
        """Add an image, by a name that no other one has, and its labels (PNG, uint16)."""
        labels = cv2.imdecode(np.frombuffer(masks, np.uint8), cv2.IMREAD_UNCHANGED)
        assert labels is not None  # the reader encoded it
        image = len(self._images) + 1
        h, w = labels.shape
        self._images.append({"id": image, "file_name": name, "width": w, "height": h})
        for label in np.unique(labels[labels > 0]).tolist():
            self._annotations.append(self._annotation(image, labels == label))

    def _annotation(self, image: int, mask: NDArray[np.bool_]) -> dict[str, Any]:
        ys, xs = np.nonzero(mask)
        left, top = int(xs.min()), int(ys.min())
        box = [left, top, int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1]
        window = mask[top : top + box[3], left : left + box[2]].astype(np.uint8)
        outlines, _ = cv2.findContours(
            window, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(left, top)
        )
        return {
            "id": len(self._annotations) + 1,
            "image_id": image,
            "category_id": CELL,
            # a polygon needs three corners; a single pixel or a line is given its corners twice
            "segmentation": [np.resize(o, (max(len(o), 3), 2)).ravel().tolist() for o in outlines],
            "bbox": box,
            "area": len(xs),
            "iscrowd": 0,
        }

    def json(self) -> bytes:
        """The file."""
        return msgspec.json.encode(
            {
                "info": {"description": f"cells found by parfocal, detector '{self._made_by}'"},
                "images": self._images,
                "annotations": self._annotations,
                "categories": [{"id": CELL, "name": "cell"}],
            }
        )
