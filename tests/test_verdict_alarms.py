"""Alarms of a flask: told after three fields, cleared after five, once, whatever restarts."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rigs import Rig, card_text, save_frame, save_model, tiny_card, tiny_graph, tiny_weights, until
from test_recorder import Desk, classified, prepared

from parfocal.alarms import CLEAR_AFTER, SET_AFTER, Conditions, changes
from parfocal.bundle import load
from parfocal.card import Confusion, Metric, ShiftRule
from parfocal.cli import main
from parfocal.publish import FlaskAnswer, FlaskClose
from parfocal.sidecar import DeclaredFlask
from parfocal.types import Alarm, FlaskRef

FLASK = FlaskRef(id="F", session="s", cell_line="beta")
HOLDS, NOT = {"shift": "why"}, dict[str, str]()
AT = "2026-01-01T00:00:00.000+00:00"


def confusing_bundle(path: Path) -> Path:
    """The tiny model with a card that says how rarely it errs, and what is strange."""
    weights = tiny_weights()
    rule = ShiftRule(
        mean=0.2, mean_se=0.0, between_sd=0.1, within_sd=0.1, group_mean_sd=0.1, threshold=3,
        false_alarm=0.05, n_groups=9, group_kind="flask", observed_false_alarms=Metric(value=0),
    )  # fmt: skip
    known = Confusion(counts=((990, 10), (10, 990)), groups=("a", "b"), group_kind="flask")
    card = msgspec.structs.replace(tiny_card(weights), confusion=known, shift=rule)
    return save_model(path, tiny_graph(weights), card_text(card))


def test_three_frames_in_a_row_set_an_alarm_and_five_clear_it() -> None:
    told: dict[str, Alarm] = {}
    heard, seen = [], list[Conditions]()
    for one in [HOLDS] * 2 + [NOT] + [HOLDS] * 3 + [NOT] * 4 + [HOLDS] + [NOT] * 5 + [HOLDS] * 2:
        seen.append(one)
        for alarm in changes(FLASK, told, seen[-CLEAR_AFTER:], AT):
            told[alarm.name] = alarm
            heard.append((len(seen), alarm.cleared))
    assert heard == [(6, False), (16, True)]


@pytest.mark.parametrize("n", range(SET_AFTER))
def test_fewer_than_three_frames_tell_nothing(n: int) -> None:
    assert changes(FLASK, {}, [HOLDS] * n, AT) == []


def test_what_cannot_be_judged_any_more_is_not_taken_back() -> None:
    told = {alarm.name: alarm for alarm in changes(FLASK, {}, [HOLDS] * SET_AFTER, AT)}
    unknown: Conditions = {"shift": None}
    assert changes(FLASK, told, [unknown] * CLEAR_AFTER, AT) == []
    assert changes(FLASK, {}, [unknown] * CLEAR_AFTER, AT) == []
    (cleared,) = changes(FLASK, told, [NOT] * CLEAR_AFTER, AT)
    assert cleared.cleared


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path, load(str(confusing_bundle(tmp_path / "tiny.onnx"))))
    yield made
    made.close()


def answered(n: int, label: str) -> tuple[Any, Any]:
    """A read and a classified frame of n cells, all of one class."""
    read = msgspec.structs.replace(
        prepared(), points=[(10.0, 20.0)] * n, boxes=[(5.0, 15.0, 10.0, 10.0)] * n,
        areas_um2=[50.0] * n, scores=[1.0] * n, chosen=list(range(n)), n_crops=n,
    )  # fmt: skip
    sure = [0.9, 0.1] if label == "alpha" else [0.1, 0.9]
    answer = msgspec.structs.replace(
        classified(), probabilities=[sure] * n, novelty=[0.2] * n, reasons=[None] * n,
        lca=classified().lca * n,
    )  # fmt: skip
    return read, answer


def show(
    desk: Desk, session: str, label: str, names: range, n: int = 20, novelty: float = 0.2
) -> None:
    """Frames of n cells of one class, with a verdict after each."""
    for number in names:
        read, answer = answered(n, label)
        answer = msgspec.structs.replace(answer, novelty=[novelty] * n)
        read = msgspec.structs.replace(read, sha256=f"{number:064d}")
        desk.record(desk.claim(f"{number}.png", session), read, answer)
        desk.recorder.verdicts.of(session).published_s = float("-inf")
        desk.recorder.publish_verdicts()


def alarms(desk: Desk) -> list[tuple[str, str, bool]]:
    bodies = desk.rows("SELECT body FROM message WHERE topic = 'alarm/test/' ORDER BY seq")
    found = [json.loads(body) for (body,) in bodies]
    return [(one["name"], one["level"], one["cleared"]) for one in found]


def open_flask(desk: Desk, line: str, passage: int | None = None) -> str:
    with desk.journal.transaction():
        flask, _ = desk.recorder.sessions.open(
            DeclaredFlask(id="F1", cell_line=line, passage=passage)
        )
    return flask.session


def test_a_wrong_line_is_told_once_with_its_reason_and_not_again_after_a_restart(
    desk: Desk,
) -> None:
    session = open_flask(desk, "beta")
    show(desk, session, "alpha", range(4))
    assert alarms(desk) == []
    show(desk, session, "alpha", range(4, 8))
    assert alarms(desk) == [("mismatch", "alarm", False)]
    again = type(desk.recorder.told)(desk.journal)
    assert again.of(session)["mismatch"].text.startswith("flask F1: declared beta, but most cells")
    desk.recorder.told = again
    show(desk, session, "alpha", range(8, 10))
    assert alarms(desk) == [("mismatch", "alarm", False)]


@pytest.mark.parametrize("novelty", [0.2, 0.95])
def test_one_field_of_cells_among_empty_ones_raises_no_alarm(desk: Desk, novelty: float) -> None:
    session = open_flask(desk, "beta")
    show(desk, session, "alpha", range(1), n=150, novelty=novelty)
    show(desk, session, "alpha", range(1, 9), n=0)
    (body,) = desk.rows("SELECT body FROM message WHERE topic = 'flask/test/' ORDER BY seq DESC")[0]
    assert json.loads(body)["declared_match"] == "undecided" and alarms(desk) == []


def test_a_wrong_line_stays_told_when_its_cells_become_strange(desk: Desk) -> None:
    session = open_flask(desk, "beta")
    show(desk, session, "alpha", range(6))
    show(desk, session, "alpha", range(6, 24), novelty=1.0)
    assert alarms(desk) == [("mismatch", "alarm", False), ("shift", "warning", False)]


def test_a_flask_as_declared_raises_no_alarm(desk: Desk) -> None:
    show(desk, open_flask(desk, "alpha"), "alpha", range(8))
    (body,) = desk.rows("SELECT body FROM message WHERE topic = 'flask/test/' ORDER BY seq DESC")[0]
    verdict = json.loads(body)
    assert alarms(desk) == [] and verdict["declared_match"] == "match"
    assert verdict["trend"]["n_passages"] == 0 and verdict["corrected"]["alpha"]["n"] == 160


def keep_passages(desk: Desk, numbers: range, line: str = "alpha") -> list[dict[str, Any]]:
    """Flasks of three frames, closed one after the other; the trend in each last verdict."""
    for passage in numbers:
        session = open_flask(desk, line, passage)
        show(desk, session, "alpha", range(100 * passage, 100 * passage + 3))
        assert isinstance(desk.recorder.command(FlaskClose(f"close-{passage}")), FlaskAnswer)
    bodies = desk.rows("SELECT body FROM message WHERE topic = 'flask/test/' ORDER BY seq")
    verdicts = [json.loads(body) for (body,) in bodies]
    last = {one["flask"]["passage"]: one["trend"] for one in verdicts if not one["open"]}
    return [last[number] for number in numbers]


def test_earlier_passages_of_the_line_make_a_trend(desk: Desk) -> None:
    trends = keep_passages(desk, range(1, 6))
    assert [one["n_passages"] for one in trends] == [0, 1, 2, 3, 4]
    assert "cells per mm2" in trends[-1]["figures"]


def test_a_line_is_the_same_however_it_is_written(desk: Desk) -> None:
    keep_passages(desk, range(1, 3), "HEK-293A")
    keep_passages(desk, range(3, 4), "HEK293")
    (other,) = keep_passages(desk, range(4, 5), "hek 293a")
    assert other["n_passages"] == 2
    (nameless,) = keep_passages(desk, range(5, 6), "-")
    assert nameless["n_passages"] == 0


def test_a_history_says_what_it_leaves_out(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_passages(desk, range(1, 5))
    config = tmp_path / "p.toml"
    config.write_text(f'rig = "test"\nstate_dir = "{tmp_path}"\n')
    history = ["flask", "history", "ALPHA", "--json", "--config", str(config)]
    for last, shown, said in ((2, [3, 4], "2 older passages are not shown: --last 4"),
                              (4, [1, 2, 3, 4], "")):  # fmt: skip
        assert main([*history, "--last", str(last)]) == 0
        out, err = capsys.readouterr()
        assert [json.loads(one)["flask"]["passage"] for one in out.splitlines()] == shown
        assert said in err and bool(said) == bool(err)


def changed(desk: Desk, what: str) -> None:
    """The rig as it is after it was given another model, preparation or detector."""
    model = desk.model()
    if what == "model":
        desk.bundle = desk.recorder.bundle = replace(desk.bundle, sha256="f" * 64)
        desk.recorder.yardstick = replace(desk.recorder.yardstick, model_sha256="f" * 64)
    elif what == "preparation":
        card = desk.bundle.card
        prepare = msgspec.structs.replace(card.prepare, fingerprint="other")
        card = msgspec.structs.replace(card, prepare=prepare)
        desk.bundle = desk.recorder.bundle = replace(desk.bundle, card=card)
    else:
        desk.detector = "other"
    assert desk.model() != model


@pytest.mark.parametrize("what", ["model", "preparation", "detector"])
def test_passages_that_were_scored_in_another_way_are_left_out_and_said(
    desk: Desk, what: str
) -> None:
    keep_passages(desk, range(1, 4))
    changed(desk, what)
    fourth, fifth = keep_passages(desk, range(4, 6))
    assert (fourth["n_passages"], fourth["n_other_model"], fourth["figures"]) == (0, 3, {})
    assert (fifth["n_passages"], fifth["n_other_model"]) == (1, 3)
    assert "3 scored by another model or preparation left out" in fifth["text"]


def test_a_passage_in_which_the_model_changed_is_left_out(desk: Desk) -> None:
    keep_passages(desk, range(1, 4))
    session = open_flask(desk, "alpha", 4)
    show(desk, session, "alpha", range(400, 403))
    changed(desk, "model")
    show(desk, session, "alpha", range(403, 406))
    assert isinstance(desk.recorder.command(FlaskClose("close")), FlaskAnswer)
    (fifth,) = keep_passages(desk, range(5, 6))
    assert (fifth["n_passages"], fifth["n_other_model"]) == (0, 4)


def test_a_person_reads_of_the_wrong_line_at_the_terminal(tmp_path: Path) -> None:
    rig = Rig(tmp_path, confusing_bundle(tmp_path / "tiny.onnx"))
    try:
        rig.start()
        opened = ["flask", "open", "F1", "--cell-line", "beta", "--connect", rig.live]
        until(lambda: rig.run(*opened).returncode == 0, what="flask open")
        for i in range(7):
            save_frame(rig.folder / f"{i}.png", seed=i)
        rig.wait_done(7)
        assert rig.run("flask", "close", "--connect", rig.live).returncode == 0
        told = tmp_path / "told.jsonl"
        rig.popen("follow", "--connect", rig.live, "--out", str(told))
        until(lambda: told.exists() and '"open":false' in told.read_text(), what="last totals")
        bodies = [json.loads(line) for line in told.read_text().splitlines()]
        last = [one["body"] for one in bodies if one["topic"] == "flask/test/"][-1]
        assert last["n_frames"] == 7 and last["declared_match"] == "mismatch"
        assert last["corrected"]["beta"]["fraction"] < 0.1 and last["advice"]
        shown = [one["body"] for one in bodies if one["topic"] == "alarm/test/"]
        assert [(one["name"], one["level"]) for one in shown] == [("mismatch", "alarm")]
    finally:
        rig.close()
