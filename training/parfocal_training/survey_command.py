"""`parfocal-train survey`: sheets that ask people what the network is asked, and their scores.

make   survey.pdf and survey.html for the people; key.json and unlabelled/ for the one who scores
score  report.html
"""

import argparse
import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from parfocal import __version__
from parfocal.images import ImageError
from parfocal.prepare import to_gray
from parfocal.types import Gray
from parfocal_training import cropset
from parfocal_training.checkpoint import decoded
from parfocal_training.crops import read_frame
from parfocal_training.cropset import CropRow, CropSet
from parfocal_training.dataset import Row, read_rows
from parfocal_training.errors import DataError, UsageError
from parfocal_training.options import (
    Commands,
    above_zero,
    not_below_zero,
    shared_options,
    whole_above_zero,
)
from parfocal_training.report import Report, canvas
from parfocal_training.screen import percent
from parfocal_training.survey import (
    KINDS,
    Candidate,
    Impossible,
    Key,
    Kind,
    SheetPart,
    Size,
    draw_part,
    wanted_parts,
)
from parfocal_training.survey_scores import (
    FRAMES,
    Ints,
    PartScores,
    Person,
    Score,
    crop_sha256,
    frame_name,
    network_answers,
    part_scores,
    rank_correlation,
    read_answers,
)
from parfocal_training.survey_sheets import (
    Pixels,
    as_network_sees,
    as_they_are,
    evened,
    page,
    pdf,
    reduced,
)
from parfocal_training.write import write_whole

PAPER = {
    "within": "51.6 % (Fig. 2b)",
    "same-type": "figure only (2f): people did not tell the flasks apart",
    "across": "figure only (3e): below the network's, up to 80 %",
    "frames": "77 % (Fig. 3f)",
}
"""Mean of 20 people in Yao, Rochman and Sun (2019), as far as the text gives it."""


def add(commands: Commands) -> None:
    """The options of `survey make` and `survey score`."""
    survey = commands.add_parser("survey", help="ask people what the network is asked, and score")
    actions = survey.add_subparsers(dest="action", required=True, metavar="ACTION")
    _make_options(actions.add_parser("make", help="sheets to print and a page that asks"))
    _score_options(actions.add_parser("score", help="score answers, beside a network's"))


def _make_options(command: argparse.ArgumentParser) -> None:
    shared_options(command)
    command.set_defaults(run=make)
    command.description = (
        "Parts, as in the paper: within (cells of one flask pair), same-type (two flasks of one "
        "cell line), across (a flask pair that is not among the labelled ones), frames (whole "
        "frames of one pair). survey.html hides the answers from a glance at its source, no more: "
        "who wants to can work them out. Keep key.json and unlabelled/ to yourself."
    )
    command.add_argument("crops", type=Path, help="folder made by parfocal-train crops")
    command.add_argument(
        "--frames", type=Path, metavar="DATA", help="data set of frames for the part frames"
    )
    command.add_argument(
        "--parts",
        default=str(len(KINDS)),
        help="a number: so many of within, same-type, across, frames as the data tell apart; or "
        "a list such as within:1,same-type:HT1080,across:4,frames:all. VALUE is a pair (within, "
        "across, frames), a cell line or FLASK+FLASK (same-type), or all (within, frames)",
    )
    command.add_argument(
        "--labelled", type=whole_above_zero, default=40, help="labelled images of each class"
    )
    command.add_argument(
        "--unlabelled",
        type=whole_above_zero,
        default=20,
        help="images to answer in each part, half of each class",
    )
    command.add_argument(
        "--labelled-frames", type=whole_above_zero, help="in the part frames; None: as --labelled"
    )
    command.add_argument("--unlabelled-frames", type=whole_above_zero, help="None: as --unlabelled")
    command.add_argument(
        "--classes", nargs=2, metavar="CELL_LINE", help="two of the set's; None: it has only two"
    )
    command.add_argument(
        "--raw",
        action="store_true",
        help="show grey levels as they are; else normalized as for the network, all with the same "
        "contrast",
    )
    command.add_argument(
        "--frame-width",
        type=whole_above_zero,
        default=808,
        metavar="PX",
        help="frames are shown no wider than this, in pixels",
    )
    command.add_argument(
        "--rest",
        type=Path,
        metavar="FOLDER",
        help="also write the crops from image files that nobody is asked about: train on these "
        "the network that is to be compared",
    )
    command.add_argument("--seed", type=not_below_zero, default=1, help="of the drawing")


