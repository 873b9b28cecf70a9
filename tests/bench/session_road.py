"""Simulated flask sessions, rendered field by field and read as the service reads them.

`tests/bench/sessions.py` runs this in its workers.
"""

import dataclasses
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import msgspec
import numpy as np

from parfocal.arena import Arena, ArenaShape
from parfocal.bundle import Bundle, load
from parfocal.detectors import SHIPPED, choose, started
from parfocal.inference import Classified, ClassifySlot, Inference, Loaded, LoadModel
from parfocal.prepare import to_gray
from parfocal.reader import Reader, ReadRequest, Stopwatch
from parfocal.results import frame_result, model_ref
from parfocal.sidecar import Declared
from parfocal.simulator import HEK293A, HT1080, Flask, FlaskTraits, SimulatedFrame, draw_flask
from parfocal.simulator.planted import PLANTED
from parfocal.simulator.truth import CellTruth
from parfocal.types import Frame, FrameResult
from parfocal.verdict import Totals

DENSITIES = (60.0, 150.0, 300.0)
SHARES = (0.0, 1.0, 0.5, 0.95, 0.05, 0.8, 0.2)
"""Of HEK-293A; the rest is HT1080."""
PASSAGE, LATE_PASSAGE = 10, 60
SHIFTED_EVERY = 5
FOREIGN, LATE, ORDINARY = "foreign line", "late passage", "none"
NO_CELL = "no cell"


def littered(traits: FlaskTraits) -> FlaskTraits:
    """Six times the litter."""
    plastic = traits.plastic
    many = {name: 6 * getattr(plastic, name) for name in ("blobs_per_mm2", "specks_per_mm2")}
    return dataclasses.replace(traits, plastic=dataclasses.replace(plastic, **many))


SHIFTS: dict[str, Callable[[FlaskTraits], FlaskTraits]] = {
    "defocus": lambda traits: dataclasses.replace(traits, defocus_um=traits.defocus_um + 10),
    "large cells": lambda traits: dataclasses.replace(traits, size_gain=1.7 * traits.size_gain),
    "litter": littered,
    LATE: lambda traits: traits,  # its passage is drawn with the flask
    FOREIGN: lambda traits: traits,
}
"""Beyond what training flasks are drawn with (`FlaskTraits.draw` at the passage `PASSAGE`)."""


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One field: what the daemon's `Totals` hold after it alone, and what was true.

    `drawn` counts cells by line, or by state where they are not alive; `outcomes` what became of
    those that were found: a class, or the reason why they were not classified.
    """

    tallies: dict[str, Any]
    drawn: dict[str, int]
    outcomes: dict[str, dict[str, int]]
    area_mm2: float


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the file. `ms` is the time of each stage, all fields together."""

    number: int
    seed: int
    density_per_mm2: float
    shares: dict[str, float]
    shifted: str
    model: str
    model_sha256: str
    detector: str
    ms: dict[str, float]
    fields: list[Field]


