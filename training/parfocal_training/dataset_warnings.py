"""What a training on a data set may learn instead of the cell line, or cannot show."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from parfocal_training.dataset import Row, lines_of
from parfocal_training.dataset_contradictions import TRAIN_TEST, role_of, unit
from parfocal_training.dataset_faults import MIXED, Fault, as_number

FEW_CELLS = 100
"""Of a line: at 90 % right, the 95 % interval is then 0.83 to 0.94 if every cell is independent."""

FEW_IMAGES = 5
"""Of a line: with fewer, five-fold cross-validation leaves some folds without it."""

NEED = {
    "training": "a network that never saw it calls it something else",
    "test": "the test cannot tell how often it is found",
}

Groups = dict[str, set[tuple[str, str]]]


def data_warnings(
    rows: Sequence[Row], n_cells: Mapping[str, int] | None = None
) -> tuple[Fault, ...]:
    """Warnings about the design of a data set.

    Parameters
    ----------
    rows : sequence of Row
        One for each image.
    n_cells : mapping of str to int, optional
        Crops of each cell line; None where no crops are cut yet, then images are counted.
    """
    mine = [row for row in rows if row.cell_line and row.cell_line != MIXED]
    return (
        *_without_flask(rows),
        *_one_flask(mine),
        *_densities(mine),
        *_pairs(mine),
        *_one_group_in_split(mine),
        *(_few_images(mine) if n_cells is None else _few_cells(n_cells)),
    )


def warning(code: str, text: str) -> Fault:
    """Something that does not stop."""
    return Fault(code=code, text=text, severity="warning")


def _without_flask(rows: Sequence[Row]) -> Iterator[Fault]:
    n = sum(not row.flask for row in rows)
    if n == len(rows) > 0:
        text = (
            "no image has a flask: nothing can show that a network tells cell lines and not flasks "
            "apart; give flasks.csv a column flask"
        )
        yield warning("no_flask", text)
    elif n:
        text = f"{n} of {len(rows)} images have no flask: groups by flask need one for every image"
        yield warning("no_flask", text)


def _one_flask(rows: Sequence[Row]) -> Iterator[Fault]:
    for line, mine in _by_line(rows).items():
        flasks = {row.flask for row in mine}
        if len(flasks) == 1 and "" not in flasks:
            text = (
                f"{line} is seen in one flask only ({flasks.pop()!r}): a network may learn the "
                "flask instead of the line, and no test can tell; add flasks"
            )
            yield warning("label_one_flask", text)


def _by_line(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.cell_line].append(row)
    return dict(sorted(found.items()))


def _densities(rows: Sequence[Row]) -> Iterator[Fault]:
    known = {
        line: {row.density for row in mine if row.density} for line, mine in _by_line(rows).items()
    }
    for line, mine in known.items():
        others = set().union(*(known[other] for other in known if other != line))
        if mine and others and _apart(mine, others):
            text = (
                f"{line} has densities that no other line has ({', '.join(sorted(mine))}; others: "
                f"{', '.join(sorted(others))}): a network may learn the density instead of the line"
            )
            yield warning("line_one_density", text)
        elif len(mine) == 1:
            text = (
                f"{line} is seen at one density only ({min(mine)}): nothing can show whether the "
                "network knows it at others"
            )
            yield warning("line_one_density", text)


def _apart(some: set[str], others: set[str]) -> bool:
    """Whether densities do not meet: as ranges if all are numbers, else as names."""
    a, b = ([as_number(text) for text in sorted(values)] for values in (some, others))
    low, high = [v for v in a if v is not None], [v for v in b if v is not None]
    if len(low) < len(a) or len(high) < len(b):
        return not some & others
    return max(low) < min(high) or max(high) < min(low)


def _pairs(rows: Sequence[Row]) -> Iterator[Fault]:
    """Pairs are flasks of all lines grown side by side; experiments take them for all or none."""
    of_pair: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        of_pair[row.pair].append(row)
    without = of_pair.pop("", [])
    if without and of_pair:
        text = (
            f"{len(without)} of {len(rows)} images have no pair (first: {without[0].path!r}): "
            "experiments go by pairs only where every image has one"
        )
        yield warning("no_pair", text)
    lines = set(_by_line(rows))
    for pair, mine in sorted(of_pair.items()):
        missing = lines - set(_by_line(mine))
        if missing:
            text = f"pair {pair!r} has no {', '.join(sorted(missing))}: a pair holds every line"
            yield warning("incomplete_pair", text)


def _one_group_in_split(rows: Sequence[Row]) -> Iterator[Fault]:
    groups: dict[str, Groups] = {role: defaultdict(set) for role in TRAIN_TEST}
    for image in lines_of(rows):
        groups[role_of(image)][image["cell_line"]].add(unit(image))
    if not groups["test"]:
        return
    for role in TRAIN_TEST:
        for line in _by_line(rows):
            found = groups[role][line]
            if not found:
                yield warning("one_group_in_split", f"{line} has no image in {role}: {NEED[role]}")
            elif ("", "") not in found and len(found) < 2:
                kind, name = min(found)
                text = (
                    f"{line} has one {kind} in {role} ({name!r}): nothing can show how much "
                    f"{kind}s differ; give it two or more"
                )
                yield warning("one_group_in_split", text)


def _few_cells(n_cells: Mapping[str, int]) -> Iterator[Fault]:
    for line, n in sorted(n_cells.items()):
        if n < FEW_CELLS:
            text = (
                f"{line} has {n} cells: with fewer than {FEW_CELLS}, a measured accuracy of 90 % "
                "may be anything from 83 % to 94 %, or worse"
            )
            yield warning("few_cells", text)


def _few_images(rows: Sequence[Row]) -> Iterator[Fault]:
    for line, mine in _by_line(rows).items():
        if len(mine) < FEW_IMAGES:
            text = (
                f"{line} has {len(mine)} images: with fewer than {FEW_IMAGES}, a fold of five has "
                "none of it"
            )
            yield warning("few_images", text)
