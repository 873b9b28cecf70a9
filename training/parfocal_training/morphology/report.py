"""The page of `parfocal-train morphology`."""

from rich.table import Column, Table

from parfocal_training.cropset import CropSet
from parfocal_training.morphology import figures
from parfocal_training.morphology.clusters import Chosen
from parfocal_training.morphology.comparison import Compared
from parfocal_training.morphology.divergence import SHUFFLES
from parfocal_training.morphology.measurements import about_features, about_masks
from parfocal_training.morphology.table import FeatureTable
from parfocal_training.report import Report
from parfocal_training.seen import seen


def report(
    crop_set: CropSet,
    made: FeatureTable,
    chosen: Chosen | None,
    compared: Compared | None,
    pictures: list[list[figures.Picture]],
) -> Report:
    """The page; without clusters it tells what was measured. `pictures` are cells of either."""
    page = Report("Morphology")
    rules = crop_set.index.rules
    page.paragraph(
        f"{len(crop_set)} cells of {crop_set.index.data} in {len(set(crop_set.groups))} groups "
        f"({crop_set.index.group_kind}), {len(made.names)} features each, at {rules.um_per_px:g} "
        f"um/px. Grey levels are those that the network sees: every crop has the distribution of "
        "the medoid crop (quantile normalization), from 0 to 1."
    )
    if seen(crop_set).simulated:
        page.warning("These cells are simulated: nothing here is a finding about real cells.")
    about_masks(page, made)
    if chosen is not None and compared is not None:
        _comparison(page, chosen, compared)
        _cells(page, compared, pictures)
    about_features(page, made, compared)
    return page


def _comparison(page: Report, chosen: Chosen, made: Compared) -> None:
    counts = [int((made.label == side).sum()) for side in (False, True)]
    page.heading(f"{made.pair[0]} and {made.pair[1]}")
    page.paragraph(
        f"{counts[0]} and {counts[1]} cells; why these two: {chosen.why}. Features are ranked by "
        "the Jensen-Shannon distance of their distributions (base 2: 0 alike, 1 without overlap; "
        f"the paper takes natural logarithms, 1 is 0.83 there) over {made.bins} bins that hold "
        "equally many of all compared cells. Few cells in many bins differ by chance: the shuffles "
        f"show how much. Shuffled were {made.chance.shuffled}, {SHUFFLES} times; p is the share "
        f"in which the best of all {len(made.names)} features was as far apart."
    )
    page.figure(
        figures.ranking(made),
        "The features farthest apart; the axes of the projection are dark.",
    )
    page.paragraph(
        "JSD: Jensen-Shannon distance. By chance: 95 % of shuffles stay below. Spearman: "
        "correlation with the first feature. Sizes are in px; features.csv has them in um, too. "
        "The last two columns are medians. Neighbours in rank often measure one thing."
    )
    page.table(("", "feature", "JSD", "by chance", "p", "Spearman", *made.pair), _rows(made))
    page.figure(figures.spectrum(made), "All ranked features.")
    _projection(page, made)
    if made.separation is None:
        page.warning(
            "Pairs of features are not scored: a cluster lies in a single "
            "group, so nothing can be left out to test on."
        )


def _rows(made: Compared) -> list[tuple[object, ...]]:
    return [
        (
            *(i + 1, made.names[i], float(made.jsd[i]), float(made.chance.high[i])),
            *(float(made.chance.p[i]), float(made.rho[i])),
            *(f"{made.medians[side, i]:.4g}" for side in (0, 1)),
        )
        for i in range(min(figures.BARS, len(made.names)))
    ]


def _projection(page: Report, made: Compared) -> None:
    first, second = made.names[made.first], made.names[made.second]
    page.heading("Projection")
    page.paragraph(
        f"The first axis is the feature with the largest distance, {first}. The second is the one "
        "with the largest distance times 1 - |Spearman's correlation with the first|: "
        f"{second}, rank {made.second + 1}, correlation {made.rho[made.second]:.2f}."
    )
    page.figure(
        figures.axes_chosen(made),
        "Every ranked feature: how far apart the clusters are in it, and how much it repeats the "
        "first.",
    )
    page.figure(
        figures.projection(made),
        "Contours hold half and four fifths of a cluster; counts are spread a little at random; "
        "the outermost 0.5 % may lie outside.",
    )
    if made.separation is None:
        return
    done = made.separation
    page.paragraph(
        f"A linear support vector machine on these two features, tested on groups left out "
        f"({done.folds} folds), is right in {100 * done.axes:.0f} % "
        "(balanced: both clusters count alike, 50 % is chance). The features were chosen on the "
        "same cells, which flatters; chosen anew in each training part, two features are right in "
        f"{100 * done.honest:.0f} % (95 % interval over groups {100 * done.low:.0f} to "
        f"{100 * done.high:.0f} %)."
    )
    page.figure(
        figures.pair_scores(made),
        f"Every pair of the first {done.top} features; others were not tried.",
    )
    best = [(made.names[s.first], made.names[s.second], s.accuracy) for s in done.scores[:10]]
    page.table(
        ("feature", "feature", "balanced accuracy"),
        best,
        f"The best of {len(done.scores)} pairs; the first of so many is better than it will prove.",
    )


def _cells(page: Report, made: Compared, pictures: list[list[figures.Picture]]) -> None:
    page.heading("Cells")
    page.figure(
        figures.cells(made, pictures),
        "Cells nearest to the medians of their cluster on the two axes, with the outlines that "
        "were measured.",
    )


def screen_table(made: Compared, shown: int = 10) -> Table:
    """The first features, for the terminal."""
    numbers = [Column(name, no_wrap=True) for name in ("JSD", "by chance", "p")]
    out = Table(Column("", no_wrap=True), Column("feature", overflow="fold"), *numbers)
    for rank, name, jsd, high, p, *_ in _rows(made)[:shown]:
        out.add_row(str(rank), str(name), f"{jsd:.3f}", f"{high:.3f}", f"{p:.3f}")
    return out
