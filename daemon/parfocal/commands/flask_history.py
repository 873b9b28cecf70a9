"""`parfocal flask history`: the passages of a cell line, from the journal."""

import argparse
from pathlib import Path

from rich.table import Table

from parfocal import console
from parfocal.commands.arguments import (
    FAILED,
    OK,
    Commands,
    command,
    configured,
    jsonable,
    print_json,
    settings_of,
)
from parfocal.flasktext import missing_text, shares_text
from parfocal.journal import Journal, iso
from parfocal.quantities import count
from parfocal.trend_passages import MOST_PASSAGES, Passages
from parfocal.types import FlaskRef, FlaskVerdict

COLUMNS = ("passage", "flask", "opened", "closed by", "missing", "frames", "cells",
           "composition (95 %)", "cells/mm2 (95 %)")  # fmt: skip


def add_history(what: Commands) -> None:
    """Add the arguments of `parfocal flask history`."""
    made = command(what, "history", "the closed passages of a cell line", run_flask_history)
    made.add_argument("line", metavar="LINE", help="cell line; only its letters and digits count")
    made.add_argument(
        "--last", type=count, default=MOST_PASSAGES, metavar="N",
        help=f"so many of the newest passages (default: {MOST_PASSAGES})",
    )  # fmt: skip
    configured(made)
    jsonable(made)


def run_flask_history(options: argparse.Namespace) -> int:
    """`parfocal flask history`."""
    settings = settings_of(options)
    journal = Journal.reading(Path(settings.state_dir) / "journal.sqlite", settings.rig)
    try:
        line = FlaskRef(id="", session="", cell_line=options.line, opened_at=iso(journal.now()))
        known = sorted(Passages(journal).before(line), key=lambda v: v.flask.opened_at or "")
    finally:
        journal.close()
    found = known[-options.last :]
    if options.json:
        for verdict in found:
            print_json(verdict)
    elif found:
        console.out().print(_table(found))
    if not found:
        console.say(f"parfocal: the journal has no closed flask of the line '{options.line}'")
        return FAILED
    if len(found) < len(known):
        n_older = len(known) - len(found)
        console.say(f"{n_older} older passages are not shown: --last {len(known)} shows all")
    return OK


def _table(found: list[FlaskVerdict]) -> Table:
    """One row a passage, the oldest first."""
    table = Table(box=None, header_style="bold")
    for name in COLUMNS:
        table.add_column(
            name, justify="right" if name in ("passage", "frames", "cells") else "left",
            overflow="fold",
        )  # fmt: skip
    for verdict in found:
        flask, density = verdict.flask, verdict.density
        table.add_row(
            "-" if flask.passage is None else str(flask.passage),
            flask.id,
            (flask.opened_at or "")[:16].replace("T", " "),
            flask.closed_by or "-",
            missing_text(flask) or "-",
            str(verdict.n_frames),
            str(verdict.n_cells),
            shares_text(verdict) or "-",
            f"{density.cells_per_mm2:.0f} ({density.low:.0f}-{density.high:.0f})"
            if density
            else "-",
        )
    return table
