"""Quality of a frame: focus falls with blur, exposure with clipping, flags say what is wrong."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from parfocal.quality import grey_scale, quality

U8 = NDArray[np.uint8]


def texture(seed: int = 0) -> U8:
    """A frame with detail at all scales down to two pixels, as a microscope gives."""
    rng = np.random.default_rng(seed)
    frame = np.full((480, 640), 128.0)
    for sigma in (1.5, 3, 6, 12):
        layer = cv2.GaussianBlur(rng.normal(size=frame.shape), (0, 0), sigma)
        frame += 12 * layer / layer.std()
    clipped: U8 = np.clip(frame, 0, 255).astype(np.uint8)
    return clipped


@pytest.mark.parametrize("seed", range(3))
def test_focus_falls_with_every_step_of_blur(seed: int) -> None:
    frame = texture(seed)
    blurred = [frame, *(cv2.GaussianBlur(frame, (0, 0), sigma) for sigma in (1, 2, 3, 4, 6, 8))]
    focus = [quality(image.astype(np.uint8)).focus for image in blurred]
    assert focus == sorted(focus, reverse=True)
    assert focus[0] > 0.5 > 0.12 > focus[-1]
    assert "out_of_focus" in quality(blurred[-1].astype(np.uint8)).flags
    assert quality(frame).flags == ()


def test_camera_noise_is_not_taken_for_focus() -> None:
    noise = np.random.default_rng(0).normal(128, 2, (480, 640)).astype(np.uint8)
    assert quality(noise).focus == 0
    assert quality(noise).flags == ("low_contrast",)
    defocused = cv2.GaussianBlur(texture(), (0, 0), 8).astype(np.float32)
    noisy = np.clip(defocused + np.random.default_rng(1).normal(0, 1.5, defocused.shape), 0, 255)
    assert quality(noisy.astype(np.uint8)).focus < 0.2


def test_depth_does_not_matter() -> None:
    frame = texture()
    deep = frame.astype(np.uint16) * 257
    assert quality(deep).focus == pytest.approx(quality(frame).focus, abs=1e-3)
    assert quality(deep).exposure == quality(frame).exposure


def test_exposure_is_the_share_of_unclipped_pixels() -> None:
    frame = texture().clip(1, 254)
    assert quality(frame).exposure == 1
    frame[: frame.shape[0] // 4] = 255
    assert quality(frame).exposure == pytest.approx(0.75)
    assert "saturated" in quality(frame).flags


@pytest.mark.parametrize(("level", "flag"), [(4, "dark"), (250, "bright"), (128, "low_contrast")])
def test_flags_name_the_fault(level: int, flag: str) -> None:
    assert flag in quality(np.full((200, 300), level, np.uint8)).flags


@pytest.mark.parametrize(
    ("brightest", "scale"), [(1000, 1023), (4095, 4095), (5000, 16383), (60000, 65535)]
)
def test_the_scale_of_a_deep_frame_is_read_from_its_brightest_pixel(
    brightest: int, scale: int
) -> None:
    assert grey_scale(np.full((2, 2), brightest, np.uint16)) == scale


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (2, 2), (3, 5)])
def test_the_smallest_frames_have_a_quality(shape: tuple[int, int]) -> None:
    found = quality(np.full(shape, 7, np.uint8))
    assert found.focus == 0 and found.exposure == 1
