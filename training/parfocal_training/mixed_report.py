"""The report of the mixed-population experiment: accuracy by frame, composition, and overlays."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from matplotlib.figure import Figure

from parfocal_training.mixed import FrameScore, Rate, Score, Spread
from parfocal_training.mixed_overlay import ShownFrame, overlay
from parfocal_training.registration import FrameShift
from parfocal_training.report import Report, canvas

PAPER_ACCURACY = 0.9
"""Yao, Rochman and Sun (2019), Fig. 4: over 90 % on average over frames."""

FEW_FLASKS = 5


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Every number of the experiment: content of `figures.json`.

    `truths` counts the cells that could be asked about; `shifts` are by frame; `repeats` and
    `accepted` (cells on which it does not abstain; None: on all) have one score a network;
    `trained_on` names frames that a network has seen, `other_detector` networks whose crops another
    one found.
    """

    schema: str = "parfocal.mixed/1"
    simulated: bool
    labelled: str
    unlabelled: str
    models: tuple[str, ...]
    truths: dict[str, int]
    n_nuclei: int
    rejected_light: dict[str, int]
    rejected_objects: dict[str, int]
    shifts: dict[str, FrameShift]
    trained_on: tuple[str, ...]
    other_detector: tuple[str, ...]
    abstains: bool
    repeats: tuple[Score, ...]
    accepted: tuple[Score | None, ...]
    over_repeats: dict[str, Spread]
    over_repeats_accepted: dict[str, Spread]


def write(figures: Figures, shown: Sequence[ShownFrame], plan: msgspec.Struct, path: Path) -> None:
    """Write the page."""
    kind = "simulated mixed flasks" if figures.simulated else "mixed flasks"
    report = Report(f"{figures.labelled} among {figures.unlabelled}: {kind}")
    question(report, figures)
    accuracy(report, figures)
    composition(report, figures)
    truth(report, figures)
    overlays(report, figures, shown)
    report.details("what was asked", msgspec.json.format(msgspec.json.encode(plan)).decode())
    report.write(path)


def question(report: Report, figures: Figures) -> None:
    """What is asked, and what the answer cannot show."""
    report.paragraph(
        f"Can a network tell {figures.labelled} from {figures.unlabelled} where both grow in one "
        f"flask? The nuclei of {figures.labelled} shine in the fluorescence channel and give each "
        "cell its true line; the network sees brightfield only. The paper (Yao, Rochman and Sun "
        "2019, Fig. 4) found over 90 % accuracy on average over frames, in three biological "
        "repeats."
    )
    if figures.simulated:
        report.warning("Simulated frames: these figures say nothing about real cells.")
    if figures.trained_on:
        report.warning(
            f"{len(figures.trained_on)} of these frames were in the training of a network: its "
            f"figures flatter ({', '.join(figures.trained_on[:5])})."
        )
    if figures.other_detector:
        report.warning(
            f"The training crops of {', '.join(figures.other_detector)} were centred by another "
            "detector than these cells."
        )
    flasks = figures.repeats[0].flask_accuracy
    if len(flasks) < FEW_FLASKS:
        report.warning(
            f"{len(flasks) or 'No'} flask(s) are named: intervals over so few cover less than "
            "they say, and frames of one flask are not independent."
        )


def accuracy(report: Report, figures: Figures) -> None:
    """Rates of each network, of each frame, and over repeats."""
    report.heading("Accuracy")
    reached = figures.over_repeats["frame_accuracy"].mean
    report.paragraph(
        f"Mean accuracy of frames {100 * reached:.1f} % (the paper: over "
        f"{100 * PAPER_ACCURACY:.0f} %)."
    )
    report.table(RATE_COLUMNS, [r for m, one in named(figures) for r in rate_rows(m, one)])
    rows: list[tuple[object, ...]] = [
        (label, name, f"{s.mean:.3f}", "-" if s.sd is None else f"{s.sd:.3f}", s.n)
        for label, spreads in (
            ("all cells", figures.over_repeats),
            *([("accepted cells", figures.over_repeats_accepted)] if figures.abstains else []),
        )
        for name, s in ((SHOWN[name], s) for name, s in spreads.items())
    ]
    caption = "Over repeats: each network is one; SD needs two."
    report.table(("cells", "figure", "mean", "SD", "repeats"), rows, caption)
    report.figure(
        accuracy_bars(figures),
        "Accuracy of each frame, mean of the networks (dots: each network). Number of cells above; "
        "dashed: the paper's 90 %; full line: mean of the frames.",
    )
    flasks = figures.repeats[0].flask_accuracy
    report.table(
        ("flask", *figures.models),
        [
            (flask, *(one.flask_accuracy.get(flask, float("nan")) for one in figures.repeats))
            for flask in flasks
        ],
        "Accuracy by flask: flasks are the paper's biological repeats.",
    )
    report.heading("Confusion")
    report.figure(
        confusion(figures),
        "Cells by true line (rows) and call (columns), summed over the networks.",
    )
    report.heading("Abstention")
    report.paragraph(abstention_text(figures))
    if figures.accepted and figures.abstains:
        kept = zip(figures.models, figures.accepted, strict=True)
        rows = [r for m, one in kept if one is not None for r in rate_rows(m, one)]
        report.table(RATE_COLUMNS, rows, "Only cells that the network did not abstain on.")


