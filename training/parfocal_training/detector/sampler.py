"""Training tiles: tile k of a training is always the same, whoever draws it and when."""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from parfocal.fieldview import ViewRules, seen
from parfocal_training.detector import rigs
from parfocal_training.detector.compose import composed
from parfocal_training.detector.cutouts import CutOut, cells_of
from parfocal_training.detector.fields import TrainingField
from parfocal_training.detector.geometry import tile
from parfocal_training.detector.material import Material
from parfocal_training.detector.recipe import Variation
from parfocal_training.detector.sources import Composed, Fields, Simulated
from parfocal_training.detector.targets import Targets, targets

Float = NDArray[np.float32]
DONORS = 24
"""Sets of cut-outs kept at a time."""
DONORS_FOR = 1500
"""Tiles for which the same sets serve."""
ONLY_CROPS, WITH_CROPS = 0.35, 0.2
"""Shares of composed tiles with cells from crops alone, and from crops and fields together."""


@dataclass(eq=False)
class Sampler:
    """Tiles of `variation.tile_px` view pixels from weighted sources."""

    material: Material
    view: ViewRules
    variation: Variation
    seed: int
    weights: NDArray[np.float64] = field(init=False)
    givers: list[TrainingField] = field(init=False)

    def __post_init__(self) -> None:
        usable = [self._usable(i) for i in range(len(self.material.sources))]
        weights = np.array(usable, np.float64)
        self.weights = weights / weights.sum()
        self.givers = [f for f in self.material.every() if (f.inner & (f.labels > 0)).any()]
        self._donor = lru_cache(maxsize=DONORS)(self._cut_donor)

    def _usable(self, number: int) -> float:
        """A source's weight, 0 where it has nothing to give."""
        source = self.material.sources[number]
        if isinstance(source, Fields) and not self.material.fields[number]:
            return 0.0
        if isinstance(source, Simulated) and not self.material.simulated:
            return 0.0
        return float(getattr(source, "weight", 0.0))

    def __call__(self, k: int) -> tuple[Float, Targets]:
        """What the network sees of tile k (side, side), and what it is to answer."""
        rng = np.random.default_rng((self.seed, k))
        number = int(rng.choice(len(self.weights), p=self.weights))
        drawn = self._drawn(number, k, rng)
        vary = self.variation.rigs
        x, other = drawn.contrast, drawn.other
        if rng.random() < vary.bulk:
            x = rigs.bulk(x, drawn.labels, rng)
        if rng.random() < vary.dirt:
            x, other = rigs.dirt(x, other, drawn.labels, rng)
        x = rigs.imaged(x, drawn.labels, rng, vary)
        return seen(x, self.view), targets(drawn.labels, drawn.known, drawn.inner, other)

    def _drawn(self, number: int, k: int, rng: np.random.Generator) -> TrainingField:
        source, side = self.material.sources[number], self.variation.tile_px
        match source:
            case Fields():
                fields = self.material.fields[number]
                one = fields[int(rng.integers(len(fields)))]
                cut = tile(one, side, rng, self.variation.geometry)
                return self._in_brightfield(cut, rng)
            case Simulated():
                fields = self.material.simulated
                one = fields[int(rng.integers(len(fields)))]
                return tile(one, side, rng, self.variation.simulated)
            case Composed():
                cells = self._cells(k, rng)
                return composed(self._background(rng), cells, rng, self.variation.composition)
        raise AssertionError(f"{source} has no tiles")  # weight 0: never chosen

    def _in_brightfield(self, cut: TrainingField, rng: np.random.Generator) -> TrainingField:
        contrast = cut.contrast
        if cut.optics == "phase" and rng.random() < self.variation.rigs.to_brightfield:
            contrast = rigs.to_brightfield(contrast, rng, self.variation.rigs)
        return TrainingField(
            cut.name, cut.group, cut.optics, contrast, cut.labels, cut.known, cut.inner, cut.other
        )

    def _background(self, rng: np.random.Generator) -> Float:
        side = self.variation.tile_px
        whole = self.material.backgrounds[int(rng.integers(len(self.material.backgrounds)))]
        y, x = (int(rng.integers(extent - side + 1)) for extent in whole.shape)
        return whole[y : y + side, x : x + side] * np.float32(rng.uniform(0, 1))

    def _cells(self, k: int, rng: np.random.Generator) -> list[CutOut]:
        crops = [cell for _, cell in self.material.cutouts]
        kind = rng.random()
        if crops and (kind < ONLY_CROPS or not self.givers):
            return crops
        donated = self._donor(k // DONORS_FOR, int(rng.integers(DONORS)))
        return donated + crops if kind > 1 - WITH_CROPS else donated

    def _cut_donor(self, round_: int, number: int) -> list[CutOut]:
        """The cells of one real field, in its own or in brightfield optics."""
        rng = np.random.default_rng((self.seed, 1 << 40, round_, number))
        one = self.givers[int(rng.integers(len(self.givers)))]
        return cells_of(one, self._in_brightfield(one, rng).contrast)
