"""What is shown of an image: its grey levels as the network sees them, or as they are."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.images import ImageError
from parfocal.normalize import Reference, normalize
from parfocal.prepare import to_gray
from parfocal.types import Gray
from parfocal_training.crops import read_frame
from parfocal_training.cropset import CropSet
from parfocal_training.dataset import Row
from parfocal_training.errors import DataError
from parfocal_training.reference import levels_8bit, medoid
from parfocal_training.survey.key import SheetPart

Pixels = NDArray[np.uint8]

Pictures = Mapping[str, Pixels]
"""What is shown of an image, by the SHA-256 that the key has of it: (h, w) uint8."""


def crop_pictures(parts: Sequence[SheetPart], crop_set: CropSet, raw: bool) -> dict[str, Pixels]:
    """What is shown of the crops, without their margins."""
    places = _places(parts, frames=False)
    margin, side = crop_set.index.rules.margin_px, crop_set.index.rules.crop_px
    bare = crop_set.crops[:, margin : margin + side, margin : margin + side]
    at = list(places.values())
    shown = as_they_are([bare[i] for i in at]) if raw else as_network_sees(bare, at)
    return dict(zip(places, shown, strict=True))


def frame_pictures(
    parts: Sequence[SheetPart], data: Path, rows: Sequence[Row], width_px: int, raw: bool
) -> dict[str, Pixels]:
    """What is shown of the frames, which are the rows of a data set, no wider than this.

    Raises
    ------
    DataError
        A frame is not a whole, readable image.
    """
    places = _places(parts, frames=True)
    if not places:
        return {}
    small = [reduced(_gray(data / rows[at].path), width_px) for at in places.values()]
    shown = as_they_are(small) if raw else evened(small)
    return dict(zip(places, shown, strict=True))


def _gray(path: Path) -> Gray:
    try:
        frame, _ = read_frame(path)
    except ImageError as error:
        raise DataError(f"'{path}' cannot be shown ({error.reason.value})") from error
    return to_gray(frame.pixels)


def _places(parts: Sequence[SheetPart], frames: bool) -> dict[str, int]:
    """Place of every image that is shown, by its hash."""
    return {
        i.sha256: i.at for part in parts if (part.kind == "frames") == frames for i in part.images
    }


def as_network_sees(crops: Gray, chosen: Sequence[int]) -> list[Pixels]:
    """The chosen ones of crops (n, h, w) with the grey levels of the medoid of all, stretched."""
    reference = Reference.of(crops[medoid(crops)])
    return [_stretched(normalize(crops[at][None], reference)[0], reference) for at in chosen]


def _stretched(levels: NDArray[np.float32], reference: Reference) -> Pixels:
    """Levels (h, w) with the reference's range on 0-255: one and the same line for all images.

    The network's own first step is such a line too, and eyes need the contrast.
    """
    upper = np.cumsum(reference.counts) / reference.pixels
    low, high = (int(np.searchsorted(upper, q)) for q in (0.0005, 0.9995))
    on_8_bits = (levels - low) * (255 / max(high - low, 1))
    shown: Pixels = np.rint(np.clip(on_8_bits, 0, 255)).astype(np.uint8)
    return shown


def as_they_are(images: Sequence[Gray]) -> list[Pixels]:
    """Images (h, w) on 8 bits."""
    return [levels_8bit(image) for image in images]


def reduced(gray: Gray, width_px: int) -> Gray:
    """A frame (h, w) no wider than this."""
    h, w = gray.shape
    if w <= width_px:
        return gray
    size = (width_px, round(h * width_px / w))
    small: Gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return small


def evened(frames: Sequence[Gray]) -> list[Pixels]:
    """Frames, of any sizes, each with the grey levels of the one whose levels are most usual.

    Otherwise the lamp tells the flasks apart. Levels of a frame of another size are thinned.
    """
    eights = [levels_8bit(frame) for frame in frames]
    at = (np.arange(4096) + 0.5) / 4096
    ordered = np.stack([np.quantile(e, at, method="nearest") for e in eights])  # (n, 4096)
    usual = ordered[medoid(ordered[:, None].astype(np.uint8))]
    out = []
    for gray, eight in zip(frames, eights, strict=True):
        ranks = np.linspace(0, len(usual) - 1, eight.size).round().astype(np.int64)
        reference = Reference.of(usual[ranks].astype(np.uint8))
        out.append(_stretched(normalize(gray[None], reference)[0], reference))
    return out
