"""Pairs of frames with the truth of each cell and where a network was wrong."""

from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from parfocal.annotate import COLOURS
from parfocal.types import Finds, Gray
from parfocal_training.mixed.nuclei import Nuclei
from parfocal_training.mixed.registration import Shift, laid_over
from parfocal_training.mixed.truth import CellTruth, Truths
from parfocal_training.report import canvas

TRUTH_COLOURS: dict[CellTruth, tuple[int, int, int]] = {
    "labelled": COLOURS[5],
    "unlabelled": COLOURS[1],
    "ambiguous": (150, 150, 150),
}
"""RGB of outlines; vermilion and sky blue are told apart by colour-blind eyes too."""

Colour = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class ShownFrame:
    """A pair of frames to be drawn; `calls` says of asked finds whether called labelled."""

    path: str
    bright: Gray  # (h, w)
    glow: Gray  # (h_f, w_f)
    finds: Finds
    nuclei: Nuclei
    shift_px: Shift
    truths: Truths
    calls: dict[int, bool]


def overlay(frame: ShownFrame, labelled: str, unlabelled: str) -> Figure:
    """Brightfield with outlines by truth and crosses at errors; fluorescence beside."""
    h, w = frame.bright.shape
    figure = canvas(13, 13 * h / w / 2 + 0.5)
    left, right = figure.subplots(1, 2)
    labels = at_size(frame.finds.labels, (h, w))
    left.imshow(outlined(stretched(frame.bright, 0.001, 0.999), labels, frame))
    right.imshow(glow_picture(frame, labels))
    for axes in (left, right):
        axes.set_axis_off()
    crosses(left, frame)
    legend(figure, labelled, unlabelled)
    return figure


def glow_picture(frame: ShownFrame, labels: NDArray[np.int32]) -> Colour:
    """The fluorescence where it belongs, with the outlines of finds (h, w) and of nuclei."""
    h, w = labels.shape
    glow = cv2.resize(stretched(frame.glow, 0.5, 0.995), (w, h))
    over = laid_over(frame.nuclei.labels, (h, w), (h, w), frame.shift_px)
    move = np.array([[1, 0, -frame.shift_px[0]], [0, 1, -frame.shift_px[1]]])
    picture = outlined(np.asarray(cv2.warpAffine(glow, move, (w, h)), np.uint8), labels, frame)
    picture[edges(over)] = COLOURS[3]
    return picture


def legend(figure: Figure, labelled: str, unlabelled: str) -> None:
    """What the colours and crosses mean."""
    names = (labelled, unlabelled, "ambiguous or not asked")
    handles = [
        Line2D([], [], color=shown_colour(colour), label=name)
        for colour, name in zip(TRUTH_COLOURS.values(), names, strict=True)
    ]
    cross = Line2D([], [], color="red", marker="x", linestyle="", label="called wrongly")
    figure.legend(handles=[*handles, cross], loc="outside lower center", ncols=4)


def shown_colour(rgb: tuple[int, int, int]) -> tuple[float, float, float]:
    """A colour as matplotlib takes it."""
    red, green, blue = rgb
    return red / 255, green / 255, blue / 255


def crosses(axes: Axes, frame: ShownFrame) -> None:
    """A cross on each cell that was called wrongly."""
    for i, call in frame.calls.items():
        if frame.truths[i] != "ambiguous" and call != (frame.truths[i] == "labelled"):
            axes.plot(*frame.finds.points_px[i], "x", color="red", markersize=9, markeredgewidth=2)


def outlined(gray: Colour, labels: NDArray[np.int32], frame: ShownFrame) -> Colour:
    """A grey picture (h, w) in colour with the outlines of all finds."""
    picture = np.repeat(gray[..., None], 3, axis=2)
    colours = np.full((len(frame.truths) + 1, 3), TRUTH_COLOURS["ambiguous"], np.uint8)
    for i in frame.calls:
        colours[i + 1] = TRUTH_COLOURS[frame.truths[i]]
    edge = edges(labels)
    picture[edge] = colours[labels[edge]]
    return picture


def edges(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """The inner border of each label, three pixels wide: (h, w)."""
    values = labels.astype(np.float32)
    square = np.ones((7, 7), np.uint8)
    same = (cv2.erode(values, square) == values) & (cv2.dilate(values, square) == values)
    return np.asarray((labels > 0) & ~same, np.bool_)


def at_size(labels: NDArray[np.int32], size: tuple[int, int]) -> NDArray[np.int32]:
    """Labels at another size (h, w)."""
    whole = cv2.resize(labels.astype(np.float32), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(whole, np.int32)


def stretched(gray: Gray, low_share: float, high_share: float) -> Colour:
    """Levels spread between two quantiles: (h, w) of 8 bits.

    The upper end is at least a fifth above the lower, so that noise is not shown as light.
    """
    low, high = np.quantile(gray[::4, ::4], (low_share, high_share))
    reach = max(high - low, 0.2 * max(low, 1.0))
    return np.asarray(np.clip((gray - low) / reach * 255, 0, 255), np.uint8)
