"""One TOML file; every wrong key or value is named with what to do."""

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parfocal import config
from parfocal.config import ConfigError, Settings, load, parse, state_home


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("rigg = 'x'", "no key rigg; did you mean rig?", id="top level"),
        pytest.param("[source]\npaht = ''", "source.paht; did you mean source.path?", id="table"),
        pytest.param("[modl]\n", "no key modl; did you mean model?", id="a table's name"),
        pytest.param("[limits]\nmax_pixel = 1", "did you mean limits.max_pixels?", id="plural"),
        pytest.param("[source]\nzzz = 1", "known: kind, path, um_per_px", id="nothing near"),
        pytest.param("source = 'x'", "source is a table", id="a value for a table"),
        pytest.param("[[source]]\npath = 'x'", "source is a table", id="a list for a table"),
        pytest.param("rig = 3", "Expected 'str'", id="a number for a text"),
        pytest.param("[source]\num_per_px = 'x'", "source.um_per_px", id="a text for a number"),
        pytest.param("[source]\nkind = 'cam'", "Invalid enum value 'cam'", id="an unknown kind"),
        pytest.param("rig = 'a/b'", "use letters, digits", id="a slash in the name"),
        pytest.param("rig = ''", "use letters, digits", id="no name"),
        pytest.param("[source]\num_per_px = 0", "not between 0.01 and 100", id="no scale"),
        pytest.param("[source]\num_per_px = nan", "not between 0.01 and 100", id="NaN"),
        pytest.param("[limits]\nmax_cells = 0", "at least 1", id="no cells"),
        pytest.param("[limits]\nread_cpu_s = -1", "at least 1", id="negative time"),
        pytest.param("[limits]\nread_wall_s = nan", "between 0 and 86400", id="NaN seconds"),
        pytest.param("[limits]\ninfer_wall_s = inf", "between 0 and 86400", id="no end of time"),
        pytest.param("[model]\nthreads = -1", "at least 0", id="negative threads"),
        pytest.param("rig = ", "not valid TOML", id="no TOML"),
        pytest.param("rig = 'a'\nrig = 'b'", "not valid TOML", id="twice"),
    ],
)
def test_a_wrong_file_is_refused_with_its_remedy(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert why in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_bytes(b'rig = "\xff"')
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(path)


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no configuration file"):
        load(tmp_path / "none")
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path)


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text("")
    assert load(path) == Settings()


@pytest.mark.parametrize(
    ("overrides", "values"),
    [
        (("rig=a",), {"rig": "a"}),
        (("source.um_per_px=0.5",), {"source": {"um_per_px": 0.5}}),
        (("source.path=/srv/my images",), {"source": {"path": "/srv/my images"}}),
        (("source.path='/srv/x'",), {"source": {"path": "/srv/x"}}),
        (("source.path=/srv/a=b",), {"source": {"path": "/srv/a=b"}}),
        ((" source.polled = true ",), {"source": {"polled": True}}),
        (("rig=a", "rig=b"), {"rig": "b"}),
        (("publish.live=tcp://127.0.0.1:1",), {"publish": {"live": "tcp://127.0.0.1:1"}}),
    ],
)
def test_set_replaces_one_value(
    overrides: tuple[str, ...], values: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "p.toml"
    path.write_text('[source]\npath = "/file"\n')
    expected = {"source": {"path": "/file"}} | values
    if "source" in values:
        expected["source"] = {"path": "/file"} | values["source"]  # type: ignore[operator]
    assert load(path, overrides) == msgspec.convert(expected, Settings)


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("rig", "takes table.key=value"),
        ("source.paht=x", "did you mean source.path?"),
        ("rig.x=1", "rig is not a table"),
        ("=1", "there is no key"),
        ("source.um_per_px=big", "source.um_per_px"),
        ("source=1", "source is a table"),
    ],
)
def test_a_wrong_set_is_refused(override: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text('rig = "a"')
    with pytest.raises(ConfigError, match=why):
        load(path, (override,))


@given(st.text(max_size=20))
def test_set_takes_any_text_for_a_text(text: str) -> None:
    try:
        settings = load(None, (f"state_dir={text}",))
    except ConfigError as error:
        assert "state_dir" in str(error)  # it was TOML of another type
    else:
        assert isinstance(settings.state_dir, str)


def test_every_default_is_valid() -> None:
    assert parse(msgspec.to_builtins(Settings()) | {}, "here").rig == "rig"


def test_the_first_place_that_exists_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = (tmp_path / "a.toml", tmp_path / "b.toml")
    monkeypatch.setattr(config, "PLACES", places)
    with pytest.raises(ConfigError, match="no configuration"):
        load(None)
    places[1].write_text('rig = "b"')
    assert load(None).rig == "b"
    places[0].write_text('rig = "a"')
    assert load(None).rig == "a"


def test_an_empty_xdg_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "")
    assert state_home() == Path(os.path.expanduser("~/.local/state/parfocal"))
    monkeypatch.setenv("XDG_STATE_HOME", "/x")
    assert state_home() == Path("/x/parfocal")
