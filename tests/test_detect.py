"""The classical detector on synthetic frames whose cells are known."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from parfocal.detect import ClassicalDetector, ObjectRules
from parfocal.reasons import ObjectReason
from parfocal.segment import SegmentRules
from parfocal.types import Finds

UM = 0.44
SIDE_PX = 900
DETECTOR = ClassicalDetector()
Image = NDArray[np.float32]
Spot = tuple[float, float, float, float]  # x_um, y_um, half width, half height


def empty(side: int = SIDE_PX, noise: float = 1.0, seed: int = 0) -> Image:
    """Ground with uneven light, darker to one corner, and camera noise."""
    x, y = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side))
    light = 140 - 30 * (x**2 + y**2) + 12 * x
    return (light + np.random.default_rng(seed).normal(0, noise, x.shape)).astype(np.float32)


def with_cells(frame: Image, spots: list[Spot], um: float = UM, strength: float = 1.0) -> Image:
    """The frame with elliptic cells: a granular body and a bright rim around it."""
    rng = np.random.default_rng(1)
    grain = cv2.GaussianBlur(rng.normal(size=frame.shape), (0, 0), 0.9 / um)
    grain = grain / grain.std()
    y, x = np.mgrid[: frame.shape[0], : frame.shape[1]] * um
    out = frame.copy()
    for cx, cy, a, b in spots:
        radius = np.hypot((x - cx) / a, (y - cy) / b)
        edge = (radius - 1) * min(a, b)  # about micrometres from the outline
        body = 1 / (1 + np.exp(np.clip(edge / 0.5, -50, 50)))
        rim = np.exp(-((edge - 0.5) ** 2) / 2)
        out += (strength * (body * (18 * grain - 6) + 40 * rim)).astype(np.float32)
    return out


def image(frame: Image) -> NDArray[np.uint8]:
    return np.clip(np.rint(frame), 0, 255).astype(np.uint8)


def grid(n: int, step_um: float = 80, a: float = 14, b: float = 11) -> list[Spot]:
    return [(70 + step_um * i, 70 + step_um * j, a, b) for i in range(n) for j in range(n)]


def singles(finds: Finds) -> list[int]:
    return [i for i, reason in enumerate(finds.reasons) if reason is None]


def match(finds: Finds, spots: list[Spot], um: float = UM) -> set[int]:
    """Indices of spots that hold the interior point of exactly one single cell."""
    points = finds.points_px[singles(finds)] * um
    held = [
        sum(((px - x) / a) ** 2 + ((py - y) / b) ** 2 < 1 for px, py in points)
        for x, y, a, b in spots
    ]
    return {i for i, n in enumerate(held) if n == 1}


@pytest.fixture(scope="module")
def scene() -> NDArray[np.uint8]:
    return image(with_cells(empty(), grid(4)))


def test_every_cell_is_found_once_and_nothing_else(scene: NDArray[np.uint8]) -> None:
    finds = DETECTOR(scene, UM)
    assert match(finds, grid(4)) == set(range(16))
    assert finds.reasons.count(None) == 16
    area = finds.area_um2[singles(finds)]
    assert np.abs(area / (np.pi * 14 * 11) - 1).max() < 0.35
    assert ((finds.score >= 0) & (finds.score <= 1)).all()


def test_masks_boxes_and_centroids_belong_together(scene: NDArray[np.uint8]) -> None:
    finds = DETECTOR(scene, UM)
    assert finds.labels.dtype == np.int32
    assert finds.labels.max() == len(finds)
    full = finds.labels_at((SIDE_PX, SIDE_PX))
    assert full.max() == 16
    truth = np.zeros(full.shape, np.uint8)
    for x, y, a, b in grid(4):
        at, axes = (round(x / UM), round(y / UM)), (round(a / UM), round(b / UM))
        cv2.ellipse(truth, at, axes, 0, 0, 360, 1, -1)
    both = np.count_nonzero((truth > 0) & (full > 0))
    assert both / np.count_nonzero((truth > 0) | (full > 0)) > 0.7
    scale = SIDE_PX / finds.labels.shape[0]
    for i, (left, top, width, height) in enumerate(finds.boxes_px):
        x, y = finds.points_px[i]
        assert left <= x <= left + width and top <= y <= top + height
        rows, columns = np.nonzero(finds.labels == i + 1)
        assert finds.centroids_px[i] == pytest.approx(
            [(columns.mean() + 0.5) * scale - 0.5, (rows.mean() + 0.5) * scale - 0.5]
        )
        h, w = finds.labels.shape
        row, column = int((y + 0.5) * h / SIDE_PX), int((x + 0.5) * w / SIDE_PX)
        assert finds.labels[row, column] == i + 1
        assert width == pytest.approx((columns.max() - columns.min() + 1) * scale)
        assert height == pytest.approx((rows.max() - rows.min() + 1) * scale)


def test_the_sign_of_contrast_does_not_matter() -> None:
    bright = with_cells(empty(), grid(4))
    inverted = 255 - bright
    for frame in (bright, inverted):
        assert match(DETECTOR(image(frame), UM), grid(4)) == set(range(16))


@pytest.mark.parametrize("finer", [2, 4])
def test_the_same_scene_in_finer_pixels_gives_the_same_cells(
    scene: NDArray[np.uint8], finer: int
) -> None:
    fine = np.repeat(np.repeat(scene, finer, 0), finer, 1)
    same_cells(DETECTOR(fine, UM / finer), UM / finer, DETECTOR(scene, UM), UM)


def same_cells(one: Finds, one_um: float, other: Finds, other_um: float) -> None:
    """Same number, same places, same sizes; grey levels were rounded at another step."""
    assert one.reasons.count(None) == other.reasons.count(None) > 0
    mine, theirs = singles(one), singles(other)
    here = (one.centroids_px[mine] + 0.5) * one_um
    there = (other.centroids_px[theirs] + 0.5) * other_um
    distance = np.linalg.norm(here[:, None] - there[None], axis=2)  # (n, n)
    nearest = distance.argmin(1)
    assert len(set(nearest.tolist())) == len(mine)
    assert distance.min(1).max() < 1.0
    np.testing.assert_allclose(one.area_um2[mine], other.area_um2[theirs][nearest], rtol=0.05)


def test_depth_does_not_matter(scene: NDArray[np.uint8]) -> None:
    same_cells(DETECTOR(scene.astype(np.uint16) * 16, UM), UM, DETECTOR(scene, UM), UM)


def test_it_is_deterministic(scene: NDArray[np.uint8]) -> None:
    first, second = DETECTOR(scene, UM), ClassicalDetector()(scene.copy(), UM)
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.score, second.score)


@pytest.mark.parametrize("noise", [0.0, 1.0, 4.0])
def test_an_empty_field_holds_no_cells(noise: float) -> None:
    assert DETECTOR(image(empty(noise=noise)), UM).reasons.count(None) == 0


@pytest.mark.parametrize("shape", [(1, 1), (3, 700), (700, 3), (20, 20)])
def test_the_smallest_frames_are_no_fault(shape: tuple[int, int]) -> None:
    finds = DETECTOR(np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8), UM)
    assert finds.points_px.shape == (len(finds), 2)
    assert finds.boxes_px.shape == (len(finds), 4)


def reason_at(finds: Finds, x_um: float, y_um: float, um: float = UM) -> ObjectReason | None:
    """The reason of the object nearest to a place."""
    distance = np.hypot(*(finds.points_px * um - [x_um, y_um]).T)
    return finds.reasons[int(np.argmin(distance))]


def test_specks_are_debris() -> None:
    specks: list[Spot] = [(110.0, 110.0, 6.0, 6.0), (190.0, 190.0, 6.5, 5.5)]
    finds = DETECTOR(image(with_cells(empty(), grid(4) + specks)), UM)
    assert finds.reasons.count(None) == 16
    for x, y, _, _ in specks:
        assert reason_at(finds, x, y) is ObjectReason.DEBRIS


def test_a_cell_cut_by_the_frame_is_at_the_edge() -> None:
    cut: list[Spot] = [(0.0, 150.0, 16.0, 13.0)]
    finds = DETECTOR(image(with_cells(empty(), grid(4) + cut)), UM)
    assert reason_at(finds, 3, 150) is ObjectReason.EDGE
    assert finds.reasons.count(None) == 16


def test_two_cells_that_touch_are_told_apart() -> None:
    pair: list[Spot] = [(190.0, 190.0, 15.0, 13.0), (217.0, 190.0, 15.0, 13.0)]
    finds = DETECTOR(image(with_cells(empty(), pair)), UM)
    assert match(finds, pair) == {0, 1}


def test_what_is_too_large_for_a_cell_is_a_clump() -> None:
    finds = DETECTOR(image(with_cells(empty(), [(200.0, 200.0, 60.0, 55.0), *grid(2)])), UM)
    assert reason_at(finds, 200, 200) is ObjectReason.CLUMP


def test_an_object_out_of_focus_is_blurred() -> None:
    spots = grid(4)
    sharp = with_cells(empty(noise=0.3), [spots[i] for i in range(16) if i != 5])
    floating = with_cells(np.zeros_like(sharp), [spots[5]], strength=5)
    finds = DETECTOR(image(sharp + cv2.GaussianBlur(floating, (0, 0), 3 / UM)), UM)
    assert reason_at(finds, *spots[5][:2]) is ObjectReason.BLUR
    assert finds.reasons.count(None) >= 15


def test_a_scale_bar_is_no_cell() -> None:
    frame = image(with_cells(empty(), grid(4)))
    cv2.rectangle(frame, (20, 850), (320, 895), 0, -1)
    cv2.putText(frame, "100 um", (80, 885), cv2.FONT_HERSHEY_SIMPLEX, 1.2, 255, 3)
    finds = DETECTOR(frame, UM)
    inside_bar = finds.points_px[singles(finds)][:, 1] > 840
    assert not inside_bar.any()
    assert match(finds, grid(4)) == set(range(16))


def test_the_fingerprint_changes_with_each_parameter() -> None:
    detectors = [DETECTOR]
    for rules in (SegmentRules(), ObjectRules()):
        for name in rules.__dataclass_fields__:
            changed = replace(rules, **{name: getattr(rules, name) * 1.01})
            detectors.append(
                ClassicalDetector(segments=changed)
                if isinstance(changed, SegmentRules)
                else ClassicalDetector(objects=changed)
            )
    assert len({detector.fingerprint for detector in detectors}) == len(detectors)
    assert ClassicalDetector().fingerprint == DETECTOR.fingerprint
