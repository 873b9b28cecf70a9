"""The real demonstration camera of Micro-Manager, frame by frame, and the files that come of it."""

import errno
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_gate import seen as seen_at

from parfocal.camera import spool as spooling
from parfocal.camera.child import Watcher, eight_bits
from parfocal.camera.device import CameraError, Described, Shot, opened
from parfocal.camera.gate_protocol import Decision, Every
from parfocal.camera.protocol import CameraFailed, Keep, Look, OpenCamera, Seen, Snap
from parfocal.camera.spool import Spool, png
from parfocal.config import CameraSettings
from parfocal.images import decode
from parfocal.sidecar import declared
from parfocal.types import Pixels

SMALL: dict[str, str | int | float] = {"OnCameraCCDXSize": 96, "OnCameraCCDYSize": 64}
FAKE = Described(
    name="Fake", library="fake", width_px=5, height_px=4, bits=16, pixel_type="8bit",
    trigger="continuous", exposure_ms=1.0,
)  # fmt: skip


def demo(**more: object) -> CameraSettings:
    """Settings of the demonstration camera; skips where the extra is not installed."""
    pytest.importorskip("pymmcore_plus", reason="needs the extra 'camera'")
    values = {"device": ("DemoCamera", "DCam"), "properties": SMALL, "exposure_ms": 2.0}
    return CameraSettings(**(values | more))  # type: ignore[arg-type]


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    made = Watcher()
    yield made
    if made._camera is not None:
        made._camera.close()


@pytest.mark.parametrize("trigger", ["software", "continuous", "external"])
@pytest.mark.parametrize(
    ("pixel_type", "shape", "dtype"),
    [
        ("8bit", (64, 96), np.uint8),
        ("16bit", (64, 96), np.uint16),
        ("32bitRGB", (64, 96, 3), np.uint8),
        ("64bitRGB", (64, 96, 3), np.uint16),
    ],
)
def test_every_pixel_type_is_kept_as_it_came(
    pixel_type: str, shape: tuple[int, ...], dtype: type, trigger: str, watcher: Watcher,
    tmp_path: Path,
) -> None:  # fmt: skip
    camera = demo(pixel_type=pixel_type, trigger=trigger)
    described = watcher(OpenCamera(camera=camera, folder=str(tmp_path), um_per_px=0.44))
    assert isinstance(described, Described)
    assert (described.width_px, described.height_px, described.exposure_ms) == (96, 64, 2.0)
    seen = watcher(Look(wait_s=2.0, may_keep=True))
    assert isinstance(seen, Seen) and seen.held and len(seen.frame_s) == 1
    assert watcher._held is not None
    shown = watcher._held.shot.pixels
    assert shown.shape == shape and shown.dtype == dtype and shown.flags.c_contiguous
    kept = watcher(Keep())
    assert isinstance(kept, Seen) and kept.kept
    np.testing.assert_array_equal(decode(Path(kept.kept).read_bytes()).pixels, shown)


def test_the_sidecar_says_scale_time_and_camera(watcher: Watcher, tmp_path: Path) -> None:
    watcher(OpenCamera(camera=demo(), folder=str(tmp_path), um_per_px=0.44))
    watcher(Look(wait_s=2.0, may_keep=True))
    kept = watcher(Keep())
    assert isinstance(kept, Seen) and kept.kept
    near = declared(kept.kept, str(tmp_path))
    assert (near.um_per_px, near.um_per_px_from) == (0.44, "sidecar")
    assert near.acquired_at
    age_s = (datetime.now(UTC) - datetime.fromisoformat(near.acquired_at)).total_seconds()
    assert -0.01 < age_s < 30
    assert "DemoCamera DCam, 2 ms, 8bit" in Path(f"{kept.kept}.toml").read_text()


