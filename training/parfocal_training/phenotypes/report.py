"""The page of `parfocal-train phenotypes`, from stored figures: it can be redrawn with names."""

from pathlib import Path

from parfocal.card import Metric, Phenotypes
from parfocal.phenotypes import default_names
from parfocal_training.phenotypes.clustering import CALLED
from parfocal_training.phenotypes.evidence import followed, fractions, picture
from parfocal_training.phenotypes.results import Results
from parfocal_training.report import Report

WAYS = {
    "k-means": "k-means with Euclidean distances",
    "mixture": "a Gaussian mixture, whose components have shapes of their own,",
}
CRITERIA = {"k-means": ("mean silhouette", "highest"), "mixture": ("BIC", "lowest")}
SPACES = {
    "discriminants": "discriminants of cells, in units of the spread of a cell's own copies",
    "components": "principal components of LCA values of SD 1",
    "whitened": "principal components of LCA values, each of SD 1",
    "lca": "the LCA values as they are, as in the paper",
}


def report(found: Results, known: Phenotypes, folder: Path) -> Report:
    """The page, with the figures that lie in `folder/figures`."""
    page = Report("Morphological phenotypes")
    _about(page, found)
    _phenotypes(page, found, known, folder)
    _choice(page, found, folder)
    _matrices(page, found, folder)
    _live(page, found)
    fractions(page, found, known, folder)
    followed(page, found)
    return page


def _about(page: Report, found: Results) -> None:
    simulated = "simulated " if found.simulated else ""
    page.paragraph(
        f"{found.n_cells} {simulated}cells of {found.n_groups} {found.group_kind}s of "
        f"{found.data}. Each is the mean latent cell activation (LCA, {found.lca_values} values) "
        f"of {found.copies} augmented copies by network '{found.network}'. Clusters are sought by "
        f"{WAYS[found.method]} in {found.components} dimensions: {SPACES[found.space]} "
        f"({100 * found.explained:.1f} % of the variance)."
    )
    if found.simulated:
        page.warning("These cells are simulated: nothing here is a finding about real cells.")
    if found.other_crops:
        page.warning(
            "The network was trained on other crops than these: its LCA need not tell them apart "
            "as well."
        )


def _phenotypes(page: Report, found: Results, known: Phenotypes, folder: Path) -> None:
    page.heading("Phenotypes")
    by = f" Names by {known.named_by}." if known.named_by else ""
    if known.names == default_names(len(known.names)):
        page.paragraph(
            "These clusters have no names yet. Look at the cells, then name the phenotypes: "
            "parfocal-train phenotypes -o OUT --name 1=round 2=spindle --by 'M. Curie'."
        )
    picture(
        page,
        folder,
        "montage",
        "Cells nearest to the centre of each phenotype, from different "
        f"{found.group_kind}s where possible; numbers as in all figures.",
    )
    page.table(
        ("number", "name", "cells", "share of cells", f"{found.group_kind}s", "mean silhouette"),
        [
            (one.number, known.names[one.number - 1], one.cells, one.cells / found.n_cells,
             one.groups, one.silhouette)
            for one in found.clusters
        ],
        f"Phenotypes by falling size.{by}",
    )  # fmt: skip
    lonely = [known.names[one.number - 1] for one in found.clusters if one.groups == 1]
    if lonely:
        page.warning(
            f"Cells of one {found.group_kind} only: {', '.join(lonely)}. That may be a fault of "
            f"the {found.group_kind}, not a kind of cell."
        )
    picture(
        page,
        folder,
        "tsne",
        "t-SNE map of the cells in the space of the clusters, and cells that lie there, framed in "
        "the colour of their phenotype. Only neighbourhoods mean something on it, not distances.",
    )


