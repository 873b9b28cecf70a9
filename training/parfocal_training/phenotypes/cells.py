"""`cells.csv`: one line a cell, where it comes from and which phenotype it has."""

import csv
import io

from parfocal.phenotypes import Phenotyper
from parfocal_training.cropset import CropSet
from parfocal_training.phenotypes.origins import MEDOIDS, PIXELS
from parfocal_training.phenotypes.study import Study

COLUMNS = (
    *("crop", "path", "x_px", "y_px", "cell_line", "group", "phenotype", "name", "silhouette"),
    *("single_view", "distance", "unlike_any", "k_medoids", "pixels"),
)


def cells_csv(made: Study, crop_set: CropSet) -> str:
    """The table.

    `phenotype` and `silhouette` come from the copies; `single_view`, `distance` to its cluster and
    `unlike_any` from the crop as imaged, by the daemon's own code. `k_medoids` of LCA and clusters
    of `pixels` are there to compare with.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    phenotyper = Phenotyper(made.known, made.known.d)
    near, apart = phenotyper.nearest(made.lca.single)
    beyond = apart > phenotyper.limits[near]
    for i, row in enumerate(crop_set.index.rows):
        writer.writerow(
            [
                *(i, row.image.path, _px(row.x_px), _px(row.y_px)),
                *(row.image.cell_line, row.image.group),
                *(int(made.labels[i]) + 1, made.known.names[int(made.labels[i])]),
                *(f"{made.silhouettes[i]:.3f}", int(near[i]) + 1),
                *(f"{apart[i]:.4f}", int(beyond[i])),
                *(int(made.others[name][i]) + 1 for name in (MEDOIDS, PIXELS)),
            ]
        )
    return text.getvalue()


def _px(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