def test_roi_and_binning_shape_the_frame(watcher: Watcher) -> None:
    described = watcher(OpenCamera(camera=demo(roi=(8, 4, 40, 30))))
    assert isinstance(described, Described)
    assert (described.width_px, described.height_px) == (40, 30)
    described = watcher(OpenCamera(camera=demo(binning=2, pixel_type="16bit")))
    assert isinstance(described, Described)
    assert (described.width_px, described.height_px) == (48, 32)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"device": ("Lumenera", "LuCam")}, "adapter Lumenera: Failed to load"),
        ({"device": ("DemoCamera", "DCem")}, "cannot open camera DCem"),
        ({"device": ("simulated", "IX51")}, "the only simulated camera is"),
        ({"pixel_type": "9bit"}, "it takes 16bit, 32bit, 32bitRGB, 64bitRGB, 8bit"),
        ({"binning": 3}, "cannot set Binning to 3 (it takes 1, 2, 4, 8)"),
        ({"properties": {"Exposur": 3}}, "no property Exposur; it has Exposure"),
        ({"roi": (0, 0, 97, 64)}, "the sensor has 96x64 px"),
        ({"config_file": "/nowhere/a.cfg", "device": None}, "cannot load /nowhere/a.cfg"),
    ],
)
def test_a_camera_that_cannot_be_had_says_why(
    wrong: dict[str, object], why: str, watcher: Watcher
) -> None:
    failed = watcher(OpenCamera(camera=demo(**wrong)))
    assert isinstance(failed, CameraFailed) and why in failed.detail


def test_what_a_driver_reads_while_it_starts_is_set_before(watcher: Watcher) -> None:
    pytest.importorskip("pymmcore_plus", reason="needs the extra 'camera'")
    from parfocal.camera.mmcore import LABEL, MicroManagerCamera

    camera = MicroManagerCamera(demo(properties={**SMALL, "MaximumExposureMs": 50}))
    assert camera.core.isPropertyPreInit(LABEL, "MaximumExposureMs")
    assert camera.core.getPropertyUpperLimit(LABEL, "Exposure") == 50
    camera.close()


def test_pixels_that_no_decoder_knows_are_refused(watcher: Watcher) -> None:
    watcher(OpenCamera(camera=demo(pixel_type="32bit", trigger="software")))
    failed = watcher(Look(wait_s=1.0))
    assert isinstance(failed, CameraFailed) and "set source.camera.pixel_type" in failed.detail


def test_a_micro_manager_configuration_opens_its_camera(watcher: Watcher, tmp_path: Path) -> None:
    config = tmp_path / "MMConfig.cfg"
    config.write_text(
        "Device,Cam,DemoCamera,DCam\nProperty,Core,Initialize,1\nProperty,Core,Camera,Cam\n"
    )
    described = watcher(OpenCamera(camera=demo(config_file=str(config), device=None)))
    assert isinstance(described, Described) and described.name == "DCam"
    config.write_text("Device,Wheel,DemoCamera,DWheel\nProperty,Core,Initialize,1\n")
    failed = watcher(OpenCamera(camera=demo(config_file=str(config), device=None)))
    assert isinstance(failed, CameraFailed) and "names no camera" in failed.detail


def test_a_full_buffer_is_counted_and_left_behind() -> None:
    pytest.importorskip("pymmcore_plus", reason="needs the extra 'camera'")
    from parfocal.camera.mmcore import MicroManagerCamera

    size: dict[str, str | int | float] = {"OnCameraCCDXSize": 1600, "OnCameraCCDYSize": 1200}
    camera = MicroManagerCamera(demo(properties={**size, "FastImage": 1}, buffer_mb=8))
    try:
        assert camera.next(5.0) is not None
        time.sleep(1.0)  # 8 MB hold four such frames
        late = camera.next(5.0)
        assert late is not None and late.n_overflows == 1 and late.n_missed > 4
        later = (camera.next(5.0) for _ in range(20))  # a busy machine may be late once more
        assert any(again is not None and again.n_overflows == 0 for again in later)
    finally:
        camera.close()


def test_a_sequence_that_ended_is_a_lost_camera() -> None:
    pytest.importorskip("pymmcore_plus", reason="needs the extra 'camera'")
    from parfocal.camera.mmcore import MicroManagerCamera

    camera = MicroManagerCamera(demo())
    try:
        assert camera.next(2.0) is not None
        camera.core.stopSequenceAcquisition()
        with pytest.raises(CameraError, match="stopped by itself"):
            for _ in range(100):
                camera.next(0.5)
    finally:
        camera.close()


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymmcore_plus", None)
    monkeypatch.delitem(sys.modules, "parfocal.camera.mmcore", raising=False)
    with pytest.raises(CameraError, match="pip install 'parfocal\\[camera\\]'"):
        opened(CameraSettings(device=("DemoCamera", "DCam")))


