"""Data sets: what flasks.csv may say, what groups are, and one sentence for every fault."""

import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parfocal_training.dataset import Row, grouped, listed, read_rows, renamed
from parfocal_training.errors import DataError


def data_set(folder: Path, table: str | None, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"")
    if table is not None:
        (folder / "flasks.csv").write_text(table, encoding="utf-8")
    return folder


def rows(*names: str, field: str = "", flask: str = "") -> tuple[Row, ...]:
    return tuple(
        Row(path=name, cell_line=name.split("/")[0], field=field, flask=flask) for name in names
    )


def test_a_folder_for_each_class_is_enough(tmp_path: Path) -> None:
    data_set(tmp_path, None, "A/1.png", "A/2.JPG", "A/notes.txt", "B/deep/3.tif", "README")
    found = [(row.path, row.cell_line) for row in read_rows(tmp_path)]
    assert found == [("A/1.png", "A"), ("A/2.JPG", "A"), ("B/deep/3.tif", "B")]


def test_flasks_csv_says_everything_else(tmp_path: Path) -> None:
    table = "path,cell_line,flask,um_per_px,split\n1.png,A,F1,0.44,test\n2.png,B,F2,,\n"
    first, second = read_rows(data_set(tmp_path, table, "1.png", "2.png"))
    assert (first.flask, first.um_per_px, first.split) == ("F1", 0.44, "test")
    assert (second.cell_line, second.um_per_px) == ("B", None)


FAULTS = [
    ("path,line\n1.png,A\n", "lacks the column.s. cell_line and has the unknown column.s. 'line'"),
    ("path,cell_line\n1.png,\n", "line 2 has no cell_line"),
    ("path,cell_line\n9.png,A\n", "line 2 names '9.png', which does not exist"),
    ("path,cell_line\n../1.png,A\n", "line 2 points outside the data set"),
    ("path,cell_line\n1.png,A\n1.png,B\n", "line 3 repeats '1.png' of line 2"),
    ("path,cell_line,um_per_px\n1.png,A,-1\n", "um_per_px '-1', not a number of micrometres"),
    ("path,cell_line,um_per_px\n1.png,A,nan\n", "um_per_px 'nan', not a number of micrometres"),
    ("", "lacks the column.s. path, cell_line"),
    ("path;cell_line\n1.png;A\n", "divided by commas, not by semicolons or tabs"),
    ("path,cell_line,path\n1.png,A,2.png\n", "has the column 'path' twice: leave one"),
    ("path,cell_line\n1.png,A,more\n", "line 2 has 3 cells under 2 columns: quote its commas"),
    ("path,cell_line\na\\1.png,A\n", "does not exist: folders are divided by /"),
    ("path,cell_line\n1.png,A\n./1.png,B\n", "line 3 repeats './1.png' of line 2"),
    ("path,cell_line,passage\n1.png,A,8.5\n", "passage '8.5', not a whole number from 0 on"),
    ("path,cell_line,passage\n1.png,A,-8\n", "passage '-8', not a whole number from 0 on"),
    ("path,cell_line,split\n1.png,A,val\n", "line 2 has split 'val': train, test or nothing"),
    ("path,cell_line,fluorescence\n1.png,A,f.png\n", "names the fluorescence 'f.png', which does"),
    ("path,cell_line,fluorescence\n1.png,A,/f.png\n", "has its fluorescence outside the data set"),
]


@pytest.mark.parametrize(("table", "sentence"), FAULTS)
def test_a_faulty_table_is_one_sentence(tmp_path: Path, table: str, sentence: str) -> None:
    data_set(tmp_path, table, "1.png", "2.png")
    with pytest.raises(DataError, match=sentence) as caught:
        read_rows(tmp_path)
    assert caught.value.exit_code == 65
    assert "\n" not in str(caught.value)


def test_every_fault_of_a_table_is_named_at_once(tmp_path: Path) -> None:
    table = "path,cell_line,um_per_px\n9.png,A,x\n1.png,,0\n"
    with pytest.raises(DataError) as caught:
        read_rows(data_set(tmp_path, table, "1.png"))
    for part in ("line 2 has um_per_px 'x'", "line 3 has no cell_line", "'9.png'"):
        assert part in str(caught.value)


def table_of(columns: str, *lines: str) -> str:
    """A table whose images are 1.png, 2.png and so on."""
    head = f"path,{columns}\n"
    return head + "".join(f"{i}.png,{line}\n" for i, line in enumerate(lines, start=1))


