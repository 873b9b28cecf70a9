"""What a model has been trained on."""

from collections import Counter
from pathlib import Path

from parfocal.card import Seen
from parfocal_training.cropset import CropSet

SIMULATED = "sim-"
"""How the simulated rig begins the names of its images."""


def seen(crop_set: CropSet) -> Seen:
    """Cells of each line, density, passage, day and pair among the training crops."""
    rows = [row.image for row in crop_set.index.rows]
    index = crop_set.index
    apart = Counter(line for line, _ in {(row.cell_line, row.group) for row in rows})

    def counted(column: str) -> dict[str, int]:
        counts = Counter(getattr(row, column) for row in rows)
        return {value: counts[value] for value in sorted(counts, key=order) if value}

    return Seen(
        cell_lines=counted("cell_line"),
        groups=len(set(crop_set.groups)),
        group_kind=index.group_kind,
        groups_of_lines=dict(sorted(apart.items())),
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
