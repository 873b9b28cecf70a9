"""What a model has been trained on, and what it must therefore not be used for."""

from collections import Counter
from pathlib import Path

from parfocal.card import Seen
from parfocal_training.cropset import CropSet

DESCRIBED = {"density": "densities", "passage": "passages", "day": "days"}
"""Columns of a data set that say in which state cells were, and their plural."""

SIMULATED = "sim-"
"""How the simulated rig begins the names of its images."""


def seen(crop_set: CropSet) -> Seen:
    """Cells of each line, density, passage, day and pair among the training crops."""
    rows = [row.image for row in crop_set.index.rows]
    index = crop_set.index

    def counted(column: str) -> dict[str, int]:
        counts = Counter(getattr(row, column) for row in rows)
        return {value: counts[value] for value in sorted(counts, key=order) if value}

    return Seen(
        cell_lines=counted("cell_line"),
        groups=len(set(crop_set.groups)),
        group_kind=index.group_kind,
        densities=counted("density"),
        passages=counted("passage"),
        days=counted("day"),
        pairs=counted("pair"),
        um_per_px=index.rules.um_per_px,
        detector=index.rules.detector.name,
        simulated=all(Path(row.path).name.startswith(SIMULATED) for row in rows) or None,
    )


def order(text: str) -> tuple[float, str]:
    """Numbers by size, then everything else by its letters."""
    value = number(text)
    return (float("inf"), text) if value is None else (value, text)


def number(text: str) -> float | None:
    """The number that a text is, or None."""
    try:
        return float(text)
    except ValueError:
        return None


def not_for(crop_set: CropSet, tested: bool) -> tuple[str, ...]:
    """What the training data do not allow, a sentence each; `tested` on groups left out of them."""
    known, kind = seen(crop_set), crop_set.index.group_kind
    names = " and ".join(known.cell_lines) if len(known.cell_lines) < 3 else "those listed"
    out = [
        f"Cell lines other than {names}: each cell gets one of the known names, and a stranger is "
        "not always noticed."
    ]
    if known.simulated:
        out.append("Real cells: every training cell was simulated.")
    out += described(known)
    out.append(
        f"Images from another microscope, objective, illumination or camera, or whose pixel size "
        f"is not known (crops are seen at {known.um_per_px:g} um/px), before cells of known kind "
        "were tried on them."
    )
    if not tested:
        out.append("Anything that needs a known error rate: nothing was left out to measure it.")
    elif kind != "flask":
        out.append(f"Claims about another flask: only {kind}s were left out for testing.")
    single = [line for line in known.cell_lines if len(_groups_of(crop_set, line)) < 2]
    if single:
        out.append(f"Claims about {', '.join(single)} beyond the one {kind} it was trained on.")
    out.append("Diagnosis, or any decision about a patient or a product for people.")
    return tuple(out)


def described(known: Seen) -> list[str]:
    """The ranges that were seen, and what nobody recorded."""
    out, missing = [], []
    for plural in DESCRIBED.values():
        values = getattr(known, plural)
        if values:
            out.append(f"Cells at {plural} that were not seen ({ranged(list(values))} were).")
        else:
            missing.append(plural)
    if missing:
        what = missing[0] if len(missing) == 1 else f"{', '.join(missing[:-1])} and {missing[-1]}"
        out.append(
            f"Claims about how {what} matter: those of the training cells were not recorded."
        )
    return out


def ranged(values: list[str]) -> str:
    """`5 to 9` of numbers, in order; other values one by one, at most six."""
    numbers = [number(value) for value in values]
    if len(values) > 2 and None not in numbers:
        return f"{values[0]} to {values[-1]}"
    return ", ".join(values[:6]) + (f" and {len(values) - 6} more" if len(values) > 6 else "")


def _groups_of(crop_set: CropSet, line: str) -> set[str]:
    return {row.image.group for row in crop_set.index.rows if row.image.cell_line == line}
