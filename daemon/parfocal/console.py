"""What a person sees on the terminal: tables of results, a live view, one-sentence errors."""

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console, Group, JustifyMethod
from rich.live import Live
from rich.padding import Padding
from rich.progress import track
from rich.table import Table
from rich.text import Text

from parfocal.bundle import Bundle, DetectorBundle
from parfocal.card import DetectorCard
from parfocal.check import Finding
from parfocal.client import Event, NewLog, Received, Silence
from parfocal.detectors import ChosenDetector
from parfocal.follow import one_line, verdict_parts
from parfocal.modelcard import Section, model_sections, right_aligned
from parfocal.phenotypes import phenotypes_text
from parfocal.reader import Prepared, Refused
from parfocal.reasons import SENTENCES
from parfocal.shift import shift_text
from parfocal.types import Alarm, Beat, CameraBeat, FlaskRef, FlaskVerdict, FrameResult

PROGRESS_FROM = 4
"""Fewer images than this are done before a progress bar could be read."""


def out() -> Console:
    """The console for results; a name in them is shown as it is, never taken for markup."""
    return Console(highlight=False, markup=False, emoji=False)


def say(text: str) -> None:
    """A remark for the person, on stderr."""
    print(text, file=sys.stderr, flush=True)


T = TypeVar("T")


def progress(items: Iterable[T], what: str, total: int) -> Iterable[T]:
    """The items, with a progress bar on stderr when a person is watching and it will take long."""
    if total < PROGRESS_FROM or not sys.stderr.isatty():
        return items
    return track(items, what, total, console=Console(stderr=True), transient=True)


def refused_line(path: str, refused: Refused) -> str:
    """Why an image was not scored, in one line."""
    return f"{path}: {SENTENCES[refused.reason]} [{refused.reason}: {refused.detail}]"


def detection_table(rows: list[tuple[str, Prepared]]) -> Table:
    """One row an image: cells, rejects by reason, scale and time."""
    table = Table(box=None, header_style="bold")
    for name in ("image", "cells", "rejected", "um/px", "ms"):
        justify: JustifyMethod = "left" if name in ("image", "rejected") else "right"
        table.add_column(name, justify=justify, overflow="fold" if name == "image" else "ellipsis")
    for path, prepared in rows:
        scale = f"{prepared.um_per_px:g} ({prepared.um_per_px_from})"
        elapsed = f"{sum(prepared.timing_ms.values()):.0f}"
        why = [str(r.reason) for r in prepared.rejected]
        table.add_row(path, str(len(prepared.chosen)), tally(why), scale, elapsed)
    return table


def about_detector(choice: ChosenDetector) -> Text:
    """Which detector looked, and what must be known of it, in a dimmed line."""
    text = f"found by '{choice.name}'"
    if choice.bundle is not None and choice.bundle.card.caveats:
        n = len(choice.bundle.card.caveats)
        text += f"; {n} caveat{'s' * (n != 1)}: parfocal model show {choice.bundle.card.name}"
    return Text(text, style="dim")


def tally(words: list[str]) -> str:
    """How often each word occurs, most frequent first."""
    counts = {word: words.count(word) for word in dict.fromkeys(words)}
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{n} {word}" for word, n in ordered)


def composition_text(result: FrameResult) -> Text:
    """`HT1080 64% (45-79)` for each class, dimmed where there is none."""
    text = Text()
    for label, f in result.composition.items():
        style = "" if f.n else "dim"
        text.append(f"{label} {f.n} = {f.fraction:.0%} ({f.low:.0%}-{f.high:.0%})  ", style)
    return text


def frame_table() -> Table:
    """An empty table of frames, as `follow` and `classify` show them."""
    table = Table(box=None, header_style="bold")
    right = ("seq", "cells", "abstained", "rejected", "focus")
    shares = "composition (95 % interval)"  # whole, whatever the script of a phenotype's name
    for name in ("seq", "image", "flask", "cells", shares, *right[2:]):
        justify: JustifyMethod = "right" if name in right else "left"
        whole = name in ("image", shares)
        table.add_column(name, justify=justify, overflow="fold" if whole else "ellipsis")
    return table


