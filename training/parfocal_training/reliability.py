"""Whether probabilities are what they say: bins of left-out cells, and their figure."""

import numpy as np
from matplotlib.figure import Figure

from parfocal.card import Reliability, ReliabilityBin
from parfocal_training.leftout import Bools, Floats, Ints, share
from parfocal_training.report import canvas

BINS = 10
LEAST_CELLS = 5
"""Fewer cells than this are no bin."""


def equal_mass(sure: Floats, bins: int = BINS) -> list[Ints]:
    """Indices of the cells of each bin, from the least sure to the surest."""
    wanted = max(1, min(bins, len(sure) // LEAST_CELLS))
    return [
        part.astype(np.int64) for part in np.array_split(np.argsort(sure, kind="stable"), wanted)
    ]


def reliability_bins(
    sure: Floats, right: Bools, groups: Ints, rng: np.random.Generator
) -> tuple[ReliabilityBin, ...]:
    """Bins of equal mass with the interval of the share that was right, over (n,) groups."""
    out = []
    for part in equal_mass(sure):
        every, hits = (np.bincount(groups[part], weights) for weights in (None, right[part]))
        observed = share(hits.astype(np.float64), every.astype(np.float64), rng)
        assert observed is not None and observed.low is not None and observed.high is not None
        out.append(
            ReliabilityBin(
                predicted=float(sure[part].mean()),
                observed=observed.value,
                low=observed.low,
                high=observed.high,
                n=len(part),
            )
        )
    return tuple(out)


def draw(reliability: Reliability) -> Figure:
    """The reliability diagram: right answers against probability, a point a bin."""
    figure = canvas(5.5, 5)
    plot = figure.subplots()
    at = [one.predicted for one in reliability.bins]
    least = min([*at, *(one.low for one in reliability.bins)])
    plot.plot([0, 1], [0, 1], "--", color="0.6", label="as sure as right")
    plot.errorbar(
        at,
        [one.observed for one in reliability.bins],
        [
            [one.observed - one.low for one in reliability.bins],
            [one.high - one.observed for one in reliability.bins],
        ],
        fmt="o",
        capsize=3,
        label="left-out cells, 95 % over groups",
    )
    plot.set(xlabel="calibrated probability of the answer", ylabel="share that was right")
    plot.set(xlim=(max(0, least - 0.05), 1.02), ylim=(max(0, least - 0.05), 1.02))
    interval = f"{reliability.ece_low:.3f} to {reliability.ece_high:.3f}"
    plot.set_title(f"calibration error {reliability.ece:.3f} ({interval})")
    plot.legend(loc="upper left", fontsize="small")
    return figure
