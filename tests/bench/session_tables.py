"""How often what the daemon says of the first fields of simulated sessions is right, as tables."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import mean, median
from typing import Any

from session_road import DENSITIES, FOREIGN, ORDINARY, SHARES, SHIFTS, Field, Session, add
from verdicts import FRAMES, Row, rate

from parfocal.advice import HALF_WIDTH
from parfocal.declared import LOOKS, MINOR, MOSTLY, class_of
from parfocal.types import FlaskRef, FlaskVerdict
from parfocal.verdict import Totals, Yardstick


class Judged:
    """A session, and what the daemon says of its first fields."""

    def __init__(self, session: Session, yard: Yardstick, classes: tuple[str, ...]) -> None:
        self.session, self._yard, self.classes = session, yard, classes
        self._said: dict[tuple[int, str], FlaskVerdict] = {}

    def said(self, n: int, line: str) -> FlaskVerdict:
        """The verdict of the first n fields of a flask of which this line was declared."""
        if (n, line) not in self._said:
            flask = FlaskRef(id="F", session="s", cell_line=line)
            totals = totals_of(self.session.fields[:n])
            self._said[n, line] = totals.against(flask, self._yard)
        return self._said[n, line]

    def ever(self, n: int, line: str, what: Callable[[FlaskVerdict], bool]) -> bool:
        """Whether this was said at any look at the first n fields."""
        return any(what(self.said(look, line)) for look in LOOKS if look <= n)

    @property
    def ordinary(self) -> bool:
        return self.session.shifted == ORDINARY

    @property
    def mainly(self) -> str:
        """The class with most sown cells."""
        return max(self.classes, key=self.sown)

    def sown(self, label: str) -> float:
        """Share of the flask's cells that are of this class."""
        return share_of(label, self.session.shares)

    def drawn(self, n: int, label: str) -> float:
        """Share among the living cells of the lines that lie in the first n fields."""
        drawn: Counter[str] = Counter()
        for one in self.session.fields[:n]:
            drawn.update({kind: one.drawn.get(kind, 0) for kind in self.session.shares})
        return share_of(label, drawn)

    def found(self, n: int, label: str) -> float:
        """Share among those of them that were classified, whatever they were called."""
        found: Counter[str] = Counter()
        for one in self.session.fields[:n]:
            for kind in self.session.shares:
                called = one.outcomes.get(kind, {})
                found[kind] += sum(called.get(name, 0) for name in self.classes)
        return share_of(label, found)


def share_of(label: str, counts: Mapping[str, float]) -> float:
    """Share of the counted that is of a class."""
    total = sum(counts.values())
    return sum(n for name, n in counts.items() if class_of(name, (label,)) == 0) / (total or 1)


def totals_of(fields: Sequence[Field]) -> Totals:
    """The daemon's totals after these fields."""
    out = Totals()
    for one in fields:
        for name, more in one.tallies.items():
            setattr(out, name, joined(getattr(out, name), more))
    return out


def joined(before: Any, more: Any) -> Any:
    """Numbers and lists added, dictionaries of lists key by key."""
    if isinstance(more, dict):
        return {key: before.get(key, []) + more.get(key, []) for key in before | more}
    return before + more


def coverage(every: list[Judged]) -> Iterator[Row]:
    """Ordinary flasks: how often the 95 % interval of `corrected` holds the share that was sown,
    drawn in these fields, or found in them, and by how many points on average these differ."""
    plain = [one for one in every if one.ordinary]
    for density in (*DENSITIES, None):
        for n in FRAMES:
            group = of_size([one for one in plain if density in (None, one_density(one))], n)
            told = [one for one in group if one.said(n, one.classes[0]).corrected is not None]
            if told:
                yield {"cells/mm2": density or "all", **interval_row(told, n),
                       "flagged as shifted": rate(len(group) - len(told), len(group))}  # fmt: skip


def shares(every: list[Judged]) -> Iterator[Row]:
    """The same by what was sown."""
    for share in sorted(SHARES):
        for n in FRAMES:
            group = [one for one in of_size(every, n) if one.ordinary]
            group = [one for one in group if abs(one.sown(one.classes[0]) - share) < 1e-6]
            told = [one for one in group if one.said(n, one.classes[0]).corrected is not None]
            if told:
                yield {"sown": share, **interval_row(told, n)}


def interval_row(told: list[Judged], n: int) -> Row:
    """Coverage, widths and differences after n fields."""
    label = told[0].classes[0]
    said = [(one.said(n, label).corrected or {})[label] for one in told]
    sown = [one.sown(label) for one in told]
    drawn = [one.drawn(n, label) for one in told]
    found = [one.found(n, label) for one in told]

    def held(truth: list[float]) -> str:
        hits = sum(f.low <= t <= f.high for f, t in zip(said, truth, strict=True))
        return rate(hits, len(told))

    def off(now: list[float], before: list[float]) -> float:
        return round(100 * mean(a - b for a, b in zip(now, before, strict=True)), 1)

    return {"fields": n, "sessions": len(told), "holds sown": held(sown),
            "holds drawn": held(drawn), "holds found": held(found),
            "median width, points": round(100 * median(f.high - f.low for f in said), 1),
            "drawn - sown": off(drawn, sown), "found - drawn": off(found, drawn),
            "corrected - found": off([f.fraction for f in said], found)}  # fmt: skip