def add_frame(table: Table, seq: str, result: FrameResult) -> None:
    """One frame's row; further lines say its phenotypes, and when its cells are strange."""
    shown, strange = composition_text(result), shift_text(result.shift)
    phenotypes = phenotypes_text(result.phenotypes)
    if phenotypes:
        shown.append(f"\n{phenotypes}", "dim")
    if strange:
        shown.append(f"\n{strange}", "yellow")
    table.add_row(
        seq,
        os.path.basename(result.image.path),
        result.flask.id if result.flask else "-",
        str(len(result.cells)),
        shown,
        str(result.n_abstained),
        str(result.n_rejected),
        f"{result.quality.focus:.2f}",
    )


def about_model(result: FrameResult) -> Text:
    """Which model answered, and where to read what must be known about it, in a dimmed line."""
    model = result.model
    parts = [f"model {model.name} {model.version} on {model.provider}"]
    if not model.detector_matches_training:
        parts.append(f"cells found by '{model.detector}', another way than the training crops")
    strange = shift_text(result.shift)
    if strange:
        parts.append(f"{os.path.basename(result.image.path)} is {strange}")
    if model.caveats:
        n = len(model.caveats)
        parts.append(f"{n} caveat{'s' * (n != 1)}: parfocal model show {model.name}")
    return Text("; ".join(parts), style="dim")


class LiveView:
    """The latest frames and the state of the rig, redrawn as events come; for terminals."""

    def __init__(self, console: Console, rows: int = 12) -> None:
        self._rows: list[tuple[str, FrameResult]] = []
        self._alarms: list[Text] = []
        self._most, self._state = rows, Text("waiting for the rig ...", style="yellow")
        self._verdict = Text("")
        self.live = Live(self._draw(), console=console, auto_refresh=False)

    def show(self, event: Event) -> None:
        """Take in one event."""
        if isinstance(event, Received):
            self._received(event)
        elif isinstance(event, Beat):
            self._state = state_text(event)
        elif isinstance(event, Silence):
            self._state = Text(f"no sign of the rig for {event.seconds:.0f} s", style="bold red")
        elif isinstance(event, NewLog):
            self._rows, self._alarms = [], [Text("the rig started a new log", style="yellow")]

    def _received(self, message: Received) -> None:
        body = message.body()
        if isinstance(body, FrameResult):
            self._rows = [*self._rows, (str(message.header.seq), body)][-self._most :]
        elif isinstance(body, Alarm):
            style = {"info": "dim", "warning": "yellow", "alarm": "bold red"}[body.level]
            style = "green" if body.cleared else style
            self._alarms = [*self._alarms, Text(body.text, style=style)][-4:]
        elif isinstance(body, FlaskVerdict):
            self._verdict = Text("\n".join(verdict_parts(body)), style="bold")

    def _draw(self) -> Group:
        table = frame_table()
        for seq, result in self._rows:
            add_frame(table, seq, result)
        notes = [about_model(self._rows[-1][1])] if self._rows else []
        return Group(table, self._verdict, *self._alarms, *notes, self._state)

    def refresh(self) -> None:
        """Redraw."""
        self.live.update(self._draw(), refresh=True)


def state_text(beat: Beat) -> Text:
    """The rig's state in one line."""
    style = {"ready": "green", "degraded": "bold yellow"}.get(beat.state, "yellow")
    files = ", ".join(f"{n} {state}" for state, n in sorted(beat.files.items())) or "none"
    why = f" ({'; '.join(beat.reasons)})" if beat.reasons else ""
    line = f"{beat.state}{why}  {beat.provider}  {beat.queue_depth} waiting  files: {files}"
    text = Text(line, style=style)
    if beat.camera:
        text.append(f"\n{camera_line(beat.camera)}", style="none")
    return text


def camera_line(camera: CameraBeat) -> str:
    """What the camera did, and what its gate says of the view."""
    line = f"camera: {camera.frames} frames, {camera.kept} kept, {camera.dropped} dropped"
    more = {"overflows": camera.overflows, "losses": camera.losses}
    line += "".join(f", {n} {what}" for what, n in more.items() if n)
    return f"{line}; {SENTENCES[camera.view]}" if camera.view else line


