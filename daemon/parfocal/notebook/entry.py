"""What an entry says, before it takes the form of any notebook."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from parfocal import __version__
from parfocal.client import Received
from parfocal.flasktext import closed_by_text, missing_text
from parfocal.follow import COLUMNS, csv_rows
from parfocal.phenotypes import UNLIKE_ANY
from parfocal.reasons import SENTENCES, CellReason, ObjectReason
from parfocal.shift import shift_text
from parfocal.types import Confluence, FlaskRef, FlaskVerdict, Fraction, FrameResult

STEM_WORD = 60
"""Most characters of a file name that come from one thing a person typed."""
PHENOTYPES_NOTE = (
    "All classified cells count here, also those the model abstained on. "
    "A phenotype says how a cell looks, not what it is."
)
COMPOSITION_HEADER = ("class", "accepted cells", "share, as answered", "share, corrected")
COMPOSITION_NOTE = (
    "With 95 % intervals, which take the images as clusters and speak of this flask. Corrected: "
    "for what the model takes for what in flasks or fields it had not seen, among all classified "
    "cells; '-' where that is not known."
)
FEW_CELLS = 100
OFTEN = 0.2
"""A share of cells above which something is worth a warning."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoredFrame:
    """One frame of the session, as it was published."""

    message: Received
    result: FrameResult