CONTRADICTIONS = [
    (
        table_of("cell_line,flask", "A,F", "A,F", "B,F"),
        "flask_two_lines",
        "flask 'F' is given 2 cell lines, 'A' (line 2, line 3) and 'B' (line 4)",
    ),
    (
        table_of("cell_line,flask", "mixed,F", "A,F", "B,G"),
        "flask_two_lines",
        "'mixed' (line 2) and 'A' (line 3): a co-culture is 'mixed' on every line",
    ),
    (
        table_of("cell_line,flask,density", "A,F,low", "A,F,high", "B,G,low"),
        "flask_two_values",
        "flask 'F' has 2 densities, 'low' (line 2) and 'high' (line 3)",
    ),
    (
        table_of("cell_line,flask,passage", "A,F,8", "A,F,9", "B,G,8"),
        "flask_two_values",
        "flask 'F' has 2 values of passage, '8' (line 2) and '9' (line 3)",
    ),
    (
        table_of("cell_line,flask,pair", "A,F,1", "A,F,2", "B,G,1"),
        "flask_two_values",
        "flask 'F' has 2 values of pair, '1' (line 2) and '2' (line 3)",
    ),
    (
        table_of("cell_line,flask,split", "A,F,", "A,F,test", "B,G,"),
        "leakage",
        "flask 'F' is in training (line 2) and in test (line 3): a test on it would flatter",
    ),
    (
        table_of("cell_line,field,split", "A,7,test", "B,8,train", "B,8,test"),
        "leakage",
        "field 'B|8' is in training (line 3) and in test (line 4): a test on it would flatter",
    ),
]


@pytest.mark.parametrize(("table", "code", "sentence"), CONTRADICTIONS)
def test_lines_that_contradict_each_other_are_refused(
    tmp_path: Path, table: str, code: str, sentence: str
) -> None:
    data_set(tmp_path, table, "1.png", "2.png", "3.png")
    (fault,) = listed(tmp_path)[1]
    assert (fault.code, fault.severity) == (code, "error")
    assert sentence in fault.text
    with pytest.raises(DataError) as caught:
        read_rows(tmp_path)
    assert fault.text in str(caught.value)


AGREEMENTS = [
    table_of("cell_line,flask,density", "A,F,low", "A,F,", "B,G,high"),
    table_of("cell_line,flask,day,density", "A,F,1,low", "A,F,2,high", "B,G,1,low"),
    table_of("cell_line,flask,split", "A,F,", "A,F,train", "B,G,test"),
    table_of("cell_line,field,flask,split", "A,1,F,test", "B,1,G,train", "B,2,G,train"),
    table_of("cell_line,passage", "A,p8", "B,8", "B,8.0"),
]


@pytest.mark.parametrize("table", AGREEMENTS)
def test_lines_that_only_differ_are_not(tmp_path: Path, table: str) -> None:
    assert len(read_rows(data_set(tmp_path, table, "1.png", "2.png", "3.png"))) == 3


@pytest.mark.parametrize("line", ["mixed", "A"])
def test_one_cell_line_is_a_warning(tmp_path: Path, line: str) -> None:
    (fault,) = listed(data_set(tmp_path, table_of("cell_line,flask", f"{line},F"), "1.png"))[1]
    assert (fault.code, fault.severity) == ("one_cell_line", "warning")
    assert len(read_rows(tmp_path)) == 1


def test_no_images_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images of a cell line"):
        read_rows(tmp_path)


def test_a_message_names_twenty_faults_and_counts_the_others(tmp_path: Path) -> None:
    data_set(tmp_path, table_of("cell_line", *["A", "B"] * 13))
    with pytest.raises(DataError, match="and 6 more: parfocal-train dataset") as caught:
        read_rows(tmp_path)
    assert str(caught.value).count("does not exist") == 20


def test_line_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    table = 'path,cell_line\n\n1.png,"A\nB"\n9.png,A\n'
    with pytest.raises(DataError, match=r"line 5 names '9\.png', which does not exist"):
        read_rows(data_set(tmp_path, table, "1.png"))


