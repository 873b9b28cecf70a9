"""Which cells lie where on the flask's bottom, decided tile by tile from the flask's seed.

A flask's bottom holds half a million cells; only the tiles in view are ever drawn, and a tile
always comes out the same. Knows positions and kinds, no pixels.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import log

import numpy as np
from numpy.typing import NDArray

from parfocal.simulator.cell import Spec, State
from parfocal.simulator.parameters import CellType
from parfocal.simulator.traits import FlaskTraits

TILE_UM = 240.0
CORE_UM = 13.0  # no two centres are nearer than this
_ORIGIN = 1 << 20  # seeds are not negative, tile numbers may be


@dataclass(frozen=True, slots=True)
class Sown:
    """A cell on the bottom: where its anchor lies, what it is, and a name for all views."""

    key: str
    x_um: float
    y_um: float
    spec: Spec


@dataclass(frozen=True, eq=False)
class Culture:
    """The cells of one flask: types with their shares, and a density after settling."""

    types: tuple[tuple[CellType, float], ...]
    density_per_mm2: float
    traits: FlaskTraits
    seed: int

    @property
    def crowding(self) -> float:
        """Logarithm of the density over 50 cells/mm2."""
        return log(max(self.density_per_mm2, 1.0) / 50)

    def near(self, box_um: tuple[float, float, float, float]) -> list[Sown]:
        """Cells whose anchor lies in left, top, right, bottom; always in the same order."""
        left, top, right, bottom = box_um
        found = [
            cell
            for ty in range(int(top // TILE_UM), int(bottom // TILE_UM) + 1)
            for tx in range(int(left // TILE_UM), int(right // TILE_UM) + 1)
            for cell in self._tile(tx, ty)
        ]
        return [c for c in found if left <= c.x_um < right and top <= c.y_um < bottom]

    @cached_property
    def _tiles(self) -> dict[tuple[int, int], list[Sown]]:
        return {}

    def _tile(self, tx: int, ty: int) -> list[Sown]:
        tile = self._tiles.get((tx, ty))
        if tile is None:
            tile = self._tiles[tx, ty] = self._sow(tx, ty)
        return tile

    def _sow(self, tx: int, ty: int) -> list[Sown]:
        """The candidates of this tile that no stronger candidate nearby displaces."""
        own = _candidates(self.seed, tx, ty, self._per_um2, self.traits.clumping)
        around = np.concatenate(
            [
                _candidates(self.seed, tx + dx, ty + dy, self._per_um2, self.traits.clumping)
                for dx in (-1, 0, 1)
                for dy in (-1, 0, 1)
            ]
        )  # (n, 3): x, y, strength
        kept = []
        for k, (x, y, strength) in enumerate(own.tolist()):
            near = np.hypot(around[:, 0] - x, around[:, 1] - y) < CORE_UM
            if not (around[near, 2] > strength).any():
                seed = (self.seed, tx + _ORIGIN, ty + _ORIGIN, k)
                kept.append(Sown(f"{tx}.{ty}.{k}", x, y, self._spec(seed)))
        return kept

    @property
    def _per_um2(self) -> float:
        # thinning leaves (1 - exp(-n a)) / a of n candidates per area, a disc of the core radius
        disc = np.pi * CORE_UM**2
        wanted = min(self.density_per_mm2 * 1e-6 * disc, 0.95)
        return float(-np.log(1 - wanted) / disc)

    def _spec(self, seed: tuple[int, ...]) -> Spec:
        rng = np.random.default_rng((*seed, 1))
        shares = np.array([share for _, share in self.types])
        kind = self.types[int(rng.choice(len(shares), p=shares / shares.sum()))][0]
        mixture = kind.mixture(self.density_per_mm2)
        phenotype = kind.phenotypes[int(rng.choice(len(mixture), p=mixture))]
        return Spec(kind, phenotype, self._state(float(rng.random())), (*seed, 2))

    def _state(self, at: float) -> State:
        if at < self.traits.dead_share:
            return "dead"
        if at < self.traits.dead_share + self.traits.floating_share:
            return "floating"
        return "alive"


@lru_cache(maxsize=4096)
def _candidates(
    seed: int, tx: int, ty: int, per_um2: float, clumping: float
) -> NDArray[np.float64]:
    """Candidates of one tile as rows x, y, strength: shape (n, 3), micrometres.

    A share `clumping` of them lies at touching distance beside another one of the tile.
    """
    rng = np.random.default_rng((seed, tx + _ORIGIN, ty + _ORIGIN))
    n = int(rng.poisson(per_um2 * TILE_UM**2))
    places = rng.uniform(0, TILE_UM, (n, 2))
    joins = (rng.random(n) < clumping) & (np.arange(n) > 0)
    angle, apart = rng.uniform(0, 2 * np.pi, n), rng.uniform(18, 34, n)
    beside = np.stack([np.cos(angle), np.sin(angle)], 1) * apart[:, None]
    for i in np.flatnonzero(joins):
        places[i] = places[rng.integers(i)] + beside[i]
    places += np.array([tx, ty]) * TILE_UM
    return np.column_stack([places, rng.random(n)])