SHOWN = {
    "accuracy": "accuracy of all cells",
    "frame_accuracy": "mean accuracy of frames",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
}
RATE_COLUMNS = ("network", "figure", "value", "n", "paper's interval", "over frames", "over flasks")


def named(figures: Figures) -> list[tuple[str, Score]]:
    """Each network with its score."""
    return list(zip(figures.models, figures.repeats, strict=True))


def rate_rows(model: str, one: Score) -> list[tuple[object, ...]]:
    """One line for each rate of a network."""
    rates: dict[str, Rate | None] = {name: getattr(one, name) for name in SHOWN}
    return [
        (model, SHOWN[name], rate.value, rate.n, *map(interval_text, intervals(rate)))
        for name, rate in rates.items()
        if rate is not None
    ]


def intervals(rate: Rate) -> tuple[tuple[float, float] | None, ...]:
    """The three intervals of a rate."""
    return rate.paper, rate.over_frames, rate.over_flasks


def interval_text(interval: tuple[float, float] | None) -> str:
    """Both ends with three decimals."""
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def abstention_text(figures: Figures) -> str:
    """What abstention changes."""
    if not figures.abstains:
        return (
            "The networks have no measured rule of abstention (trained without cross-validation): "
            "no cell was refused."
        )
    total = sum(one.n_cells for one in figures.repeats)
    kept = sum(one.n_cells for one in figures.accepted if one is not None)
    return f"The networks abstained on {total - kept} of {total} calls."


def by_frame(figures: Figures) -> dict[str, list[FrameScore]]:
    """The scores of each frame by all networks."""
    out: dict[str, list[FrameScore]] = {}
    for one in figures.repeats:
        for frame in one.frames:
            out.setdefault(frame.path, []).append(frame)
    return out


def accuracy_bars(figures: Figures) -> Figure:
    """The paper's Fig. 4c with all repeats."""
    frames = by_frame(figures)
    figure = canvas(max(6.0, 0.45 * len(frames) + 2), 4.2)
    axes = figure.subplots()
    means = [float(np.mean([one.accuracy for one in scores])) for scores in frames.values()]
    axes.bar(range(len(frames)), means, color="#56b4e9")
    for at, scores in enumerate(frames.values()):
        axes.text(at, 1.02, str(scores[0].n), ha="center", fontsize=8)
        if len(scores) > 1:
            axes.plot([at] * len(scores), [s.accuracy for s in scores], "k.", markersize=4)
    axes.axhline(PAPER_ACCURACY, color="k", linestyle="--", linewidth=1)
    axes.axhline(float(np.mean(means)), color="#d55e00", linewidth=1.2)
    axes.set(ylim=(0, 1.09), ylabel="accuracy", xlim=(-0.7, len(frames) - 0.3))
    axes.set_xticks(range(len(frames)), [Path(path).stem for path in frames], rotation=60,
                    ha="right", fontsize=8)  # fmt: skip
    return figure


def confusion(figures: Figures) -> Figure:
    """Counts with the share of each row."""
    counts = np.sum([one.counts for one in figures.repeats], axis=0)  # (2, 2)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = canvas(4.6, 3.6)
    axes = figure.subplots()
    axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    names = (figures.labelled, figures.unlabelled)
    axes.set_xticks((0, 1), names)
    axes.set_yticks((0, 1), names)
    axes.set(xlabel="called", ylabel="by its nucleus")
    for row, column in np.ndindex(2, 2):
        text = f"{counts[row, column]}\n{100 * share[row, column]:.0f} %"
        colour = "white" if share[row, column] > 0.6 else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    return figure


