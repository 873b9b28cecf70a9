"""How often a flask's verdict is right on simulated sessions that were rendered and read.

    python tests/bench/sessions.py render OUT.jsonl [--sessions N] [--fields K] [--long-fields L]
        [--long-sessions M] [--jobs J] [--seed S] [--model NAME_OR_PATH] [--minutes LIMIT]
        [--resume]
    python tests/bench/sessions.py score OUT.jsonl [--model NAME_OR_PATH] [--json]

`render` draws flasks of known mixes, some of them unlike those that the shipped simulated model has
seen, renders their fields in memory, and takes each one the whole road from a decoded frame to its
result, with the reader's and the inference child's own objects (`session_road`). Every session is a
line of its own, written once it is done, and follows from (seed, number) alone. It needs what
`pip install 'parfocal[cpu]'` brings and no more, so that a machine of many cores can do it:

    PYTHONPATH=daemon:training:export python3 tests/bench/sessions.py render sessions.jsonl

`score` folds the tallies of the first fields into the daemon's own totals, and prints how often
what the daemon says of them is right (`session_tables`). `tests/bench/verdicts.py` asks the same of
drawn counts. Every figure is of simulated flasks; shares have 95 % intervals (Wilson).
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

import msgspec
from session_road import Plan, Session, begin, rendered
from session_tables import PARTS, Judged
from verdicts import show

from parfocal.bundle import load
from parfocal.composition_rates import reading
from parfocal.phenotypes import answers
from parfocal.quantities import between, count, whole
from parfocal.verdict import Yardstick

PROGRESS_S = 10.0


def render(options: argparse.Namespace) -> None:
    """Render what is missing, the long sessions first, and append a line for each."""
    out: Path = options.out
    done = sessions(out) if out.exists() else {}
    if done and not options.resume:
        raise SystemExit(f"{out} exists: give --resume to add to it, or name another file")
    if any(one.seed != options.seed for one in done.values()):
        raise SystemExit(f"{out} holds sessions of another --seed")
    known = load(options.model)  # a bad name ends here and not in every worker
    if any(one.model_sha256 != known.sha256 for one in done.values()):
        raise SystemExit(f"{out} holds sessions of another --model")
    sizes = [options.long_fields] * options.long_sessions
    sizes += [options.fields] * (options.sessions - len(sizes))
    plans = [Plan(i, options.seed, n) for i, n in enumerate(sizes[: options.sessions])]
    plans = [p for p in plans if p.number not in done or len(done[p.number].fields) < p.n_fields]
    plans.sort(key=lambda plan: -plan.n_fields)
    if out.exists() and not out.read_bytes().endswith(b"\n"):
        with out.open("ab") as file:
            file.write(b"\n")  # ends a line that was cut
    os.environ["OMP_NUM_THREADS"] = "1"  # before a worker loads anything
    start = time.time()
    until_s = start + 60 * options.minutes
    n_sessions = n_fields = 0
    spawn = multiprocessing.get_context("spawn")
    with (
        out.open("ab") as file,
        ProcessPoolExecutor(options.jobs, spawn, begin, (options.model,)) as workers,
    ):
        left: set[Future[tuple[int, bytes]]] = {
            workers.submit(rendered, plan, until_s) for plan in plans
        }
        told = start
        while left:
            ready, left = wait(left, PROGRESS_S, FIRST_COMPLETED)
            for fields, line in (one.result() for one in ready):
                if fields:
                    file.write(line)
                    file.flush()
                n_sessions, n_fields = n_sessions + (fields > 0), n_fields + fields
            if time.time() - told >= PROGRESS_S or not left:
                told = time.time()
                print(f"{n_sessions} of {len(plans)} sessions, {n_fields} fields in "
                      f"{told - start:.0f} s", file=sys.stderr, flush=True)  # fmt: skip


def sessions(path: Path) -> dict[int, Session]:
    """The sessions of a file by number, of each the line with most fields; a cut line is none."""
    found: dict[int, Session] = {}
    for line in path.read_bytes().splitlines():
        try:
            one = msgspec.json.decode(line, type=Session)
        except msgspec.DecodeError:
            print(f"{path} has a line that is no session: left out", file=sys.stderr)
            continue
        if one.number not in found or len(one.fields) > len(found[one.number].fields):
            found[one.number] = one
    return found


def score(options: argparse.Namespace) -> None:
    """Print the tables of a file."""
    found = sorted(sessions(options.out).values(), key=lambda one: one.number)
    if not found:
        raise SystemExit(f"{options.out} holds no session")
    bundle = load(options.model or found[0].model)
    if any(one.model_sha256 != bundle.sha256 for one in found):
        raise SystemExit(f"{options.out} was rendered with another model: name it with --model")
    card = bundle.card
    yard = Yardstick(card.shift, bundle.sha256, answers(card.phenotypes), reading(card))
    every = [Judged(one, yard, card.classes) for one in found]
    if not options.json:
        sizes = Counter(len(one.fields) for one in found)
        print(f"{len(found)} simulated sessions, {card.name} {card.version}, {found[0].detector}; "
              f"sessions by fields: {dict(sorted(sizes.items()))}")  # fmt: skip
    for name, part in PARTS.items():
        show(name, part.__doc__ or "", part(every), options.json)


def main() -> None:
    """Render or score."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    steps = parser.add_subparsers(required=True)
    made = steps.add_parser("render", help="draw, render and read sessions")
    made.add_argument("out", type=Path)
    made.add_argument("--sessions", type=count, default=500, metavar="N")
    made.add_argument("--fields", type=count, default=10, metavar="K", help="of a session")
    made.add_argument("--long-fields", type=count, default=50, metavar="L")
    made.add_argument("--long-sessions", type=whole, default=0, metavar="M",
                      help="so many of the sessions have --long-fields")  # fmt: skip
    made.add_argument("--jobs", type=count, default=os.cpu_count() or 1, metavar="J",
                      help="worker processes of one thread each")  # fmt: skip
    made.add_argument("--seed", type=whole, default=0, metavar="S")
    made.add_argument("--model", default="demo", metavar="NAME_OR_PATH")
    made.add_argument("--minutes", type=between(0, 10_000, "minutes"), default=10_000.0,
                      metavar="LIMIT", help="then stop; what is done is kept")  # fmt: skip
    made.add_argument("--resume", action="store_true", help="render what the file lacks")
    made.set_defaults(run=render)
    asked = steps.add_parser("score", help="print how often verdicts are right")
    asked.add_argument("out", type=Path)
    asked.add_argument("--model", metavar="NAME_OR_PATH", help="(default: the one in the file)")
    asked.add_argument("--json", action="store_true", help="JSON Lines instead of tables")
    asked.set_defaults(run=score)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
