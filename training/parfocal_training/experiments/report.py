"""The report of an experiment: question, plan, figures with intervals, the paper beside them."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from parfocal_training.cropset import CropSet
from parfocal_training.experiments import figures as draw
from parfocal_training.experiments import unknown_report
from parfocal_training.experiments.catalogue import Experiment, unit_name
from parfocal_training.experiments.plan import ExperimentPlan
from parfocal_training.experiments.running import RunResult
from parfocal_training.experiments.summary import SeriesFigures, matrix
from parfocal_training.experiments.unknown_figures import UnknownFigures
from parfocal_training.recipe import Recipe
from parfocal_training.report import Report
from parfocal_training.write import write_whole

COLUMNS = (
    "series", "answered", "tests", "cells", "units", "accuracy", "the paper found", "SD of tests",
    "by the paper's formula", "bootstrap of units", "balanced", "frames by vote", "flasks by vote",
)  # fmt: skip


def write(
    folder: Path,
    experiment: Experiment,
    plan: ExperimentPlan,
    results: Sequence[RunResult],
    series: Sequence[SeriesFigures],
    crop_set: CropSet,
    novelty: Sequence[UnknownFigures] = (),
) -> None:
    """Write `report.html` and `figures.json`, and `novelty.json` if novelty was asked."""
    report = Report(f"Experiment {experiment.name}: {crop_set.index.data}")
    report.paragraph(experiment.question)
    report.paragraph(f"The paper (Yao, Rochman and Sun 2019): {experiment.found}.")
    unit = unit_name(experiment, crop_set)
    for warning in warnings(plan, crop_set, unit):
        report.warning(warning)
    report.heading("Accuracy")
    chance = 1 / len(results[0].classes)
    report.figure(
        draw.bars(series, chance),
        "Accuracy of each series: mean over its tests, 95 % interval from drawing whole units "
        f"({unit}s) again.",
    )
    report.table(COLUMNS, [row(one) for one in series])
    if experiment.pools:
        report.heading("By the number of flask pairs trained on")
        report.figure(
            draw.pools(results, series, chance),
            "Every test as a dot, the mean of each size as a line (Fig. 3e of the paper).",
        )
    tables = {variant: matrix(results, variant) for variant in plan.variants}
    if any(len(rows) > 1 and len(columns) > 1 for rows, columns, _ in tables.values()):
        report.heading("Trained on, tested on")
        for variant, (rows, columns, values) in tables.items():
            caption = f"Mean accuracy, answered '{variant}'; empty fields were not tested."
            report.figure(draw.heat(rows, columns, values), caption)
    if novelty:
        unknown_report.add(report, novelty, results, crop_set)
        write_whole(folder / "novelty.json", msgspec.json.format(msgspec.json.encode(novelty)))
    if len(plan.recipes) > 1:
        report.heading("Recipes")
        report.table(*recipe_table(plan.recipes), "Every setting in which they differ.")
    report.heading("Training")
    report.figure(
        draw.curves(results),
        "Each network thin, their mean thick, of the epochs that all have; curves of the first "
        "test are for looking, nothing was chosen by them.",
    )
    seconds = sum(result.seconds for result in results)
    resumed = sum(result.epochs_before > 0 for result in results)
    report.paragraph(
        f"{len(results)} networks, {seconds / 60:.1f} minutes of training and answering in all, on "
        f"{', '.join(plan.devices)}."
        + (f" Of {resumed} that were resumed, the last sitting counts." if resumed else "")
    )
    report.details("What was asked", msgspec.json.format(msgspec.json.encode(plan)).decode())
    report.details("Log of the runs", "\n".join(map(log_line, results)))
    write_whole(folder / "figures.json", msgspec.json.format(msgspec.json.encode(list(series))))
    report.write(folder / "report.html")


def row(one: SeriesFigures) -> tuple[object, ...]:
    """A line of the table."""
    return (
        one.series,
        one.variant,
        one.n_tests,
        one.n_cells,
        one.n_units,
        one.accuracy,
        one.paper_words,
        one.sd,
        f"{one.paper_low:.3f} to {one.paper_high:.3f}",
        f"{one.low:.3f} to {one.high:.3f}",
        one.balanced_accuracy,
        "" if one.frame_accuracy is None else one.frame_accuracy,
        one.flask_accuracy,
    )


def recipe_table(recipes: Sequence[Recipe]) -> tuple[list[str], list[list[object]]]:
    """Columns and lines of a table that shows how recipes differ."""
    flat = [recipe.flat() for recipe in recipes]
    unlike = [name for name in flat[0] if len({one[name] for one in flat}) > 1 and name != "name"]
    return ["recipe", *unlike], [[one["name"], *(one[name] for name in unlike)] for one in flat]


def warnings(plan: ExperimentPlan, crop_set: CropSet, unit: str) -> list[str]:
    """What a reader must know before believing the figures."""
    out = []
    if all(Path(row.image.path).name.startswith("sim-") for row in crop_set.index.rows):
        out.append("Simulated cells: nothing here says how well real ones are told apart.")
    if plan.split == "crop":
        out.append(
            "Cells were split at random, as the paper did: cells of one field lie on both sides, "
            "and the figures flatter."
        )
    elif unit == "cell":
        out.append(
            "Each image is one cell and no field is known, so cells of one field may lie on both "
            "sides, and the figures flatter: the column field in flasks.csv would keep them "
            "together. Intervals draw single cells again."
        )
    if crop_set.index.group_kind != "flask":
        out.append(
            f"Groups are {crop_set.index.group_kind}s, not flasks: how a network does on another "
            "flask is not shown."
        )
    return out


def log_line(result: RunResult) -> str:
    """One line about a run."""
    tests = ", ".join(f"{test.on} ({len(test.cells)})" for test in result.tests)
    resumed = f" from epoch {result.epochs_before + 1} on" if result.epochs_before else ""
    return (
        f"{result.name}: trained on {result.trained_on} ({result.n_train} cells), recipe "
        f"{result.recipe}, seed {result.seed}, tested on {tests}; {result.seconds:.1f} s{resumed}"
    )
