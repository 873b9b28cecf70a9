"""How far simulated frames are from real ones: contact sheets, distributions, and one number each.

    python -m parfocal_training.realism SIMULATED REAL OUT --scales manifest.csv
    python -m parfocal_training.realism SIMULATED CROPS OUT --crops

Both sides are brought to one pixel size and flat-fielded first. A small distance does not prove
likeness; a large one names what to look at. The sheets are for the eye, which decides.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from parfocal.normalize import Reference, normalize
from parfocal_training.errors import DataError
from parfocal_training.realism_figures import crop_sheet, field_sheet, plots
from parfocal_training.realism_folders import (
    images_of,
    read_scales,
    real_fields,
    simulated_crops,
    simulated_fields,
)
from parfocal_training.realism_measures import (
    COMMON_UM_PER_PX,
    crop_samples,
    distances,
    field_samples,
    rim_profiles,
    spectrum,
)


def compare(
    simulated_folder: Path, real_folder: Path, out_folder: Path, scales: dict[str, float]
) -> dict[str, dict[str, float]]:
    """Distances of two folders of fields; writes sheet.png, distributions.png, distances.json."""
    simulated, real = (
        list(simulated_fields(simulated_folder)),
        list(real_fields(real_folder, scales)),
    )
    if not real:
        raise DataError(f"no field in {real_folder} is finer than {COMMON_UM_PER_PX} um/px")
    samples = field_samples(simulated), field_samples(real)
    found = distances(*samples)
    rims = tuple(100 * np.array([p for f in s for p in rim_profiles(f)]) for s in (simulated, real))
    if all(len(r) for r in rims):
        gap = np.nanmean(rims[0], axis=0) - np.nanmean(rims[1], axis=0)
        found["rim profile [%]"] = {"rms": float(np.sqrt((gap**2).mean()))}
    bands = [
        np.mean([spectrum(f.luma, COMMON_UM_PER_PX) for f in s], axis=0) for s in (simulated, real)
    ]
    found["spectrum [log10]"] = {"mean_abs": float(np.abs(bands[0] - bands[1]).mean())}
    out_folder.mkdir(parents=True, exist_ok=True)
    (out_folder / "distances.json").write_text(json.dumps(found, indent=1))
    field_sheet(simulated, real, out_folder / "sheet.png")
    plots(samples, rims, bands, out_folder / "distributions.png")
    return found


def compare_crops(
    simulated_folder: Path, crop_folder: Path, out_folder: Path
) -> dict[str, dict[str, float]]:
    """Distances of simulated cells from gray real crops (224 px, 0.44 um/px), both normalized.

    Writes crops.png (simulated above, real below) and crops.json.
    """
    read = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in images_of(crop_folder)]
    real = np.array([crop for crop in read if crop is not None], np.uint8)  # (n, 224, 224)
    simulated = np.array(list(simulated_crops(simulated_folder)), np.uint16)
    reference = Reference.of(real[0])
    both = [normalize(crops, reference) for crops in (simulated, real)]
    found = distances(crop_samples(both[0]), crop_samples(both[1]))
    out_folder.mkdir(parents=True, exist_ok=True)
    (out_folder / "crops.json").write_text(json.dumps(found, indent=1))
    crop_sheet(both[0], both[1], out_folder / "crops.png")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code; prints each distance."""
    parser = argparse.ArgumentParser(description="How far simulated frames are from real ones.")
    parser.add_argument("simulated", type=Path, help="folder of frames saved with their truth")
    parser.add_argument("real", type=Path, help="folder of real fields, or of real crops")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--scales", type=Path, help="CSV with columns file, um_per_px")
    parser.add_argument("--crops", action="store_true", help="the real folder holds 224 px crops")
    options = parser.parse_args(argv)
    if options.crops:
        found = compare_crops(options.simulated, options.real, options.out)
    elif options.scales is None:
        parser.error("fields need --scales, a CSV with the pixel size of every file")
    else:
        found = compare(options.simulated, options.real, options.out, read_scales(options.scales))
    for name, numbers in found.items():
        sys.stdout.write(f"{name}: {', '.join(f'{k} {v:.3g}' for k, v in numbers.items())}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