def lines(events: Iterable[Event]) -> Iterator[str]:
    """Plain lines for output that is no terminal."""
    for event in events:
        if isinstance(event, Received):
            yield one_line(event)


MARKS = {"fault": ("FAULT", "bold red"), "note": ("note ", "yellow"), "ok": ("ok   ", "green")}


def findings(found: list[Finding]) -> Iterator[Text]:
    """The report of `parfocal check`."""
    for finding in found:
        mark, style = MARKS[finding.kind]
        text = Text(f"{mark} ", style=style)
        text.append(f"{finding.subject:<8}", style="bold").append(f" {finding.text}", style="none")
        if finding.remedy:
            text.append(f"\n      remedy:  {finding.remedy}", style="bold")
        yield text


def flask_line(flask: FlaskRef | None) -> str:
    """The flask on the stage in one line."""
    if flask is None:
        return "no flask is open"
    known = [flask.cell_line, None if flask.passage is None else f"passage {flask.passage}"]
    extra = ", ".join(part for part in known if part)
    return f"flask {flask.id}{f' ({extra})' if extra else ''}, open since {flask.opened_at}"


MOST_ROWS = 16
"""Rows of a card's table on a terminal."""


def card_shown(bundle: Bundle) -> Iterator[Text | Table | Padding]:
    """The card of a classifier, section after section."""
    card = bundle.card
    yield Text(f"{card.name} {card.version}", style="bold")
    yield Text(card.description)
    yield Text(str(bundle.path), style="dim")
    for section in model_sections(bundle):
        yield Text(f"\n{section.title}", style="bold")
        yield from (Padding(Text(sentence), (0, 0, 0, 2)) for sentence in section.sentences)
        if section.rows:
            yield Padding(_section_table(section), (0, 0, 0, 1))
            left = len(section.rows) - MOST_ROWS
            if left > 0:
                yield Text(f"  and {left} more: --html or --json shows all", style="dim")
        if section.notes:
            yield Padding(_notes(section), (0, 0, 0, 1))


def _section_table(section: Section) -> Table:
    table = Table(box=None, header_style="dim", show_header=any(section.columns))
    for name, right in zip(section.columns, right_aligned(section), strict=True):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in section.rows[:MOST_ROWS]:
        table.add_row(*row)
    return table


def _notes(section: Section) -> Table:
    table = Table.grid(padding=(0, 1))
    for note in section.notes:
        table.add_row(" -", Text(note, style="yellow"))
    return table


def detector_card_table(bundle: DetectorBundle) -> Table:
    """The card of a detector, a line a fact."""
    card = bundle.card
    table = Table(box=None, show_header=False)
    table.add_column(style="bold")
    table.add_column()
    facts = {
        "name": f"{card.name} {card.version}, a detector",
        "file": f"{bundle.path} ({len(bundle.data) / 1e6:.1f} MB)",
        "sha256": bundle.sha256,
        "description": card.description,
        "licence": card.licence,
        "attribution": card.attribution,
        "made": card.created_at,
        "sees": f"frames at {card.um_per_px:g} um/px",
        "fingerprint": card.fingerprint,
        "trained on": f"{card.training.data} ({len(card.training.groups)} groups of fields)",
        "a cell": f"{card.rules.debris_um2:g} to {card.rules.clump_um2:g} um2, "
        f"highest probability at least {card.rules.least_score:g}",
    }
    return _filled(table, facts, card)


def _filled(table: Table, facts: dict[str, str], card: DetectorCard) -> Table:
    for name, text in facts.items():
        if text:
            table.add_row(name, text)
    for name, metric in card.training.metrics.items():
        span = "" if metric.low is None else f" ({metric.low:.3f} to {metric.high:.3f})"
        table.add_row(name, f"{metric.value:.3f}{span}  {metric.how}")
    for caveat in card.caveats:
        table.add_row("caveat", Text(caveat, style="yellow"))
    return table
