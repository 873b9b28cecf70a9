"""What a phenotyping leaves: its files, new names in them, and a few lines for who asked."""

import argparse
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from parfocal import __version__
from parfocal.card import Phenotypes
from parfocal_training.jsonlines import emit
from parfocal_training.phenotypes import store
from parfocal_training.phenotypes.cells import cells_csv
from parfocal_training.phenotypes.pictures import write_pictures
from parfocal_training.phenotypes.report import report
from parfocal_training.phenotypes.results import Results
from parfocal_training.phenotypes.study import Cells, Study
from parfocal_training.write import write_whole


def write_all(made: Study, cells: Cells, folder: Path) -> None:
    """Figures, cells and results first; the model's presence says that all is there."""
    (folder / store.MODEL).unlink(missing_ok=True)
    write_pictures(made, cells, folder)
    write_whole(folder / store.CELLS, cells_csv(made, cells.crop_set).encode())
    store.write_results(made.results, folder)
    report(made.results, made.known, folder).write(folder / "report.html")
    model = store.PhenotypeModel(
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        code_version=__version__,
        network=cells.networks[0].name,
        weights_sha256=cells.networks[0].weights_sha256,
        crops_sha256=cells.crop_set.digest,
        data=cells.crop_set.index.data,
        seed=made.results.seed,
        phenotypes=made.known,
    )
    store.write_model(model, folder)


def name_again(options: argparse.Namespace, console: Console) -> None:
    """New names in model, cells and report; nothing is computed again."""
    folder = options.out
    model, results = store.read_model(folder), store.read_results(folder)
    known = store.named(model.phenotypes, options.name, options.by)
    path = folder / store.CELLS
    text = store.renamed_cells(path.read_text(encoding="utf-8"), known.names)
    write_whole(path, text.encode())
    report(results, known, folder).write(folder / "report.html")
    store.write_model(msgspec.structs.replace(model, phenotypes=known), folder)
    tell(results, known, options, console)


def tell(
    results: Results, known: Phenotypes, options: argparse.Namespace, console: Console
) -> None:
    """The phenotypes, on the screen or as a JSON line."""
    if options.json:
        emit(
            {
                "out": str(options.out),
                "k": results.k,
                "names": known.names,
                "cells": known.cells,
                "silhouette": results.silhouette,
                "stability": results.stability,
                "single_view": results.single_view,
                "unlike_any": results.unlike_any,
                "orientation": results.orientation,
            }
        )
        return
    table = Table("number", "name", "cells", f"{results.group_kind}s", "silhouette")
    for one in results.clusters:
        name, silhouette = known.names[one.number - 1], f"{one.silhouette:.3f}"
        table.add_row(str(one.number), name, str(one.cells), str(one.groups), silhouette)
    console.print(table)
    console.print(f"report in {options.out / 'report.html'}; name them by montage.png and --name")
