"""The command `parfocal-train detector`."""

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import torch
from rich.console import Console
from rich.table import Table

from parfocal import __version__
from parfocal.card import Metric
from parfocal.fieldview import ViewRules
from parfocal.learned import FindRules
from parfocal_training import screen
from parfocal_training.detector.checkpoint import read_detector
from parfocal_training.detector.fit import DetectorFit, DetectorPart, DetectorPlan
from parfocal_training.detector.material import Material, digest_of, read_material
from parfocal_training.detector.network import DetectorNet
from parfocal_training.detector.recipe import RECIPES, DetectorRecipe
from parfocal_training.detector.sources import Fields, Sources, read_sources
from parfocal_training.detector.start import read_start
from parfocal_training.detector.train import Report
from parfocal_training.jsonlines import emit


def train_detector(options: argparse.Namespace, device: torch.device, console: Console) -> None:
    """Read the sources, train, measure, and say what came out."""
    sources = _sources(options)
    start, started_from = read_start(options.init) if options.init else (None, "")
    recipe = _recipe(options, start)
    material = _material(sources, console, options.json)
    plan = DetectorPlan(
        code_version=__version__,
        recipe=recipe,
        seed=options.seed,
        folds=options.folds,
        sources=str(options.sources.name),
        files_sha256=digest_of(material),
        started_from=started_from,
        device=device.type,
        rules=FindRules(least_score=recipe.least_score),
    )
    running = DetectorFit(
        material, options.out, plan, device, lambda: datetime.now(UTC), options.workers, start
    )
    begun = time.monotonic()
    for part, report in running.run(options.resume):
        _say(part, report, recipe, begun, console, options.json)
    _report(options.out, console, options.json)


def _sources(options: argparse.Namespace) -> Sources:
    sources = read_sources(options.sources)
    if options.um_per_px is None:
        return sources
    scaled = tuple(
        msgspec.structs.replace(one, um_per_px=options.um_per_px)
        if isinstance(one, Fields) and one.um_per_px is None
        else one
        for one in sources.source
    )
    return msgspec.structs.replace(sources, source=scaled)


def _recipe(options: argparse.Namespace, start: DetectorNet | None) -> DetectorRecipe:
    name = options.recipe or ("fine-tune" if start is not None else "base")
    recipe = RECIPES[name]
    if start is not None:
        recipe = msgspec.structs.replace(recipe, config=start.config)
    if not options.steps:
        return recipe
    return msgspec.structs.replace(recipe, steps=options.steps, fold_steps=0)


def _material(sources: Sources, console: Console, quiet: bool) -> Material:
    material = Material(sources.source)
    with console.status("reading") as status:
        for name, read in read_material(sources, ViewRules()):
            material = read
            status.update(f"reading {name}")
    if not quiet:
        n_fields, n_cells = len(material.every()), len(material.cutouts)
        console.print(
            f"{n_fields} fields with truth, {n_cells} single-cell crops, "
            f"{len(material.simulated)} simulated fields"
        )
    return material


def _say(
    part: DetectorPart,
    report: Report,
    recipe: DetectorRecipe,
    begun: float,
    console: Console,
    json: bool,
) -> None:
    if json:
        emit({"part": part.name, "report": msgspec.to_builtins(report)})
        return
    steps_left = part.steps_after(recipe) + report.of - report.step
    parts = "  ".join(f"{name} {value:.3f}" for name, value in report.loss.items())
    console.print(
        f"{part.name} step {report.step}/{report.of}  {parts}  "
        f"left {screen.clock_text(steps_left * report.step_s)}",
        soft_wrap=True,
    )


def _report(out: Path, console: Console, json: bool) -> None:
    done, _ = read_detector(out)
    if json:
        emit({"out": str(out), "metrics": msgspec.to_builtins(done.metrics)})
        return
    if done.metrics:
        console.print(_table(done.metrics))
        console.print(f"the worst of the left-out fields are drawn in {out / 'overlays'}")
    for caveat in done.caveats:
        console.print(f"caveat: {caveat}")
    console.print(f"checkpoint in {out}; make it a detector with parfocal-export")


def _table(metrics: dict[str, Metric]) -> Table:
    table = Table(box=None, header_style="bold")
    for name in ("on left-out fields", "value", "95 % interval"):
        table.add_column(name)
    for name, one in metrics.items():
        table.add_row(name, f"{one.value:.3f}", f"{one.low:.3f} to {one.high:.3f}")
    return table
