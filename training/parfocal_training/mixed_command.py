"""`parfocal-train experiment mixed`: networks tested on flasks that hold both lines (Fig. 4)."""

import argparse
import csv
import io
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from parfocal import __version__
from parfocal.bundle import BundleError
from parfocal.classify import DeviceError, InferenceError
from parfocal.detectors import choose, started
from parfocal.prepare import to_gray
from parfocal.simulator.save import truth_folder
from parfocal.types import Detector
from parfocal_training import mixed_report
from parfocal_training.checkpoint import Checkpoint
from parfocal_training.claim import claim
from parfocal_training.dataset import Row, listed
from parfocal_training.dataset_faults import MIXED
from parfocal_training.errors import DataError, UsageError
from parfocal_training.mixed import Called, over_repeats, score
from parfocal_training.mixed_frames import (
    Asked,
    Network,
    Observed,
    observed,
    read_network,
    readable,
    rows_of,
)
from parfocal_training.mixed_overlay import ShownFrame
from parfocal_training.mixed_report import Figures
from parfocal_training.mixed_truth import CellTruth, cell_truths
from parfocal_training.nuclei import one_channel
from parfocal_training.options import Commands, above_zero, shared_options
from parfocal_training.registration import FrameShift, agreed_shifts
from parfocal_training.screen import percent
from parfocal_training.write import write_whole

Truths = tuple[CellTruth, ...]
Rates = tuple[float, float]


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
    detector = started_detector(options.detector)
    plan = MixedPlan(
        code_version=__version__,
        data=options.data.resolve().name,
        models=tuple(network.name for network in networks),
        labelled=options.labelled,
        detector=detector.name,
        max_shift_px=options.max_shift_px,
    )
    claim(options.out, plan, resume=False)
    asked = Asked(options.data, options.labelled, options.max_shift_px, options.frame_um_per_px)
    seen = list(observed(rows, networks, detector, asked, console))
    if not sum(len(one.nuclei) for one in seen):
        raise DataError(
            f"none of {len(seen)} fluorescence frames of '{options.data}' shows a nucleus: without "
            "any there is no truth; look at the frames, and at the exposure"
        )
    shifts = agreed_shifts([one.own for one in seen], [one.um_per_px for one in seen])
    truths = [
        cell_truths(one.nuclei, one.finds, shift.used_px, one.frame, one.um_per_px)
        for one, shift in zip(seen, shifts, strict=True)
    ]
    figures = figures_of(seen, shifts, truths, networks, classes, detector, options.data)
    write_whole(options.out / "cells.csv", cells_table(seen, truths, networks, classes))
    text = msgspec.json.format(msgspec.json.encode(figures), indent=1)
    write_whole(options.out / "figures.json", text)
    shown = [
        shown_frame(options.data, seen[i], shifts[i], truths[i])
        for i in chosen_frames(seen, figures)
    ]
    mixed_report.write(figures, shown, plan, options.out / "report.html")
    tell(figures, options, console)


def unlike_names(paths: Sequence[Path]) -> list[str]:
    """The last parts of each path, as many as tell them all apart.

    Raises
    ------
    UsageError
        A path is given twice: the same network is no repeat.
    """
    if len(set(paths)) < len(paths):
        raise UsageError("--model names a checkpoint twice: repeats are networks trained anew")
    names, parts = [path.name for path in paths], 1
    while len(set(names)) < len(names):
        parts += 1
        names = ["/".join(path.parts[-parts:]) for path in paths]
    return names


def two_classes(networks: Sequence[Network], labelled: str) -> tuple[str, str]:
    """The labelled line and the other one.

    Raises
    ------
    UsageError
        The networks do not know these two lines and no other.
    """
    known = networks[0].checkpoint.classes
    for network in networks:
        classes = network.checkpoint.classes
        if len(classes) != 2 or set(classes) != set(known):
            raise UsageError(
                f"--model '{network.name}' tells {', '.join(classes)} apart: all models must tell "
                "the same two cell lines apart"
            )
    if labelled not in known:
        raise UsageError(f"--labelled is '{labelled}', but the models know {' and '.join(known)}")
    return labelled, known[1 - known.index(labelled)]


def paired_rows(folder: Path) -> tuple[Row, ...]:
    """The mixed images of a data set, each with its fluorescence frame.

    Raises
    ------
    DataError
        Everything that is missing, in one sentence.
    """
    rows, faults = listed(folder)
    wrong = [fault.text for fault in faults if fault.severity == "error"]
    rows = tuple(row for row in rows if row.cell_line == MIXED)
    wrong += [f"'{row.path}' has no fluorescence" for row in rows if not row.fluorescence]
    if not rows and not wrong:
        wrong = [f"no image has the cell_line '{MIXED}'"]
    if wrong:
        raise DataError(
            f"'{folder}' cannot be used: {'; '.join(wrong)}. List pairs in flasks.csv with path, "
            "cell_line mixed, and fluorescence, the path of the paired frame"
        )
    return rows


def started_detector(name: str) -> Detector:
    """The detector that a name means."""
    try:
        return started(choose(name))
    except (BundleError, DeviceError, InferenceError) as error:
        raise UsageError(f"--detector: {error}") from error


