"""Data sets: what flasks.csv may say, what groups are, and one sentence for every fault."""

from pathlib import Path

import pytest

from parfocal_training.dataset import Row, grouped, read_rows, renamed
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
    ("path,cell_line\n1.png,A\n2.png,A\n", "2 images of 1 cell line.s., two are needed"),
    ("", "lacks the column.s. path, cell_line"),
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
    assert ([row.group for row in by_field], kind) == (["7", "7"], "field")
    by_flask, kind = grouped(rows(*names, field="7", flask="F"))
    assert ([row.group for row in by_flask], kind) == (["F", "F"], "flask")


def test_fields_of_two_flasks_are_two_fields() -> None:
    both = (*rows("A/1.png", field="1", flask="F"), *rows("B/1.png", field="1", flask="G"))
    labelled, _ = grouped(both, "field")
    assert [row.group for row in labelled] == ["F|1", "G|1"]


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
