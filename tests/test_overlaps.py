"""A cell that two fields show is counted once, from the arithmetic to a daemon's totals."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rigs import LCA_SIZE, Rig, rules, tiny_card, tiny_weights, until
from test_camera import FAKE
from test_follow import cell, frame
from test_gate_places import SIZE, Place, between, places
from test_recorder import Desk, classified, prepared

from parfocal.bench import drawn_frame
from parfocal.bundle import load
from parfocal.camera.device import Shot
from parfocal.camera.spool import Spool
from parfocal.gate.places import Overlap, inside, shared, turned
from parfocal.inference import Classified
from parfocal.intervals import density
from parfocal.overlaps import counted_once, shares
from parfocal.prepare import CROP_PX, to_gray
from parfocal.reader import Prepared, Refused
from parfocal.reasons import FileReason, ObjectReason
from parfocal.results import frame_result, lca_rows
from parfocal.sidecar import Declared, DeclaredFlask, DeclaredOverlap
from parfocal.types import AlreadyCounted, FlaskRef, FrameResult, Rejected
from parfocal.verdict import Totals

RULES = msgspec.structs.replace(rules(), crop_px=60)
MARGIN_PX = 30.0


def found(
    points: NDArray[np.float64], overlaps: list[Overlap], clumps: NDArray[np.float64]
) -> tuple[Prepared, Classified]:
    """A frame of `SIZE` with a cell at each point that its crop leaves room for, and clumps.

    The model's answers carry the number of the cell.
    """
    n = len(points)
    fits = inside(points, SIZE, MARGIN_PX)
    edge = [
        Rejected(reason=ObjectReason.EDGE, x_px=x, y_px=y, area_um2=50) for x, y in points[~fits]
    ]
    touching = [
        Rejected(reason=ObjectReason.CLUMP, x_px=x, y_px=y, area_um2=200, n_cells=2)
        for x, y in clumps
    ]
    lies = [
        DeclaredOverlap(
            image=f"{o.field}.png", offset_px=o.offset_px, turn_rad=o.turn_rad,
            share=o.share, confidence=1.0,
        )
        for o in overlaps
    ]  # fmt: skip
    chosen = np.flatnonzero(fits).tolist()
    read = msgspec.structs.replace(
        prepared(), width_px=SIZE[1], height_px=SIZE[0], chosen=chosen, n_crops=len(chosen),
        points=[(x, y) for x, y in points.tolist()], boxes=[(0.0, 0.0, 1.0, 1.0)] * n,
        areas_um2=[50.0] * n, scores=[1.0] * n, rejected=edge + touching,
        declared=msgspec.structs.replace(prepared().declared, overlaps=tuple(lies)),
    )  # fmt: skip
    answered = Classified(
        probabilities=[[i / 1e4, 1 - i / 1e4] for i in chosen], novelty=[i / 1e4 for i in chosen],
        reasons=[None] * len(chosen), infer_ms=1.0, phenotypes=[str(i) for i in chosen],
        lca=b"".join(np.full(LCA_SIZE, i, np.float16).tobytes() for i in chosen),
    )  # fmt: skip
    return read, answered


@settings(deadline=None)
@given(places, st.integers(0, 2**32 - 1), st.data())
def test_each_cell_counts_once_over_the_fields_that_count(
    fields: list[Place], seed: int, data: st.DataObject
) -> None:
    bottom = np.random.default_rng(seed).uniform(-100, 1700, (200, 2))
    lost = data.draw(st.sets(st.integers(1, len(fields))))
    times, countable = np.zeros(200, int), np.zeros(200, bool)
    for number, now in enumerate(fields, 1):
        if number in lost:
            continue
        points = (bottom - np.array(now[:2])) @ turned(now[2])
        here = np.flatnonzero(inside(points, SIZE))
        overlaps = [between(now, one, k) for k, one in enumerate(fields[: number - 1], 1)]
        read, answered = found(points[here], overlaps, points[here][:3])
        counted = {f"/f/{k}.png" for k in range(1, len(fields) + 1) if k not in lost}
        left, kept, told = counted_once(
            f"/f/{number}.png", read, answered, RULES, counted.__contains__
        )
        times[here[left.chosen]] += 1
        countable |= inside(points, SIZE, MARGIN_PX)
        # every answer stays with its cell, and nothing that was found is left out
        assert kept.phenotypes == [str(i) for i in left.chosen]
        assert kept.novelty == [i / 1e4 for i in left.chosen]
        rows = lca_rows(kept, len(left.chosen))
        assert [np.frombuffer(row, np.float16)[0] for row in rows] == left.chosen
        assert len(left.chosen) + len(left.rejected) == len(here) + len(read.rejected) - (
            len(here) - len(read.chosen)
        )
        again = [r for r in left.rejected if r.reason is ObjectReason.ALREADY_COUNTED]
        assert (told.n_finds if told else 0) == len(again)
        assert all(r.n_cells is None for r in again)
    assert (times == countable).all()


@settings(deadline=None)
@given(places)
def test_the_new_areas_of_all_fields_are_the_area_that_they_show_together(
    fields: list[Place],
) -> None:
    y, x = np.mgrid[-150:1750:12, -150:1750:12]
    bottom = np.column_stack([x.ravel(), y.ravel()]).astype(float)
    union = np.zeros(len(bottom), bool)
    new = 0.0
    own_px = (SIZE[0] - 2 * MARGIN_PX) * (SIZE[1] - 2 * MARGIN_PX)
    for k, now in enumerate(fields):
        union |= inside((bottom - np.array(now[:2])) @ turned(now[2]), SIZE, MARGIN_PX)
        overlaps = [between(now, one, j) for j, one in enumerate(fields[:k], 1)]
        share, frame_share = shares(overlaps, SIZE, MARGIN_PX)
        new += (1 - share) * own_px
        assert 0 <= share <= 1 and 0 <= frame_share <= 1
    assert new == pytest.approx(144.0 * union.sum(), rel=0.05)


def test_half_a_frame_is_half_its_area_and_its_density_stays() -> None:
    """Cells on a lattice: the half that is new is as dense as the whole."""
    y, x = np.mgrid[5 : SIZE[0] : 20, 5 : SIZE[1] : 20]
    lattice = np.column_stack([x.ravel(), y.ravel()]).astype(float)
    half_px = (SIZE[1] - 2 * MARGIN_PX) / 2
    offset = (half_px, 0.0)
    one = Overlap(1, offset, 0.0, shared(offset, 0.0, SIZE), 1.0)
    results = []
    for counted in ({"/f/1.png"}, set[str]()):
        read, answered = found(lattice, [one], np.empty((0, 2)))
        left, kept, told = counted_once("/f/2.png", read, answered, RULES, counted.__contains__)
        results.append(result_of(left, kept, told))
    half, whole = results
    assert whole.already_counted is None and half.already_counted is not None
    assert half.already_counted.images == ("1.png",)
    assert half.already_counted.share == pytest.approx(0.5, abs=0.03)
    before = (half_px + MARGIN_PX) * (SIZE[0] - 2 * MARGIN_PX) / (SIZE[0] * SIZE[1])
    assert half.already_counted.frame_share == pytest.approx(before, rel=0.05)
    assert len(half.cells) == pytest.approx(len(whole.cells) / 2, rel=0.05)
    assert half.density.cells_per_mm2 == pytest.approx(whole.density.cells_per_mm2, rel=0.05)
    assert sum(f.n for f in half.composition.values()) == len(half.cells)
    assert [cell.id for cell in half.cells] == list(range(1, len(half.cells) + 1))


def result_of(read: Prepared, answered: Classified, told: AlreadyCounted | None) -> FrameResult:
    card = tiny_card(tiny_weights())
    model = frame("a", 0).model
    return frame_result("/f/2.png", "folder", read, answered, card, model, None, 1, told)


def test_a_frame_of_nothing_new_has_a_result_in_finite_numbers() -> None:
    read, answered = found(np.array([[300.0, 200.0]]), [], np.empty((0, 2)))
    same = DeclaredOverlap(image="1.png", offset_px=(0, 0), turn_rad=0, share=1, confidence=1)
    near = msgspec.structs.replace(read.declared, overlaps=(same,))
    read = msgspec.structs.replace(read, declared=near)
    left, kept, told = counted_once("/f/2.png", read, answered, RULES, lambda _: True)
    result = result_of(left, kept, told)
    assert told is not None and told.share == 1 and result.cells == ()
    assert result.density.low == 0 < result.density.high < np.inf
    totals = Totals()
    for one in (frame("a", 2), frame("b", 2), result):
        totals.add(one)
    density_now = totals.verdict(FlaskRef(id="F", session="s")).density
    assert density_now is not None and density_now.cells_per_mm2 == pytest.approx(2)


def test_an_image_never_lies_on_itself() -> None:
    read, answered = found(np.array([[300.0, 200.0]]), [], np.empty((0, 2)))
    own = DeclaredOverlap(image="../f/2.png", offset_px=(0, 0), turn_rad=0, share=1, confidence=1)
    near = msgspec.structs.replace(read.declared, overlaps=(own,))
    read = msgspec.structs.replace(read, declared=near)
    assert counted_once("/f/2.png", read, answered, RULES, lambda _: True)[2] is None


def test_a_flasks_density_and_confluence_are_all_cells_in_all_new_area() -> None:
    """Three frames, of the last a quarter of the cells' area and half of the frame were new."""
    totals, mm2 = Totals(), 5 * 6 * 0.44**2 / 1e6
    before = AlreadyCounted(images=("a",), n_finds=3, share=0.75, frame_share=0.5)
    spread = [(8, None, 1.0), (4, None, 1.0), (1, before, 0.25)]
    for n, told, new in spread:
        cells = tuple(msgspec.structs.replace(cell(k), area_um2=0.2) for k in range(1, n + 1))
        seen = Rejected(reason=ObjectReason.ALREADY_COUNTED, x_px=1, y_px=1, area_um2=0.2)
        totals.add(
            msgspec.structs.replace(
                frame("f", n), cells=cells, density=density(n, new * mm2), already_counted=told,
                rejected=(seen,) * 3 if told else (), n_rejected=3 if told else 1,
            )
        )  # fmt: skip
    verdict = totals.verdict(FlaskRef(id="F", session="s"))
    assert verdict.n_cells == 13 and verdict.n_rejected == 2
    assert verdict.density is not None and verdict.confluence is not None
    assert verdict.density.cells_per_mm2 == pytest.approx(13 / (2.25 * mm2))
    assert verdict.density.low < verdict.density.cells_per_mm2 < verdict.density.high
    assert verdict.confluence.fraction == pytest.approx(13 * 0.2 / (2.5 * mm2 * 1e6))