def called(seen: Sequence[Observed], truths: Sequence[Truths], repeat: int) -> Called:
    """All cells of known line with one network's calls."""
    cells = [
        (one.row.path, one.row.flask, truth[i] == "labelled", p, accepted)
        for one, truth in zip(seen, truths, strict=True)
        for i, p, accepted in rows_of(one.answers[repeat])
        if truth[i] != "ambiguous"
    ]
    return Called(
        frames=tuple(cell[0] for cell in cells),
        flasks=tuple(cell[1] for cell in cells),
        truth=np.array([cell[2] for cell in cells], np.bool_),
        called=np.array([cell[3] >= 0.5 for cell in cells], np.bool_),
        accepted=np.array([cell[4] for cell in cells], np.bool_),
    )


def known_rates(checkpoint: Checkpoint, labelled: str) -> Rates | None:
    """Sensitivity and specificity that left-out groups of the training showed, if they were."""
    confusion = checkpoint.measured.confusion
    if confusion is None:
        return None
    counts = np.array(confusion.counts, np.float64)
    share = np.diag(counts) / np.maximum(counts.sum(1), 1)
    at = checkpoint.classes.index(labelled)
    return float(share[at]), float(share[1 - at])


def figures_of(
    seen: Sequence[Observed],
    shifts: Sequence[FrameShift],
    truths: Sequence[Truths],
    networks: Sequence[Network],
    classes: tuple[str, str],
    detector: Detector,
    data: Path,
) -> Figures:
    """Every number of the report."""
    every, accepted = [], []
    for repeat, network in enumerate(networks):
        cells = called(seen, truths, repeat)
        if not len(cells):
            raise DataError(
                f"none of {len(seen)} frames shows a single cell of sure truth: look at the "
                "registration, at --max-shift-px and at what the detector finds"
            )
        rates = known_rates(network.checkpoint, classes[0])
        every.append(score(cells, 0, rates))
        kept = cells.of(cells.accepted)
        accepted.append(score(kept, len(cells) - len(kept), None) if len(kept) else None)
    return Figures(
        simulated=truth_folder(data.resolve()).is_dir(),
        labelled=classes[0],
        unlabelled=classes[1],
        models=tuple(network.name for network in networks),
        truths=dict(Counter(t for pair in zip(seen, truths, strict=True) for t in single(*pair))),
        n_nuclei=sum(len(one.nuclei) for one in seen),
        rejected_light=dict(sum((one.nuclei.rejected for one in seen), Counter())),
        rejected_objects=dict(Counter(str(r) for one in seen for r in one.finds.reasons if r)),
        shifts={one.row.path: shift for one, shift in zip(seen, shifts, strict=True)},
        trained_on=tuple(one.row.path for one in seen if one.trained_on),
        other_detector=tuple(
            network.name
            for network in networks
            if network.checkpoint.detector.fingerprint != detector.fingerprint
        ),
        abstains=any(one.checkpoint.measured.abstention.min_probability > 0 for one in networks),
        repeats=tuple(every),
        accepted=tuple(accepted),
        over_repeats=over_repeats(every),
        over_repeats_accepted=over_repeats([one for one in accepted if one is not None]),
    )


def single(one: Observed, truth: Truths) -> list[CellTruth]:
    """Truths of the cells that the first network was asked about."""
    return [truth[i] for i in one.answers[0].chosen]


def cells_table(
    seen: Sequence[Observed],
    truths: Sequence[Truths],
    networks: Sequence[Network],
    classes: tuple[str, str],
) -> bytes:
    """`cells.csv`: each cell with its truth and what every network said."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ("model", "path", "flask", "x_px", "y_px", "truth", f"p_{classes[0]}", "called", "accepted")
    )
    for one, truth in zip(seen, truths, strict=True):
        for network, answers in zip(networks, one.answers, strict=True):
            for i, p, accepted in rows_of(answers):
                x, y = one.finds.points_px[i]
                writer.writerow(
                    (network.name, one.row.path, one.row.flask, f"{x:.1f}", f"{y:.1f}", truth[i],
                     f"{p:.4f}", classes[0] if p >= 0.5 else classes[1], int(accepted))
                )  # fmt: skip
    return text.getvalue().encode()


def chosen_frames(seen: Sequence[Observed], figures: Figures) -> list[int]:
    """Three frames as in the paper's Fig. 4b: rich in either line, and about even."""
    share = {frame.path: frame.true_share for frame in figures.repeats[0].frames if frame.n > 1}
    if not share:
        share = {frame.path: frame.true_share for frame in figures.repeats[0].frames}
    paths = [one.row.path for one in seen]
    even = min(share, key=lambda path: abs(share[path] - 0.5))
    ordered = dict.fromkeys(
        (even, min(share, key=share.__getitem__), max(share, key=share.__getitem__))
    )
    return [paths.index(path) for path in ordered]


def shown_frame(data: Path, one: Observed, shift: FrameShift, truth: Truths) -> ShownFrame:
    """A frame as the report draws it, with the calls of the first network."""
    bright, _, _ = readable(data, one.row.path, to_gray)
    glow, _, _ = readable(data, one.row.fluorescence, one_channel)
    return ShownFrame(
        path=one.row.path,
        bright=bright,
        glow=glow,
        finds=one.finds,
        nuclei=one.nuclei,
        shift_px=shift.used_px,
        truths=truth,
        calls={i: p >= 0.5 for i, p, _ in rows_of(one.answers[0])},
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


def emit(value: object) -> None:
    """One line of JSON on stdout."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
