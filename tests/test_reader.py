"""The reader child: every kind of file has an answer, within its limits, and none stops it."""

import os
import resource
import socket
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from rigs import rules, save_frame

from parfocal import reader as reader_module
from parfocal.arena import Arena, ArenaShape
from parfocal.config import Limits
from parfocal.detect import ClassicalDetector
from parfocal.detectors import choose
from parfocal.intake import blank_end
from parfocal.reader import Prepared, Reader, ReadRequest, Refused
from parfocal.reasons import ObjectReason
from parfocal.score import Reading, Request
from parfocal.types import Finds

CHOICE = choose("classical")


def read(reading: Reading, path: Path) -> Prepared | Refused:
    request = msgspec.structs.replace(reading.request(0.44), rules=rules())
    return reading.read(Request(str(path), str(path.parent)), request)


def no_images(folder: Path) -> dict[str, tuple[Path, str]]:
    """What lies where an image should, and the reason it gets."""
    good = save_frame(folder / "good.png")
    os.mkfifo(folder / "pipe.tif")
    (folder / "link.png").symlink_to(good)
    (folder / "folder.png").mkdir()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(folder / "s.tif"))
    return {
        "a FIFO": (folder / "pipe.tif", "not_a_file"),
        "a device": (Path("/dev/zero"), "not_a_file"),
        "a link": (folder / "link.png", "not_a_file"),
        "a folder": (folder / "folder.png", "not_a_file"),
        "a socket": (folder / "s.tif", "not_a_file"),
        "nothing": (folder / "gone.png", "vanished"),
    }


def test_what_is_no_file_is_refused_at_once_by_the_same_reader(tmp_path: Path) -> None:
    with Reading(Limits(), CHOICE) as reading:
        for path, reason in no_images(tmp_path).values():
            answer = read(reading, path)
            assert isinstance(answer, Refused) and answer.reason == reason, path
            assert not answer.retry and "levels" not in answer.detail
        first = reading._child
        assert isinstance(read(reading, tmp_path / "good.png"), Prepared)
        assert reading._child is first


RNG = np.random.default_rng(0)
SHAPES = {
    "one pixel": np.zeros((1, 1), np.uint8),
    "a line": RNG.integers(0, 255, (10, 3000), np.uint8),
    "a column, 16 bit": RNG.integers(0, 65535, (3000, 10), np.uint16),
    "black": np.zeros((300, 400), np.uint8),
    "white, 16 bit": np.full((300, 400), 65535, np.uint16),
    "colour, 16 bit": RNG.integers(0, 65535, (200, 300, 3), np.uint16),
}


def test_odd_shapes_are_read_and_have_a_preview(tmp_path: Path) -> None:
    with Reading(Limits(), CHOICE) as reading:
        for name, pixels in SHAPES.items():
            path = tmp_path / f"{name}.png"
            cv2.imwrite(str(path), pixels)
            answer = read(reading, path)
            assert isinstance(answer, Prepared), (name, answer)
            assert (answer.height_px, answer.width_px) == pixels.shape[:2]
            shown = cv2.imdecode(np.frombuffer(answer.thumbnail, np.uint8), cv2.IMREAD_COLOR)
            assert shown is not None and max(shown.shape) <= 480


def test_more_cells_than_fit_are_counted_as_over_the_limit(tmp_path: Path) -> None:
    path = save_frame(tmp_path / "a.png", side_px=1000, n_cells=9)
    with Reading(msgspec.structs.replace(Limits(), max_cells=4), CHOICE) as reading:
        answer = read(reading, path)
    assert isinstance(answer, Prepared) and answer.n_crops == len(answer.chosen) == 4
    assert sum(r.reason is ObjectReason.OVER_LIMIT for r in answer.rejected) == 5


@pytest.fixture
def request_here(tmp_path: Path) -> ReadRequest:
    path = save_frame(tmp_path / "a.png")
    return ReadRequest(path=str(path), root=str(tmp_path), slot=0, max_cells=10,
                       max_pixels=10**7, max_bytes=10**7, um_per_px=0.44)  # fmt: skip


@pytest.mark.parametrize("code", [-4, -215])
def test_opencv_without_memory_is_an_answer_and_any_other_fault_is_not(
    request_here: ReadRequest, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        error = cv2.error("it failed")
        error.code = code
        raise error

    monkeypatch.setattr(reader_module, "to_gray", fail)
    arena = Arena.create(ArenaShape(1, 10))
    try:
        if code == -4:
            answer = Reader(arena, ClassicalDetector())(request_here)
            assert isinstance(answer, Refused) and answer.reason == "resource_limit"
        else:
            with pytest.raises(cv2.error):
                Reader(arena, ClassicalDetector())(request_here)
    finally:
        arena.close()


def test_a_real_lack_of_memory_is_answered_by_a_reader_that_lives(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((6000, 6000), np.uint8))
    good = save_frame(tmp_path / "good.png")
    with Reading(Limits(), CHOICE) as reading:
        read(reading, good)
        assert reading._child is not None
        pid = reading._child.pid
        used = 1024 * int(Path(f"/proc/{pid}/status").read_text().split("VmSize:")[1].split()[0])
        resource.prlimit(pid, resource.RLIMIT_AS, (used + 60_000_000, resource.RLIM_INFINITY))
        answer = read(reading, tmp_path / "large.png")
        assert isinstance(answer, Refused) and answer.reason == "resource_limit"
        assert answer.detail == "it needs more memory than a reader may take"
        assert isinstance(read(reading, good), Prepared)
        assert reading._child.pid == pid


def test_a_blank_end_is_doubted_only_while_a_file_is_fresh(
    tmp_path: Path, request_here: ReadRequest
) -> None:
    black = tmp_path / "black.bmp"
    cv2.imwrite(str(black), np.zeros((200, 200), np.uint8))
    assert blank_end(black.read_bytes(), black.stat())
    arena = Arena.create(ArenaShape(1, 10))
    request = msgspec.structs.replace(request_here, path=str(black))
    fresh = Reader(arena, ClassicalDetector())(msgspec.structs.replace(request, settled_long=False))
    assert isinstance(fresh, Refused) and fresh.retry and fresh.reason == "incomplete"
    assert isinstance(Reader(arena, ClassicalDetector())(request), Prepared)
    arena.close()


def found(*objects: tuple[float, ObjectReason | None]) -> Finds:
    """Finds of these areas in square micrometres and reasons."""
    n = len(objects)
    places = np.arange(2.0 * n).reshape(n, 2)
    return Finds(
        labels=np.zeros((4, 4), np.int32),
        points_px=places,
        centroids_px=places,
        boxes_px=np.zeros((n, 4)),
        area_um2=np.array([area for area, _ in objects]),
        score=np.ones(n),
        reasons=tuple(reason for _, reason in objects),
    )


@pytest.mark.parametrize(
    ("cells_um2", "clump_um2", "n_cells"),
    [((1000.0, 1200.0, 1100.0), 5400.0, 5), ((1000.0,), 900.0, 2), ((), 11000.0, 10)],
    ids=["by the frame's own cells", "never fewer than two", "by the usual cell"],
)
def test_a_clump_says_how_many_cells_it_may_hold(
    cells_um2: tuple[float, ...], clump_um2: float, n_cells: int
) -> None:
    cells = [(area, None) for area in cells_um2]
    finds = found(*cells, (clump_um2, ObjectReason.CLUMP), (90.0, ObjectReason.DEBRIS))
    told = [(r.reason, r.n_cells) for r in reader_module.rejected(finds)]
    assert told == [(ObjectReason.CLUMP, n_cells), (ObjectReason.DEBRIS, None)]
