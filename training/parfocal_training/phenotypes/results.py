"""Every figure of a phenotyping, as `phenotypes-figures.json` keeps it and the report reads it."""

from typing import Literal

import msgspec

from parfocal.card import Metric
from parfocal_training.phenotypes.choice import OfK
from parfocal_training.phenotypes.clustering import Method
from parfocal_training.phenotypes.differences import Difference
from parfocal_training.phenotypes.fractions import Share
from parfocal_training.phenotypes.model import SingleView
from parfocal_training.phenotypes.origins import Attribute, Oriented
from parfocal_training.phenotypes.stability import Agreed
from parfocal_training.phenotypes.trends import Trend


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Augmentation against cells: median distances in the space of the clusters.

    `copies`: of single copies to their own cell's mean; `cells`: between the means of two cells.
    """

    copies: float
    cells: float
    n_cells: int

    @property
    def ratio(self) -> float:
        """How many times farther apart cells are than copies of one."""
        return self.cells / self.copies if self.copies > 0 else float("inf")


class Medoids(msgspec.Struct, frozen=True, kw_only=True):
    """k-medoids at the same k: its silhouette and that of the study's clusters.

    Medoids were sought among `n` cells.
    """

    n: int
    silhouette: float
    clusters_silhouette: float
    rand: float


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """One phenotype: its cells, in how many groups they are, and how well they hold together."""

    number: int
    cells: int
    groups: int
    silhouette: float
    limit: float


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `phenotypes-figures.json`.

    `k_sought` clusters were asked for, or chosen; of a mixture some may have come out empty, which
    leaves `k`. None: none did.
    """

    schema: Literal["parfocal.phenotypes-figures/1"] = "parfocal.phenotypes-figures/1"
    data: str
    simulated: bool
    n_cells: int
    n_groups: int
    group_kind: str
    network: str
    networks: int
    other_crops: bool
    copies: int
    lca_values: int
    method: Method = "k-means"
    space: str
    components: int
    explained: float
    seed: int
    starts: int
    repeats: int
    sweep: tuple[OfK, ...]
    k: int
    k_sought: int | None = None
    k_asked: bool
    best_k: int
    elbow_k: int
    silhouette: float
    clusters: tuple[Cluster, ...]
    medoids: Medoids
    stability: tuple[Agreed, ...]
    spread: Spread
    single_view: SingleView
    unlike_any: Metric
    orientation: tuple[Oriented, ...]
    attributes: tuple[Attribute, ...]
    shares: tuple[Share, ...]
    differences: tuple[Difference, ...]
    trends: tuple[Trend, ...] = ()
    untested: str
