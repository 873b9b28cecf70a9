"""Running totals of flask sessions, with intervals that take frames as clusters."""

from dataclasses import dataclass, field

import msgspec

from parfocal.card import ShiftRule
from parfocal.intervals import clustered, clustered_mean
from parfocal.journal import Journal
from parfocal.shift import shift
from parfocal.types import Density, FlaskRef, FlaskVerdict, Fraction, FrameResult

MIN_PAUSE_S = 1.0
"""A flask's totals are published at most this often while frames come."""


@dataclass(slots=True)
class Totals:
    """What one session's frames have shown so far; one entry a frame in every list.

    `novelty`, (cells, sum of their novelty) of each frame, and `phenotypes`, the number of cells of
    each, have a list for each model, by its hash: those of different models cannot be added.
    """

    accepted: list[int] = field(default_factory=list)
    hits: dict[str, list[int]] = field(default_factory=dict)
    densities: list[float] = field(default_factory=list)
    n_abstained: int = 0
    n_rejected: int = 0
    novelty: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    phenotypes: dict[str, list[dict[str, int]]] = field(default_factory=dict)
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
        self.densities.append(result.density.cells_per_mm2)
        self.n_abstained += result.n_abstained
        self.n_rejected += result.n_rejected
        novelties = [cell.novelty for cell in result.cells]
        self.novelty.setdefault(result.model.sha256, []).append((len(novelties), sum(novelties)))
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
        """The totals as they are published.

        The shift rule and the names of phenotypes are those of the model with this hash.
        """
        frames = self.phenotypes.get(model_sha256, [])
        cells = [sum(frame.values()) for frame in frames]
        of = {name: [frame.get(name, 0) for frame in frames] for name in phenotypes}
        return FlaskVerdict(
            flask=flask,
            open=flask.closed_at is None,
            n_frames=len(self.accepted),
            n_cells=sum(self.accepted) + self.n_abstained,
            n_abstained=self.n_abstained,
            n_rejected=self.n_rejected,
            composition={label: share(hits, self.accepted) for label, hits in self.hits.items()},
            density=self._density(),
            shift=shift(self.novelty.get(model_sha256, ()), rule),
            phenotypes={name: share(hits, cells) for name, hits in of.items()} or None,
        )

    def _density(self) -> Density | None:
        if len(self.densities) < 2:  # one frame says nothing about the flask's other places
            return None
        mean, low, high = clustered_mean(self.densities)
        return Density(cells_per_mm2=mean, low=low, high=high)


def share(hits: list[int], cells: list[int]) -> Fraction:
    """Share of cells that are one thing, from the numbers of each frame, as clusters."""
    low, high = clustered(list(zip(hits, cells, strict=True)))
    n, total = sum(hits), sum(cells)
    return Fraction(n=n, fraction=n / total if total else 0.0, low=low, high=high)


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