def test_the_simulated_microscope_is_a_camera(watcher: Watcher, tmp_path: Path) -> None:
    camera = CameraSettings(device=("simulated", "IX50"), roi=(0, 0, 160, 120), pixel_type="8bit")
    described = watcher(OpenCamera(camera=camera))
    assert isinstance(described, Described) and described.library == "simulated"
    seen = watcher(Look(wait_s=0.5, preview_px=80))
    assert isinstance(seen, Seen) and len(seen.frame_s) >= 2 and 0.2 < seen.mean < 0.8
    assert decode(seen.preview).pixels.shape[:2] == (60, 80)
    saved = watcher(Snap(path=str(tmp_path / "a.png"), wait_s=2))
    assert isinstance(saved, Seen) and saved.kept
    assert decode((tmp_path / "a.png").read_bytes()).pixels.shape == (120, 160)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"gain": 2.0}, "has no source.camera.gain: leave it out"),
        ({"binning": 2}, "has no source.camera.binning"),
        ({"properties": {"Gamma": 1.0}}, "has no source.camera.properties"),
        ({"trigger": "external"}, "has no source.camera.trigger 'external'"),
        ({"roi": (8, 0, 160, 120)}, "has no source.camera.roi that begins elsewhere"),
    ],
)
def test_the_simulated_microscope_refuses_what_it_does_not_have(
    asked: dict[str, object], why: str, watcher: Watcher
) -> None:
    values = {"device": ("simulated", "IX50"), "roi": (0, 0, 160, 120)} | asked
    failed = watcher(OpenCamera(camera=CameraSettings(**values)))  # type: ignore[arg-type]
    assert isinstance(failed, CameraFailed) and why in failed.detail


def test_the_gate_of_rests_takes_one_frame_of_a_flask_that_stands(
    watcher: Watcher, tmp_path: Path
) -> None:
    camera = CameraSettings(
        device=("simulated", "IX50"), roi=(0, 0, 400, 320), pixel_type="8bit", gate="rest"
    )
    watcher(OpenCamera(camera=camera, folder=str(tmp_path)))
    first = watcher(Look(wait_s=1.8))  # the first field is shown for two seconds
    assert isinstance(first, Seen) and first.held and first.n_replaced == 0
    assert first.view in ("already_seen", "settling")
    small = msgspec.structs.replace(camera, roi=(0, 0, 200, 200))
    failed = watcher(OpenCamera(camera=small))
    assert isinstance(failed, CameraFailed) and "needs 256 px" in failed.detail


class Counter:
    """A camera whose frames carry their number."""

    def __init__(self) -> None:
        self.described = FAKE
        self.n = 0

    def next(self, wait_s: float, /) -> Shot:
        time.sleep(1e-3)
        self.n += 1
        return Shot(np.full((4, 5), self.n, np.uint16), float(self.n), datetime.now(UTC))

    def close(self) -> None:
        pass


def all_taken(_: CameraSettings) -> Every:
    return Every(0)


def test_the_newest_frame_is_kept_and_each_replaced_one_counted(tmp_path: Path) -> None:
    camera = Counter()
    watcher = Watcher(lambda _: camera, all_taken)
    watcher(OpenCamera(camera=CameraSettings(), folder=str(tmp_path)))
    busy = watcher(Look(wait_s=30, most_frames=5))  # nothing may be kept: the reader is busy
    assert isinstance(busy, Seen) and busy.held
    assert busy.n_replaced == len(busy.frame_s) - 1 == camera.n - 1 > 0
    kept = watcher(Keep())
    assert isinstance(kept, Seen) and kept.kept
    assert decode(Path(kept.kept).read_bytes()).pixels[0, 0] == camera.n
    assert len(list(tmp_path.rglob("*.png"))) == 1


def test_frames_seen_before_a_failure_are_counted_and_kept(tmp_path: Path) -> None:
    class Failing(Counter):
        def next(self, wait_s: float, /) -> Shot:
            if self.n == 3:
                raise CameraError("unplugged")
            return super().next(wait_s)

    camera = Failing()
    watcher = Watcher(lambda _: camera, all_taken)
    opening = OpenCamera(camera=CameraSettings(), folder=str(tmp_path))
    watcher(opening)
    seen = watcher(Look(wait_s=5))
    assert isinstance(seen, Seen)
    assert (len(seen.frame_s), seen.n_replaced, seen.held) == (3, 2, True)
    kept = watcher(Keep())
    assert isinstance(kept, Seen) and kept.kept
    camera.n = 0  # a failure that would pass by itself is told all the same
    assert watcher(Look(wait_s=5)) == CameraFailed(detail="unplugged")
    watcher(opening)
    assert isinstance(watcher(Look(wait_s=5, may_keep=True)), Seen)


