"""The card of a data set or crop set: one HTML page of tables, pictures and warnings."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from parfocal.types import Gray
from parfocal_training import datacard_figures as figures
from parfocal_training.cropset import CropSet, ImageTally
from parfocal_training.datacard_counts import KNOWN, Tally, image_tallies, kind_of, tallied
from parfocal_training.dataset import Row, lines_of
from parfocal_training.dataset_contradictions import copies, flask_faults
from parfocal_training.dataset_faults import Fault, error
from parfocal_training.dataset_images import (
    SAMPLES,
    Levels,
    Looks,
    add_levels,
    group_name,
    sampled_of,
)
from parfocal_training.dataset_warnings import data_warnings
from parfocal_training.report import Report


def write_card(crop_set: CropSet, path: Path) -> None:
    """Write the card of a crop set, with its warnings, as one HTML file."""
    crop_card(crop_set, crop_set_faults(crop_set)).write(path)


def crop_set_faults(crop_set: CropSet) -> tuple[Fault, ...]:
    """What is wrong with, and what is risky about, the images that a crop set comes from."""
    sha256s = {row.image.path: row.sha256 for row in crop_set.index.rows}
    rows = tuple(tally.image for tally in image_tallies(crop_set))
    lines = lines_of(rows)
    twice = copies(lines, [sha256s.get(row.path, "") for row in rows])
    n_cells = Counter(dict.fromkeys(crop_set.classes, 0))
    n_cells.update(row.image.cell_line for row in crop_set.index.rows)
    return (
        *flask_faults(lines),
        *(error("duplicate", one.text) for one in twice),
        *data_warnings(rows, n_cells),
    )


def crop_card(crop_set: CropSet, faults: Sequence[Fault]) -> Report:
    """The card of a crop set."""
    rules, images = crop_set.index.rules, image_tallies(crop_set)
    every = crop_set.index.images is not msgspec.UNSET
    tallies = tallied(images, cut=True)
    ready = rules.detector.name == "external"
    found_by = "cut before parfocal saw them" if ready else f"found by {rules.detector.name}"
    alone = "; nothing beyond a cell's outline and rim is shown" if rules.masked else ""
    report = Report(f"Crops of {crop_set.index.data}")
    report.paragraph(
        f"{len(crop_set)} single cells of {len(crop_set.classes)} cell lines from {len(images)} "
        f"images{'' if every else ' that gave any'} and {len(set(crop_set.groups))} groups (by "
        f"{crop_set.index.group_kind}); {rules.crop_px} px at {rules.um_per_px:g} um/px with a "
        f"margin of {rules.margin_px} px; {found_by}{alone}."
    )
    _findings(report, faults)
    kind = kind_of(image.image for image in images)
    _counts(report, tallies, kind, "cells")
    if not every and not ready:
        report.paragraph("This set does not say how many finds were rejected.")
    _samples(report, _crop_samples(crop_set), "crops, without their margin")
    levels: Levels = {}
    margin = rules.margin_px
    inside = slice(margin, crop_set.crops.shape[1] - margin)
    for key, members in _members(crop_set).items():
        for i in members:  # one by one: all crops of a flask at once would double the memory
            add_levels(levels, key, crop_set.crops[i, inside, inside])
    _levels(report, levels, kind, "crops, without their margin")
    _per_image(report, images, every)
    bare = msgspec.structs.replace(crop_set.index, rows=(), images=msgspec.UNSET)
    body = msgspec.json.format(msgspec.json.encode(bare), indent=2).decode()
    report.details("How these crops were made", body)
    return report


def image_card(name: str, rows: Sequence[Row], looks: Looks, faults: Sequence[Fault]) -> Report:
    """The card of a data set whose images are not cut yet; `rows` are all that it lists."""
    report = Report(f"Data set {name}")
    sizes = ", ".join(
        f"{n} of {w}x{h} px, {depth}" for (w, h, depth), n in looks.sizes.most_common(5)
    )
    more = f" and {len(looks.sizes) - 5} more sizes" if len(looks.sizes) > 5 else ""
    n_lines = len({row.cell_line for row in rows if row.cell_line})
    report.paragraph(
        f"{len(rows)} images of {n_lines} cell lines, {len(looks.rows)} readable"
        f"{f': {sizes}{more}' if sizes else ''}. No crops are cut yet: cells are not counted."
    )
    _findings(report, faults)
    kind = kind_of(rows)
    _counts(report, tallied((ImageTally(image=r, n_crops=0) for r in rows), False), kind, "images")
    _samples(report, looks.samples, "images")
    _levels(report, looks.levels, kind, "images")
    return report


def _findings(report: Report, faults: Sequence[Fault]) -> None:
    for severity, heading in (("error", "Errors"), ("warning", "Warnings")):
        mine = [fault for fault in faults if fault.severity == severity]
        if mine:
            report.heading(f"{heading} ({len(mine)})")
        for fault in mine:
            report.warning(f"{fault.text} [{fault.code}]")


def _counts(report: Report, tallies: Sequence[Tally], kind: str, what: str) -> None:
    cut = any(tally.n_crops is not None for tally in tallies)
    known = [name for name in KNOWN if any(tally.known[name] for tally in tallies)]
    reasons = sorted({reason for tally in tallies for reason in tally.rejected})
    columns = ["cell line", kind, *known, "images", *(["crops"] if cut else []), *reasons]
    report.heading(f"{what.capitalize()} of each cell line and {kind}")
    report.table(
        columns,
        [
            [
                t.cell_line, figures.short(t.group, t.cell_line),
                *(t.known[name] for name in known), t.n_images,
                *([t.n_crops] if t.n_crops is not None else []),
                *(t.rejected.get(reason, 0) for reason in reasons),
            ]
            for t in tallies
        ],
        caption="Right of the crops: finds that were rejected, by reason." if reasons else "",
    )  # fmt: skip
    counts = [
        (t.cell_line, t.group, t.known["density"], t.n_images if t.n_crops is None else t.n_crops)
        for t in tallies
    ]
    if counts:
        report.figure(
            figures.counts_figure(counts, what), _cut_off(f"{what} of each {kind}", counts)
        )


def _cut_off(text: str, rows: Iterable[Sequence[object]]) -> str:
    most = max(Counter(row[0] for row in rows).values())
    text = text[0].upper() + text[1:]
    if most <= figures.MOST_GROUPS:
        return f"{text}."
    return f"{text}; of each cell line, the first {figures.MOST_GROUPS} are drawn."


def _crop_samples(crop_set: CropSet) -> dict[str, list[Gray]]:
    margin = crop_set.index.rules.margin_px
    inside = slice(margin, crop_set.crops.shape[1] - margin)
    labels = crop_set.labels
    chosen: dict[str, list[Gray]] = {}
    for number, name in enumerate(crop_set.classes):
        mine = np.flatnonzero(labels == number)
        places = sampled_of([str(i) for i in mine], SAMPLES)
        chosen[name] = [crop_set.crops[mine[i], inside, inside] for i in places]
    return chosen


def _members(crop_set: CropSet) -> dict[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, row in enumerate(crop_set.index.rows):
        found[row.image.cell_line, group_name(row.image)].append(i)
    return found


def _samples(report: Report, samples: Mapping[str, Sequence[Gray]], what: str) -> None:
    some = {name: mine for name, mine in sorted(samples.items()) if len(mine)}
    if not some:
        return
    report.heading("Samples")
    report.figure(
        figures.samples_figure(some),
        f"Up to {SAMPLES} {what}, drawn at random from each cell line (seed 0). Each is stretched "
        "by the same rule, from its own 0.5 % quantile (black) to its 99.5 % quantile (white): "
        "brightness and contrast cannot be compared between pictures.",
    )


def _levels(report: Report, levels: Levels, kind: str, what: str) -> None:
    if not levels or len({len(counts) for counts in levels.values()}) > 1:
        return
    report.heading("Grey levels")
    report.paragraph(
        f"All pixels of the {what}, raw. Quantile normalization gives every crop the same "
        "histogram, so differences seen here are removed before the network sees a cell; a "
        "difference between cell lines that is also one between groups comes from the light or "
        "the camera as likely as from the cells."
    )
    report.figure(figures.lines_histogram(levels), "Grey levels of each cell line.")
    if any(group for _, group in levels):
        text = f"grey levels of each {kind}; the darker, the more pixels (square-root scale)"
        report.figure(figures.groups_histogram(levels), _cut_off(text, list(levels)))


def _per_image(report: Report, images: Sequence[ImageTally], every: bool) -> None:
    n_cells: dict[str, list[int]] = defaultdict(list)
    for one in images:
        n_cells[one.image.cell_line].append(one.n_crops)
    if max((max(mine) for mine in n_cells.values()), default=0) <= 1:
        return  # ready crops: one an image
    report.heading("Cells per image")
    missing = "" if every else " Images that gave none are not known here."
    report.figure(
        figures.per_image_figure(dict(sorted(n_cells.items()))),
        f"How many images gave how many crops.{missing}",
    )
