"""What is declared beside images: the nearest wins, and nothing wrong is guessed around."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parfocal.sidecar import FOLDER_FILE, MAX_BYTES, Declared, DeclaredFlask, SidecarError, declared


def declare(home: Path, /, **texts: str) -> Declared:
    """Declarations for home/watched/day/a.tif; the given ones are written first."""
    day = home / "watched" / "day"
    day.mkdir(parents=True, exist_ok=True)
    places = {
        "image": day / "a.tif.toml", "folder": day / FOLDER_FILE,
        "root": home / "watched" / FOLDER_FILE, "above": home / FOLDER_FILE,
    }  # fmt: skip
    for name, text in texts.items():
        places[name].write_text(text)
    return declared(str(day / "a.tif"), str(home / "watched"))


FLASK_A, FLASK_B = '[flask]\nid = "A"\n', '[flask]\nid = "B"\npassage = 3\n'


@pytest.mark.parametrize(
    ("texts", "scale", "whose", "flask"),
    [
        pytest.param({}, None, None, None, id="nothing declared"),
        pytest.param({"image": "um_per_px = 1"}, 1.0, "sidecar", None, id="the sidecar"),
        pytest.param({"folder": "um_per_px = 2"}, 2.0, "folder", None, id="the folder"),
        pytest.param({"root": "um_per_px = 3"}, 3.0, "folder", None, id="the watched root"),
        pytest.param({"above": "um_per_px = 4"}, None, None, None, id="not above the root"),
        pytest.param(
            {"image": "um_per_px = 1", "folder": "um_per_px = 2", "root": "um_per_px = 3"},
            1.0, "sidecar", None, id="the nearest of three",
        ),
        pytest.param(
            {"image": FLASK_A, "folder": "um_per_px = 2\n" + FLASK_B},
            2.0, "folder", "A", id="key by key",
        ),
        pytest.param({"image": "", "folder": FLASK_B}, None, None, "B", id="an empty sidecar"),
        pytest.param({"folder": FLASK_A, "root": FLASK_B}, None, None, "A", id="nearest flask"),
    ],
)  # fmt: skip
def test_the_nearest_declaration_wins(
    texts: dict[str, str], scale: float | None, whose: str | None, flask: str | None, tmp_path: Path
) -> None:
    found = declare(tmp_path, **texts)
    assert (found.um_per_px, found.um_per_px_from) == (scale, whose)
    assert (found.flask.id if found.flask else None) == flask


def test_a_flask_is_taken_whole_from_one_place(tmp_path: Path) -> None:
    found = declare(tmp_path, image=FLASK_A, folder=FLASK_B)
    assert found.flask == DeclaredFlask(id="A", passage=None)


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-11-23T10:15:00Z", "2026-11-23T10:15:00.000+00:00"),
        ("2026-11-23T10:15:00.5+02:00", "2026-11-23T08:15:00.500+00:00"),
    ],
)
def test_the_time_of_acquisition_is_given_in_utc(text: str, utc: str, tmp_path: Path) -> None:
    assert declare(tmp_path, image=f"acquired_at = {text}").acquired_at == utc


def test_only_the_sidecar_says_when(tmp_path: Path) -> None:
    assert declare(tmp_path, folder="acquired_at = 2026-11-23T10:15:00Z").acquired_at is None


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("um_per_px = 'x'", id="a text for a scale"),
        pytest.param("um_per_px = 0", id="scale 0"),
        pytest.param("um_per_px = nan", id="scale NaN"),
        pytest.param("um_per_px = 1e300", id="a huge scale"),
        pytest.param("um_per_pixel = 1", id="an unknown key"),
        pytest.param("[flask]\nname = 'A'", id="a flask without id"),
        pytest.param("[flask]\nid = ''", id="an empty id"),
        pytest.param("[flask]\nid = 'A'\npassage = 99999999999999999999", id="a huge passage"),
        pytest.param("[flask]\nid = 'A'\npassage = -1", id="a negative passage"),
        pytest.param("acquired_at = 2026-11-23", id="a day for a moment"),
        pytest.param("x = " + "[" * 20_000, id="nested beyond measure"),
        pytest.param("um_per_px", id="no TOML"),
        pytest.param("#" * (MAX_BYTES + 1), id="too long"),
    ],
)
@pytest.mark.parametrize("place", ["image", "folder"])
def test_a_declaration_that_is_not_understood_is_named(
    text: str, place: str, tmp_path: Path
) -> None:
    with pytest.raises(SidecarError, match=r"\.toml"):
        declare(tmp_path, **{place: text})


OVERLAP = """
[[overlap]]
image = "b.tif"
offset_px = [-400, 2.5]
turn_rad = 0.01
share = 0.4
confidence = 0.9
"""


def test_only_the_sidecar_says_where_an_image_lies_and_that_a_camera_took_it(
    tmp_path: Path,
) -> None:
    lies = 'source = "camera"\n' + OVERLAP + OVERLAP.replace("b.tif", "../day0/c.tif")
    beside = declare(tmp_path, folder=lies)
    assert (beside.source, beside.overlaps, beside.overlap_fault) == (None, (), None)
    own = declare(tmp_path, image=lies)
    assert own.source == "camera" and own.overlap_fault is None
    assert [one.image for one in own.overlaps] == ["b.tif", "../day0/c.tif"]
    assert own.overlaps[0].offset_px == (-400.0, 2.5)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('overlap = "b.tif"', id="a text"),
        pytest.param("[overlap]\nimage = 'b.tif'", id="one table"),
        pytest.param(OVERLAP.replace("-400", "nan"), id="NaN"),
        pytest.param(OVERLAP.replace("-400", "1" + "0" * 400), id="a huge offset"),
        pytest.param(OVERLAP.replace(", 2.5", ""), id="half an offset"),
        pytest.param(OVERLAP.replace("0.4", "4"), id="four times the frame"),
        pytest.param(OVERLAP.replace("b.tif", ""), id="no image"),
        pytest.param(OVERLAP.replace("share", "shares"), id="an unknown key"),
        pytest.param(OVERLAP.replace("turn_rad = 0.01", ""), id="no turn"),
        pytest.param(OVERLAP + "[[overlap]]\n", id="a good one and an empty one"),
    ],
)
def test_overlaps_that_are_not_understood_leave_the_rest_as_it_is(
    text: str, tmp_path: Path
) -> None:
    found = declare(tmp_path, image="um_per_px = 0.44\n" + text)
    assert found.um_per_px == 0.44 and found.overlaps == ()
    assert found.overlap_fault and "[[overlap]] of" in found.overlap_fault
    assert "a.tif.toml is not understood" in found.overlap_fault


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00"])
def test_a_moment_outside_the_calendar_is_refused(moment: str, tmp_path: Path) -> None:
    with pytest.raises(SidecarError, match="no calendar"):
        declare(tmp_path, image=f"acquired_at = {moment}")


def test_a_declaration_that_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("um_per_px = 1")
    for make in (Path.mkdir, lambda p: p.symlink_to(tmp_path / "target")):
        place = tmp_path / "watched" / "day" / "a.tif.toml"
        place.parent.mkdir(parents=True, exist_ok=True)
        make(place)
        with pytest.raises(SidecarError, match="cannot be read"):
            declare(tmp_path)
        place.rmdir() if place.is_dir() and not place.is_symlink() else place.unlink()


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_understood_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("d")
    (folder / "a.tif.toml").write_bytes(data)
    try:
        declared(str(folder / "a.tif"), str(folder))
    except SidecarError as error:
        assert "a.tif.toml" in str(error)


def test_an_image_outside_the_root_sees_only_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / FOLDER_FILE).write_text("um_per_px = 5")
    assert declared(str(tmp_path / "a.tif"), str(tmp_path / "root")).um_per_px == 5