def test_another_flask_gets_a_fresh_gate_and_no_frame_of_the_one_before(tmp_path: Path) -> None:
    gates: list[Every] = []

    def gate(_: CameraSettings) -> Every:
        gates.append(Every(1e9))
        return gates[-1]

    watcher = Watcher(lambda _: Counter(), gate)
    watcher(OpenCamera(camera=CameraSettings(), folder=str(tmp_path)))
    watcher(Look(wait_s=0.01, session="a"))
    turned = watcher(Look(wait_s=0.01, session="b"))
    assert isinstance(turned, Seen) and turned.n_replaced == 1 and turned.held
    assert len(gates) == 3


@pytest.mark.parametrize("session", ["6f1c", None])
def test_a_frame_says_in_which_session_it_was_seen(tmp_path: Path, session: str | None) -> None:
    watcher = Watcher(lambda _: Counter(), all_taken)
    watcher(OpenCamera(camera=CameraSettings(), folder=str(tmp_path)))
    watcher(Look(wait_s=5, may_keep=True, session=session))
    kept = watcher(Keep())  # whichever flask is opened meanwhile
    assert isinstance(kept, Seen) and kept.kept
    assert declared(kept.kept, str(tmp_path)).session == (session or "")


class Pushed:
    """A camera under which a flask stands at one place after another, at 25 frames a second."""

    def __init__(self, *places: tuple[int, int]) -> None:
        self.described = msgspec.structs.replace(FAKE, width_px=640, height_px=480, bits=8)
        self.k, self._views = 0, (place for place in places for _ in range(14))

    def next(self, wait_s: float, /) -> Shot:
        self.k += 1
        moment = datetime(2026, 1, 1, 23, 59, 59, tzinfo=UTC) + timedelta(seconds=self.k / 25)
        return Shot(seen_at(*next(self._views), self.k), self.k / 25, moment)

    def close(self) -> None:
        pass


def rested(watcher: Watcher) -> Seen:
    seen = watcher(Look(wait_s=30, most_frames=14))
    assert isinstance(seen, Seen) and len(seen.frame_s) == 14
    return seen


def test_a_sidecar_names_the_kept_frames_on_which_its_frame_lies(tmp_path: Path) -> None:
    camera = Pushed((1700, 100), (900, 100), (1300, 350), (930, 140))
    watcher = Watcher(lambda _: camera)
    watcher(OpenCamera(camera=CameraSettings(gate="rest"), folder=str(tmp_path), um_per_px=0.44))
    kept = []
    for replaced in (0, None, 1, 0):
        seen = rested(watcher)
        assert seen.held
        if replaced is not None:  # else the reader has enough to do, and the next one replaces it
            assert seen.n_replaced == replaced
            told = watcher(Keep())
            assert isinstance(told, Seen) and told.kept
            kept.append(told.kept)
    first, second, third = (declared(path, str(tmp_path)) for path in kept)
    assert first.overlaps == () and first.source == "camera"
    (on_first,) = second.overlaps
    assert Path(kept[1]).parent != Path(kept[0]).parent  # it became midnight
    assert (Path(kept[1]).parent / on_first.image).resolve() == Path(kept[0])
    assert on_first.offset_px == pytest.approx((-400, 250), abs=3)
    assert on_first.turn_rad == pytest.approx(0, abs=0.01)
    assert on_first.share == pytest.approx(240 / 640 * 230 / 480, abs=0.01)
    assert 0.6 < on_first.confidence <= 1
    # the replaced frame's place was taken again, and lies on the one between
    assert [one.image for one in third.overlaps] == [Path(kept[1]).name]


def test_a_frame_that_cannot_be_written_leaves_its_place_to_a_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = Pushed((900, 100), (1700, 100), (930, 140), (1700, 130))
    watcher = Watcher(lambda _: camera)
    watcher(OpenCamera(camera=CameraSettings(gate="rest"), folder=str(tmp_path)))
    with monkeypatch.context() as patched:
        patched.setattr(Spool, "keep", full)
        assert rested(watcher).held
        failed = watcher(Keep())
    assert isinstance(failed, Seen) and failed.keep_fault
    for held in (True, True, False):
        assert rested(watcher).held is held
        told = watcher(Keep())
        assert isinstance(told, Seen) and (told.kept is not None) is held
        assert not held or not declared(str(told.kept), str(tmp_path)).overlaps


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_is_full_costs_the_frame_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooling, "write", full)
    watcher = Watcher(lambda _: Counter(), all_taken)
    watcher(OpenCamera(camera=CameraSettings(), folder=str(tmp_path)))
    watcher(Look(wait_s=0.02, may_keep=True))
    told = watcher(Keep())
    assert isinstance(told, Seen) and told.n_replaced == 1 and told.kept is None
    assert told.keep_fault == f"frames cannot be kept in {tmp_path}: No space left on device"