def _score_options(command: argparse.ArgumentParser) -> None:
    shared_options(command)
    command.set_defaults(run=score)
    command.add_argument("key", type=Path, help="key.json made by parfocal-train survey make")
    command.add_argument(
        "answers",
        type=Path,
        nargs="+",
        help="CSV files with the columns person, years, part, number, answer",
    )
    command.add_argument(
        "--model", type=Path, metavar="CHECKPOINT", help="folder made by parfocal-train fit"
    )
    command.add_argument(
        "--detector", default="auto", help="what finds the cells of frames for the network"
    )
    command.add_argument(
        "--frame-um-per-px",
        type=above_zero,
        help="pixel size in micrometres of frames that neither flasks.csv nor their file knows",
    )
    command.add_argument("--seed", type=not_below_zero, default=1, help="of the intervals")


def make(options: argparse.Namespace, console: Console) -> None:
    """The command `survey make`."""
    out: Path = options.out
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"'{out}' is not empty: give another folder, lest a key in use is lost")
    crop_set = cropset.load(options.crops)
    rows = read_rows(options.frames) if options.frames else ()
    frames = _frame_candidates(options.frames, rows) if options.frames else ()
    pools = {"cells": _crop_candidates(crop_set), "frames": frames}
    pools = {name: _of_classes(pool, options.classes) for name, pool in pools.items() if pool}
    parts, left_out = _drawn(pools, options)
    key = Key(
        code_version=__version__,
        data=crop_set.index.data,
        frames=options.frames.resolve().name if options.frames else "",
        seed=options.seed,
        shown="raw" if options.raw else "normalized",
        um_per_px=crop_set.index.rules.um_per_px,
        flat_field_um=crop_set.index.rules.flat_field_um,
        parts=parts,
    )
    pictures = _crop_pictures(parts, crop_set, options.raw)
    pictures |= _frame_pictures(parts, options, rows)
    _write(key, pictures, crop_set, options, rows)
    _report_make(key, left_out, options, console)


def _crop_candidates(crop_set: CropSet) -> tuple[Candidate, ...]:
    kind = crop_set.index.group_kind
    return tuple(
        _candidate(
            at,
            row.image,
            _field(row, kind),
            crop_sha256(crop),
            row.sha256,
        )
        for at, (row, crop) in enumerate(zip(crop_set.index.rows, crop_set.crops, strict=True))
    )


def _field(row: CropRow, group_kind: str) -> str:
    """The field a crop comes from: as its row says, else its frame, else its group if that is one.

    Empty for a crop that somebody else has cut from who knows where.
    """
    image = row.image
    if image.field:
        return "|".join(filter(None, (image.flask, image.field)))
    if row.x_px is not None:
        return image.path
    return image.group if group_kind == "field" else ""


def _candidate(at: int, row: Row, field: str, sha256: str, file_sha256: str) -> Candidate:
    return Candidate(
        at=at,
        cell_line=row.cell_line,
        flask=row.flask,
        pair=row.pair,
        field=field,
        path=row.path,
        sha256=sha256,
        file_sha256=file_sha256,
    )


def _frame_candidates(folder: Path, rows: Sequence[Row]) -> tuple[Candidate, ...]:
    out = []
    for at, row in enumerate(rows):
        digest = hashlib.sha256((folder / row.path).read_bytes()).hexdigest()
        field = "|".join(filter(None, (row.flask, row.field))) if row.field else row.path
        out.append(_candidate(at, row, field, digest, digest))
    return tuple(out)


def _of_classes(pool: Sequence[Candidate], classes: Sequence[str] | None) -> tuple[Candidate, ...]:
    there = sorted({c.cell_line for c in pool})
    strange = set(classes or ()) - set(there)
    if strange:
        raise UsageError(f"--classes: no {', '.join(sorted(strange))} in {', '.join(there)}")
    if not classes and len(there) != 2:
        raise UsageError(
            f"a survey has two classes, the set has {', '.join(there)}: give two as --classes"
        )
    return tuple(c for c in pool if c.cell_line in (classes or there))


