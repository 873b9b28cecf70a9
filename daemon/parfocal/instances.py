"""From a detector network's maps to instance labels: every cell pixel votes for its cell's middle.

The network says of each pixel whether it is cell, and the way to the middle of its own cell. Votes
gather in peaks, one a cell, however bent or elongated it is; a pixel belongs to the peak nearest to
where it voted. (Hough voting by regressed centres: Kendall et al., CVPR 2018; Cheng et al.,
Panoptic-DeepLab, CVPR 2020.)
"""

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

REACH_PX = 16
"""Unit of the ways to the middle, in pixels of the maps."""

Float = NDArray[np.float32]
Labels = NDArray[np.int32]


class VoteRules(msgspec.Struct, frozen=True, kw_only=True):
    """How maps become instances; lengths and areas in pixels of the maps.

    `cell`: least probability of a cell pixel. `blur_px`: scatter of the votes of one cell.
    `apart_px`: diameter in which only one peak counts. `least_votes`: lowest peak, as votes on one
    pixel after the blur. `scrap_px`: a smaller piece beside one that is `scrap_ratio` times as
    large is a part of it: the tip of a process, not a cell.
    """

    cell: float = 0.5
    blur_px: float = 2.0
    apart_px: int = 7
    least_votes: float = 0.6
    scrap_px: int = 150
    scrap_ratio: float = 4.0


def probability(logits: Float) -> Float:
    """Logistic function: same shape."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))), np.float32)


def instances(cell: Float, dy: Float, dx: Float, rules: VoteRules) -> Labels:
    """Labels 1..n, each one connected piece; 0 is background.

    Parameters
    ----------
    cell : (h, w) float32
        Probability that a pixel is cell.
    dy, dx : (h, w) float32
        Way to the middle of its cell, in units of `REACH_PX` pixels.
    rules : VoteRules

    Returns
    -------
    (h, w) int32
    """
    h, w = cell.shape
    y, x = np.nonzero(cell > rules.cell)
    to_y = _landed(y, dy[y, x], h)
    to_x = _landed(x, dx[y, x], w)
    votes = np.bincount(to_y * w + to_x, weights=cell[y, x], minlength=h * w).reshape(h, w)
    peaks = _peaks(votes.astype(np.float32), rules)
    labels = np.zeros((h, w), np.int32)
    if not peaks.any():
        return labels
    _, nearest = cv2.distanceTransformWithLabels(
        1 - peaks, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP
    )
    labels[y, x] = nearest[to_y, to_x]
    return merged(pieces(labels), rules)


def _landed(at: NDArray[np.intp], way: Float, extent: int) -> NDArray[np.intp]:
    landed: NDArray[np.intp] = np.rint(at + way * REACH_PX).clip(0, extent - 1).astype(np.intp)
    return landed


def _peaks(votes: Float, rules: VoteRules) -> NDArray[np.uint8]:
    gathered = cv2.GaussianBlur(votes, (0, 0), rules.blur_px)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (rules.apart_px, rules.apart_px))
    peak = (gathered >= cv2.dilate(gathered, disc)) & (gathered > rules.least_votes)
    return peak.astype(np.uint8)


def pieces(labels: Labels) -> Labels:
    """Each connected piece (4 neighbours) of each label under a number of its own, 1..n."""
    h, w = labels.shape
    joined = np.zeros((2 * h - 1, 2 * w - 1), np.uint8)  # pixels, and between them their bonds
    joined[::2, ::2] = labels > 0
    joined[::2, 1::2] = (labels[:, 1:] == labels[:, :-1]) & (labels[:, 1:] > 0)
    joined[1::2, ::2] = (labels[1:] == labels[:-1]) & (labels[1:] > 0)
    found = cv2.connectedComponents(joined, connectivity=4, ltype=cv2.CV_32S)[1]
    numbers: Labels = np.ascontiguousarray(found[::2, ::2], np.int32)
    return renumbered(numbers)


def renumbered(labels: Labels) -> Labels:
    """The same labels as 1..n without gaps, in the order of their numbers."""
    present = np.bincount(labels.ravel()) > 0
    present[0] = False
    number = np.where(present, np.cumsum(present), 0).astype(np.int32)
    return np.asarray(number[labels], np.int32)


def contacts(labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of labels that touch, shape (m, 2), each in both orders, and their shared length."""
    n = int(labels.max(initial=0)) + 1
    sides = []
    for a, b in ((labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1])):
        meet = (a != b) & (a > 0) & (b > 0)
        sides += [a[meet].astype(np.int64) * n + b[meet], b[meet].astype(np.int64) * n + a[meet]]
    pair, length = np.unique(np.concatenate(sides), return_counts=True)
    return np.stack(np.divmod(pair, n), 1), length


def merged(labels: Labels, rules: VoteRules) -> Labels:
    """Scraps given to the much larger neighbour with the longest border."""
    area = np.bincount(labels.ravel(), minlength=1)
    pairs, length = contacts(labels)
    ours, theirs = area[pairs[:, 0]], area[pairs[:, 1]]
    small = (ours < rules.scrap_px) & (theirs > rules.scrap_ratio * ours)
    pairs, length = pairs[small], length[small]
    to = np.arange(len(area), dtype=np.int32)
    order = np.lexsort((length, -pairs[:, 0]))  # smallest number last, longest border last
    to[pairs[order, 0]] = pairs[order, 1]
    to = to[to]  # a scrap on a scrap
    return renumbered(to[labels])
