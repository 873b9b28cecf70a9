"""`parfocal-train experiment mixed`: networks tested on flasks that hold both lines (Fig. 4)."""

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from parfocal import __version__
from parfocal.prepare import to_gray
from parfocal.types import Detector
from parfocal_training.claim import claim
from parfocal_training.crops import detector_named
from parfocal_training.errors import DataError
from parfocal_training.jsonlines import emit
from parfocal_training.mixed import report
from parfocal_training.mixed.frames import Asked, Judged, judged, observed, paired_rows, readable
from parfocal_training.mixed.networks import (
    Network,
    read_network,
    rows_of,
    two_classes,
    unlike_names,
)
from parfocal_training.mixed.nuclei import one_channel
from parfocal_training.mixed.overlay import ShownFrame
from parfocal_training.mixed.summary import Figures, figures_of
from parfocal_training.options import Commands, above_zero, shared_options
from parfocal_training.screen import percent
from parfocal_training.write import write_whole


def add(commands: Commands) -> None:
    """The command and its options; `commands` are the sub-parsers of `experiment`."""
    command = commands.add_parser(
        "mixed", help="test networks on mixed flasks whose one line has fluorescent nuclei"
    )
    shared_options(command)
    command.add_argument(
        "data",
        type=Path,
        help="folder with flasks.csv, whose images of cell_line 'mixed' name their fluorescence",
    )
    command.add_argument(
        "--model",
        type=Path,
        nargs="+",
        required=True,
        metavar="CHECKPOINT",
        help="folder made by parfocal-train fit; several are repeats",
    )
    command.add_argument(
        "--labelled", required=True, metavar="LINE", help="cell line whose nuclei shine"
    )
    command.add_argument(
        "--detector",
        default="auto",
        metavar="NAME",
        help="what finds the cells: auto, classical, a shipped detector or a bundle file",
    )
    command.add_argument(
        "--max-shift-px",
        type=above_zero,
        default=30.0,
        metavar="PX",
        help="largest displacement of the two frames that is looked for, in brightfield pixels",
    )
    command.add_argument(
        "--frame-um-per-px",
        type=above_zero,
        help="pixel size in micrometres of images that neither flasks.csv nor their file knows",
    )
    command.set_defaults(run=run)


class MixedPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked."""

    code_version: str
    data: str
    models: tuple[str, ...]
    labelled: str
    detector: str
    max_shift_px: float


def run(options: argparse.Namespace, console: Console) -> None:
    """The command `experiment mixed`."""
    names = unlike_names([path.resolve() for path in options.model])
    networks = [read_network(p, name) for p, name in zip(options.model, names, strict=True)]
    classes = two_classes(networks, options.labelled)
    rows = paired_rows(options.data)
    detector = detector_named(options.detector)
    plan = planned(options, networks, detector)
    claim(options.out, plan, resume=False)
    asked = Asked(options.data, options.labelled, options.max_shift_px, options.frame_um_per_px)
    seen = list(observed(rows, networks, detector, asked, console))
    if not sum(len(one.nuclei) for one in seen):
        raise DataError(
            f"none of {len(seen)} fluorescence frames of '{options.data}' shows a nucleus: without "
            "any there is no truth; look at the frames, and at the exposure"
        )
    frames = judged(seen)
    figures = figures_of(frames, networks, classes, detector, options.data)
    write_whole(options.out / "cells.csv", cells_table(frames, networks, classes))
    text = msgspec.json.format(msgspec.json.encode(figures), indent=1)
    write_whole(options.out / "figures.json", text)
    shown = [shown_frame(options.data, frame) for frame in chosen_frames(frames, figures)]
    report.write(figures, shown, plan, options.out / "report.html")
    tell(figures, options, console)


def planned(
    options: argparse.Namespace, networks: Sequence[Network], detector: Detector
) -> MixedPlan:
    """What was asked, as the folder of the answers keeps it."""
    return MixedPlan(
        code_version=__version__,
        data=options.data.resolve().name,
        models=tuple(network.name for network in networks),
        labelled=options.labelled,
        detector=detector.name,
        max_shift_px=options.max_shift_px,
    )


def cells_table(
    frames: Sequence[Judged], networks: Sequence[Network], classes: tuple[str, str]
) -> bytes:
    """`cells.csv`: each cell with its truth and what every network said."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ("model", "path", "flask", "x_px", "y_px", "truth", f"p_{classes[0]}", "called", "accepted")
    )
    for frame in frames:
        row, points_px = frame.seen.row, frame.seen.finds.points_px
        for network, answers in zip(networks, frame.seen.answers, strict=True):
            for i, p, accepted in rows_of(answers):
                x, y = points_px[i]
                writer.writerow(
                    (network.name, row.path, row.flask, f"{x:.1f}", f"{y:.1f}", frame.truths[i],
                     f"{p:.4f}", classes[0] if p >= 0.5 else classes[1], int(accepted))
                )  # fmt: skip
    return text.getvalue().encode()


def chosen_frames(frames: Sequence[Judged], figures: Figures) -> list[Judged]:
    """Three frames as in the paper's Fig. 4b: rich in either line, and about even."""
    share = {frame.path: frame.true_share for frame in figures.repeats[0].frames if frame.n > 1}
    if not share:
        share = {frame.path: frame.true_share for frame in figures.repeats[0].frames}
    even = min(share, key=lambda path: abs(share[path] - 0.5))
    paths = dict.fromkeys(
        (even, min(share, key=share.__getitem__), max(share, key=share.__getitem__))
    )
    by_path = {frame.seen.row.path: frame for frame in reversed(frames)}
    return [by_path[path] for path in paths]


def shown_frame(data: Path, frame: Judged) -> ShownFrame:
    """A frame as the report draws it, with the calls of the first network."""
    seen = frame.seen
    bright, _, _ = readable(data, seen.row.path, to_gray)
    glow, _, _ = readable(data, seen.row.fluorescence, one_channel)
    return ShownFrame(
        path=seen.row.path,
        bright=bright,
        glow=glow,
        finds=seen.finds,
        nuclei=seen.nuclei,
        shift_px=frame.shift.used_px,
        truths=frame.truths,
        calls={i: p >= 0.5 for i, p, _ in rows_of(seen.answers[0])},
    )


def tell(figures: Figures, options: argparse.Namespace, console: Console) -> None:
    """What a person, or with --json a program, reads at the end."""
    if options.json:
        for model, one in zip(figures.models, figures.repeats, strict=True):
            for frame in one.frames:
                emit({"model": model, "frame": msgspec.to_builtins(frame)})
        spreads = msgspec.to_builtins(figures.over_repeats)
        emit({"out": str(options.out), "truths": figures.truths, "over_repeats": spreads})
        return
    table = Table("model", "cells", "accuracy", "mean of frames", "sensitivity", "specificity")
    for model, one in zip(figures.models, figures.repeats, strict=True):
        rates = (one.accuracy, one.frame_accuracy, one.sensitivity, one.specificity)
        table.add_row(model, str(one.n_cells), *(percent(r.value if r else None) for r in rates))
    console.print(table)
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(figures.truths.items()))
    console.print(f"cells by their nuclei: {kinds}; report in {options.out}")
