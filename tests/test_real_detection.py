"""The shipped detector on real fields of microscopes that it was never trained on.

The images are not part of the project; without them these tests are skipped.
"""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from parfocal.detectors import choose, started
from parfocal.images import decode
from parfocal.prepare import to_gray
from parfocal_training.detector.score import Figure, figures, score_field

DATA = Path(__file__).parents[2] / "shared" / "data"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not DATA.exists(), reason="the real development images are not here"),
]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def measured(name: str) -> dict[str, Figure]:
    """Figures over the fields of a set whose truth is components of the foreground."""
    detector, folder, scores = started(choose("cells")), DATA / "detection" / name, []
    tables = [path for path in folder.glob("*.csv") if path.stem in ("components", "cells")]
    whole = {(row["image"], int(row["id"])) for path in tables for row in rows(path)
             if row.get("single_cell_size", "1") == "1"}  # fmt: skip
    for row in rows(DATA / "manifest.csv"):
        if row["dataset"] != name:
            continue
        image, um_per_px = DATA / row["file"], float(row["um_per_px"])
        truth = cv2.imread(str(folder / "masks" / f"{image.stem}.png"), cv2.IMREAD_UNCHANGED)
        assert truth is not None
        labels = truth.astype(np.int32)
        single = np.array([(image.stem, k) in whole for k in range(int(labels.max()) + 1)])
        valid_file = folder / "valid" / f"{image.stem}.png"
        valid = cv2.imread(str(valid_file), cv2.IMREAD_UNCHANGED) if valid_file.exists() else None
        finds = detector(to_gray(decode(image.read_bytes()).pixels), um_per_px)
        mask = None if valid is None else valid.astype(np.uint8)
        scores.append(score_field(image.stem, row["group"], finds, labels, um_per_px,
                                  "foreground", single, mask))  # fmt: skip
    return figures(scores)


def test_foreign_brightfield_through_plastic() -> None:
    got = measured("bf_flask")
    assert got["recall"].value >= 0.85 and got["foreground_f1"].value >= 0.63
    assert got["false_per_cell"].value <= 0.9


def test_foreign_phase_contrast_at_low_magnification() -> None:
    got = measured("ctc_psc")
    assert got["recall"].value >= 0.88 and got["splits_per_cell"].value <= 0.1
