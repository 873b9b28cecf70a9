"""Features on disk: a Parquet table, its CSV, and AnnData for those who go on with scverse."""

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from parfocal_training.cropset import CropSet
from parfocal_training.morphology.features import CHANNEL, IN_UM, feature_key, ranked
from parfocal_training.morphology.patch import Bools
from parfocal_training.morphology.table import FeatureTable, MaskOrigin
from parfocal_training.write import write_whole

PARQUET, CSV, H5AD = "features.parquet", "features.csv", "features.h5ad"
KEY, MASKS_FROM = b"parfocal.features", b"parfocal.masks_from"

Columns = dict[str, list[Any]]


def key_of(crop_set: CropSet) -> str:
    """SHA-256 of what the features of a set depend on: pixels, masks, scale and definitions.

    Not what is known of the cells, so that a density put right measures nothing anew.
    """
    index = crop_set.index
    masks = index.masks_sha256 if crop_set.masks is not None else ""
    return feature_key(
        index.pixels_sha256, str(masks), index.rules.margin_px, index.rules.um_per_px
    )


def read(folder: Path, key: str) -> FeatureTable | None:
    """The features in a folder if they are those of this key, else None."""
    path = folder / PARQUET
    if not path.is_file():
        return None
    try:
        stored = pq.read_table(path)
    except pa.ArrowInvalid:  # half a file, or none of ours: it is made again
        return None
    told = stored.schema.metadata or {}
    if told.get(KEY) != key.encode():
        return None
    names = tuple(name for name in stored.column_names if name not in _PLACES)
    values = np.stack([stored[name].to_numpy() for name in names], 1).astype(np.float64)
    cut_off: Bools = stored["cut_off"].to_numpy().astype(np.bool_)
    origin: MaskOrigin = (
        "detector or drawn"
        if told.get(MASKS_FROM) == b"detector or drawn"
        else "foreground of the crop"
    )
    return FeatureTable(names, values, cut_off, origin)


_PLACES = (
    *("crop", "path", "x_px", "y_px", "group", "cell_line", "density", "cluster", "cut_off"),
)


def places(crop_set: CropSet, made: FeatureTable, clusters: tuple[str, ...]) -> Columns:
    """What is known of each cell beside its features; `clusters` is empty or has one a cell."""
    rows = crop_set.index.rows
    columns: Columns = {
        "crop": list(range(len(rows))),
        "path": [row.image.path for row in rows],
        "x_px": [row.x_px for row in rows],
        "y_px": [row.y_px for row in rows],
        "group": [row.image.group for row in rows],
        "cell_line": [row.image.cell_line for row in rows],
        "density": [row.image.density for row in rows],
        "cluster": list(clusters) or [""] * len(rows),
        "cut_off": made.cut_off.tolist(),
    }
    assert tuple(columns) == _PLACES
    return columns


def write(folder: Path, key: str, known: Columns, made: FeatureTable) -> None:
    """Write all three files."""
    features = {name: made.values[:, i] for i, name in enumerate(made.names)}
    told = {KEY: key.encode(), MASKS_FROM: made.masks_from.encode()}
    floats = {name: pa.array(known[name], pa.float64()) for name in ("x_px", "y_px")}
    table = pa.table(known | floats | features).replace_schema_metadata(told)
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    write_whole(folder / PARQUET, buffer.getvalue())
    write_whole(folder / CSV, _csv(known, made).encode())
    _write_anndata(folder / H5AD, key, known, made)


def _csv(known: Columns, made: FeatureTable) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*known, *made.names])
    for place, values in zip(zip(*known.values(), strict=True), made.values, strict=True):
        writer.writerow([*_told(place), *(f"{v:.9g}" if np.isfinite(v) else "" for v in values)])
    return text.getvalue()


def _told(place: Iterable[Any]) -> list[object]:
    return ["" if v is None else int(v) if isinstance(v, bool) else v for v in place]


def _write_anndata(path: Path, key: str, known: Columns, made: FeatureTable) -> None:
    """`X` are the features, `obs` what is known of the cells, `var` the names and what they are."""
    cells = [str(i) for i in known["crop"]]
    obs = pd.DataFrame({name: v for name, v in known.items() if name != "crop"}, index=cells)
    obs = obs.astype({"x_px": "float64", "y_px": "float64"})
    among = set(ranked(made.names))
    var = pd.DataFrame(
        {
            "module": [name.split("_")[0] for name in made.names],
            "channel": [CHANNEL if CHANNEL in name else "" for name in made.names],
            "ranked": [name in among for name in made.names],
            "size_in_um": [name in {new for new, _ in IN_UM.values()} for name in made.names],
        },
        index=list(made.names),
    )
    table = anndata.AnnData(made.values, obs=obs, var=var)
    table.uns["features_sha256"], table.uns["masks_from"] = key, made.masks_from
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        table.write_h5ad(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
