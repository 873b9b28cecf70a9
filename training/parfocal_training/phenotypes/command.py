"""`parfocal-train phenotypes`: clusters of cells by their LCA, and names for them."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from parfocal_training import cropset
from parfocal_training.cropset import CropSet
from parfocal_training.device import device_named
from parfocal_training.errors import DataError, UsageError
from parfocal_training.jsonlines import emit
from parfocal_training.networks import TrainedNetwork, trained_networks
from parfocal_training.options import Commands, shared_options
from parfocal_training.phenotypes import store
from parfocal_training.phenotypes.asked import MIXTURE_DISCRIMINANTS, cluster_options
from parfocal_training.phenotypes.choice import OfK
from parfocal_training.phenotypes.lca import CellLca, Source, kept_lca, recipe_of
from parfocal_training.phenotypes.outcome import name_again, tell, write_all
from parfocal_training.phenotypes.progress import T
from parfocal_training.phenotypes.study import Cells, Study, study
from parfocal_training.recipe import Recipe


def add(commands: Commands) -> None:
    """The command and its options."""
    command = commands.add_parser(
        "phenotypes", help="morphological phenotypes: clusters of cells by their LCA"
    )
    shared_options(command)
    command.description = (
        "Clusters cells by their latent activations, measures how far the clusters can be believed "
        "and writes a phenotype model. Look at montage.png, then give names: parfocal-train "
        "phenotypes -o OUT --name 1=round 2=spindle."
    )
    command.add_argument(
        "network",
        type=Path,
        nargs="?",
        help="folder made by parfocal-train selflabel or fit; not with --name",
    )
    command.add_argument(
        "crops", type=Path, nargs="?", help="folder made by parfocal-train crops; not with --name"
    )
    command.add_argument(
        "--beside",
        type=Path,
        nargs="+",
        default=[],
        metavar="NETWORK",
        help="further trainings on the same crops, such as fits of other seeds: only to measure "
        "how far clusters agree between networks",
    )
    cluster_options(command)
    command.add_argument(
        "--name",
        nargs="+",
        default=[],
        metavar="N=NAME",
        help="name phenotypes that are already in OUT, by their number in montage.png",
    )
    command.add_argument("--by", default="", metavar="PERSON", help="who gave the names")
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> None:
    """The command `phenotypes`."""
    if options.name:
        if options.network is not None:
            raise UsageError("--name takes no NETWORK: give -o OUT, the folder of the phenotypes")
        name_again(options, console)
        return
    if options.network is None or options.crops is None:
        raise UsageError("give NETWORK and CROPS, or -o OUT with --name to name its phenotypes")
    mixed = options.method == "mixture"
    if mixed and options.space == "discriminants" and options.components is None:
        options.components = MIXTURE_DISCRIMINANTS
    if options.threads:
        torch.set_num_threads(options.threads)
    crop_set = cropset.load(options.crops)  # all: no label is used, as in selflabel
    networks = _networks(options)
    _check(options, crop_set, tuple(networks))
    cells = _cells(options, crop_set, networks, console)
    made = _study(cells, options, console)
    with console.status("figures"):
        write_all(made, cells, options.out)
    tell(made.results, made.known, options, console)


def _networks(options: argparse.Namespace) -> dict[TrainedNetwork, Recipe]:
    """Every network and how it was trained, that of the phenotypes first; names are unique."""
    found = dict.fromkeys(trained_networks(options.network), recipe_of(options.network))
    for number, folder in enumerate(options.beside, 2):
        for one in trained_networks(folder):
            found[replace(one, name=f"{one.name}-of-{number}")] = recipe_of(folder)
    return found


def _check(
    options: argparse.Namespace, crop_set: CropSet, networks: tuple[TrainedNetwork, ...]
) -> None:
    mine, n = crop_set.index.rules, len(crop_set)
    differ = next(filter(None, (mine.differences(one.pixels) for one in networks)), "")
    if differ:
        raise UsageError(
            f"the network takes other crops than these ({differ}): make the crops again with the "
            "network's"
        )
    if mine.crop_px % options.shrink:
        raise UsageError(f"--shrink {options.shrink} does not divide the {mine.crop_px} px crops")
    if n < 10:
        raise DataError(f"{n} cells are too few to cluster: 10 are the least, hundreds are better")
    if len(set(crop_set.groups)) < 2:
        raise DataError(
            f"all {n} cells are of one {crop_set.index.group_kind}: limits need two or more; make "
            "the crops with --group-by field or image"
        )
    if options.max_clusters < 2 or not 2 <= (options.clusters or 2) <= n // 5:
        raise UsageError(
            f"{n} cells allow 2 to {n // 5} clusters: give --clusters and --max-clusters so"
        )
    if options.method == "mixture" and options.space == "lca":
        raise UsageError(
            "a mixture needs few axes, the LCA has hundreds: give another --space than lca"
        )
    if store.is_named(options.out):
        raise UsageError(
            f"the phenotypes in '{options.out}' have been named by a person: give another folder"
        )


def _cells(
    options: argparse.Namespace,
    crop_set: CropSet,
    networks: dict[TrainedNetwork, Recipe],
    console: Console,
) -> Cells:
    """The LCAs of all networks, from disk where they are known."""
    device = device_named(options.device)
    asked = [
        Source(
            weights_sha256=one.weights_sha256,
            crops_sha256=crop_set.digest,
            pixels=one.pixels.fingerprint,
            recipe=recipe,
            copies=options.copies,
            seed=options.seed,
            device=device.type,
        )
        for one, recipe in networks.items()
    ]
    lcas: list[CellLca] = []
    with Progress(console=console, disable=options.json or not console.is_terminal) as bar:
        task = bar.add_task("LCA", total=len(networks) * (options.copies + 1))
        for number, (network, mine) in enumerate(zip(networks, asked, strict=True)):
            path = options.out / "lca" / f"{network.name}.safetensors"
            lcas.append(kept_lca(path, network, crop_set, mine, lambda: bar.advance(task)))
            bar.update(task, completed=(number + 1) * (options.copies + 1))
    curves = options.network / "curves.png"
    profile = curves.read_bytes() if curves.exists() else None
    return Cells(crop_set, tuple(networks), lcas, asked[0], profile)


def _study(cells: Cells, options: argparse.Namespace, console: Console) -> Study:
    """The study, with a bar for each of its stages."""

    def say(one: OfK) -> None:
        if options.json:
            emit(one)

    with Progress(console=console, disable=options.json or not console.is_terminal) as bar:

        def watched(steps: Sequence[T], stage: str, /) -> Iterator[T]:
            task = bar.add_task(stage, total=len(steps))
            for one in steps:
                yield one
                bar.advance(task)

        return study(cells, options, say, watched)