def _drawn(
    pools: dict[str, tuple[Candidate, ...]], options: argparse.Namespace
) -> tuple[tuple[SheetPart, ...], list[str]]:
    """The parts, and why others were left out; only a number of parts leaves any out."""
    wanted, strict = _wanted(options.parts)
    cells = Size(options.labelled, options.unlabelled)
    frames = Size(
        options.labelled_frames or cells.labelled, options.unlabelled_frames or cells.unlabelled
    )
    if min(cells.unlabelled, frames.unlabelled) < 2:
        raise UsageError("--unlabelled must be 2 or more: one image of each class")
    rng = np.random.default_rng(options.seed)
    parts: list[SheetPart] = []
    left_out: list[str] = []
    faults: list[str] = []
    for kind, value in wanted:
        pool = pools.get("frames" if kind == "frames" else "cells", ())
        size = frames if kind == "frames" else cells
        try:
            if not pool:
                raise Impossible("frames needs whole frames: give --frames", metadata=True)
            parts.append(draw_part(len(parts) + 1, (kind, value), pool, size, parts, rng))
        except Impossible as reason:
            (left_out if reason.metadata and not strict else faults).append(str(reason))
    if faults or not parts:
        raise DataError("the survey cannot be drawn: " + ". ".join(faults or left_out))
    return tuple(parts), left_out


def _wanted(text: str) -> tuple[tuple[tuple[Kind, str], ...], bool]:
    """What to draw, and whether every part of it was asked for by name."""
    if not text.strip().isdecimal():
        return wanted_parts(text), True
    if not 1 <= int(text) <= len(KINDS):
        raise UsageError(f"--parts takes a number from 1 to {len(KINDS)}, or kinds; got {text}")
    return tuple((kind, "") for kind in KINDS[: int(text)]), False


def _images(parts: Sequence[SheetPart], frames: bool) -> dict[str, int]:
    """Place of every image that is shown, by its hash."""
    return {
        i.sha256: i.at for part in parts if (part.kind == "frames") == frames for i in part.images
    }


def _crop_pictures(parts: Sequence[SheetPart], crop_set: CropSet, raw: bool) -> dict[str, Pixels]:
    places = _images(parts, frames=False)
    margin, side = crop_set.index.rules.margin_px, crop_set.index.rules.crop_px
    bare = crop_set.crops[:, margin : margin + side, margin : margin + side]
    at = list(places.values())
    shown = as_they_are([bare[i] for i in at]) if raw else as_network_sees(bare, at)
    return dict(zip(places, shown, strict=True))


def _frame_pictures(
    parts: Sequence[SheetPart], options: argparse.Namespace, rows: Sequence[Row]
) -> dict[str, Pixels]:
    places = _images(parts, frames=True)
    if not places:
        return {}
    small: list[Gray] = []
    for at in places.values():
        path = options.frames / rows[at].path
        try:
            frame, _ = read_frame(path)
        except ImageError as error:
            raise DataError(f"'{path}' cannot be shown ({error.reason.value})") from error
        small.append(reduced(to_gray(frame.pixels), options.frame_width))
    shown = as_they_are(small) if options.raw else evened(small)
    return dict(zip(places, shown, strict=True))


def _write(
    key: Key,
    pictures: dict[str, Pixels],
    crop_set: CropSet,
    options: argparse.Namespace,
    rows: Sequence[Row],
) -> None:
    """All files, the key last: it vouches for them."""
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    asked = [(p, i) for p in key.parts for i in p.of("unlabelled")]
    crops = [i.at for p, i in asked if p.kind != "frames"]
    cropset.save(crop_set.of(np.array(crops, np.int64)), out / "unlabelled")
    asked_frames = [i for p, i in asked if p.kind == "frames"]
    for image in asked_frames:
        data = (options.frames / image.path).read_bytes()
        write_whole(out / "unlabelled" / frame_name(image), data)
    frame_rows = [msgspec.structs.replace(rows[i.at], path=frame_name(i)) for i in asked_frames]
    write_whole(out / "unlabelled" / FRAMES, msgspec.json.format(msgspec.json.encode(frame_rows)))
    if options.rest:
        hidden = {image.file_sha256 for _, image in asked}
        rest = [i for i, row in enumerate(crop_set.index.rows) if row.sha256 not in hidden]
        cropset.save(crop_set.of(np.array(rest, np.int64)), options.rest)
    write_whole(out / "survey.pdf", pdf(key, pictures))
    write_whole(out / "survey.html", page(key, pictures).encode())
    write_whole(out / "key.json", msgspec.json.format(msgspec.json.encode(key), indent=1))