@pytest.fixture
def desk(tmp_path: Path, tiny_bundle: Path) -> Iterator[Desk]:
    made = Desk(tmp_path, load(str(tiny_bundle)))
    yield made
    made.close()


FATES = {
    "it was scored": ("a.png", "F", True, [1, 0]),
    "it still waits and counts later": ("a.png", "F", False, [0, 1]),
    "it was refused": ("refused.png", "F", True, [1, 1]),
    "nobody ever saw it": ("gone.png", "F", True, [1, 1]),
    "it is another flask's": ("a.png", "G", True, [1, 1]),
}


@pytest.mark.parametrize(("earlier", "flask", "in_order", "cells"), FATES.values(), ids=FATES)
def test_an_earlier_field_takes_cells_from_a_later_one_if_it_counts_them(
    desk: Desk, earlier: str, flask: str, in_order: bool, cells: list[int]
) -> None:
    for_good = Refused(reason=FileReason.UNSUPPORTED, detail="", status=(1, 2, 3, 4))
    claims = [desk.claim(name) for name in ("refused.png", "a.png", "b.png")]
    desk.source._pending[claims[0].known.path].since_s = -10.0
    desk.recorder.refused(desk.source, claims[0], for_good)
    lies = DeclaredOverlap(image=earlier, offset_px=(0, 0), turn_rad=0, share=1, confidence=1)
    a = read_as(seen_at(250, 200), "a", flask)
    b = read_as(seen_at(250, 200), "b", "F", lies)
    told = [(claims[1], a), (claims[2], b)]
    for claim, read in told if in_order else told[::-1]:
        desk.record(claim, read, classified())
    bodies = frames_of(desk)
    assert [len(body["cells"]) for body in bodies] == cells
    assert desk.rows("SELECT count(*) FROM cell") == [(sum(cells),)]
    totals = desk.recorder.verdicts.of(bodies[-1]["flask"]["session"])
    assert sum(totals.accepted) == (sum(cells) if flask == "F" else 1)