# ----------------------------------------------------------------------------------------- render


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What a session is to be; all of it follows from seed and number."""

    number: int
    seed: int
    n_fields: int

    @property
    def density(self) -> float:
        return DENSITIES[self.number % len(DENSITIES)]

    @property
    def shifted(self) -> str:
        """Numbers of densities, shares and shifts share no factor: every one meets every other."""
        nth, rest = divmod(self.number, SHIFTED_EVERY)
        return ORDINARY if rest < SHIFTED_EVERY - 1 else list(SHIFTS)[nth % len(SHIFTS)]

    @property
    def shares(self) -> dict[str, float]:
        """Sown shares of the lines."""
        if self.shifted == FOREIGN:
            return {PLANTED.name: 1.0}
        share = SHARES[self.number // len(DENSITIES) % len(SHARES)]
        return {HEK293A.name: share, HT1080.name: round(1 - share, 9)}

    def flask(self) -> Flask:
        """The flask."""
        lines = {line.name: line for line in (HEK293A, HT1080, PLANTED)}
        types = [(lines[name], share) for name, share in self.shares.items() if share]
        rng = np.random.default_rng((self.seed, self.number))
        passage = LATE_PASSAGE if self.shifted == LATE else PASSAGE
        flask = draw_flask(rng, types, self.density, passage)
        if self.shifted == ORDINARY:
            return flask
        return dataclasses.replace(flask, traits=SHIFTS[self.shifted](flask.traits))


class Road:
    """From a decoded frame to its result: the reader and the inference child, in one process."""

    def __init__(self, model: str) -> None:
        cv2.setNumThreads(1)
        arena = Arena.create(ArenaShape(slots=1))
        self.reader, self.inference = Reader(arena, started(choose(SHIPPED))), Inference(arena)
        loaded = self.inference(LoadModel(bundle=model, device="cpu", threads=1))
        if not isinstance(loaded, Loaded):
            raise SystemExit(f"the model cannot be used: {loaded}")
        self.bundle: Bundle = load(model)
        detector = self.reader.detector
        self.ref = model_ref(
            self.bundle.card,
            self.bundle.sha256,
            loaded.provider,
            detector.name,
            detector.fingerprint,
        )

    def __call__(self, seen: SimulatedFrame) -> FrameResult:
        """The result that the daemon would send of this frame."""
        watch, frame = Stopwatch(), Frame(seen.rgb, seen.um_per_px)
        with watch.time("gray"):
            gray = to_gray(frame.pixels)
        request = ReadRequest(
            path="", root="", slot=0, max_cells=self.reader.arena.shape.max_cells,
            max_pixels=gray.size, max_bytes=0, rules=self.bundle.card.prepare.pixels,
        )  # fmt: skip
        # a frame that was never a file enters behind the decoder; its file's times are not read
        never = Declared(acquired_at="1970-01-01T00:00:00Z")
        prepared = self.reader._prepare(request, frame, gray, never, os.stat(os.curdir), watch)
        classified = self.inference(ClassifySlot(slot=0, n=prepared.n_crops))
        assert isinstance(classified, Classified)
        return frame_result("", "", prepared, classified, self.bundle.card, self.ref, None)


def field_of(seen: SimulatedFrame, result: FrameResult) -> Field:
    """What is kept of a field."""
    after = Totals()
    after.add(result)
    names = [one.name for one in dataclasses.fields(Totals)]
    tallies = {n: getattr(after, n) for n in names if n not in ("looks", "published_s", "dirty")}
    outcomes: dict[str, Counter[str]] = {}
    found = [(cell.x_px, cell.y_px, cell.label) for cell in result.cells]
    found += [(one.x_px, one.y_px, str(one.reason)) for one in result.rejected]
    h, w = seen.truth.labels.shape
    for x, y, outcome in found:
        label = seen.truth.labels[min(max(round(y), 0), h - 1), min(max(round(x), 0), w - 1)]
        kind = kind_of(seen.truth.cells[label - 1]) if label else NO_CELL
        outcomes.setdefault(kind, Counter())[outcome] += 1
    drawn = Counter(kind_of(cell) for cell in seen.truth.cells)
    area = h * w * (seen.um_per_px / 1000) ** 2
    return Field(tallies=tallies, drawn=drawn, area_mm2=area,
                 outcomes={kind: dict(n) for kind, n in outcomes.items()})  # fmt: skip


def kind_of(cell: CellTruth) -> str:
    """Its line, or its state if it is not alive."""
    return cell.type if cell.state == "alive" else cell.state


ROAD: list[Road] = []
"""The one of this worker process."""


def begin(model: str) -> None:
    """Load model and detector into a worker."""
    ROAD.append(Road(model))


def rendered(plan: Plan, until_s: float) -> tuple[int, bytes]:
    """Number of fields of a session and its line; fewer fields when the time is up."""
    road, flask, fields = ROAD[0], plan.flask(), []
    ms: dict[str, float] = {}
    for i in range(plan.n_fields):
        if time.time() > until_s:
            break
        start = time.perf_counter()
        seen = flask.field(i)
        rendering_ms = (time.perf_counter() - start) * 1e3
        result = road(seen)
        add(ms, {"render": rendering_ms, **result.timing_ms})
        fields.append(field_of(seen, result))
    session = Session(
        number=plan.number, seed=plan.seed, density_per_mm2=plan.density, shares=plan.shares,
        shifted=plan.shifted, model=road.ref.name, model_sha256=road.ref.sha256,
        detector=road.ref.detector, ms=ms, fields=fields,
    )  # fmt: skip
    return len(fields), msgspec.json.encode(session) + b"\n"


def add(total: dict[str, float], more: Mapping[str, float]) -> None:
    """Add times of stages."""
    for stage, ms in more.items():
        total[stage] = total.get(stage, 0.0) + ms