def composition(report: Report, figures: Figures) -> None:
    """True against estimated shares."""
    report.heading("Composition of frames")
    report.figure(
        composition_scatter(figures),
        f"Share of {figures.labelled} among the cells of a frame, by nuclei and by calls. Areas "
        "grow with the number of cells. Corrected: for sensitivity and specificity, which takes "
        "the bias away but multiplies the scatter by 1 / (sensitivity + specificity - 1).",
    )
    rows = [
        (model, one.called_error, "-" if one.corrected_error is None else one.corrected_error,
         one.correction)
        for model, one in named(figures)
    ]  # fmt: skip
    caption = "Mean absolute error of a frame's share."
    report.table(("network", "as called", "corrected", "rates are those of"), rows, caption)


def composition_scatter(figures: Figures) -> Figure:
    """Shares as called, and corrected, against the truth."""
    figure = canvas(8.4, 5.0)
    titles = ("as called", "corrected for the confusion")
    for axes, title, name in zip(
        figure.subplots(1, 2, sharey=True), titles, ("called_share", "corrected_share"), strict=True
    ):
        axes.plot((0, 1), (0, 1), color="0.6", linewidth=1)
        for number, one in enumerate(figures.repeats):
            known = [frame for frame in one.frames if getattr(frame, name) is not None]
            axes.scatter(
                [frame.true_share for frame in known],
                [getattr(frame, name) for frame in known],
                s=[4 * frame.n for frame in known],
                alpha=0.6,
                color=f"C{number}",
                label=figures.models[number],
            )
        axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), aspect="equal", title=title)
        axes.set_xlabel(f"share of {figures.labelled} by nuclei")
    figure.axes[0].set_ylabel("estimated share")
    if len(figures.models) > 1:
        figure.axes[1].legend(fontsize="small")
    return figure


def truth(report: Report, figures: Figures) -> None:
    """How the truth was got, and how much of it is in doubt."""
    report.heading("Truth")
    total = sum(figures.truths.values())
    report.bullets(
        (
            f"{figures.n_nuclei} nuclei. Other light: {listed(figures.rejected_light)}.",
            f"{total} single cells could be asked about: {listed(figures.truths)}. Ambiguous ones "
            "(light at their edge, or doubtful light) are left out of all rates.",
            f"Objects not asked about: {listed(figures.rejected_objects)}.",
            f"A cell of {figures.labelled} without label, or too dim to be seen, counts here as "
            f"{figures.unlabelled}.",
        )
    )
    own = [s.own_px for s in figures.shifts.values() if s.own_px is not None]
    replaced = [path for path, s in figures.shifts.items() if s.origin == "median"]
    if not own:
        report.warning("No frame shows enough nuclei to be registered: taken as in register.")
        return
    middle, apart = np.median(own, axis=0), np.std(own, axis=0)
    report.paragraph(
        f"Registration: fluorescence is displaced by {displacement(*middle)} from brightfield "
        f"(median of {len(own)} frames; they scatter by {apart[0]:.1f} and "
        f"{apart[1]:.1f} px). {len(replaced)} frame(s) took the median because they show too few "
        f"nuclei or strayed{': ' + ', '.join(replaced[:10]) if replaced else ''}."
    )


def displacement(x_px: float, y_px: float) -> str:
    """A shift as a person says it."""
    across, along = "left" if x_px < 0 else "right", "up" if y_px < 0 else "down"
    return f"{abs(x_px):.1f} px to the {across} and {abs(y_px):.1f} px {along}"


def listed(counts: dict[str, int]) -> str:
    """Counts as a sentence has them."""
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items())) or "none"


def overlays(report: Report, figures: Figures, shown: Sequence[ShownFrame]) -> None:
    """Some pairs of frames with their truth and errors."""
    report.heading("Frames")
    for frame in shown:
        asked = [i for i in frame.calls if frame.truths[i] != "ambiguous"]
        wrong = sum(frame.calls[i] != (frame.truths[i] == "labelled") for i in asked)
        report.figure(
            overlay(frame, figures.labelled, figures.unlabelled),
            f"{frame.path}: {len(asked)} cells, {wrong} called wrongly by {figures.models[0]} "
            "(crosses). Right: fluorescence with nuclei and the same cells.",
        )