def test_of_two_that_name_each_other_the_one_seen_first_counts(desk: Desk) -> None:
    names = ["a.png", "b.png"]
    claims = [desk.claim(name) for name in names]
    for claim, other in zip(claims, names[::-1], strict=True):
        lies = DeclaredOverlap(image=other, offset_px=(0, 0), turn_rad=0, share=1, confidence=1)
        desk.record(claim, read_as(seen_at(250, 200), other[0], "F", lies), classified())
    assert [len(body["cells"]) for body in frames_of(desk)] == [1, 0]


def frames_of(desk: Desk) -> list[dict[str, Any]]:
    rows = desk.rows("SELECT body FROM message WHERE topic LIKE 'frame/%' ORDER BY seq")
    return [json.loads(body) for (body,) in rows]


def seen_at(x_px: float, y_px: float) -> Prepared:
    return msgspec.structs.replace(prepared(), points=[(x_px, y_px)])


def read_as(read: Prepared, digit: str, flask: str, *lies: DeclaredOverlap) -> Prepared:
    """What was read, with its bytes, its flask and where it lies."""
    near = Declared(flask=DeclaredFlask(id=flask), overlaps=lies)
    return msgspec.structs.replace(read, sha256=digit * 64, declared=near)


# ------------------------------------------------------------------------------ through the daemon