@dataclass(frozen=True, slots=True, eq=False)
class Attachment:
    """A file that belongs to an entry."""

    name: str
    media_type: str
    data: bytes
    description: str


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One flask session, ready to be written down.

    `revision` is 1 for the first entry of a session; images that arrive after it was written make
    a further entry, which says that it replaces the one before.
    """

    verdict: FlaskVerdict
    frames: tuple[ScoredFrame, ...]
    attachments: tuple[Attachment, ...] = ()
    revision: int = 1

    @property
    def flask(self) -> FlaskRef:
        """The flask of the session."""
        return self.verdict.flask

    @property
    def date(self) -> str:
        """Day on which the session was opened."""
        return (self.flask.opened_at or "")[:10]

    @property
    def title(self) -> str:
        """For example `HeLa F12 P7 2026-11-23`."""
        flask = self.flask
        passage = "" if flask.passage is None else f"P{flask.passage}"
        parts = [flask.cell_line or "", flask.id, passage, self.date]
        suffix = f" (revision {self.revision})" if self.revision > 1 else ""
        return " ".join(part for part in parts if part) + suffix

    @property
    def stem(self) -> str:
        """File name of the entry: the same for the same session and revision, for ever.

        ASCII and short, for every file system and importer; what a person typed is in the title.
        """
        words = [self.date, self.flask.cell_line or "", self.flask.id, self.flask.session[:8]]
        words += [f"r{self.revision}"] if self.revision > 1 else []
        plain = (re.sub(r"[^A-Za-z0-9_.]+", "_", word)[:STEM_WORD] for word in words if word)
        return "-".join(plain).lstrip(".")


def facts(entry: Entry) -> list[tuple[str, str]]:
    """The table at the head of an entry."""
    flask, verdict = entry.flask, entry.verdict
    density, missing = verdict.density, missing_text(flask)
    rows = [
        ("Flask", flask.id),
        ("Cell line (declared)", flask.cell_line or "not declared"),
        ("Passage", "not declared" if flask.passage is None else str(flask.passage)),
        ("Opened", flask.opened_at or "unknown"),
        ("Closed", f"{flask.closed_at or 'still open'} {closed_by_text(flask)}".strip()),
        ("Images", str(verdict.n_frames)),
        ("Cells classified", str(verdict.n_cells)),
        ("Model abstained on", str(verdict.n_abstained)),
        ("Found but not classified", rejected_text(entry)),
    ]
    if density is not None:
        span = f"{density.low:.0f} to {density.high:.0f}"
        rows.append(("Cells per mm2", f"{density.cells_per_mm2:.0f} (95 % interval {span})"))
    if verdict.confluence is not None:
        rows.append(("Confluence", fraction_text(verdict.confluence)))
    rows += judgements(verdict)
    if missing:
        rows.append(("Required, not declared", missing))
    if flask.note:
        rows.append(("Note", flask.note))
    return rows


def judgements(verdict: FlaskVerdict) -> list[tuple[str, str]]:
    """What the totals mean, a row each."""
    line, foreign = verdict.declared, verdict.contamination
    found = [
        ("Declared line", f"{line.match}: {line.text}" if line else ""),
        ("Other cells", foreign.text if foreign else ""),
        ("Earlier passages", verdict.trend.text if verdict.trend else ""),
        ("Enough?", verdict.advice or ""),
    ]
    return [(name, text) for name, text in found if text]


def rejected_text(entry: Entry) -> str:
    """Number of rejected objects, by reason."""
    reasons = Counter(r.reason for frame in entry.frames for r in frame.result.rejected)
    parts = [f"{n} {reason.value}" for reason, n in reasons.most_common()]
    return f"{sum(reasons.values())}" + (f" ({', '.join(parts)})" if parts else "")


def share_rows(shares: dict[str, Fraction] | None) -> list[tuple[str, str, str]]:
    """A row for each class or phenotype: name, cells, share with its interval."""
    return [(name, str(f.n), fraction_text(f)) for name, f in (shares or {}).items()]


def composition_rows(verdict: FlaskVerdict) -> list[tuple[str, str, str, str]]:
    """A row for each class: name, accepted cells, share as answered, share as corrected."""
    corrected = verdict.corrected or {}
    return [
        (*row, fraction_text(corrected[row[0]]) if row[0] in corrected else "-")
        for row in share_rows(verdict.composition)
    ]


def fraction_text(f: Fraction | Confluence) -> str:
    """`64 % (45 to 79)`."""
    return f"{f.fraction:.0%} ({f.low:.0%} to {f.high:.0%})".replace("%", " %")


def warnings(entry: Entry) -> list[str]:
    """What a reader of the numbers must know, in words."""
    return list(_warnings(entry))


def _warnings(entry: Entry) -> Iterator[str]:
    verdict, results = entry.verdict, [frame.result for frame in entry.frames]
    if verdict.n_cells < FEW_CELLS:
        yield f"Only {verdict.n_cells} cells: the intervals are wide."
    if verdict.n_frames < 3:
        yield f"Only {verdict.n_frames} images: how much the flask varies is mostly assumed."
    unlike = sum(c.reason is CellReason.UNLIKE_TRAINING for result in results for c in result.cells)
    if verdict.n_cells and unlike / verdict.n_cells > OFTEN:
        yield f"{unlike} of {verdict.n_cells} cells are unlike any the model was trained on."
    yield from _judgement_warnings(verdict)
    yield from _phenotype_warnings(verdict)
    blurred = sum(r.reason is ObjectReason.BLUR for result in results for r in result.rejected)
    if blurred > OFTEN * max(1, verdict.n_cells):
        yield f"{blurred} cells were out of focus."
    for flag, n in Counter(flag for r in results for flag in r.quality.flags).items():
        yield f"{n} of {len(results)} images: {flag.replace('_', ' ')}."
    models = {(r.model.name, r.model.version) for r in results}
    if len(models) > 1:
        yield "The model changed during the session."
    if not all(r.model.detector_matches_training for r in results):
        yield "Cells were found in another way than those the model was trained on."
    yield from dict.fromkeys(caveat for r in results for caveat in r.model.caveats)


def _judgement_warnings(verdict: FlaskVerdict) -> Iterator[str]:
    line, foreign, trend = verdict.declared, verdict.contamination, verdict.trend
    if line is not None and line.match == "mismatch":
        yield f"The cells do not match the declared {line.cell_line}: {line.text}."
    elif foreign is not None and foreign.found:
        yield f"Possible {foreign.text}."
    strange = shift_text(verdict.shift)
    if strange:
        yield f"The cells are {strange}: do not rely on the composition."
    if trend is not None and any(one.outside for one in trend.figures.values()):
        yield f"The flask is {trend.text}."


def _phenotype_warnings(verdict: FlaskVerdict) -> Iterator[str]:
    if verdict.phenotypes is None:
        return
    n = sum(f.n for f in verdict.phenotypes.values())
    if n < verdict.n_cells:
        text = "another model classified the rest"
        yield f"Phenotypes are those of {n} of {verdict.n_cells} cells: {text}."
    strange = verdict.phenotypes[UNLIKE_ANY]
    if strange.fraction > OFTEN:
        yield f"{strange.n} of {n} cells are unlike any phenotype that the model knows."


def provenance(entry: Entry) -> list[tuple[str, str]]:
    """Where the numbers come from."""
    results = [frame.result for frame in entry.frames]
    models = dict.fromkeys(
        f"{r.model.name} {r.model.version}, sha256 {r.model.sha256}, on {r.model.provider}, "
        f"cells found by {r.model.detector}"
        for r in results
    )
    scales = dict.fromkeys(
        f"{r.image.um_per_px:g} um/px (from {r.image.um_per_px_from})" for r in results
    )
    logs = dict.fromkeys(f.message.header.log for f in entry.frames)
    seqs = [f.message.header.seq for f in entry.frames]
    rows = [("Model", model) for model in models]
    rows += [("Pixel size", scale) for scale in scales]
    if seqs:
        rows.append(("Journal", f"{', '.join(logs)}, messages {min(seqs)} to {max(seqs)}"))
    rows += [("Session", entry.flask.session), ("parfocal", __version__)]
    return rows


def result_json(entry: Entry) -> bytes:
    """Machine copy: the verdict and every frame's header and body."""
    frames = [
        {"header": f.message.header, "body": msgspec.Raw(f.message.raw_body)} for f in entry.frames
    ]
    whole = {"schema": "parfocal.entry/1", "verdict": entry.verdict, "frames": frames}
    return msgspec.json.format(msgspec.json.encode(whole), indent=1)


def cells_csv(entry: Entry) -> bytes:
    """One row a cell, with the columns of `parfocal follow --out FILE.csv`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for frame in entry.frames:
        writer.writerows(csv_rows(frame.message, frame.result))
    return text.getvalue().encode()


def reason_glossary(entry: Entry) -> list[tuple[str, str]]:
    """The sentence of every reason code that the entry mentions."""
    codes: dict[str, str] = {}
    for frame in entry.frames:
        for rejected in frame.result.rejected:
            codes[rejected.reason] = SENTENCES[rejected.reason]
        for cell in frame.result.cells:
            if cell.reason:
                codes[cell.reason] = SENTENCES[cell.reason]
    return sorted((str(code), sentence) for code, sentence in codes.items())