def _choice(page: Report, found: Results, folder: Path) -> None:
    page.heading("How many, and how steady")
    what, extreme = CRITERIA[found.method]
    sought = found.k_sought or found.k
    way = (
        f"k = {sought} was asked for; the {what} is {extreme} at k = {found.best_k}."
        if found.k_asked
        else f"k = {sought} has the {extreme} {what}."
    )
    if sought > found.k:
        way += f" Of these {sought} components {sought - found.k} hold no cell: {found.k} are left."
    elbow = ""
    if found.method == "k-means":
        elbow = (
            f"The elbow is at k = {found.elbow_k}: the point of the inertia curve farthest below "
            "the line between its ends. "
        )
    page.paragraph(
        f"{way} The mean silhouette is {found.silhouette:.3f} at the chosen k (1 is a cluster far "
        f"from all others, 0 none). {elbow}Best of {found.starts} starts at every k, of "
        f"{found.repeats} at the chosen one."
    )
    top = found.sweep[-1].k
    if found.best_k == top:
        page.warning(
            f"The {what} is {extreme} at the largest k that was tried, {top}: give a larger "
            "--max-clusters, or there are no clusters."
        )
    if found.silhouette < 0.25:
        page.warning(
            f"A mean silhouette of {found.silhouette:.2f} is weak (below 0.25, Kaufman and "
            "Rousseeuw 1990): cells vary without gaps, and the borders between phenotypes are a "
            "convention."
        )
    right = "inertia" if found.method == "k-means" else "BIC"
    picture(
        page,
        folder,
        "curves",
        f"Mean silhouette and {right} over k. The paper shows the mean over repeated starts.",
    )
    page.table(
        ("what changes", "adjusted Rand index", "range", "clusterings compared"),
        [(one.what, one.mean, f"{one.low:.3f} to {one.high:.3f}", one.n)
         for one in found.stability],
        "Whether the same clusters come again: 0 by chance, 1 the same.",
    )  # fmt: skip
    if found.networks == 1:
        page.paragraph(
            "Only one network was given: agreement between networks is not known. Train another "
            "with another --seed and give it with --beside."
        )
    m = found.medoids
    of = "" if m.n == found.n_cells else f" (medoids sought among {m.n} cells at random)"
    page.paragraph(
        f"k-medoids at the same k{of}: mean silhouette {m.silhouette:.3f}, {CALLED[found.method]} "
        f"{m.clusters_silhouette:.3f}, adjusted Rand index between the two {m.rand:.3f}."
    )


def _matrices(page: Report, found: Results, folder: Path) -> None:
    page.heading("Latent cell activations")
    if (folder / "figures" / "training.png").exists():
        picture(page, folder, "training", "How the network was trained, epoch by epoch.")
    picture(page, folder, "matrices", "LCA of the cells, one line each; lines part the phenotypes.")
    picture(page, folder, "distances", "Distances between cells; lines part the phenotypes.")
    s = found.spread
    picture(
        page,
        folder,
        "spread",
        f"Spread under augmentation ({s.n_cells} cells): the median distance between two cells is "
        f"{s.ratio:.2f} times that of a copy to its own cell's mean ({s.cells:.2f} against "
        f"{s.copies:.2f}).",
    )
    if s.ratio < 1.5:
        page.warning(
            f"Copies of one cell lie nearly as far apart as cells do (ratio {s.ratio:.2f}): the "
            "network hardly tells these cells apart. Train it for longer, or on more."
        )


def _live(page: Report, found: Results) -> None:
    page.heading("One look at a cell")
    one = found.single_view
    page.paragraph(
        f"Live there is one crop of a cell and no copies. Its LCA alone finds the phenotype of "
        f"the {found.copies} copies for {100 * one.accuracy:.1f} % of these cells (adjusted Rand "
        f"index {one.rand:.3f}), and for {_percent(one.left_out)} of cells of left-out "
        f"{found.group_kind}s."
    )
    page.paragraph(
        f"A cell beyond the limits of all phenotypes is 'unlike any'. Limits are set for 2 %; "
        f"{_percent(found.unlike_any)} of cells of left-out {found.group_kind}s were so. Space, "
        f"phenotypes and limits were made anew for them from the other {found.group_kind}s; how "
        "many phenotypes there are, and where the search for them began, all cells decided."
    )
    if one.left_out.value < 0.8:
        page.warning(
            "A single look often finds another phenotype than the copies do. Fractions from live "
            "cells are those of single looks: compare them with each other, not with the tables "
            "here."
        )


def _percent(one: Metric) -> str:
    ends = "" if one.low is None else f" ({100 * one.low:.1f} to {100 * (one.high or 0):.1f} %)"
    return f"{100 * one.value:.1f} %{ends}"