WIDE = (1400, 600)
"""Of a drawn bottom (w, h) with ten cells, two of which both fields show."""
FIELD = (900, 580)
CORNERS: tuple[Place, Place] = ((0.0, 0.0, 0.0), (500.0, 10.0, 0.01))


def two_fields(folder: Path, flask: str) -> list[Path]:
    """Two overlapping frames of a drawn bottom, kept as the camera child keeps them."""
    bottom = np.asarray(to_gray(drawn_frame(4, *WIDE, 10)), np.uint8)
    spool = Spool(folder, FAKE, 0.44)
    kept: list[Path] = []
    folder.mkdir(parents=True)
    (folder / "parfocal-folder.toml").write_text(f'[flask]\nid = "{flask}"\n')
    for k, (x, y, turn) in enumerate(CORNERS):
        way = np.column_stack([turned(turn), [x, y]]).astype(np.float64)
        view = cv2.warpAffine(bottom, way, FIELD, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        offset = (x, y)
        lies = Overlap(1, offset, turn, shared(offset, turn, FIELD[::-1]), 0.9)
        moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=k)
        shot = Shot(np.asarray(view, np.uint8), float(k), moment)
        kept.append(spool.keep(shot, [(kept[0], lies)] if k else []))
    return kept


def totals_of(rig: Rig, n_frames: int, flask: str) -> dict[str, Any]:
    """The last totals of a flask, of so many frames."""

    def told() -> dict[str, Any] | None:
        rows = rig.rows("SELECT body FROM message WHERE topic LIKE 'flask/%' ORDER BY seq DESC")
        bodies = (json.loads(body) for (body,) in rows)
        mine = (b for b in bodies if b["flask"]["id"] == flask and b["n_frames"] == n_frames)
        return next(mine, None)

    body: dict[str, Any] = until(told, 30, f"totals of {flask} ({rig.log()[-2000:]})")
    return body


