"""Augmentation of single-cell crops, in the paper's order, on batches of integer grey levels.

Rotation, substrate blobs, translation (Yao et al. 2019, Methods; the authors' MATLAB code), then a
few optional additions. Quantile normalization comes after, so grey levels stay integers here. All
work happens on the crop with its margin; the margin, real surroundings of the cell, is used up
before anything has to be invented, and is cut off at the end.
"""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from parfocal_training.copies import CopyDraws

Draws = torch.Generator | CopyDraws
"""Where random numbers come from: one stream for all, or one for each copy of each cell."""

SURROUNDINGS = (0.57, 0.96)
"""Of half a crop's side: cells reach 28 um and more, the crop 49 um."""
OWN_RIM = 0.04
"""Of a crop's side: kept around a known outline, for the bright rim that belongs to the cell."""

BLOB_REACH_SIGMA = 3
"""A blob ends here: 30 px from the edge + 3 x 9 px leaves the middle 110 px of 224 untouched."""


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How crops are varied: the fields down to `seam_px` are the paper's, the others start off.

    `flips`: also mirror, since a flask has no handedness. `zoom`: size changed by up to this
    share. `blur_sigma_px`: largest extra defocus (a Gaussian). `noise_levels`: largest SD of
    added pixel noise, in grey levels of an 8-bit crop. `tone`: largest bend of the grey scale, in
    SDs of the crop; from about 1 on, what is brighter no longer is the same for every variant, and
    outlines are what is left. `fill_sd`: SD of the noise that fills what rotation uncovers, in SDs
    of the image, below 1 where pixels were averaged; at 0 the crop's border goes on instead.
    """

    rotate: bool = True
    rim_px: int = 20
    blobs: int = 3
    blob_sigma_min_px: float = 5.0
    blob_sigma_max_px: float = 9.0
    blob_height: float = 0.3
    blob_edge_px: int = 30
    shift_px: int = 30
    seam_px: int = 3
    flips: bool = False
    zoom: float = 0.0
    blur_sigma_px: float = 0.0
    noise_levels: float = 0.0
    tone: float = 0.0
    fill_sd: float = 1.0

    def masked(self) -> "Augmentation":
        """The same for crops that show one level beyond their cell: nothing lies there."""
        return replace(self, blobs=0, fill_sd=0.0)

    def at(self, shrink: int) -> "Augmentation":
        """The same on pixels that are so many times as large."""
        if shrink == 1:
            return self
        return replace(
            self,
            rim_px=max(1, self.rim_px // shrink),
            blob_sigma_min_px=self.blob_sigma_min_px / shrink,
            blob_sigma_max_px=self.blob_sigma_max_px / shrink,
            blob_edge_px=self.blob_edge_px // shrink,
            shift_px=self.shift_px // shrink,
            seam_px=max(1, self.seam_px // shrink),
            blur_sigma_px=self.blur_sigma_px / shrink,
            noise_levels=self.noise_levels / shrink,  # what is left of white noise after averaging
            fill_sd=self.fill_sd * left_of_fill(shrink),
        )


PAPER = Augmentation()
NONE = Augmentation(rotate=False, blobs=0, shift_px=0)


def augment(crops: Tensor, options: Augmentation, crop_px: int, generator: Draws) -> Tensor:
    """One random variant of every crop.

    Parameters
    ----------
    crops : tensor of shape (n, s, s), uint8, int32 (16-bit levels) or float32 (0 to 255)
        s = crop_px + twice the margin. Floats are not rounded.
    options : Augmentation
    crop_px : int
    generator : torch.Generator or CopyDraws
        On the device of `crops`.

    Returns
    -------
    tensor of shape (n, crop_px, crop_px), dtype of `crops`
    """
    top = top_of(crops)
    x = crops.float()  # (n, s, s)
    if options.rotate or options.zoom:
        x = rotate(x, options, crop_px, generator)  # mirrors too: one sampling for all of them
    elif options.flips:
        x = flip(x, generator)
    if options.blobs:
        x = add_blobs(x, options, crop_px, generator)
    if options.shift_px:
        x = translate(x, options, crop_px, generator)
    else:
        x = centre(x, crop_px)
    # (n, crop_px, crop_px) from here on
    if options.blur_sigma_px:
        x = blur(x, options.blur_sigma_px, generator)
    if options.tone:
        x = bend(x, options.tone, generator)
    if options.noise_levels:
        sd = uniform((len(x),), 0, options.noise_levels * top / 255, generator)  # (n,)
        x = x + sd[:, None, None] * normal((len(x), *x.shape[1:]), generator, stream=1)
    return x if crops.is_floating_point() else x.round().clamp(0, top).to(crops.dtype)


def top_of(crops: Tensor) -> int:
    """The highest grey level that crops can have."""
    return 65535 if crops.dtype == torch.int32 else 255


def centre(crops: Tensor, crop_px: int) -> Tensor:
    """The middle without its margin: (n, s, s) -> (n, crop_px, crop_px)."""
    margin = (crops.shape[-1] - crop_px) // 2
    return crops[:, margin : margin + crop_px, margin : margin + crop_px]


def uniform(
    shape: tuple[int, ...], low: float, high: float, generator: Draws, crop_axis: int = 0
) -> Tensor:
    """Float32 in [low, high); `crop_axis` counts the crops."""
    if isinstance(generator, CopyDraws):
        return low + (high - low) * generator.uniform(shape, crop_axis)
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def normal(shape: tuple[int, int, int], generator: Draws, stream: int = 0) -> Tensor:
    """White noise of SD 1 for n crops: (n, h, w); a copy has another one in every stream."""
    if isinstance(generator, CopyDraws):
        return generator.normal(shape, stream)
    return torch.randn(shape, generator=generator, device=generator.device)


def flip(x: Tensor, generator: Draws) -> Tensor:
    """Half of the crops mirrored; with rotation this covers every flip. (n, s, s)."""
    mirrored = uniform((len(x),), 0, 1, generator) < 0.5  # (n,)
    return torch.where(mirrored[:, None, None], x.flip(-1), x)


def rotate(x: Tensor, options: Augmentation, crop_px: int, generator: Draws) -> Tensor:
    """Turned by an angle uniform in [0, 360) degrees; zoomed and mirrored if asked.

    (n, s, s) -> (n, w, w), where w is what later shifts can reach. What the rotation uncovers is
    filled with smoothed noise of the image's own mean and standard deviation and blended in over a
    rim of at most `rim_px` inside the true pixels, unless `fill_sd` is 0. The rim is no wider than
    the gap is deep, so that nothing is blended where nothing is missing.
    """
    n, side, _ = x.shape
    turn = uniform((n,), 0, 2 * math.pi if options.rotate else 0, generator)  # (n,) radians
    size = 1 / uniform((n,), 1 - options.zoom, 1 + options.zoom, generator)  # (n,)
    mirror = torch.ones_like(turn)
    if options.flips:
        mirror = (uniform((n,), 0, 1, generator) < 0.5) * 2.0 - 1
    cos, sin, zero = turn.cos() * size, turn.sin() * size, torch.zeros_like(turn)
    affine = torch.stack([cos * mirror, -sin, zero, sin * mirror, cos, zero], 1).view(n, 2, 3)
    window = min(side, crop_px + 2 * (options.shift_px + options.seam_px))
    affine = affine * (window / side)
    grid = F.affine_grid(affine, [n, 1, window, window], align_corners=False)  # (n, w, w, 2)
    # bicubic keeps the texture that bilinear would soften: live crops are not turned
    turned = F.grid_sample(x[:, None], grid, "bicubic", "border", align_corners=False)[:, 0]
    inside_px = (1 - grid.abs().amax(-1)) * side / 2  # (n, w, w) distance to the true border
    gap_px = -centre(inside_px, crop_px).amin((1, 2))  # (n,)
    # a wide margin leaves nothing to fill; a GPU fills sooner than it answers
    if not options.fill_sd or (not x.is_cuda and not bool((gap_px > 0.5).any())):
        return turned
    rim_px = gap_px.clamp(1, options.rim_px)[:, None, None]
    weight = torch.where(gap_px[:, None, None] > 0.5, (inside_px / rim_px).clamp(0, 1), 1.0)
    return weight * turned + (1 - weight) * background(x, window, options.fill_sd, generator)


def left_of_fill(shrink: int) -> float:
    """SD that is left of noise smoothed over 3x3 px after averaging squares of this side."""
    shared = sum((shrink - d) * (1 - d / 3) for d in range(1, min(3, shrink)))
    return (shrink + 2 * shared) / shrink**2


def background(x: Tensor, side_px: int, fill_sd: float, generator: Draws) -> Tensor:
    """Noise with each image's mean and SD, smoothed over 3x3 px: (n, side_px, side_px).

    `fill_sd` scales the SD.
    """
    noise = normal((len(x), side_px, side_px), generator)
    rows = noise + noise.roll(1, 1) + noise.roll(-1, 1)  # many times as fast as pooling on a CPU
    smooth = (rows + rows.roll(1, 2) + rows.roll(-1, 2)) / 3  # SD 1 again
    mean, sd = x.mean((1, 2), keepdim=True), x.std((1, 2), keepdim=True)
    return mean + fill_sd * sd * smooth


def add_blobs(x: Tensor, options: Augmentation, crop_px: int, generator: Draws) -> Tensor:
    """Substrate impurities, 0 to `blobs` on each crop: (n, s, s).

    A damped cosine ring, `height * cos(pi r / sigma) * exp(-(r / sigma)^2 / 2)`, centred within
    `blob_edge_px` of the crop's edge so that the cell is never covered. Only the patch that a
    ring reaches is computed.
    """
    n, k, side = len(x), options.blobs, x.shape[1]
    row, column = (p.view(n, k, 1, 1) for p in blob_centres((n, k), options, crop_px, generator))
    low, high = options.blob_sigma_min_px, options.blob_sigma_max_px
    sigma = uniform((n, k), low, high, generator).view(n, k, 1, 1)  # px
    counts = uniform((n,), 0, k + 1, generator).floor()  # (n,)
    present = torch.arange(k, device=x.device) < counts[:, None]  # (n, k)
    room = (x.amax((1, 2)) - x.mean((1, 2)))[:, None]  # (n, 1) levels
    height = uniform((n, k), 0, options.blob_height, generator) * room * present
    reach = math.ceil(BLOB_REACH_SIGMA * high)
    offset = torch.arange(-reach, reach + 1, device=x.device)
    rows = row.floor() + offset[:, None]  # (n, k, p, 1)
    columns = column.floor() + offset  # (n, k, 1, p)
    r = ((rows - row) ** 2 + (columns - column) ** 2).sqrt() / sigma  # (n, k, p, p)
    ring = torch.cos(math.pi * r) * torch.exp(-(r**2) / 2) * (r <= BLOB_REACH_SIGMA)
    margin = (side - crop_px) // 2
    rows, columns = rows + margin, columns + margin
    within = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
    place = (rows.clamp(0, side - 1) * side + columns.clamp(0, side - 1)).long()
    added = (height[:, :, None, None] * ring * within).view(n, -1)
    return x.reshape(n, -1).scatter_add(1, place.view(n, -1), added).view_as(x)


def blob_centres(
    shape: tuple[int, int], options: Augmentation, crop_px: int, generator: Draws
) -> tuple[Tensor, Tensor]:
    """Row and column (n, blobs), px of the crop: uniform along one of the four edges."""
    along = uniform(shape, 0, crop_px, generator)
    depth = uniform(shape, 0, options.blob_edge_px, generator)
    edge = uniform(shape, 0, 4, generator).long()
    near = torch.where(edge % 2 == 0, depth, crop_px - 1 - depth)
    return torch.where(edge < 2, near, along), torch.where(edge < 2, along, near)


def translate(x: Tensor, options: Augmentation, crop_px: int, generator: Draws) -> Tensor:
    """Shifted by up to +-shift_px in each axis, cut to the crop: (n, s, s) -> (n, c, c).

    The lost strip wraps round and the seam is smoothed; with a margin of `shift_px` and a seam or
    more the strip never enters the crop, and only the crop is fetched.
    """
    n, side, _ = x.shape
    span = 2 * options.shift_px + 1
    shift = uniform((2, n), 0, span, generator, crop_axis=1).long() - options.shift_px  # (2, n)
    margin = (side - crop_px) // 2
    inside = margin >= options.shift_px + options.seam_px
    at = torch.arange(crop_px, device=x.device) + margin
    if not inside:
        at = torch.arange(side, device=x.device)
    rows = (at[None, :] - shift[0][:, None]) % side  # (n, c or s)
    columns = (at[None, :] - shift[1][:, None]) % side  # (n, c or s)
    moved = x[
        torch.arange(n, device=x.device)[:, None, None], rows[:, :, None], columns[:, None, :]
    ]
    if inside:
        return moved
    moved = smooth_seam(moved, shift[0], options.seam_px)
    return centre(smooth_seam(moved.mT, shift[1], options.seam_px).mT, crop_px)


def own_of(masks: NDArray[np.bool_], crop_px: int) -> Tensor:
    """What of each crop is its cell, from 0 to 255 with a soft edge: (n, s, s), uint8.

    `masks` (n, s, s) are the outlines of the cells, here with a rim.
    """
    size = 2 * round(OWN_RIM * crop_px) + 1
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    out = np.empty(masks.shape, np.uint8)
    for mask, own in zip(masks, out, strict=True):
        wide = cv2.dilate(mask.astype(np.uint8) * 255, around)
        cv2.blur(wide, (size // 4 * 2 + 1,) * 2, dst=own)
    return torch.from_numpy(out)


def with_surroundings(
    crops: Tensor, own: Tensor, others: Tensor, others_own: Tensor, share: float, generator: Draws
) -> Tensor:
    """Crops (n, s, s) of which a share lies in the surroundings of another cell.

    `own` and `others_own` (n, s, s) uint8 say what belongs to a crop's cell (255) and what
    does not (0). What belongs to neither is that of `others` (n, s, s), brought to the crop's mean
    and SD: what lies beside a cell no longer tells which cell it is.
    """
    taken = uniform((len(crops),), 0, 1, generator) < share
    (mean, sd), (level, other_sd) = spread(crops), spread(others)  # each (n, 1, 1)
    gain = sd / other_sd.clamp(min=1e-6)
    mine = crops.float()
    beside = (others - level).mul_(gain).add_(mean)
    share_of_other = (255 - own).float() * (255 - others_own) * (taken[:, None, None] / 255**2)
    mixed = beside.sub_(mine).mul_(share_of_other).add_(mine)
    if crops.is_floating_point():
        return mixed
    return mixed.round_().clamp_(0, top_of(crops)).to(crops.dtype)


def beside_others(crops: Tensor, others: Tensor, share: float, generator: Draws) -> Tensor:
    """The same where no outline is known.

    Beyond a circle about the middle, its radius uniform between `SURROUNDINGS` of half the side,
    the other crop is seen; so what lies beside a cell no longer tells which cell it is.
    """
    n, side, _ = crops.shape
    axis = torch.arange(side, device=crops.device) - (side - 1) / 2
    distance = (axis[:, None] ** 2 + axis**2).sqrt()  # (s, s)
    low, high = (r * side / 2 for r in SURROUNDINGS)
    radius = uniform((n,), low, high, generator)[:, None, None]
    taken = (uniform((n,), 0, 1, generator) < share)[:, None, None]
    weight = torch.sigmoid((distance - radius) * 56 / side) * taken  # blends over 2 % of the side
    mixed = crops + weight * (others - crops.float())
    return mixed if crops.is_floating_point() else mixed.round().to(crops.dtype)


def spread(crops: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and SD of each crop (n, s, s), of one pixel in sixteen: (n, 1, 1)."""
    some = crops[:, ::4, ::4].float()
    return some.mean((1, 2), keepdim=True), some.std((1, 2), keepdim=True)


