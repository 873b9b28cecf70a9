"""Running totals of flask sessions, with intervals that take frames as clusters."""

from collections import Counter
from dataclasses import dataclass, field

import msgspec

from parfocal.advice import HALF_WIDTH, advice, foreign_text, out_of_focus
from parfocal.alarms import CLEAR_AFTER, conditions
from parfocal.card import ClassifierCard, ShiftRule
from parfocal.composition import corrected
from parfocal.composition_rates import Reading, reading
from parfocal.contamination import contamination, looks
from parfocal.declared import declared, look_at, with_cells
from parfocal.intervals import clustered, clustered_mean
from parfocal.journal import Journal
from parfocal.phenotypes import answers
from parfocal.reasons import ObjectReason
from parfocal.shift import shift
from parfocal.trend import ALONE, Earlier, trend
from parfocal.types import (
    Confluence,
    Contamination,
    Declared,
    Density,
    FlaskRef,
    FlaskVerdict,
    Fraction,
    FrameResult,
    Shift,
)

MIN_PAUSE_S = 1.0
"""A flask's totals are published at most this often while frames come."""


NO_CELLS = (ObjectReason.DEBRIS, ObjectReason.UNSURE, ObjectReason.ALREADY_COUNTED)
"""Finds that cover area without being cells, or with that of an earlier field."""


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What a flask's totals are held against.

    Parameters
    ----------
    rule : ShiftRule or None
    model_sha256 : str
        The model that the rule, the phenotypes and the reading belong to.
    phenotypes : tuple of str
        Everything a cell's phenotype can be.
    reading : Reading or None
        What the model's answers say about true classes.
    half_width : float
        Half width of the 95 % interval of a share that is enough.
    """

    rule: ShiftRule | None = None
    model_sha256: str = ""
    phenotypes: tuple[str, ...] = ()
    reading: Reading | None = None
    half_width: float = HALF_WIDTH

    @classmethod
    def of(cls, card: ClassifierCard, sha256: str, half_width: float = HALF_WIDTH) -> "Yardstick":
        """That of a model."""
        return cls(card.shift, sha256, answers(card.phenotypes), reading(card), half_width)


@dataclass(slots=True)
class Totals:
    """What one session's frames have shown so far; one entry a frame in every list.

    `densities` and `covered` have a pair (value, weight): the area of the frame in um2 that was new
    to the flask, and of a frame without any they have no entry.
    `novelty`, (cells, sum of their novelty) of each frame, `answers`, the number of classified
    cells answered as each class, and `phenotypes`, the number of cells of each, have a list for
    each model, by its hash: those of different models cannot be added.
    """

    accepted: list[int] = field(default_factory=list)
    hits: dict[str, list[int]] = field(default_factory=dict)
    densities: list[tuple[float, float]] = field(default_factory=list)
    n_abstained: int = 0
    n_rejected: int = 0
    novelty: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    phenotypes: dict[str, list[dict[str, int]]] = field(default_factory=dict)
    answers: dict[str, list[dict[str, int]]] = field(default_factory=dict)
    blurred: list[bool] = field(default_factory=list)
    covered: list[tuple[float, float]] = field(default_factory=list)
    looks: dict[tuple[object, ...], tuple[Declared | None, Contamination | None]] = field(
        default_factory=dict
    )
    published_s: float = float("-inf")
    dirty: bool = False

    def add(self, result: FrameResult) -> None:
        """Count one frame."""
        counts = {label: fraction.n for label, fraction in result.composition.items()}
        for label in counts:
            self.hits.setdefault(label, [0] * len(self.accepted))
        self.accepted.append(sum(counts.values()))
        for label, hits in self.hits.items():
            hits.append(counts.get(label, 0))
        share, frame_share, n_before = told_before(result)
        area_um2 = frame_um2(result)
        if share < 1:
            self.densities.append((result.density.cells_per_mm2, (1 - share) * area_um2))
        self.n_abstained += result.n_abstained
        self.n_rejected += result.n_rejected - n_before
        novelties = [cell.novelty for cell in result.cells]
        self.novelty.setdefault(result.model.sha256, []).append((len(novelties), sum(novelties)))
        answered = Counter(cell.label for cell in result.cells)
        self.answers.setdefault(result.model.sha256, []).append(dict(answered))
        self.blurred.append("out_of_focus" in result.quality.flags)
        if frame_share < 1:
            new_um2 = (1 - frame_share) * area_um2
            self.covered.append((min(1.0, covered_um2(result) / new_um2), new_um2))
        if result.phenotypes is not None:
            named = {name: fraction.n for name, fraction in result.phenotypes.items()}
            self.phenotypes.setdefault(result.model.sha256, []).append(named)
        self.dirty = True

    def verdict(
        self,
        flask: FlaskRef,
        rule: ShiftRule | None = None,
        model_sha256: str = "",
        phenotypes: tuple[str, ...] = (),
    ) -> FlaskVerdict:
        """The totals of a model of which no confusion is known."""
        return self.against(flask, Yardstick(rule, model_sha256, phenotypes))

    def against(self, flask: FlaskRef, yard: Yardstick, earlier: Earlier = ALONE) -> FlaskVerdict:
        """The totals as they are published, beside those of earlier passages of the line."""
        frames = self.phenotypes.get(yard.model_sha256, [])
        cells = [sum(frame.values()) for frame in frames]
        of = {name: [frame.get(name, 0) for frame in frames] for name in yard.phenotypes}
        verdict = FlaskVerdict(
            flask=flask,
            open=flask.closed_at is None,
            n_frames=len(self.accepted),
            n_cells=sum(self.accepted) + self.n_abstained,
            n_abstained=self.n_abstained,
            n_rejected=self.n_rejected,
            composition={label: share(hits, self.accepted) for label, hits in self.hits.items()},
            density=self._density(),
            shift=self._shift(yard),
            phenotypes={name: share(hits, cells) for name, hits in of.items()} or None,
            confluence=self._confluence(),
        )
        verdict = self._judged(verdict, yard)
        return msgspec.structs.replace(verdict, trend=trend(verdict, earlier))

    def _judged(self, verdict: FlaskVerdict, yard: Yardstick) -> FlaskVerdict:
        """With composition corrected, the declared line judged, and advice."""
        answers, flask = self.answers.get(yard.model_sha256, []), verdict.flask
        strange = verdict.shift is not None and verdict.shift.flagged
        line, foreign = self._look(flask, yard, len(answers), strange)
        told = advice(
            answers, yard.reading, flask.cell_line, self.blurred, verdict.shift, yard.half_width,
            foreign_text(line, foreign),
        )  # fmt: skip
        return msgspec.structs.replace(
            verdict,
            corrected=None if strange else corrected(answers, yard.reading),
            declared_match=line.match if line else None,
            declared=line,
            contamination=foreign,
            advice=told.text,
            more_fields=told.more_fields,
        )

    def _look(
        self, flask: FlaskRef, yard: Yardstick, n: int, strange: bool
    ) -> tuple[Declared | None, Contamination | None]:
        """The judgement after n frames, which changes at looks only."""
        answers = self.answers.get(yard.model_sha256, [])[:n]
        look = look_at(len(with_cells(answers)))
        key = (flask.cell_line, yard.model_sha256, look, tuple(looks(answers)), strange)
        if key not in self.looks:
            self.looks[key] = (
                declared(flask, answers, yard.reading, strange),
                contamination(flask, answers, yard.reading, strange),
            )
        return self.looks[key]

    def history(self, flask: FlaskRef, yard: Yardstick) -> list[dict[str, str | None]]:
        """What was wrong with the flask after each of the last frames, the newest last."""
        backs = range(min(CLEAR_AFTER, len(self.accepted)) - 1, -1, -1)
        return [self._conditions(flask, yard, back) for back in backs]

    def _conditions(self, flask: FlaskRef, yard: Yardstick, back: int) -> dict[str, str | None]:
        """What was wrong so many frames ago."""
        shifted = self._shift(yard, back)
        answers = self.answers.get(yard.model_sha256, [])
        n = max(0, len(answers) - back)
        looked = self._look(flask, yard, n, shifted is not None and shifted.flagged)
        blurred = self.blurred[: len(self.blurred) - back]
        n_fields = len(with_cells(answers[:n]))
        return conditions(*looked, shifted, out_of_focus(blurred), n_fields)

    def _shift(self, yard: Yardstick, back: int = 0) -> Shift | None:
        frames = self.novelty.get(yard.model_sha256, [])
        return shift(frames[: max(0, len(frames) - back)], yard.rule)

    def _confluence(self) -> Confluence | None:
        if len(self.covered) < 2:
            return None
        mean, low, high = clustered_mean(*zip(*self.covered, strict=True))
        return Confluence(fraction=min(1.0, mean), low=min(1.0, low), high=min(1.0, high))

    def _density(self) -> Density | None:
        if len(self.densities) < 2:  # one frame says nothing about the flask's other places
            return None
        mean, low, high = clustered_mean(*zip(*self.densities, strict=True))
        return Density(cells_per_mm2=mean, low=low, high=high)


def share(hits: list[int], cells: list[int]) -> Fraction:
    """Share of cells that are one thing, from the numbers of each frame, as clusters."""
    low, high = clustered(list(zip(hits, cells, strict=True)))
    n, total = sum(hits), sum(cells)
    return Fraction(n=n, fraction=n / total if total else 0.0, low=low, high=high)


def told_before(result: FrameResult) -> tuple[float, float, int]:
    """What earlier fields told already of a frame: its share, and number of finds."""
    before = result.already_counted
    return (before.share, before.frame_share, before.n_finds) if before else (0.0, 0.0, 0)


def frame_um2(result: FrameResult) -> float:
    """Area that a frame shows."""
    image = result.image
    return image.width_px * image.height_px * image.um_per_px**2


def covered_um2(result: FrameResult) -> float:
    """Area that cells of a frame cover, also those that were not classified."""
    area = sum(cell.area_um2 for cell in result.cells)
    return area + sum(r.area_um2 for r in result.rejected if r.reason not in NO_CELLS)


class Verdicts:
    """Totals of every session that had a frame since the daemon started."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._totals: dict[str, Totals] = {}

    def count(self, session: str, result: FrameResult) -> None:
        """Take in a frame that was just journaled.

        A session met for the first time is counted from the journal, which holds the frame
        already; so is one whose image was rewritten, because its newest content replaces the old.
        """
        if result.revision > 1:
            self._totals.pop(session, None)
        if session in self._totals:
            self._totals[session].add(result)
        self.of(session).dirty = True

    def of(self, session: str) -> Totals:
        """A session's totals, counted from the journal the first time."""
        if session not in self._totals:
            totals = self._totals[session] = Totals()
            for body in self._stored(session):
                totals.add(msgspec.json.decode(body, type=FrameResult))
            totals.dirty = False
        return self._totals[session]

    def _stored(self, session: str) -> list[bytes]:
        rows = self.journal.db.execute(
            "SELECT m.body FROM message m JOIN file f ON f.seq = m.seq "
            "WHERE f.session = ? ORDER BY m.seq",
            (session,),
        )
        return [bytes(body) for (body,) in rows]

    def due(self, now_s: float) -> list[str]:
        """Sessions with news that were not published within the last second."""
        return [
            session
            for session, totals in self._totals.items()
            if totals.dirty and now_s - totals.published_s >= MIN_PAUSE_S
        ]

    def published(self, session: str, now_s: float) -> None:
        """Note that a session's totals went out."""
        totals = self._totals[session]
        totals.dirty, totals.published_s = False, now_s
