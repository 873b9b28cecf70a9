"""What is stored and told: all of a frame or nothing, once, under the right flask."""

import json
import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from rigs import LCA_SIZE

from parfocal.bundle import Bundle, load
from parfocal.card import Metric, ShiftRule
from parfocal.daemon import MAX_INFERENCE_TRIES, Daemon, Job
from parfocal.files import Signature
from parfocal.folder import Claim, FolderSource, _Pending
from parfocal.inference import Classified, Loaded
from parfocal.journal import Journal
from parfocal.publish import Endpoints
from parfocal.reader import Prepared
from parfocal.recorder import Recorder
from parfocal.results import model_ref
from parfocal.sidecar import Declared, DeclaredFlask
from parfocal.types import ModelRef, Quality
from parfocal.workers import WorkerFault


class Desk:
    """A recorder on a journal of its own, and claims without files."""

    def __init__(self, home: Path, bundle: Bundle) -> None:
        self.journal = Journal(home / "journal.sqlite", "test")
        self.source = FolderSource(home, self.journal, lambda: None, polled=True)
        endpoints = Endpoints(f"ipc://{home}/live", f"ipc://{home}/replay")
        self.recorder = Recorder(self.journal, endpoints, bundle)
        self.bundle, self.home, self.detector = bundle, home, "classical"

    def claim(self, name: str, session: str | None = None) -> Claim:
        with self.journal.transaction():
            known = self.source.files.add(f"{self.home}/{name}", Signature(1, 2, 3, 4), session)
        self.source._pending[known.path] = _Pending(self.source._keep(known), 0.0, 10.0)
        claim = self.source.next()
        assert claim is not None
        return claim

    def model(self) -> ModelRef:
        return model_ref(
            self.bundle.card, self.bundle.sha256, "CPUExecutionProvider", self.detector, "f"
        )

    def record(self, claim: Claim, prepared: Prepared, classified: Classified) -> None:
        """As the daemon does it, with its guard."""
        loaded = Loaded(
            provider="CPUExecutionProvider", golden_deviation=0, load_ms=0,
            sha256=self.bundle.sha256, card=self.bundle.card,
        )  # fmt: skip
        daemon = SimpleNamespace(
            workers=SimpleNamespace(loaded=loaded),
            detector=SimpleNamespace(name=self.detector, fingerprint="f"),
            bundle=self.bundle, recorder=self.recorder, source=self.source, shadow=None,
        )  # fmt: skip
        Daemon._record(cast(Any, daemon), Job(claim, 0), prepared, classified)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.journal.db.execute(sql).fetchall()

    def close(self) -> None:
        self.recorder.close()
        self.source.close()
        self.journal.close()


@pytest.fixture
def desk(tmp_path: Path, tiny_bundle: Path) -> Iterator[Desk]:
    made = Desk(tmp_path, load(str(tiny_bundle)))
    yield made
    made.close()


def prepared(sha256: str = "a" * 64, flask: DeclaredFlask | None = None) -> Prepared:
    return Prepared(
        sha256=sha256, status=(1, 2, 3, 4), width_px=500, height_px=400, um_per_px=0.44,
        um_per_px_from="configuration", acquired_at="2026-01-01T00:00:00.000+00:00",
        declared=Declared(flask=flask), quality=Quality(focus=0.5, exposure=1.0, flags=()),
        points=[(10.0, 20.0)], boxes=[(5.0, 15.0, 10.0, 10.0)], areas_um2=[50.0], scores=[1.0],
        chosen=[0], rejected=[], n_crops=1, thumbnail=b"", timing_ms={"hash": 1.0},
    )  # fmt: skip


def classified() -> Classified:
    return Classified(probabilities=[[0.9, 0.1]], novelty=[0.2], reasons=[None],
                      lca=b"\0" * 2 * LCA_SIZE, infer_ms=1.0)  # fmt: skip


NAN = math.nan
SPOILT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "probability": ({}, {"probabilities": [[NAN, NAN]]}),
    "novelty": ({}, {"novelty": [NAN]}),
    "area": ({"areas_um2": [NAN]}, {}),
    "place": ({"points": [(math.inf, 1.0)]}, {}),
    "focus": ({"quality": Quality(focus=NAN, exposure=1.0, flags=())}, {}),
    "timing": ({}, {"infer_ms": NAN}),
    "scale": ({"um_per_px": NAN}, {}),
    "too many cells": ({}, {"probabilities": [[0.9, 0.1]] * 2}),
    "number of cells": ({}, {"novelty": []}),
    "an object that is not there": ({"chosen": [7]}, {}),
}


