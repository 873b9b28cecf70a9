"""What another model changes: two results of each image side by side, cell by cell.

Says where two models differ, never which of them is right: nobody has looked at the cells.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from parfocal.follow import OutputError
from parfocal.reasons import CellReason
from parfocal.replay_cells import MATCH_UM, Agreement, Answer, agreement, matched
from parfocal.replay_flasks import FlaskChange, FlaskCount, flask_change
from parfocal.replay_images import JOURNAL, Results, Source
from parfocal.types import Cell, FlaskVerdict, FrameResult

NOTE = (
    "Agreement is not accuracy: both models can be wrong on the same cell, and where they differ "
    "nothing here says which is right."
)
CELLS, SUMMARY = "compare.csv", "compare.json"
COLUMNS = (
    "image", "flask", "session", "what", "old_x_px", "old_y_px", "new_x_px", "new_y_px",
    "old_label", "new_label", "old_probability", "new_probability", "old_novelty", "new_novelty",
    "old_accepted", "new_accepted", "old_reason", "new_reason", "old_phenotype", "new_phenotype",
)  # fmt: skip
FIELDS = ("label", "probability", "novelty", "accepted", "reason", "phenotype")


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that changed between two models' results of the same images.

    A cell is the same where its places lie within `match_um`, the nearest first. `transitions`
    counts the matched cells by `old class -> new class`, abstained ones too; `agreement` is theirs.
    """

    note: str
    match_um: float
    old_models: tuple[str, ...]
    new_models: tuple[str, ...]
    n_images: int
    n_matched: int
    n_only_old: int
    n_only_new: int
    n_class_changed: int
    n_abstained_by_both: int
    n_abstained_by_old: int
    n_abstained_by_new: int
    transitions: dict[str, int]
    agreement: Agreement | None
    n_flasks_changed: int
    flasks: tuple[FlaskChange, ...]


class Comparing:
    """Takes pairs of results and gives rows of cells, and the comparison at the end."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.models: dict[str, dict[str, None]] = {"old": {}, "new": {}}
        self.counts, self.flasks = Counter[str](), dict[str, FlaskCount]()
        self.transitions = Counter[str]()

    def add(self, old: FrameResult, new: FrameResult) -> Iterator[list[object]]:
        """Count one image; yields a row of `COLUMNS` a cell."""
        pairs = matched(old.cells, new.cells, MATCH_UM / old.image.um_per_px)
        self.counts["images"] += 1
        for name, result in (("old", old), ("new", new)):
            self.models[name][f"{result.model.name} {result.model.version}"] = None
        flask = self._flask(old, new)
        session = old.flask.session if old.flask else ""
        place = [old.image.path, old.flask.id if old.flask else "", session]
        for i, j in pairs:
            one, two = old.cells[i], new.cells[j]
            self._pair(flask, (session, old.image.path, one.label, two.label), one, two)
            yield [*place, "same" if one.label == two.label else "changed", *_row(one, two)]
        of_old, of_new = {i for i, _ in pairs}, {j for _, j in pairs}
        for i, cell in enumerate(old.cells):
            if i not in of_old:
                self.counts["only old"] += 1
                yield [*place, "only old", *_row(cell, None)]
        for j, cell in enumerate(new.cells):
            if j not in of_new:
                self.counts["only new"] += 1
                yield [*place, "only new", *_row(None, cell)]

    def _flask(self, old: FrameResult, new: FrameResult) -> FlaskCount:
        flask = self.flasks.setdefault(old.flask.session if old.flask else "", FlaskCount())
        for name, totals, result in (("old", flask.old, old), ("new", flask.new, new)):
            totals.add(result)
            strange = (cell.reason is CellReason.UNLIKE_TRAINING for cell in result.cells)
            flask.unlike[name] += sum(strange)
        return flask

    def _pair(self, flask: FlaskCount, answer: Answer, old: Cell, new: Cell) -> None:
        changed = old.label != new.label
        self.answers.append(answer)
        self.transitions[f"{old.label} -> {new.label}"] += 1
        self.counts["changed"] += changed
        flask.n_matched += 1
        flask.n_changed += changed
        if not (old.accepted and new.accepted):
            who = "new" if old.accepted else "old" if new.accepted else "both"
            self.counts[f"abstained {who}"] += 1

    def comparison(self, old: dict[str, FlaskVerdict], new: dict[str, FlaskVerdict]) -> Comparison:
        """The whole; `old` and `new` hold the last totals of each session."""
        flasks = tuple(
            flask_change(flask, old.get(session), new[session])
            for session, flask in self.flasks.items()
            if session in new
        )
        counts = self.counts
        return Comparison(
            note=NOTE,
            match_um=MATCH_UM,
            old_models=tuple(self.models["old"]),
            new_models=tuple(self.models["new"]),
            n_images=counts["images"],
            n_matched=len(self.answers),
            n_only_old=counts["only old"],
            n_only_new=counts["only new"],
            n_class_changed=counts["changed"],
            n_abstained_by_both=counts["abstained both"],
            n_abstained_by_old=counts["abstained old"],
            n_abstained_by_new=counts["abstained new"],
            transitions=dict(self.transitions.most_common()),
            agreement=agreement(self.answers),
            n_flasks_changed=sum(bool(flask.changed) for flask in flasks),
            flasks=flasks,
        )


def _row(old: Cell | None, new: Cell | None) -> list[object]:
    places = [getattr(cell, name, "") for cell in (old, new) for name in ("x_px", "y_px")]
    values = [getattr(cell, name, "") for name in FIELDS for cell in (old, new)]
    return [*places, *("" if value is None else value for value in values)]


def compare(source: Source, out: Path) -> Comparison:
    """The comparison of a journal with its replay, which is also written as JSON and CSV.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    assert source.journal is not None  # only journals have earlier results
    comparing = Comparing()
    with closing(Results(source.journal)) as old, closing(Results(out / JOURNAL)) as new:
        seqs = new.seqs()
        pairs = (
            (old.frame(one.seq), new.frame(seqs[one.path]))
            for one in source.images
            if one.seq is not None and one.path in seqs
        )
        with written(out):
            write_cells(comparing, pairs, out)
        comparison = comparing.comparison(old.verdicts(), new.verdicts())
    with written(out):
        write_summary(comparison, out)
    return comparison


def write_cells(
    comparing: Comparing, pairs: Iterable[tuple[FrameResult, FrameResult]], out: Path
) -> None:
    """Compare all pairs, with a table of their cells."""
    with (out / CELLS).open("w", newline="") as file:
        table: Any = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for old, new in pairs:
            table.writerows(comparing.add(old, new))


def write_summary(comparison: msgspec.Struct, out: Path) -> None:
    """The comparison as JSON."""
    text = msgspec.json.format(msgspec.json.encode(comparison), indent=2)
    (out / SUMMARY).write_bytes(text + b"\n")


@contextmanager
def written(out: Path) -> Iterator[None]:
    """Say in a sentence what cannot be written."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{out} cannot be written ({error.strerror}): mend that") from error