def of_size(every: list[Judged], n: int) -> list[Judged]:
    """Those with n fields."""
    return [one for one in every if len(one.session.fields) >= n]


def one_density(one: Judged) -> float:
    return one.session.density_per_mm2


def lines(every: list[Judged]) -> Iterator[Row]:
    """Ordinary flasks by the sown share of the declared line (each is declared as either line):
    what is said of it at any look at so many fields. Less than half is a mismatch, more than
    three quarters a match."""
    for share in sorted(SHARES):
        for n in FRAMES:
            cases = [(one, line) for one in of_size(every, n) if one.ordinary
                     for line in one.classes if abs(one.sown(line) - share) < 1e-6]  # fmt: skip
            if cases:
                wrong = sum(o.ever(n, line, says("mismatch")) for o, line in cases)
                right = sum(o.ever(n, line, says("match")) for o, line in cases)
                yield {"share of declared": share, "fields": n, "flasks": len(cases),
                       "called mismatch": rate(wrong, len(cases)),
                       "called match": rate(right, len(cases))}  # fmt: skip


def says(judgement: str) -> Callable[[FlaskVerdict], bool]:
    """Whether a verdict calls the declared line this."""
    return lambda verdict: verdict.declared_match == judgement


def foreign(verdict: FlaskVerdict) -> bool:
    """Whether a verdict says that other cells were found."""
    return verdict.contamination is not None and verdict.contamination.found


def contamination(every: list[Judged]) -> Iterator[Row]:
    """Ordinary flasks of which the line with most cells was declared: contamination said at any
    look at so many fields, and where the limit of detection was below what was sown. Of pure
    flasks these are false alarms."""
    for other in (0.0, 0.05, 0.2):
        for density in (*DENSITIES, None):
            for n in FRAMES:
                group = [one for one in of_size(every, n) if one.ordinary
                         and density in (None, one_density(one))
                         and abs(1 - one.sown(one.mainly) - other) < 1e-6]  # fmt: skip
                hits = [one.ever(n, one.mainly, foreign) for one in group]
                last = [one.said(n, one.mainly).contamination for one in group]
                limits = [1.0 if said is None else said.limit_of_detection for said in last]
                able = [hit for hit, limit in zip(hits, limits, strict=True) if limit <= other]
                if group:
                    yield {"other cells": other, "cells/mm2": density or "all", "fields": n,
                           "flasks": len(group), "contamination found": rate(sum(hits), len(hits)),
                           "median limit of detection, %": round(100 * median(limits), 1),
                           "found where limit is below": rate(sum(able), len(able)) if able
                           else "-"}  # fmt: skip


def stopping(every: list[Judged]) -> Iterator[Row]:
    """Ordinary flasks: fields taken by one who follows the advice, and comes back halfway, until it
    asks for no more, and how near the corrected share then is to the sown one."""
    for size in sorted({len(one.session.fields) for one in every}):
        for density in DENSITIES:
            group = [one for one in every if one.ordinary and one_density(one) == density
                     and len(one.session.fields) == size >= LOOKS[0]]  # fmt: skip
            if not group:
                continue
            ends = [(one, *stop(one)) for one in group]
            enough = [
                (o, n, v) for o, n, v in ends if v.corrected and (v.advice or "")[:6] == "enough"
            ]
            pairs = [((v.corrected or {})[o.mainly], o.sown(o.mainly)) for o, _, v in enough]
            near = sum(abs(f.fraction - t) <= HALF_WIDTH for f, t in pairs)
            held = sum(f.low <= t <= f.high for f, t in pairs)
            words = Counter((v.advice or "none").split(":")[0].split(" about")[0]
                            for _, _, v in ends)  # fmt: skip
            yield {"fields there": size, "cells/mm2": density, "flasks": len(group),
                   "told enough": rate(len(enough), len(group)),
                   "median fields": median(n for _, n, _ in enough) if enough else "-",
                   "within 5 points": rate(near, len(enough)) if enough else "-",
                   "interval holds sown": rate(held, len(enough)) if enough else "-",
                   "last advice": dict(words)}  # fmt: skip