def counts(bodies: list[dict[str, Any]]) -> list[tuple[int, Any, str]]:
    """What each frame counts, and where it is from."""
    return [(len(b["cells"]), b["already_counted"], b["image"]["source"]) for b in bodies]


def test_the_totals_of_overlapping_frames_are_of_distinct_cells(
    rig: Rig, tiny_bundle: Path
) -> None:
    first, second = two_fields(rig.folder / "whole", "whole")
    lost, _ = two_fields(rig.folder / "lost", "lost")
    lost.unlink()
    _, spoilt = two_fields(rig.folder / "spoilt", "spoilt")
    sidecar = Path(f"{spoilt}.toml")
    sidecar.write_text(sidecar.read_text().replace("offset_px = [", "offset_px = ['x', "))
    copied = Path(shutil.copy(second, rig.folder / "copied.png"))  # by hand, without its sidecar
    rig.start()
    whole, alone, double = (
        totals_of(rig, n, flask) for flask, n in (("whole", 2), ("lost", 1), ("spoilt", 2))
    )
    assert [v["n_cells"] for v in (whole, alone, double)] == [10, 6, 12]
    until(lambda: len(rig.frames()) == 6, 20, "six frames")
    bodies = {b["image"]["path"]: b for b in rig.frames()}
    told = bodies[str(second)]["already_counted"]
    assert told["images"] == [first.name] and told["n_finds"] >= 2
    again = [r for r in bodies[str(second)]["rejected"] if r["reason"] == "already_counted"]
    assert len(again) == told["n_finds"]
    mm2 = (FIELD[0] - CROP_PX) * (FIELD[1] - CROP_PX) * 0.44**2 / 1e6
    assert whole["density"]["cells_per_mm2"] == pytest.approx(10 / ((2 - told["share"]) * mm2))
    assert counts([bodies.pop(str(copied))]) == [(6, None, "folder")]
    assert {b["image"]["source"] for b in bodies.values()} == {"camera"}
    # the frame whose overlaps are not understood is scored, and said to be
    assert "overlap_not_understood" in bodies[str(spoilt)]["quality"]["flags"]
    ((alarm,),) = rig.rows("SELECT body FROM message WHERE topic LIKE 'alarm/%'")
    alarm = json.loads(alarm)
    assert alarm["name"] == "overlap_not_understood" and spoilt.name in alarm["text"]
    assert "is not understood: Expected" in alarm["evidence"]["detail"]
    assert rig.stop() == 0


def test_stored_frames_are_counted_as_they_were_live(rig: Rig, tiny_bundle: Path) -> None:
    first, _ = two_fields(rig.folder / "whole", "whole")
    live = [
        (6, None, "camera"),
        (4, {"images": [first.name], "n_finds": 2, "share": ANY, "frame_share": ANY}, "camera"),
    ]
    model = ["--model", str(tiny_bundle), "--device", "cpu", "--detector", "classical"]
    classified = rig.run("classify", str(rig.folder), *model, "--json")
    assert counts([json.loads(line) for line in classified.stdout.splitlines()]) == live
    out = rig.home / "again"
    replayed = rig.run("replay", str(rig.folder), "-o", str(out), *model)
    assert replayed.returncode == 0, replayed.stderr
    lines = map(json.loads, (out / "results.jsonl").read_text().splitlines())
    again = [line["body"] for line in lines if line["topic"].startswith("frame/")]
    assert counts(again) == live
