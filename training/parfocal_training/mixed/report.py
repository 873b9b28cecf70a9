"""The report of the mixed-population experiment: accuracy by frame, composition, and overlays."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from parfocal_training.mixed.figures import (
    PAPER_ACCURACY,
    accuracy_bars,
    composition_scatter,
    confusion,
)
from parfocal_training.mixed.overlay import ShownFrame, overlay
from parfocal_training.mixed.rates import Rate
from parfocal_training.mixed.scores import Score
from parfocal_training.mixed.summary import Figures
from parfocal_training.report import Report

FEW_FLASKS = 5
SHOWN = {
    "accuracy": "accuracy of all cells",
    "frame_accuracy": "mean accuracy of frames",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
}
RATE_COLUMNS = ("network", "figure", "value", "n", "paper's interval", "over frames", "over flasks")
REPEAT_COLUMNS = ("cells", "figure", "mean", "SD", "repeats")
OVER_REPEATS = "Over repeats: each network is one; SD needs two."


def write(figures: Figures, shown: Sequence[ShownFrame], plan: msgspec.Struct, path: Path) -> None:
    """Write the page."""
    kind = "simulated mixed flasks" if figures.simulated else "mixed flasks"
    report = Report(f"{figures.labelled} among {figures.unlabelled}: {kind}")
    question(report, figures)
    accuracy(report, figures)
    errors(report, figures)
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
    report.table(REPEAT_COLUMNS, repeat_rows(figures), OVER_REPEATS)
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


def repeat_rows(figures: Figures) -> list[tuple[object, ...]]:
    """One line for each rate over repeats, of all cells and of accepted ones."""
    return [
        (label, SHOWN[name], f"{s.mean:.3f}", "-" if s.sd is None else f"{s.sd:.3f}", s.n)
        for label, spreads in (
            ("all cells", figures.over_repeats),
            *([("accepted cells", figures.over_repeats_accepted)] if figures.abstains else []),
        )
        for name, s in spreads.items()
    ]


def errors(report: Report, figures: Figures) -> None:
    """Which line is called which, and what abstention changes."""
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
