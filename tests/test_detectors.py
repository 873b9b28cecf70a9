"""The detector network live: found by name, verified, and tiled without seams."""

import base64
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rigs import drawn_gray

from parfocal import onnxdetector
from parfocal.bundle import BundleError, load, load_detector
from parfocal.card import DetectorCard
from parfocal.classify import InferenceError
from parfocal.detectors import choose, started
from parfocal.onnxdetector import OnnxDetector, spans
from parfocal.reasons import ObjectReason

SHIPPED = "cells"


@pytest.fixture(scope="module")
def detector() -> OnnxDetector:
    return OnnxDetector(load_detector(SHIPPED))


def changed_bundle(path: Path, change: Callable[[DetectorCard], DetectorCard]) -> Path:
    """The shipped detector with another card."""
    bundle = load_detector(SHIPPED)
    proto = onnx.load_from_string(bundle.data)
    for entry in proto.metadata_props:
        if entry.key == "parfocal":
            entry.value = msgspec.json.encode(change(bundle.card)).decode()
    path.write_bytes(proto.SerializeToString())
    return path


def test_names_mean_what_the_manual_says() -> None:
    auto, classical = choose("auto"), choose("classical")
    assert auto.bundle is not None and auto.name == f"cells {auto.bundle.card.version}"
    assert auto.fingerprint == auto.bundle.sha256
    assert classical.bundle is None and classical.name == started(classical).name == "classical"
    assert started(auto).name == auto.name and started(auto).fingerprint == auto.fingerprint


def test_without_an_engine_auto_is_the_classical_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert choose("auto").name == "classical"


def test_a_classifier_is_no_detector_and_the_other_way_round() -> None:
    with pytest.raises(BundleError, match="is a classifier, which does not find cells"):
        choose("demo")
    with pytest.raises(BundleError, match=r"is a detector.*detector\.name"):
        load(SHIPPED)
    with pytest.raises(BundleError, match="neither an existing file nor a shipped name"):
        choose("none")
    with pytest.raises(BundleError, match="the configuration pins"):
        choose(SHIPPED, "0" * 64)
    with pytest.raises(BundleError, match="which has no file"):
        choose("classical", "0" * 64)


def with_golden(card: DetectorCard, **changes: object) -> DetectorCard:
    return msgspec.structs.replace(card, golden=msgspec.structs.replace(card.golden, **changes))


def with_view(card: DetectorCard, **changes: object) -> DetectorCard:
    view = msgspec.structs.replace(card.view, **changes)
    return msgspec.structs.replace(card, view=view, fingerprint=view.fingerprint)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param(lambda c: msgspec.structs.replace(c, fingerprint="0"), "another way",
                     id="another view"),
        pytest.param(lambda c: msgspec.structs.replace(c, maps=("cell", "dy")), "maps",
                     id="other maps"),
        pytest.param(lambda c: with_view(c, um_per_px=0.0), "no size", id="no scale"),
        pytest.param(lambda c: with_view(c, most_enlarged=99.0), "enlarges", id="endless"),
        pytest.param(lambda c: with_golden(c, height_px=20), "golden frame", id="odd golden"),
        pytest.param(lambda c: with_golden(c, frame="AAAA"), "golden frame", id="short golden"),
        pytest.param(lambda c: with_golden(c, maps="not base64"), "contradicts", id="no base64"),
        pytest.param(
            lambda c: msgspec.structs.replace(
                c, votes=msgspec.structs.replace(c.votes, apart_px=0)
            ),
            "votes", id="no votes",
        ),
    ],
)  # fmt: skip
def test_a_card_that_cannot_be_used_is_refused(
    tmp_path: Path, change: Callable[[DetectorCard], DetectorCard], text: str
) -> None:
    path = changed_bundle(tmp_path / "odd.onnx", change)
    with pytest.raises(BundleError, match=text):
        load_detector(str(path))


def test_a_wrong_golden_answer_is_told(tmp_path: Path) -> None:
    def spoilt(card: DetectorCard) -> DetectorCard:
        maps = np.frombuffer(base64.b64decode(card.golden.maps), "<f4") + np.float32(0.5)
        return with_golden(card, maps=base64.b64encode(maps.tobytes()).decode())

    path = changed_bundle(tmp_path / "spoilt.onnx", spoilt)
    with pytest.raises(InferenceError, match="answers its own test frame wrongly"):
        started(choose(str(path)))


def test_a_graph_of_another_kind_is_refused(tmp_path: Path) -> None:
    classifier = onnx.load_from_string(load("demo").data)
    entry = next(e for e in classifier.metadata_props if e.key == "parfocal")
    entry.value = msgspec.json.encode(load_detector(SHIPPED).card).decode()
    path = tmp_path / "swapped.onnx"
    path.write_bytes(classifier.SerializeToString())
    with pytest.raises(InferenceError, match="not image to maps"):
        started(choose(str(path)))


def test_tiles_leave_no_seam(detector: OnnxDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    view = np.random.default_rng(0).normal(0, 1, (400, 528)).astype(np.float32)
    whole = detector.maps(view)
    monkeypatch.setattr(onnxdetector, "TILE_PX", 128)
    tiled = detector.maps(view)
    assert tiled.shape == whole.shape
    assert np.abs(tiled - whole).max() < 1e-4


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 400))
def test_tiles_cover_every_pixel_once(n: int) -> None:
    covered = np.zeros(16 * n, int)
    for start, end, low, high in spans(16 * n):
        assert 0 <= low <= start < end <= high <= 16 * n and low % 16 == high % 16 == 0
        covered[start:end] += 1
    assert (covered == 1).all()


@pytest.mark.parametrize("um_per_px", [0.3, 0.44, 0.9, 2.0])
def test_drawn_cells_are_found_at_any_pixel_size(detector: OnnxDetector, um_per_px: float) -> None:
    import cv2

    gray = drawn_gray(900, 9)
    factor = 0.44 / um_per_px
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    frame = np.asarray(cv2.resize(gray, None, fx=factor, fy=factor, interpolation=way), np.uint8)
    finds = detector(frame, um_per_px)
    cells = np.array([reason is None for reason in finds.reasons])
    assert cells.sum() >= 8
    assert finds.labels_at((frame.shape[0], frame.shape[1])).max() == cells.sum()


def test_odd_frames_have_an_answer(detector: OnnxDetector) -> None:
    for frame in (
        np.zeros((1, 1), np.uint8),
        np.zeros((7, 2000), np.uint8),
        np.full((300, 17), 65535, np.uint16),
        np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8),
    ):
        finds = detector(frame, 0.5)
        assert len(finds) == len(finds.points_px) == len(finds.area_um2)


def test_the_same_frame_always_gives_the_same_finds(detector: OnnxDetector) -> None:
    gray = drawn_gray()
    first, again = detector(gray, 0.44), detector(gray.copy(), 0.44)
    assert (first.labels == again.labels).all() and first.reasons == again.reasons


def test_every_object_is_accounted_for(detector: OnnxDetector) -> None:
    finds = detector(drawn_gray(900, 9), 0.44)
    cells = sum(reason is None for reason in finds.reasons)
    rejected = sum(isinstance(reason, ObjectReason) for reason in finds.reasons)
    assert cells + rejected == len(finds) == finds.labels.max()
