"""Contact sheets and histograms of `parfocal_training.realism`."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from parfocal_training.realism_measures import RIM_UM, Field, Float, Samples


def field_sheet(simulated: Sequence[Field], real: Sequence[Field], path: Path) -> None:
    """Simulated above, real below: whole fields as thumbnails, then details at one scale."""
    n = min(4, len(simulated), len(real))
    figure = Figure(figsize=(4 * n, 13), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(4, n, squeeze=False)
    for row, (name, fields) in enumerate((("simulated", simulated), ("real", real))):
        for column, field in enumerate(fields[:n]):
            h, w = field.rgb.shape[:2]
            detail = field.rgb[h // 2 - 150 : h // 2 + 150, w // 2 - 200 : w // 2 + 200]
            for at, image in ((row, field.rgb), (row + 2, detail)):
                axes[at, column].imshow(image)
                axes[at, column].set_axis_off()
                axes[at, column].set_title(name)
    figure.savefig(path, dpi=90)


def plots(
    samples: tuple[Samples, Samples],
    rims: tuple[NDArray[np.float64], ...],
    bands: Sequence[NDArray[np.float64]],
    path: Path,
) -> None:
    """Histograms of every quantity, rim profiles and spectra of both sides."""
    figure = Figure(figsize=(16, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 5).ravel()
    for axis, name in zip(axes, samples[0], strict=False):
        pooled = np.concatenate([s[name] for s in samples])
        low, high = np.quantile(pooled, [0.005, 0.995]) if len(pooled) else (0, 1)
        for values, side in zip(samples, ("simulated", "real"), strict=True):
            if len(values[name]):
                axis.hist(
                    values[name], np.linspace(low, high, 40), density=True, alpha=0.5, label=side
                )
        axis.set_xlabel(name)
    for profiles, side in zip(rims, ("simulated", "real"), strict=True):
        if len(profiles):
            axes[7].plot(RIM_UM, np.nanmean(profiles, axis=0), label=side)
    axes[7].set_xlabel("um from the cell's edge (inside < 0)")
    for band, side in zip(bands, ("simulated", "real"), strict=True):
        axes[8].plot(band, "o-", label=side)
    axes[8].set_xlabel("octave of period: 40 um to 1.3 um")
    axes[8].legend()
    axes[9].set_axis_off()
    figure.savefig(path, dpi=90)


def crop_sheet(simulated: Float, real: Float, path: Path) -> None:
    """Two rows of simulated crops above two of real ones, each side of shape (n, 224, 224)."""
    both = (simulated, real)
    rows = [np.hstack(list(crops[i : i + 7])) for crops in both for i in (0, 7) if len(crops) > i]
    width = min(row.shape[1] for row in rows)
    cv2.imwrite(str(path), np.vstack([row[:, :width] for row in rows]).astype(np.uint8))
