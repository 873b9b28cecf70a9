"""One cell as a small relief: thickness, absorption, mask and nucleus in a local window.

Knows nothing of where the cell lies or of the light; its own seed decides every detail.
"""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal.simulator.fringe import fringe
from parfocal.simulator.outline import Outline, draw_outline
from parfocal.simulator.parameters import CellType, Phenotype, Spread
from parfocal.simulator.relief import Window, beads, dome, mottle, shoulder
from parfocal.simulator.traits import FlaskTraits

State = Literal["alive", "dead", "floating"]
Float = NDArray[np.float32]
MARGIN_UM = 6.0
VEIL_UM = 0.35  # thickness of the margin
INK = Spread(0.35, 0.6)
_BALL = Phenotype("ball", (8, 9), Spread(1.1, 0.05), 0.1, bulge_sd=0.01, reach_log_sd=0.03)


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A rendered cell; the window's top left pixel lies `offset_px` (x, y) from its anchor."""

    height_um: Float  # (h, w) optical thickness as micrometres of cytoplasm
    absorption: Float  # (h, w) in [0, about 1]
    mask: NDArray[np.bool_]  # (h, w)
    nucleus: Float  # (h, w) in [0, 1]
    nucleus_px: tuple[float, float]  # x, y from the anchor
    offset_px: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Spec:
    """What a cell is, before it is drawn."""

    type: CellType
    phenotype: Phenotype
    state: State
    seed: tuple[int, ...]


def render_cell(spec: Spec, traits: FlaskTraits, crowding: float, um_per_px: float) -> Patch:
    """The relief of one cell; `crowding` is log(density / 50 per mm2)."""
    rng = np.random.default_rng(spec.seed)
    if spec.state == "alive":
        outline = _living_outline(spec, traits, crowding, rng)
    else:
        outline = draw_outline(_BALL, float(rng.uniform(70, 190)), float(rng.uniform(1, 1.2)), rng)
    window = _rasterized(outline, um_per_px)
    if spec.state == "alive":
        return _living(spec, traits, outline, window, rng)
    return _ball(spec, window, rng)


def _living_outline(
    spec: Spec, traits: FlaskTraits, crowding: float, rng: np.random.Generator
) -> Outline:
    # crowded cells spread less: area falls with density to the power 0.18
    area = spec.type.area_um2.draw(rng) * spec.phenotype.area_gain * traits.size_gain
    area *= float(np.exp(-0.18 * crowding))
    aspect = spec.phenotype.aspect.draw(rng)
    stretch = spec.type.aspect_gain * traits.elongation_gain
    return draw_outline(spec.phenotype, area, max(1.0, aspect**stretch), rng)


def _rasterized(outline: Outline, um_per_px: float) -> Window:
    """The outline filled on a pixel grid with room around it."""
    points = outline.points_um / um_per_px
    margin = MARGIN_UM / um_per_px
    low = np.floor(points.min(0) - margin).astype(int)
    w, h = (np.ceil(points.max(0) + margin).astype(int) - low + 1).tolist()
    mask = np.zeros((h, w), np.uint8)
    fixed = np.round((points - low) * 16).astype(np.int32)
    cv2.fillPoly(mask, [fixed], 255, shift=4)
    smooth = cv2.GaussianBlur(mask, (0, 0), 0.35 / um_per_px) > 127
    return Window(smooth, (int(low[0]), int(low[1])), um_per_px)


def _living(
    spec: Spec, traits: FlaskTraits, outline: Outline, window: Window, rng: np.random.Generator
) -> Patch:
    texture = spec.type.texture
    gain = Spread(traits.texture_gain, 0.25).draw(rng)
    thickness = spec.type.thickness_um.draw(rng) * spec.phenotype.thickness_gain
    thickness *= traits.thickness_gain
    edge = spec.type.edge_um.draw(rng)
    area = float(window.mask.sum()) * window.um_per_px**2
    core_um = (area * spec.type.nucleus_share / np.pi) ** 0.5
    nucleus, nucleus_px = _nucleus(window, core_um, rng)
    body = dome(window, nucleus_px, 1.25 * core_um, spec.phenotype.lamella_level)
    rise, veil = shoulder(window, outline, edge, spec.type.one_sided, rng)
    height = thickness * body * rise + VEIL_UM * veil
    height += spec.type.nucleus_um * nucleus * rise
    soft = np.sqrt(rise)
    lively = soft * dome(window, nucleus_px, 1.35 * core_um, 0.35)
    height += gain * texture.mottle_um * mottle(window, texture.mottle_scale_um, rng) * lively
    dots, dark = beads(window, texture, nucleus_px, core_um, gain, rng)
    height += dots + gain * fringe(window, outline, texture, rng)
    absorption = np.float32(INK.draw(rng)) * soft + dark
    return Patch(height, absorption, window.mask, nucleus, nucleus_px, window.offset_px)


def _nucleus(
    window: Window, core_um: float, rng: np.random.Generator
) -> tuple[Float, tuple[float, float]]:
    """A smooth ellipse where the cell is deepest, with one to three nucleoli."""
    depth = np.asarray(cv2.distanceTransform(window.mask.astype(np.uint8), cv2.DIST_L2, 3))
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    width = float(min(core_um / window.um_per_px, 0.8 * depth.max()))
    drawn = np.zeros(depth.shape, np.float32)
    size = (max(2, round(width * 1.15)), max(2, round(width * 0.85)))
    cv2.ellipse(drawn, (int(x), int(y)), size, float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
    for _ in range(int(rng.integers(1, 4))):
        dx, dy = np.round(rng.normal(0, 0.3 * width, 2)).astype(int).tolist()
        radius = max(1, round(rng.uniform(0.7, 1.3) / window.um_per_px))
        cv2.circle(drawn, (int(x) + dx, int(y) + dy), radius, 1.6, -1)
    soft = np.asarray(cv2.GaussianBlur(drawn, (0, 0), 0.5 / window.um_per_px), np.float32)
    soft *= window.mask
    left, top = window.offset_px
    return np.minimum(soft, 1.5), (float(x + left), float(y + top))


def _ball(spec: Spec, window: Window, rng: np.random.Generator) -> Patch:
    """A rounded cell: a drop, dark and granular when dead."""
    depth = np.asarray(cv2.distanceTransform(window.mask.astype(np.uint8), cv2.DIST_L2, 5))
    radius = max(float(depth.max()), 1.0)
    height = 2.0 * radius * window.um_per_px * np.sqrt(1 - (1 - depth / radius) ** 2) * 0.55
    dead = spec.state == "dead"
    rough = mottle(window, 1.6, rng) * window.mask
    height = (height + (0.8 if dead else 0.25) * rough * np.minimum(depth, 1)).astype(np.float32)
    absorption = window.mask * np.float32(1.3 if dead else 0.6) * (1 + 0.2 * rough)
    left, top = window.offset_px
    h, w = depth.shape
    nucleus = (depth > 0.45 * radius).astype(np.float32)
    place = (left + (w - 1) / 2, top + (h - 1) / 2)
    return Patch(height, absorption, window.mask, nucleus, place, window.offset_px)
