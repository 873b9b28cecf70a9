"""The wire format: its schema is the one in the repository, and old messages stay readable."""

import json
from functools import partial
from pathlib import Path

import jsonschema
import msgspec
import pytest
from rigs import Rig, save_frame, until

from parfocal import schema
from parfocal.client import BODIES
from parfocal.reasons import SENTENCES, CellReason, FileReason, GateReason, ObjectReason
from parfocal.types import Header

GOLDEN = Path(__file__).parent / "golden"


def test_the_schema_in_the_repository_is_the_one_the_code_makes() -> None:
    assert (GOLDEN / "schema.json").read_text() == schema.text(), "run `make schema`"


def test_every_reason_code_has_a_sentence_in_the_schema() -> None:
    codes = [*FileReason, *ObjectReason, *CellReason, *GateReason]
    assert set(SENTENCES) == set(codes)
    assert set(schema.schema()["reasons"]) == {code.value for code in codes}


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.message.json")), ids=lambda p: p.stem)
def test_a_released_message_is_still_understood(path: Path) -> None:
    message = json.loads(path.read_text())
    header = msgspec.convert(message["header"], Header)
    body = msgspec.convert(message["body"], BODIES[header.schema])
    assert_holds(json.loads(msgspec.json.encode(body)), message["body"])


def assert_holds(now: object, then: object) -> None:
    """Everything that was said then is said now; what was added since is null."""
    if isinstance(then, dict) and isinstance(now, dict):
        assert {name for name, value in now.items() if value is not None} <= set(then)
        for name, value in then.items():
            assert_holds(now[name], value)
    elif isinstance(then, list) and isinstance(now, list):
        assert len(now) == len(then)
        for one, other in zip(now, then, strict=True):
            assert_holds(one, other)
    else:
        assert now == then


def test_unknown_fields_of_a_later_version_are_passed_over() -> None:
    (path, *_) = sorted(GOLDEN.glob("*frame*.message.json"))
    message = json.loads(path.read_text())
    message["body"]["from_the_future"] = 1
    msgspec.convert(message["body"], BODIES["parfocal.frame/1"])


def test_what_a_daemon_publishes_follows_the_schema(rig: Rig) -> None:
    rig.start()
    save_frame(rig.folder / "a.png")
    (rig.folder / "b.tif").write_text("no image")
    rig.wait_done(1)
    whole = schema.schema()
    for topic, kind in (("frame", "parfocal.frame/1"), ("alarm", "parfocal.alarm/1")):
        sql = "SELECT header, body FROM message WHERE topic = ?"
        rows = until(partial(rig.rows, sql, f"{topic}/test/"), what=topic)
        for header, body in rows:
            for name, text in ((kind, body), ("parfocal.header/1", header)):
                one = {**whole["messages"][name], "$defs": whole["$defs"]}
                jsonschema.validate(json.loads(text), one)
