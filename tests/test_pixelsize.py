"""Pixel sizes from scale bars, stage micrometres and cells, drawn with a size that is known."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rigs import drawn_gray

from parfocal.cli import main
from parfocal.detect import ClassicalDetector
from parfocal.detectors import choose, started
from parfocal.pixelsize import (
    NoScaleError,
    bar_um_per_px,
    cells_um_per_px,
    division_um_per_px,
    find_bars,
)

Frame = NDArray[np.uint8]


def micrometre(period_px: float, degrees: float, size: tuple[int, int] = (600, 800)) -> Frame:
    """Dark lines at this distance, every tenth one stronger, on an uneven ground."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: size[0], : size[1]]
    u = x * np.cos(np.radians(degrees)) + y * np.sin(np.radians(degrees))
    line = np.rint(u / period_px)
    depth = 80 * np.exp(-(((u - line * period_px) / 1.3) ** 2)) * (1 + 0.3 * (line % 10 == 0))
    level = 180 + 20 * np.sin(x / 300) - depth + rng.normal(0, 5, size)
    return np.asarray(np.clip(level, 0, 255), np.uint8)


@settings(max_examples=25, deadline=None)
@given(st.floats(9, 50), st.floats(0, 180))
def test_a_micrometre_is_read_to_a_thousandth_at_any_angle(period: float, angle: float) -> None:
    assert division_um_per_px(micrometre(period, angle), 10) == pytest.approx(10 / period, rel=3e-3)


def test_what_is_not_ruled_has_no_divisions() -> None:
    for frame in (drawn_gray(), np.full((300, 300), 90, np.uint8)):
        with pytest.raises(NoScaleError, match="no ruling of even lines"):
            division_um_per_px(frame, 10)


def with_bar(length_px: int, level: int, box: bool = False) -> Frame:
    frame = drawn_gray(700, 4).copy()
    if box:
        frame[670:690, 10 : 10 + length_px] = 0
        cv2.putText(frame, "100 um", (20, 686), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)
    else:
        frame[680:684, 40 : 40 + length_px] = level
    return frame


@pytest.mark.parametrize(
    "frame",
    [with_bar(120, 255), with_bar(120, 0), with_bar(120, 0, box=True)],
    ids=["white", "black", "a box with its label"],
)
def test_a_scale_bar_is_measured(frame: Frame) -> None:
    value, bars = bar_um_per_px(frame, 100)
    assert value == pytest.approx(100 / 120, rel=0.02)
    assert bars[0].top_px > 600 and abs(bars[0].length_px - 120) <= 2


def test_a_lower_bar_goes_before_a_time_stamp() -> None:
    frame = with_bar(120, 0)
    frame[5:20, 5:205] = 0
    value, bars = bar_um_per_px(frame, 100)
    assert value == pytest.approx(100 / 120, rel=0.02) and len(bars) == 2


def test_a_frame_without_a_bar_says_so() -> None:
    assert find_bars(drawn_gray()) == []
    with pytest.raises(NoScaleError, match="no scale bar was found"):
        bar_um_per_px(drawn_gray(), 100)


def test_cells_hint_at_the_scale() -> None:
    found = cells_um_per_px(drawn_gray(900, 9), started(choose("auto")))
    assert 0.44 / 2 < found < 0.44 * 2
    with pytest.raises(NoScaleError, match="no cells were found"):
        cells_um_per_px(np.full((200, 200), 90, np.uint8), ClassicalDetector())


def test_the_command_tells_how_it_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ruled, barred = tmp_path / "ruled.png", tmp_path / "barred.png"
    cv2.imwrite(str(ruled), micrometre(20, 3))
    cv2.imwrite(str(barred), with_bar(120, 255))
    assert main(["scale", str(ruled), "--division-um", "10"]) == 0
    assert "um_per_px = 0.5 " in capsys.readouterr().out
    assert main(["scale", str(barred), "--bar-um", "100", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["um_per_px"] == pytest.approx(0.833, rel=0.02) and "bar of" in row["how"]
    assert main(["scale", str(ruled), str(barred), "--bar-um", "100"]) == 65
    out, err = capsys.readouterr()
    assert "barred.png" in out and "ruled.png: no scale bar" in err


def test_an_estimate_comes_with_its_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cells.png"
    cv2.imwrite(str(path), drawn_gray(900, 9))
    assert main(["scale", str(path)]) == 0
    out, err = capsys.readouterr()
    assert "estimated from the cells" in out and "wrong by a factor of two" in err


def test_files_that_are_no_images_are_told_and_the_rest_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "text.png").write_bytes(b"no image")
    cv2.imwrite(str(tmp_path / "z.png"), micrometre(20, 3))
    names = [str(tmp_path / name) for name in ("pipe.png", "text.png", "z.png")]
    assert main(["scale", *names, "--division-um", "10"]) == 65
    out, err = capsys.readouterr()
    assert "z.png: um_per_px" in out and "[not_a_file:" in err and "[not_an_image:" in err