def shot(pixels: Pixels) -> Shot:
    return Shot(pixels, 0.0, datetime(2026, 1, 2, 3, 4, 5, 678901, UTC))


def test_the_last_gigabyte_is_the_journals(tmp_path: Path) -> None:
    spool = Spool(tmp_path, FAKE, None, free_bytes=lambda _: 10**9)
    with pytest.raises(OSError, match="only 1000 MB are free"):
        spool.keep(shot(np.zeros((4, 5), np.uint8)))
    assert not list(tmp_path.rglob("*.png"))


def test_a_write_that_fails_leaves_no_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.mkdir()  # a file cannot take its place
    with pytest.raises(OSError, match="directory"):
        spooling.write(path, b"x")
    assert list(tmp_path.iterdir()) == [path]


def test_names_are_in_the_order_of_time(tmp_path: Path) -> None:
    kept = Spool(tmp_path, FAKE, None).keep(shot(np.zeros((4, 5), np.uint8)))
    assert kept == tmp_path / "2026-01-02" / "20260102T030405.678901Z.png"


@given(
    st.sampled_from([np.uint8, np.uint16]),
    st.sampled_from([(3, 7), (8, 2, 3)]),
    st.integers(0, 2**32 - 1),
)
def test_png_gives_back_every_pixel(dtype: type, shape: tuple[int, ...], seed: int) -> None:
    top = int(np.iinfo(dtype).max)
    pixels: Pixels = np.random.default_rng(seed).integers(0, top + 1, shape).astype(dtype)
    back = decode(png(pixels)).pixels
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, pixels)


def test_a_gate_sees_the_whole_scale_of_a_12_bit_camera() -> None:
    levels: NDArray[np.uint16] = np.array([[0, 2048, 4095, 5000]], np.uint16)
    assert eight_bits(shot(levels), 12).tolist() == [[0, 128, 255, 255]]


def test_the_plainest_gate_goes_by_time() -> None:
    gate, gray = Every(2.0), np.zeros((2, 2), np.uint8)
    assert [gate(gray, at_s).take for at_s in (0.0, 1.0, 1.9, 2.0, 3.9, 4.1)] == [
        True, False, False, True, False, True,
    ]  # fmt: skip
    assert gate(gray, 4.2) == Decision(False)


def test_frames_of_another_size_open_the_camera_again_and_say_so() -> None:
    class Resized(Counter):
        def next(self, wait_s: float, /) -> Shot:
            one = super().next(wait_s)
            return one if self.n < 3 else replace(one, pixels=np.zeros((8, 5), np.uint16))

    camera = Resized()
    watcher = Watcher(lambda _: camera, all_taken)
    opening = OpenCamera(camera=CameraSettings())
    watcher(opening)
    seen = watcher(Look(wait_s=5))
    assert isinstance(seen, Seen) and len(seen.frame_s) == 2
    failed = watcher(Look(wait_s=5))
    assert isinstance(failed, CameraFailed)
    assert "frames are now of 5x8 px, before of 5x4" in failed.detail
    watcher(opening)
    assert isinstance(watcher(Look(wait_s=0.01)), Seen)


@pytest.mark.parametrize(("trigger", "why"), [("external", "no trigger"), ("software", "no frame")])
def test_a_snap_says_what_did_not_come(trigger: str, why: str, tmp_path: Path) -> None:
    class Silent(Counter):
        def next(self, wait_s: float, /) -> Shot:
            return None  # type: ignore[return-value]

    camera = Silent()
    camera.described = msgspec.structs.replace(FAKE, trigger=trigger)
    watcher = Watcher(lambda _: camera, all_taken)
    watcher(OpenCamera(camera=CameraSettings()))
    failed = watcher(Snap(path=str(tmp_path / "a.png"), wait_s=3))
    assert failed == CameraFailed(detail=f"{why} came within 3 s")