def _report_make(
    key: Key, left_out: Sequence[str], options: argparse.Namespace, console: Console
) -> None:
    if options.json:
        for part in key.parts:
            told = {name: len(part.of("labelled", name)) for name in part.classes}
            counts = {"labelled": told, "unlabelled": len(part.of("unlabelled"))}
            _emit({f: v for f, v in msgspec.to_builtins(part).items() if f != "images"} | counts)
        _emit({"out": str(options.out), "sheet": key.sheet, "left_out": list(left_out)})
        return
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
    console.print(
        f"hand out {options.out}/survey.html or survey.pdf; keep key.json and unlabelled/ to "
        "yourself",
        markup=False,
        soft_wrap=True,
    )


def score(options: argparse.Namespace, console: Console) -> None:
    """The command `survey score`."""
    key = _read_key(options.key)
    persons = read_answers(key, options.answers)
    said: dict[int, Ints] = {}
    warnings: list[str] = []
    if options.model:
        folder, um_per_px = options.key.parent / "unlabelled", options.frame_um_per_px or 0.0
        said, warnings = network_answers(key, folder, options.model, options.detector, um_per_px)
    rng = np.random.default_rng(options.seed)
    parts = [
        part_scores(part, place, persons, said.get(part.number), rng)
        for place, part in enumerate(key.parts)
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    _report(key, persons, parts, warnings, options).write(options.out / "report.html")
    if options.json:
        for line in _json_lines(key, persons, parts, warnings):
            _emit(line)
        return
    console.print(_screen_table(parts))
    for warning in warnings:
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    console.print(f"report in {options.out}/report.html", markup=False)


def _read_key(path: Path) -> Key:
    try:
        text = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(f"'{path}' is no key: give key.json of a survey") from error
    return decoded(text, Key, path)


def _json_lines(
    key: Key, persons: Sequence[Person], parts: Sequence[PartScores], warnings: Sequence[str]
) -> Iterator[object]:
    for part in parts:
        for person, one in zip(persons, part.persons, strict=True):
            figures = msgspec.to_builtins(one)
            yield {"person": person.name, "years": person.years, "part": part.number, **figures}
    for part in parts:
        yield {**msgspec.to_builtins(part), "paper": PAPER[part.kind]}
    rho, n = _experience(persons, parts)
    yield {"sheet": key.sheet, "spearman_years": rho, "n_with_years": n, "warnings": list(warnings)}


def _experience(persons: Sequence[Person], parts: Sequence[PartScores]) -> tuple[float | None, int]:
    """Spearman's rho of years and mean accuracy, and how many gave their years."""
    pairs = [(p.years, _mean_of(parts, i)) for i, p in enumerate(persons) if p.years is not None]
    return rank_correlation([y for y, _ in pairs], [a for _, a in pairs]), len(pairs)


def _mean_of(parts: Sequence[PartScores], person: int) -> float:
    return float(np.mean([part.persons[person].accuracy for part in parts]))


def _screen_table(parts: Sequence[PartScores]) -> Table:
    table = Table("part", "people", "mean", "SD", "95 % interval", "kappa", "network", "paper")
    for part in parts:
        table.add_row(
            f"{part.number} {part.kind}",
            str(len(part.persons)),
            percent(part.mean),
            percent(part.sd),
            f"{percent(part.mean_low)} to {percent(part.mean_high)}",
            _kappa(part),
            percent(part.network.score.accuracy) if part.network else "-",
            PAPER[part.kind].split(" (")[0],
        )
    return table


def _kappa(part: PartScores) -> str:
    found = part.agreement.kappa if part.agreement else None
    return "-" if found is None else f"{found:.2f}"


def _report(
    key: Key,
    persons: Sequence[Person],
    parts: Sequence[PartScores],
    warnings: Sequence[str],
    options: argparse.Namespace,
) -> Report:
    report = Report(f"Expert survey {key.sheet}")
    source = " and ".join(filter(None, (key.data, key.frames and f"frames of {key.frames}")))
    report.paragraph(f"{len(persons)} people, {len(parts)} parts; images of {source}.")
    for warning in warnings:
        report.warning(warning)
    _report_parts(report, key, parts)
    _report_persons(report, persons, parts)
    if any(part.agreement for part in parts):
        _report_agreement(report, parts)
    if any(part.network for part in parts):
        _report_network(report, persons, parts, options.model)
    rho, n = _experience(persons, parts)
    report.heading("Experience")
    said = "too few to say" if rho is None else f"{rho:.2f}"
    report.figure(
        _experience_figure(persons, parts),
        f"Accuracy against years of experience; Spearman's rho of the mean over parts: {said} "
        f"({n} people with years). Few people: a rho of any size may be chance.",
    )
    return report


def _report_parts(report: Report, key: Key, parts: Sequence[PartScores]) -> None:
    report.heading("Parts")
    report.table(
        ("part", "people", "mean", "SD over people", "95 % interval", "fields", "in the paper"),
        [
            (
                f"{one.number} {one.kind}",
                len(one.persons),
                percent(one.mean),
                percent(one.sd),
                f"{percent(one.mean_low)} to {percent(one.mean_high)}",
                one.n_units,
                PAPER[one.kind].split(" (")[0],
            )
            for one in parts
        ],
        "Chance is 50 %.",
    )
    report.paragraph(
        "The interval is a bootstrap in which people and fields of view are drawn anew together; "
        "from few people or few fields it is too narrow. In the paper (Yao, Rochman and Sun 2019) "
        "20 people answered: " + "; ".join(f"{kind} {text}" for kind, text in PAPER.items()) + "."
    )
    report.bullets(
        [
            f"Part {part.number}: {part.title} ({' / '.join(part.classes)}). {' '.join(part.notes)}"
            for part in key.parts
        ]
    )


def _report_persons(report: Report, persons: Sequence[Person], parts: Sequence[PartScores]) -> None:
    report.heading("People")
    report.table(
        ("person", "years", *(f"part {part.number}" for part in parts), "mean"),
        [
            (
                person.name,
                "-" if person.years is None else f"{person.years:g}",
                *(_score_text(part.persons[i]) for part in parts),
                percent(_mean_of(parts, i)),
            )
            for i, person in enumerate(persons)
        ],
        "Right answers in % with Wilson's 95 % interval, images taken as independent.",
    )


def _score_text(one: Score) -> str:
    return f"{100 * one.accuracy:.0f} ({100 * one.low:.0f} to {100 * one.high:.0f}), n {one.n}"


def _report_agreement(report: Report, parts: Sequence[PartScores]) -> None:
    report.heading("Agreement between people")
    report.table(
        ("part", "Fleiss' kappa", "equal answers of two", "least", "most"),
        [
            (part.number, _kappa(part), percent(a.mean), percent(a.least), percent(a.most))
            for part in parts
            if (a := part.agreement)
        ],
        "kappa 0: as alike as by chance, 1: all alike. People can agree and be wrong.",
    )
    lines = [
        f"part {part.number}: {a} and {b}: {percent(share)}"
        for part in parts
        if part.agreement
        for a, b, share in part.agreement.pairs
    ]
    report.details("Equal answers of each two people", "\n".join(lines))


def _report_network(
    report: Report, persons: Sequence[Person], parts: Sequence[PartScores], model: Path
) -> None:
    report.heading("Network")
    report.paragraph(f"Checkpoint '{model.name}', asked about the same unlabelled images.")
    heard = [(part, part.network) for part in parts if part.network]
    report.table(
        ("part", "network (%)", "people", "network less people", "95 % interval", "no answer"),
        [
            (
                part.number,
                _score_text(net.score),
                percent(part.mean),
                f"{100 * net.ahead:+.1f} points",
                f"{100 * net.ahead_low:+.1f} to {100 * net.ahead_high:+.1f}",
                net.silent,
            )
            for part, net in heard
        ],
        "No answer: no cell was found in the frame; counted as wrong.",
    )
    report.table(
        ("person", *(f"part {part.number}" for part, _ in heard)),
        [
            (person.name, *(percent(net.agreement[i]) for _, net in heard))
            for i, person in enumerate(persons)
        ],
        "Share of images to which a person and the network give the same answer.",
    )


def _experience_figure(persons: Sequence[Person], parts: Sequence[PartScores]) -> Figure:
    figure = canvas(8, 4.5)
    axes = figure.subplots()
    known = [i for i, person in enumerate(persons) if person.years is not None]
    years = [persons[i].years or 0.0 for i in known]
    for marker, part in zip("osD^vPX*" * 4, parts, strict=False):
        values = [100 * part.persons[i].accuracy for i in known]
        axes.plot(years, values, marker, alpha=0.75, label=f"part {part.number} ({part.kind})")
    axes.axhline(50, color="0.5", ls="--", lw=1, label="chance")
    axes.set(xlabel="experience with cell culture (years)", ylabel="right answers (%)")
    axes.set_ylim(-3, 103)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def _emit(value: object) -> None:
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()
