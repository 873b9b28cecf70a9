"""How often the statistics of a flask verdict are right, on simulated counts of cells.

    python tests/bench/verdicts.py [--only coverage|declared|contamination|fields|shifted|speed]
        [--flasks N] [--seed S] [--json]

Nothing is rendered. A flask has a true share of class alpha; its frames' shares and sizes vary
(beta-binomial, gamma-Poisson); the model's error rates are the flask's own, drawn from those of
all flasks; and the model's card is simulated too, from left-out flasks drawn from the same ones.
Every figure is of simulated flasks, with its own 95 % interval (Wilson) where it is a share.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from statistics import mean, median
from typing import Any

import numpy as np

from parfocal.advice import HALF_WIDTH, advice
from parfocal.card import Confusion, GroupFigures, Metric, ShiftRule
from parfocal.composition import Answers, share_of
from parfocal.composition_rates import Reading, reading_of
from parfocal.contamination import AIM_CELLS, contamination, exceeds, looks
from parfocal.declared import LOOKS, declared
from parfocal.intervals import Z_95, clustered, wilson
from parfocal.shift import shift
from parfocal.trend import control
from parfocal.types import FlaskRef

ALPHA, BETA = CLASSES = ("alpha", "beta")
FLASK = FlaskRef(id="F", session="s", cell_line=ALPHA)
CORRELATIONS = (0.0, 0.02, 0.05, 0.1)
SDS = (0.0, 0.005, 0.01, 0.02)
FRAMES = (3, 5, 10, 20, 50)
DENSITIES = (5, 15, 40)
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class World:
    """How a model behaves: mean and between-flask SD of its error rate, and its left-out flasks."""

    error: float = 0.02
    sd: float = 0.005
    left_out: int = 20
    cells: int = 400


def beta(rng: np.random.Generator, centre: float, sd: float, n: int) -> np.ndarray[Any, Any]:
    """n rates of this mean and SD."""
    if sd == 0:
        return np.full(n, centre)
    size = centre * (1 - centre) / sd**2 - 1
    return rng.beta(centre * size, (1 - centre) * size, n)


@lru_cache(maxsize=512)
def card(world: World, number: int) -> Reading:
    """What is read in the card of one model of this world: `left_out` flasks of each class."""
    rng = np.random.default_rng((number, int(1e4 * world.error), int(1e4 * world.sd)))
    groups, counts = [], []
    for at, name in enumerate(CLASSES):
        wrong = rng.binomial(world.cells, beta(rng, world.error, world.sd, world.left_out))
        right = world.left_out * world.cells - int(wrong.sum())
        counts.append((right, int(wrong.sum())) if at == 0 else (int(wrong.sum()), right))
        groups += [
            GroupFigures(group=f"{name}{i}", labels=(name,), n=world.cells,
                         accuracy=1 - k / world.cells, low=0.0, high=1.0, novelty=0.5)
            for i, k in enumerate(wrong.tolist())
        ]  # fmt: skip
    known = Confusion(counts=tuple(counts), groups=(), group_kind="flask")
    found = reading_of(CLASSES, known, tuple(groups))
    assert found is not None
    return found


def frames(
    rng: np.random.Generator, world: World, share: float, n: int, density: float, icc: float
) -> list[dict[str, int]]:
    """Answers of n frames of a new flask in which this share of cells is alpha."""
    errors = beta(rng, world.error, world.sd, 2)
    cells = rng.poisson(density * rng.gamma(6, 1 / 6, n))
    shares = beta(rng, share, math.sqrt(icc * share * (1 - share)), n) if 0 < share < 1 else share
    true = rng.binomial(cells, shares)
    missed = _clustered(rng, true, errors[0], icc)
    false = _clustered(rng, cells - true, errors[1], icc)
    alpha = true - missed + false
    return [{ALPHA: int(a), BETA: int(m - a)} for a, m in zip(alpha, cells, strict=True)]


def _clustered(
    rng: np.random.Generator, n: np.ndarray[Any, Any], rate: float, icc: float
) -> np.ndarray[Any, Any]:
    """Errors among n cells of each frame, which resemble each other by half the correlation."""
    sd = math.sqrt(icc / 2 * rate * (1 - rate))
    return rng.binomial(n, beta(rng, rate, sd, len(n)) if rate > 1e-6 else 0.0)


def rate(hits: int, n: int) -> str:
    """`97.1 % (95.8-98.0)`."""
    low, high = wilson(hits, n)
    return f"{100 * hits / n:.1f} % ({100 * low:.1f}-{100 * high:.1f})"


def coverage(n_flasks: int, rng: np.random.Generator) -> Iterator[Row]:
    """Intervals of answered and of true shares: how often they hold the truth, how wide."""
    for density in DENSITIES:
        for n in FRAMES:
            raw, true, widths = 0, 0, []
            for i in range(n_flasks):
                world = World(float(rng.choice((0.02, 0.05, 0.1))), float(rng.choice(SDS)))
                share, icc = float(rng.uniform(0.03, 0.97)), float(rng.choice(CORRELATIONS))
                seen = frames(rng, world, share, n, density, icc)
                exact = frames(rng, World(0, 0), share, n, density, icc)
                low, high = clustered([(f[ALPHA], sum(f.values())) for f in exact])
                raw += low <= share <= high
                _, low, high = share_of(0, seen, card(world, i % 12))
                true += low <= share <= high
                widths.append(high - low)
            yield {"fields": n, "cells a field": density, "of answers": rate(raw, n_flasks),
                   "corrected": rate(true, n_flasks),
                   "median width, points": round(100 * median(widths), 1)}  # fmt: skip


def judged(n_flasks: int, rng: np.random.Generator) -> Iterator[Row]:
    """Wrong and right flasks, judged after each of up to 64 frames: what is ever said of them."""
    for density in DENSITIES:
        for sd in SDS:
            found, false, matched, late = 0, 0, 0, []
            for i in range(n_flasks):
                world, icc = World(0.05, sd), float(rng.choice(CORRELATIONS))
                wrong = _first(frames(rng, world, 0.0, 20, density, icc), card(world, i % 12))
                right = _first(frames(rng, world, 1.0, 64, density, icc), card(world, i % 12))
                found += "mismatch" in wrong
                late.append(wrong.get("mismatch", 99))
                false += "mismatch" in right
                matched += "match" in right
            yield {"cells a field": density, "SD, points": 100 * sd,
                   "wrong found in 20 fields": rate(found, n_flasks),
                   "median fields": median(late), "right called wrong": rate(false, n_flasks),
                   "right called right": rate(matched, n_flasks)}  # fmt: skip


def _first(seen: Answers, known: Reading) -> dict[str, int]:
    """Frame at which each judgement was first given."""
    out: dict[str, int] = {}
    for look in (look for look in LOOKS if look <= len(seen)):
        one = declared(FLASK, seen[:look], known, False)
        assert one is not None
        out.setdefault(one.match, look)
    return out


CARDS = (((20, 400), SDS), ((60, 2000), SDS[:2]))
"""Left-out flasks of a class and cells of each, with the between-flask SDs to measure them at."""


def foreign(n_flasks: int, rng: np.random.Generator) -> Iterator[Row]:
    """Flasks with 5 % of beta, looked at until 1,000 cells were seen, and pure ones until 4,000.

    The oracle looks once, at 1,000 cells, and knows which share of other answers 1 % of pure flasks
    exceed, not from a card but from 2,000 of them: no test of that share finds more. It has no use
    for limits of detection, which are the method's own.
    """
    for (left_out, cells), sds in CARDS:
        for error in (0.02, 0.05):
            for n, density, icc in ((48, 21, 0.02), (20, 50, 0.05)):
                for sd in sds:
                    world = World(error, sd, left_out, cells)
                    yield {"left out": f"{left_out} x {cells}", "errors, %": 100 * error,
                           "SD, points": 100 * sd, "fields x cells": f"{n} x {density}",
                           "correlation": icc,
                           **_foreign(n_flasks, rng, world, n, density, icc)}  # fmt: skip


def _foreign(
    n_flasks: int, rng: np.random.Generator, world: World, n: int, density: float, icc: float
) -> Row:
    found, false, limits, at_limit, below = 0, 0, [], 0, 0

    def seen(share: float, most: int = AIM_CELLS) -> list[dict[str, int]]:
        drawn = frames(rng, world, share, 2 * n * most // AIM_CELLS, density, icc)
        total = np.cumsum([sum(f.values()) for f in drawn])
        return drawn[: int(np.searchsorted(total, most)) + 1]

    dirty = [seen(0.95) for _ in range(n_flasks)]
    for i in range(n_flasks):
        known = card(world, i % 60)
        found += _ever(dirty[i], known)
        pure = seen(1.0, 4 * AIM_CELLS)
        false += _ever(pure, known)
        last = contamination(FLASK, seen(1.0), known, False)
        assert last is not None
        limits.append(last.limit_of_detection)
        at_limit += _ever(seen(1 - limits[-1]), known)
        below += _ever(seen(1 - 0.75 * limits[-1]), known)
    critical = float(np.quantile([_other(seen(1.0)) for _ in range(2000)], 0.99))
    oracle = sum(_other(one) > critical for one in dirty)
    return {"5 % found": rate(found, n_flasks), "oracle": rate(oracle, n_flasks),
            "false alarms": rate(false, n_flasks),
            "limit of detection, %": round(100 * median(limits), 1),
            "found at it": rate(at_limit, n_flasks),
            "found at 3/4 of it": rate(below, n_flasks)}  # fmt: skip


def _other(seen: Answers) -> float:
    return sum(f[BETA] for f in seen) / sum(sum(f.values()) for f in seen)


def _ever(seen: Answers, known: Reading) -> bool:
    """Whether contamination is said at any look."""
    return exceeds(0, seen, looks(seen), known)


def fields(n_flasks: int, rng: np.random.Generator) -> Iterator[Row]:
    """Fields taken until advice says enough, against one who knows the true variance."""
    world = World(0.02, 0.0, 40, 2000)
    for share in (0.5, 0.8, 0.9):
        for density in (10, 20):
            ideals = {c: _oracle(rng, world, share, density, c) for c in CORRELATIONS}
            taken, ideal, near, ideal_near = [], [], 0, 0
            for i in range(n_flasks):
                known, icc = card(world, i % 5), CORRELATIONS[i % len(CORRELATIONS)]
                seen = frames(rng, world, share, 150, density, icc)
                taken.append(_stop(seen, known))
                ideal.append(ideals[icc])
                near += _off(seen[: taken[-1]], known, share) <= HALF_WIDTH
                ideal_near += _off(seen[: ideals[icc]], known, share) <= HALF_WIDTH
            yield {"share": share, "cells a field": density, "fields taken": round(mean(taken), 1),
                   "oracle": round(mean(ideal), 1), "ratio": round(sum(taken) / sum(ideal), 2),
                   "within 5 points": rate(near, n_flasks),
                   "oracle within 5 points": rate(ideal_near, n_flasks)}  # fmt: skip


def _off(seen: Answers, known: Reading, share: float) -> float:
    return abs(share_of(0, seen, known)[0] - share)


def _stop(seen: Answers, known: Reading) -> int:
    """Fields at which one who follows the advice stops, in steps of what it asks for."""
    n = LOOKS[0]
    while n < len(seen):
        told = advice(seen[:n], known, ALPHA, [False] * n, None)
        if told.more_fields is None:
            break
        n += max(1, told.more_fields // 2)  # a cautious user comes back halfway
    return min(n, len(seen))


def _oracle(
    rng: np.random.Generator, world: World, share: float, density: float, icc: float
) -> int:
    """Fewest fields whose true standard error gives the wanted half width."""
    answered = []
    for _ in range(400):
        seen = frames(rng, world, share, 40, density, icc)
        answered.append(sum(f[ALPHA] for f in seen) / sum(sum(f.values()) for f in seen))
    one_field = float(np.var(answered)) * 40 / (1 - 2 * world.error) ** 2
    return math.ceil(one_field * (Z_95 / HALF_WIDTH) ** 2)


RULE = ShiftRule(
    mean=0.5, mean_se=0.02, between_sd=0.08, frame_sd=0.04, within_sd=0.27, group_mean_sd=0.09,
    threshold=2.54, false_alarm=0.01, n_groups=20, group_kind="flask",
    observed_false_alarms=Metric(value=0.0),
)  # fmt: skip


def shifted(n_flasks: int, rng: np.random.Generator) -> Iterator[Row]:
    """Flasks in which the model errs far more, their cells stranger by so many flask SDs."""
    world = World(0.05, 0.01)
    for error, strange in ((0.05, 0.0), (0.3, 1.0), (0.3, 3.0), (0.5, 5.0)):
        flagged, wrong, foreign_found = 0, 0, 0
        for i in range(n_flasks):
            seen = frames(rng, World(error, 0.02), 1.0, 20, 20, 0.05)
            centre = 0.5 + rng.normal(strange, 1) * RULE.between_sd
            novelty = [(20, 20 * float(np.clip(rng.normal(centre, 0.07), 0, 1))) for _ in seen]
            found = shift(novelty, RULE)
            assert found is not None
            flagged += found.flagged
            one = declared(FLASK, seen, card(world, i % 12), found.flagged)
            other = contamination(FLASK, seen, card(world, i % 12), found.flagged)
            wrong += one is not None and one.match == "mismatch"
            foreign_found += other is not None and other.found
        yield {"error rate, %": 100 * error, "novelty, SD": strange,
               "abstained": rate(flagged, n_flasks), "called wrong": rate(wrong, n_flasks),
               "called contaminated": rate(foreign_found, n_flasks)}  # fmt: skip


def charted(n_flasks: int, rng: np.random.Generator) -> Iterator[Row]:
    """Flasks beside few earlier passages: alarms of ordinary ones and of such that changed."""
    for m in (3, 5, 10, 20):
        row: Row = {"earlier passages": m}
        for moved in (0, 3, 6):
            hits = 0
            for _ in range(n_flasks):
                before = rng.normal(0.3, 0.05, m).tolist()
                now = rng.normal(0.3 + 0.05 * moved, 0.05)
                hits += control(float(now), 0.0, before).outside
            row["ordinary, outside" if not moved else f"moved by {moved} SD, outside"] = rate(
                hits, n_flasks
            )
        yield row


def speed(n_flasks: int, rng: np.random.Generator) -> Iterator[Row]:
    """Milliseconds of processor time of all that a verdict of n frames computes."""
    for n in (50, 200):
        times = []
        for i in range(min(n_flasks, 50)):
            seen, known = frames(rng, World(), 0.95, n, 25, 0.05), card(World(), i % 5)
            start = time.process_time()
            for at in range(2):
                share_of(at, seen, known)
            declared(FLASK, seen, known, False)
            contamination(FLASK, seen, known, False)
            advice(seen, known, ALPHA, [False] * n, None)
            times.append(1e3 * (time.process_time() - start))
        yield {"fields": n, "median ms": round(median(times), 1), "worst ms": round(max(times), 1)}


PARTS: dict[str, Callable[[int, np.random.Generator], Iterator[Row]]] = {
    "coverage": coverage, "declared": judged, "contamination": foreign, "fields": fields,
    "shifted": shifted, "trend": charted, "speed": speed,
}  # fmt: skip


def main() -> None:
    """Measure, and print a table each."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--only", choices=PARTS, help="measure this part alone")
    parser.add_argument(
        "--flasks", type=int, default=400, metavar="N", help="simulated flasks a row"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the simulation")
    parser.add_argument("--json", action="store_true", help="JSON Lines instead of tables")
    options = parser.parse_args()
    for name in [options.only] if options.only else PARTS:
        rows = PARTS[name](options.flasks, np.random.default_rng(options.seed))
        show(name, PARTS[name].__doc__ or "", rows, options.json)


def show(name: str, what: str, rows: Iterable[Row], as_json: bool) -> None:
    """Print rows as they come: a table under its name, or JSON Lines."""
    for number, row in enumerate(rows):
        if as_json:
            print(json.dumps({"part": name, **row}), flush=True)
            continue
        if number == 0:
            print(f"\n{name}: {what}\n" + "  ".join(row), flush=True)
        cells = (f"{value!s:>{len(key)}}" for key, value in row.items())
        print("  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
