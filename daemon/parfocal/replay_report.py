"""The end of a replay in tables: what was scored, what was refused, what another model changed."""

from collections import Counter
from collections.abc import Iterator
from typing import Literal

from rich.table import Table
from rich.text import Text

from parfocal.reasons import SENTENCES, FileReason
from parfocal.replay_compare import CELLS, Comparison
from parfocal.replay_flasks import FlaskChange, Side
from parfocal.replay_source import CHANGED
from parfocal.replay_summary import Summary
from parfocal.shadow_compare import MISSED, ShadowComparison
from parfocal.types import FlaskVerdict, Fraction

Justify = Literal["left", "right"]


def _table(*columns: tuple[str, Justify]) -> Table:
    table = Table(box=None, header_style="bold")
    for name, justify in columns:
        table.add_column(name, justify=justify, overflow="fold")
    return table


def summary_shown(told: Summary) -> Iterator[Table | Text]:
    """What was scored by flask, and what was refused by reason."""
    if told.flasks:
        yield _flask_table(told)
    if told.models:
        who = f"model {', '.join(told.models)}; found by '{', '.join(told.detectors)}'"
        yield Text(who, style="dim")
    state = "" if told.finished else "stopped early: "
    yield Text(f"{state}{told.n_scored} of {told.n_images} images scored", style="bold")
    if told.refused:
        yield _refused_table(told)
    if told.n_rewritten:
        yield Text(
            f"{told.n_rewritten} of the journal's images are gone: their files were rewritten, and "
            "only the last content was replayed",
            style="yellow",
        )
    if told.n_unscored:
        yield Text(
            f"{told.n_unscored} files had no result in the journal and were not replayed",
            style="yellow",
        )


def _flask_table(told: Summary) -> Table:
    table = _table(
        ("flask", "left"), ("images", "right"), ("cells", "right"),
        ("composition (95 % interval)", "left"), ("abstained", "right"), ("rejected", "right"),
    )  # fmt: skip
    for one in told.flasks:
        table.add_row(
            one.flask,
            str(one.n_images),
            str(one.n_cells),
            shares(one.composition),
            str(one.n_abstained),
            str(one.n_rejected),
        )
    return table


def shares(composition: dict[str, Fraction]) -> str:
    """`HT1080 64% (45-79%)` for each class."""
    return "  ".join(
        f"{label} {f.fraction:.0%} ({100 * f.low:.0f}-{f.high:.0%})"
        for label, f in composition.items()
    )


def _refused_table(told: Summary) -> Table:
    table = _table(("refused", "right"), ("reason", "left"), ("", "left"))
    reasons = Counter(one.reason for one in told.refused if not one.changed)
    if told.n_changed:
        table.add_row(str(told.n_changed), "changed", CHANGED)
    for reason, n in reasons.most_common():
        more = " (or say --um-per-px here)" if reason is FileReason.NO_SCALE else ""
        table.add_row(str(n), reason, SENTENCES[reason] + more)
    return table


def comparison_shown(told: Comparison, in_table: bool = True) -> Iterator[Table | Text]:
    """Cells that changed, flasks that changed, and what that does not mean.

    `in_table`: the cells were written too.
    """
    if not told.n_images:
        yield Text("no image has a result of both, so nothing is compared", style="yellow")
        return
    old, new = ", ".join(told.old_models), ", ".join(told.new_models)
    yield Text(f"\n{old}  ->  {new}, on {told.n_images} images", style="bold")
    yield _cell_table(told)
    if told.flasks:
        yield Text(
            f"\n{told.n_flasks_changed} of {len(told.flasks)} flasks have another verdict",
            style="bold",
        )
        yield _change_table(told.flasks)
    where = f" Every cell is in {CELLS}." if in_table else ""
    yield Text(f"\n{told.note}{where}", style="yellow")


def shadow_shown(told: ShadowComparison) -> Iterator[Text]:
    """How many live images the shadow answered, and why it missed the others."""
    text = f"shadow {told.asked}: {told.model} answered {told.n_answered} of {told.n_images} images"
    yield Text(f"{text} scored since {told.since_at}", style="bold")
    for reason, n in told.missed.items():
        yield Text(f"{n} missed, {reason}: {MISSED[reason]}", style="yellow")
    if told.n_other:
        yield Text(f"{told.n_other} were left to another shadow model", style="yellow")


def _cell_table(told: Comparison) -> Table:
    table = Table.grid(padding=(0, 2))
    share = told.n_class_changed / told.n_matched if told.n_matched else 0.0
    rows = {
        "the same cell in both": f"{told.n_matched} (within {told.match_um:g} um)",
        "classified by the old only": str(told.n_only_old),
        "classified by the new only": str(told.n_only_new),
        "class changed": f"{told.n_class_changed} ({share:.1%})",
        **{f"  {name}": str(n) for name, n in told.transitions.items() if _differ(name)},
        "abstained": f"{told.n_abstained_by_both} both, {told.n_abstained_by_old} the old only, "
        f"{told.n_abstained_by_new} the new only",
        "Cohen's kappa": _kappa(told),
    }
    for name, text in rows.items():
        table.add_row(name, text)
    return table


def _differ(transition: str) -> bool:
    one, _, two = transition.partition(" -> ")
    return one != two


def _kappa(told: Comparison) -> str:
    found = told.agreement
    if found is None:
        return "not defined: no cell is in both"
    if found.kappa is None:
        return "not defined: both gave every cell the same class"
    if found.low is None or found.high is None:
        return f"{found.kappa:.2f} (no interval from one {found.unit})"
    return (
        f"{found.kappa:.2f} (95 % {found.low:.2f} to {found.high:.2f}, "
        f"{found.n_units} {found.unit}s drawn whole)"
    )


def _change_table(flasks: tuple[FlaskChange, ...]) -> Table:
    table = _table(
        ("flask", "left"), ("", "left"), ("images", "right"), ("cells", "right"),
        ("composition (95 % interval)", "left"), ("abstained", "right"),
        ("unlike training", "right"), ("what it says", "left"),
    )  # fmt: skip
    for flask in flasks:
        said = Text()
        if flask.changed:
            said.append(f"CHANGED: {', '.join(flask.changed)}\n", "bold yellow")
        _add_side(table, (flask.id, "old"), flask.n_images, flask.old, Text())
        _add_side(table, ("", "new"), flask.n_images, flask.new, said)
    return table


def _add_side(table: Table, name: tuple[str, str], n_images: int, side: Side, said: Text) -> None:
    if side.verdict.n_frames != n_images:
        said.append(f"told of {side.verdict.n_frames} images: ", "yellow")
    table.add_row(
        *name,
        str(n_images),
        str(side.n_cells),
        shares(side.composition),
        str(side.n_abstained),
        str(side.n_unlike_training),
        said.append(judgement(side.verdict), "none"),
    )


def judgement(verdict: FlaskVerdict) -> str:
    """Declared line, contamination, shift, phenotypes and advice, as far as there are any."""
    foreign, shift = verdict.contamination, verdict.shift
    said = (
        f"declared line: {verdict.declared_match}" if verdict.declared_match else "",
        "contaminated" if foreign and foreign.found else "",
        f"shift {shift.score:.1f}{' FLAGGED' if shift.flagged else ''}" if shift else "",
        f"phenotypes {shares(verdict.phenotypes)}" if verdict.phenotypes else "",
        f"advice: {verdict.advice.partition(':')[0]}" if verdict.advice else "",
    )
    return "; ".join(filter(None, said))