@pytest.mark.parametrize("case", SPOILT.values(), ids=SPOILT)
def test_a_result_that_cannot_be_gives_its_file_a_reason_and_the_next_goes_on(
    desk: Desk, case: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    read, answered = case
    bad, good = desk.claim("bad.png"), desk.claim("good.png")
    spoilt = msgspec.structs.replace(prepared(), **read)
    desk.record(bad, spoilt, msgspec.structs.replace(classified(), **answered))
    desk.record(good, prepared("b" * 64), classified())
    assert desk.rows("SELECT state, reason, seq FROM file ORDER BY id") == [
        ("quarantined", "inference_failed", None), ("done", None, 2),
    ]  # fmt: skip
    assert desk.rows("SELECT topic FROM message") == [("alarm/test/",), ("frame/test/",)]
    assert desk.rows("SELECT seq, id FROM cell") == [(2, 1)]


def test_cells_of_a_phenotype_can_be_asked_of_the_journal(desk: Desk) -> None:
    named = msgspec.structs.replace(classified(), phenotypes=["flat"])
    desk.record(desk.claim("a.png"), prepared(), named)
    desk.record(desk.claim("b.png"), prepared("b" * 64), classified())
    assert desk.rows("SELECT seq FROM cell WHERE phenotype = 'flat'") == [(1,)]
    assert desk.rows("SELECT seq FROM cell WHERE phenotype IS NULL") == [(2,)]


def test_a_row_that_the_journal_refuses_is_the_frames_fault(desk: Desk) -> None:
    desk.journal.db.execute("CREATE UNIQUE INDEX one ON cell (label)")
    for name in ("a.png", "b.png"):
        desk.record(desk.claim(name), prepared(name * 10), classified())
    assert desk.rows("SELECT state FROM file ORDER BY id") == [("done",), ("quarantined",)]


def test_a_full_disk_raises_stores_nothing_and_loses_nothing(desk: Desk, tmp_path: Path) -> None:
    desk.record(desk.claim("a.png"), prepared(), classified())
    claim = desk.claim("b.png")
    large = msgspec.structs.replace(prepared("b" * 64), thumbnail=bytes(200_000))
    desk.journal.db.execute("PRAGMA max_page_count=1")  # as large as it is now
    with pytest.raises(sqlite3.OperationalError, match="full"):
        desk.record(claim, large, classified())
    desk.journal.db.execute("PRAGMA max_page_count=100000")
    assert desk.rows("SELECT count(*) FROM message") == [(1,)]
    assert desk.rows("SELECT state FROM file ORDER BY id") == [("done",), ("claimed",)]
    again = FolderSource(tmp_path, desk.journal, lambda: None, polled=True)
    assert [p.known.path for p in again._pending.values()] == [claim.known.path]
    again.close()


def flask(name: str) -> DeclaredFlask:
    return DeclaredFlask(id=name)


def test_a_copy_in_a_declared_flask_is_not_counted_twice(desk: Desk) -> None:
    desk.record(desk.claim("F1/a.png"), prepared(flask=flask("F1")), classified())
    copy = desk.claim("F1/copy.png")
    assert desk.recorder.already_known(desk.source, copy, prepared(flask=flask("F1")))
    assert desk.rows("SELECT state, reason FROM file WHERE id = 2") == [
        ("quarantined", "duplicate")
    ]


def test_the_same_bytes_declared_for_another_flask_count_there(desk: Desk) -> None:
    with desk.journal.transaction():
        stage, _ = desk.recorder.sessions.open(flask("on the stage"))
    desk.record(desk.claim("a.png", stage.session), prepared(), classified())
    other = desk.claim("F2/a.png", stage.session)  # seen while that flask was on the stage
    assert not desk.recorder.already_known(desk.source, other, prepared(flask=flask("F2")))


def lose_inference(desk: Desk, daemon: SimpleNamespace, claim: Claim) -> None:
    """The model is lost over an image as often as it is tried in one round."""
    daemon._inferring = Job(claim, 0, prepared(), tries=MAX_INFERENCE_TRIES)
    Daemon._inference_lost(cast(Any, daemon), WorkerFault("inference died (signal 11)"))


@pytest.mark.parametrize("others_served", [True, False])
def test_an_image_that_kills_the_model_is_given_up_only_when_others_are_served(
    desk: Desk, others_served: bool
) -> None:
    daemon = SimpleNamespace(
        recorder=desk.recorder, source=desk.source, journal=desk.journal, _free_slots=[],
        _n_classified=0, _lost_over={},
    )  # fmt: skip
    daemon._is_its_fault = lambda sha256: Daemon._is_its_fault(cast(Any, daemon), sha256)
    claim = desk.claim("poison.png")
    for _ in range(3):
        assert desk.rows("SELECT state FROM file") != [("quarantined",)]
        lose_inference(desk, daemon, claim)
        daemon._n_classified += others_served
    state = "quarantined" if others_served else "waiting"
    assert desk.rows("SELECT state, reason FROM file") == [(state, "inference_failed")]
    assert daemon._free_slots == [0, 0, 0]


def test_frames_and_totals_say_whether_their_cells_are_strange(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    bundle = load(str(tiny_bundle))
    rule = ShiftRule(
        mean=0.1, mean_se=0.0, between_sd=0.0, within_sd=0.1, group_mean_sd=0.1, threshold=1.5,
        false_alarm=0.05, n_groups=9, group_kind="flask", observed_false_alarms=Metric(value=0),
    )  # fmt: skip
    card = msgspec.structs.replace(bundle.card, shift=rule)
    strange = Desk(tmp_path, Bundle(bundle.path, bundle.data, bundle.sha256, card))
    with strange.journal.transaction():
        stage, _ = strange.recorder.sessions.open(flask("F1"))
    for name, novelty in (("a.png", 0.2), ("b.png", 0.6)):
        answer = msgspec.structs.replace(classified(), novelty=[novelty])
        strange.record(strange.claim(name, stage.session), prepared(name * 10), answer)
    strange.recorder.publish_verdicts()
    told = [json.loads(body)["shift"] for (body,) in strange.rows("SELECT body FROM message")]
    assert [(one["n_cells"], one["flagged"]) for one in told] == [(1, False), (1, True), (2, True)]
    assert [one["score"] for one in told] == pytest.approx([1, 5, 3])
    strange.close()