CELL = st.text(string.ascii_letters + string.digits + "./\\-;, '\"\n\t\u00b5\0", max_size=12)
HEADS = ("path,cell_line", "path,cell_line,flask,split", "path,cell_line,um_per_px,fluorescence")


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
@given(head=st.sampled_from(HEADS), rest=st.lists(st.lists(CELL, max_size=5), max_size=6))
def test_any_table_is_read_or_refused_in_one_line(
    tmp_path: Path, head: str, rest: list[list[str]]
) -> None:
    text = "\n".join([head, *(",".join(cells) for cells in rest)])
    (tmp_path / "flasks.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:  # there are no images
        read_rows(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_table_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "flasks.csv").write_bytes(b"path,cell_line\n\xff\xfe\x00,A\n")
    with pytest.raises(DataError, match="not a UTF-8 comma-separated table"):
        read_rows(tmp_path)


def test_no_data_set_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must be a folder of images"):
        read_rows(tmp_path / "nowhere")


def test_flask_goes_before_field_and_field_before_name() -> None:
    names = ("A/A-000001.x.png", "B/B-000002.y.png")
    by_name, kind = grouped(rows(*names))
    assert ([row.group for row in by_name], kind) == (["A|A-000001", "B|B-000002"], "field")
    by_field, kind = grouped(rows(*names, field="7"))
    assert ([row.group for row in by_field], kind) == (["A|7", "B|7"], "field")
    by_flask, kind = grouped(rows(*names, field="7", flask="F"))
    assert ([row.group for row in by_flask], kind) == (["F", "F"], "flask")


def test_fields_of_two_flasks_are_two_fields() -> None:
    both = (*rows("A/1.png", field="1", flask="F"), *rows("B/1.png", field="1", flask="G"))
    labelled, _ = grouped(both, "field")
    assert [row.group for row in labelled] == ["F|1", "G|1"]


def test_a_field_whose_flask_is_not_known_is_one_of_its_line_and_folder(tmp_path: Path) -> None:
    images = ("A/1.png", "A/2.png", "A/day2/1.png", "B/1.png")
    lines = ("A/1.png,A,1,", "A/2.png,A,1,", "A/day2/1.png,A,1,test", "B/1.png,B,1,test")
    table = "path,cell_line,field,split\n" + "\n".join(lines) + "\n"
    found = read_rows(data_set(tmp_path, table, *images))
    assert [row.group for row in grouped(found)[0]] == ["A|1", "A|1", "A|day2|1", "B|1"]
    (tmp_path / "flasks.csv").write_text(table.replace("A/2.png,A,1,", "A/2.png,A,1,test"))
    with pytest.raises(DataError, match=r"field 'A\|1' is in training .line 2. and in test"):
        read_rows(tmp_path)


def test_mixed_flasks_are_no_class_beside_cell_lines(caplog: pytest.LogCaptureFixture) -> None:
    some = (*rows("A/A-000001.png", "B/B-000002.png"), *rows("mixed/1.png", "mixed/2.png"))
    found, _ = grouped(some)
    assert [row.cell_line for row in found] == ["A", "B"]
    assert "2 images of mixed flasks are left out" in caplog.text
    alone, _ = grouped(some[2:], "image")
    assert [row.cell_line for row in alone] == ["mixed", "mixed"]


def test_a_regular_expression_finds_the_field_in_the_name() -> None:
    labelled, kind = grouped(rows("A/f3_c1.png", "B/f3_c2.png"), name_rule=r"(f\d+)_")
    assert ([row.group for row in labelled], kind) == (["A|f3", "B|f3"], "field")


def test_single_images_are_groups_only_when_asked() -> None:
    plain = rows("A/1.png", "B/2.png")
    with pytest.raises(DataError, match=r"no group can be derived for 2 of 2.*--group-by image"):
        grouped(plain)
    labelled, kind = grouped(plain, "image")
    assert ([row.group for row in labelled], kind) == (["A/1.png", "B/2.png"], "image")


def test_asking_for_flasks_that_are_not_known_is_refused() -> None:
    some = (*rows("A/1.png", flask="F"), *rows("B/2.png"))
    with pytest.raises(DataError, match=r"1 of 2 images .first: 'B/2.png'"):
        grouped(some, "flask")


@pytest.mark.parametrize("rule", ["(", "no parenthesis|A"])
def test_a_faulty_regular_expression_is_refused(rule: str) -> None:
    with pytest.raises(DataError, match="not a regular expression with one parenthesis"):
        grouped(rows("A/A.png", "B/A.png"), name_rule=rule)


def test_cell_lines_can_be_renamed() -> None:
    named = renamed(rows("293A/1.png", "HT1080/2.png"), {"293A": "HEK-293A"})
    assert [row.cell_line for row in named] == ["HEK-293A", "HT1080"]
    with pytest.raises(DataError, match="--class-names names X, but the data set has A"):
        renamed(rows("A/1.png"), {"X": "Y"})
