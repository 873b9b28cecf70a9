"""The detector network on onnxruntime: tiled without seams, tested by its golden frame."""

import base64
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from parfocal.bundle import DetectorBundle
from parfocal.calibrate import from_base64
from parfocal.classify import InferenceError, engine_errors, first_line, session
from parfocal.fieldview import field_contrast, seen
from parfocal.learned import MULTIPLE, STRIDE, detect
from parfocal.types import Finds, Gray

Float = NDArray[np.float32]

TILE_PX = 1024
"""Larger views are worked through in tiles of this side, so that memory stays bounded."""
HALO_PX = 96
"""Surroundings a tile brings along; no answer depends on pixels farther away (83 px)."""


class OnnxDetector:
    """Cells by a network: a verified bundle in an onnxruntime session on the CPU.

    Parameters
    ----------
    bundle : DetectorBundle
    threads : int
        CPU threads; 0 lets onnxruntime choose.

    Raises
    ------
    DeviceError
        onnxruntime is not installed.
    InferenceError
        The graph cannot be loaded or is not that of a detector.
    """

    def __init__(self, bundle: DetectorBundle, threads: int = 1) -> None:
        self.bundle = bundle
        self._session = session(bundle.data, "cpu", threads)
        names = [put.name for put in self._session.get_inputs()]
        outputs = [out.name for out in self._session.get_outputs()]
        if names != ["image"] or outputs[:1] != ["maps"]:
            raise InferenceError(f"the graph maps {names} to {outputs}, not image to maps")

    @property
    def name(self) -> str:
        """Name and version, stated in every result."""
        return detector_name(self.bundle)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the bundle, which holds network, thresholds and rules."""
        return self.bundle.sha256

    def __call__(self, gray: Gray, um_per_px: float, /) -> Finds:
        """All objects of the frame.

        Raises
        ------
        InferenceError
            The engine failed or answered with a value that is not finite.
        """
        card = self.bundle.card
        return detect(gray, um_per_px, self.maps, card.view, card.votes, card.rules)

    def maps(self, view: Float) -> Float:
        """Maps (n, h / 2, w / 2) of a view (h, w) whose sides are multiples of 16."""
        h, w = view.shape
        if max(h, w) <= TILE_PX + 2 * HALO_PX:
            return self._whole(view)
        out = np.empty((len(self.bundle.card.maps), h // STRIDE, w // STRIDE), np.float32)
        for y0, y1, top, bottom in spans(h):
            for x0, x1, left, right in spans(w):
                part = self._whole(view[top:bottom, left:right])
                out[:, y0 // 2 : y1 // 2, x0 // 2 : x1 // 2] = part[
                    :, (y0 - top) // 2 : (y1 - top) // 2, (x0 - left) // 2 : (x1 - left) // 2
                ]
        return out

    def _whole(self, view: Float) -> Float:
        try:
            answer = self._session.run(["maps"], {"image": np.ascontiguousarray(view)[None, None]})
        except engine_errors() as error:
            raise InferenceError(f"onnxruntime failed: {first_line(error)}") from error
        maps: Float = np.asarray(answer[0][0], np.float32)
        expected = (len(self.bundle.card.maps), view.shape[0] // STRIDE, view.shape[1] // STRIDE)
        if maps.shape != expected:
            raise InferenceError(f"the network answered with {maps.shape}, not {expected}")
        if not np.isfinite(maps).all():
            raise InferenceError("the network answered with numbers that are not finite")
        return maps

    def check_golden(self) -> float:
        """Largest deviation from the stored maps of the stored frame.

        Raises
        ------
        InferenceError
            It is larger than the card's tolerance.
        """
        card, golden = self.bundle.card, self.bundle.card.golden
        raw = np.frombuffer(base64.b64decode(golden.frame), np.uint8)
        frame = raw.reshape(golden.height_px, golden.width_px)
        got = self._whole(seen(field_contrast(frame, card.um_per_px, card.view), card.view))
        worst = float(np.abs(got.ravel() - from_base64(golden.maps)).max())
        if not worst <= golden.tolerance:
            raise InferenceError(
                f"the detector answers its own test frame wrongly: off by {worst:.2g}, "
                f"allowed {golden.tolerance:.2g}"
            )
        return worst


def detector_name(bundle: DetectorBundle) -> str:
    """How results name a detector bundle."""
    return f"{bundle.card.name} {bundle.card.version}"


def spans(extent: int) -> Iterator[tuple[int, int, int, int]]:
    """(from, to, from with halo, to with halo) of tiles that cover a side; all multiples of 16."""
    assert extent % MULTIPLE == 0  # views are padded
    for start in range(0, extent, TILE_PX):
        end = min(start + TILE_PX, extent)
        yield start, end, max(0, start - HALO_PX), min(extent, end + HALO_PX)