def smooth_seam(x: Tensor, shift: Tensor, seam_px: int) -> Tensor:
    """Rows beside the seam, `shift` rows down, averaged over `seam_px` rows. (n, s, s)."""
    n, side, _ = x.shape
    half = seam_px // 2
    every = torch.arange(n, device=x.device)[:, None]
    near = torch.arange(-half, half + seam_px % 2, device=x.device)[None, :]
    seam = (shift[:, None] + near) % side  # (n, seam_px) rows
    around = (seam[:, :, None] + near[:, None, :]) % side  # (n, seam_px, seam_px)
    averaged = x[every[:, :, None], around].mean(2)  # (n, seam_px, s)
    kept = x[every, seam]
    out = x.clone()
    out[every, seam] = torch.where((shift != 0)[:, None, None], averaged, kept)
    return out


def blur(x: Tensor, sigma_px: float, generator: Draws) -> Tensor:
    """Each crop out of focus by its own Gaussian, SD uniform in [0, sigma_px). (n, h, w)."""
    n, reach = len(x), math.ceil(3 * sigma_px)
    sigma = uniform((n,), 0, sigma_px, generator).clamp(min=0.05)[:, None]  # (n, 1)
    at = torch.arange(-reach, reach + 1, device=x.device)[None, :]  # (1, k)
    kernel = torch.exp(-((at / sigma) ** 2) / 2)
    kernel = kernel / kernel.sum(1, keepdim=True)  # (n, k)
    padded = F.pad(x[None], (reach,) * 4, mode="reflect")  # (1, n, h + 2r, w + 2r)
    down = F.conv2d(padded, kernel[:, None, :, None], groups=n)
    return F.conv2d(down, kernel[:, None, None, :], groups=n)[0]


def bend(x: Tensor, most: float, generator: Draws) -> Tensor:
    """Each crop's grey levels along a smooth random curve of its own: (n, h, w).

    Three sines of 0.3 to 2 radians an SD are added to the straight line, each at most
    `most` SDs high, so that the order of levels may be reversed in part.
    """
    mean, sd = x.mean((1, 2), keepdim=True), x.std((1, 2), keepdim=True)
    z = (x - mean) / sd.clamp(min=1e-3)
    bent = z
    shape = (len(x), 3)
    height, speed = uniform(shape, -most, most, generator), uniform(shape, 0.3, 2, generator)
    phase = uniform(shape, 0, 2 * math.pi, generator)
    for height_k, speed_k, phase_k in zip(height.T, speed.T, phase.T, strict=True):
        wave = torch.sin(speed_k[:, None, None] * z + phase_k[:, None, None])
        bent = bent + height_k[:, None, None] * wave
    return mean + sd * bent
