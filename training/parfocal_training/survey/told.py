"""What `survey make` and `survey score` say on the terminal, or as JSON Lines."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from parfocal_training.screen import percent
from parfocal_training.survey.answers import Person
from parfocal_training.survey.key import Key
from parfocal_training.survey.report import PAPER, kappa_text, paper_text
from parfocal_training.survey.scores import PartScores, experience


def made_lines(key: Key, left_out: Sequence[str], out: Path) -> Iterator[object]:
    """What `survey make --json` prints: a line a part, then where the survey is."""
    for part in key.parts:
        told = {name: len(part.of("labelled", name)) for name in part.classes}
        counts = {"labelled": told, "unlabelled": len(part.of("unlabelled"))}
        known = {f: v for f, v in msgspec.to_builtins(part).items() if f != "images"}
        yield known | counts
    yield {"out": str(out), "sheet": key.sheet, "left_out": list(left_out)}


def print_made(key: Key, left_out: Sequence[str], out: Path, console: Console) -> None:
    """What a person reads when a survey is made."""
    table = Table("part", "what", "classes", "kept apart by", title=f"survey {key.sheet}")
    for part in key.parts:
        kind = f"{part.kind}: {part.title}"
        table.add_row(str(part.number), kind, " / ".join(part.classes), part.separated_by)
    console.print(table)
    for part in key.parts:
        for note in part.notes:
            console.print(f"part {part.number}: {note}", markup=False, soft_wrap=True)
    for reason in left_out:
        console.print(f"left out: {reason}", markup=False, soft_wrap=True)
    hint = f"hand out {out}/survey.html or survey.pdf; keep key.json and unlabelled/ to yourself"
    console.print(hint, markup=False, soft_wrap=True)


def score_lines(
    key: Key, persons: Sequence[Person], parts: Sequence[PartScores], warnings: Sequence[str]
) -> Iterator[object]:
    """What `survey score --json` prints: a line a person and part, one a part, and the rest."""
    for part in parts:
        for person, one in zip(persons, part.persons, strict=True):
            figures = msgspec.to_builtins(one)
            yield {"person": person.name, "years": person.years, "part": part.number, **figures}
    for part in parts:
        yield {**msgspec.to_builtins(part), "paper": PAPER[part.kind]}
    rho, n = experience(persons, parts)
    yield {"sheet": key.sheet, "spearman_years": rho, "n_with_years": n, "warnings": list(warnings)}


def score_table(parts: Sequence[PartScores]) -> Table:
    """What a person reads of the scores: a row a part."""
    table = Table("part", "people", "mean", "SD", "95 % interval", "kappa", "network", "paper")
    for part in parts:
        table.add_row(
            f"{part.number} {part.kind}",
            str(len(part.persons)),
            percent(part.mean),
            percent(part.sd),
            f"{percent(part.mean_low)} to {percent(part.mean_high)}",
            kappa_text(part),
            percent(part.network.score.accuracy) if part.network else "-",
            paper_text(part.kind),
        )
    return table