def stop(one: Judged) -> tuple[int, FlaskVerdict]:
    """Fields and verdict at which no more are asked for, or all there are."""
    n, most = LOOKS[0], len(one.session.fields)
    while (more := one.said(n, one.mainly).more_fields) is not None and n < most:
        n = min(most, n + max(1, more // 2))
    return n, one.said(n, one.mainly)


def shifted(every: list[Judged]) -> Iterator[Row]:
    """Flasks unlike those of the training, beside ordinary ones: flagged after so many fields, and
    what is claimed of them nonetheless. A judgement of either declared line is wrong if it calls
    less than half a match or more than three quarters a mismatch."""
    groups = {f"{ORDINARY}, {d:g}/mm2": [o for o in every if o.ordinary and one_density(o) == d]
              for d in DENSITIES}  # fmt: skip
    groups |= {kind: [one for one in every if one.session.shifted == kind] for kind in SHIFTS}
    groups["all shifted"] = [one for one in every if not one.ordinary]
    for kind, members in groups.items():
        for n in FRAMES:
            if not (group := of_size(members, n)):
                continue
            last = [one.said(n, one.mainly) for one in group]
            cells, kept = sum(v.n_cells for v in last), sum(v.n_abstained for v in last)
            pairs = [((v.corrected or {})[o.mainly], o.sown(o.mainly))
                     for o, v in zip(group, last, strict=True)
                     if v.corrected and o.session.shifted != FOREIGN]  # fmt: skip
            held = sum(f.low <= t <= f.high for f, t in pairs)
            wrong = sum(misjudged(one, n, line) for one in group for line in one.classes)
            pure = [one for one in group if one.sown(one.mainly) > 1 - 1e-6]
            alarms = sum(one.ever(n, one.mainly, foreign) for one in pure)
            yield {"shift": kind, "fields": n, "sessions": len(group),
                   "flagged": rate(sum(v.shift is not None and v.shift.flagged for v in last),
                                   len(group)),
                   "cells abstained, %": round(100 * kept / max(cells, 1), 1),
                   "holds sown, not flagged": rate(held, len(pairs)) if pairs else "-",
                   "line misjudged": rate(wrong, len(group) * len(group[0].classes)),
                   "pure called contaminated": rate(alarms, len(pure)) if pure else "-",
                   }  # fmt: skip


def misjudged(one: Judged, n: int, line: str) -> bool:
    """Whether a wrong judgement of the declared line is said at any look."""
    share = one.sown(line)
    return (share < MINOR and one.ever(n, line, says("match"))) or (
        share > MOSTLY and one.ever(n, line, says("mismatch"))
    )


def detection(every: list[Judged]) -> Iterator[Row]:
    """What became of the cells that were drawn, edges of the frame included, by line or state, in
    ordinary flasks; `of classified` are the answers, `no cell` finds where none was drawn."""
    for density in DENSITIES:
        drawn: Counter[str] = Counter()
        became: dict[str, Counter[str]] = {}
        for one in (o for o in every if o.ordinary and one_density(o) == density):
            for seen in one.session.fields:
                drawn.update(seen.drawn)
                for kind, outcome in seen.outcomes.items():
                    became.setdefault(kind, Counter()).update(outcome)
        for kind, outcome in sorted(became.items()):
            said = {name: outcome.pop(name, 0) for name in every[0].classes}
            n, total = drawn[kind], sum(said.values())
            yield {"cells/mm2": density, "what": kind, "drawn": n,
                   "classified": rate(min(total, n), n) if n else str(total),
                   "of classified": {k: round(v / max(total, 1), 3) for k, v in said.items()},
                   "rejected": dict(outcome)}  # fmt: skip


def density(every: list[Judged]) -> Iterator[Row]:
    """Ordinary flasks: cells per mm2 that their fields are said to have, beside what was sown."""
    for sown in DENSITIES:
        plain = [one.session for one in every if one.ordinary and one_density(one) == sown]
        said = [[per_mm2 for one in session.fields for per_mm2, _ in one.tallies["densities"]]
                for session in plain]  # fmt: skip
        means = [mean(fields) for fields in said if fields]
        if means:
            yield {"sown a mm2": sown, "flasks": len(means), "said, mean": round(mean(means), 1),
                   "of sown, %": round(100 * mean(means) / sown, 1)}  # fmt: skip


def cost(every: list[Judged]) -> Iterator[Row]:
    """Milliseconds a field of each stage, on one core."""
    for density in DENSITIES:
        group = [one.session for one in every if one_density(one) == density]
        n = sum(len(one.fields) for one in group)
        stages: dict[str, float] = {}
        for one in group:
            add(stages, one.ms)
        if n:
            yield {"cells/mm2": density, "fields": n,
                   **{stage: round(ms / n, 1) for stage, ms in stages.items()},
                   "all": round(sum(stages.values()) / n, 1)}  # fmt: skip


PARTS: dict[str, Callable[[list[Judged]], Iterator[Row]]] = {
    "coverage": coverage, "coverage by share": shares, "declared": lines,
    "contamination": contamination, "stopping": stopping, "shifted": shifted,
    "detection": detection, "density": density, "cost": cost,
}  # fmt: skip
