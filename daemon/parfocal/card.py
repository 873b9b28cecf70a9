"""The card inside every model bundle: `metadata_props["parfocal"]`, schema `parfocal.model/1`."""

from typing import Literal

import msgspec

from parfocal.fieldview import ViewRules
from parfocal.instances import VoteRules
from parfocal.learned import FindRules
from parfocal.prepare import PixelRules


class DetectorRules(msgspec.Struct, frozen=True, kw_only=True):
    """What centred the training crops: a detector's name, `manual` or `external`."""

    name: str
    fingerprint: str = ""


class PrepareCard(msgspec.Struct, frozen=True, kw_only=True):
    """Both halves of the preparation; `fingerprint` is that of `pixels`, checked at load."""

    pixels: PixelRules
    fingerprint: str
    detector: DetectorRules


class Confusion(msgspec.Struct, frozen=True, kw_only=True):
    """Counts [true class][answered class] on groups left out of training, and which groups."""

    counts: tuple[tuple[int, ...], ...]
    groups: tuple[str, ...]
    group_kind: str


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Temperature that divides the logits, fitted on left-out groups (Guo et al. 2017)."""

    temperature: float


class Novelty(msgspec.Struct, frozen=True, kw_only=True):
    """Mahalanobis distance of an LCA to the nearest class mean, made a conformal p-value.

    `mean`: float32 (classes, d), `precision`: float32 (d, d), both base64 of little-endian bytes;
    `scores`: sorted distances of cells from groups left out of training.
    """

    mean: str
    precision: str
    d: int
    scores: tuple[float, ...]


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """A figure with its 95 % interval and how it was got."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    how: str = ""


class Abstention(msgspec.Struct, frozen=True, kw_only=True):
    """A cell is accepted when it is at least this probable and at most this novel.

    `error_rate` is what was asked: the share of a new group's cells that may be accepted and wrong.
    `guaranteed`: whether conformal risk control over `n_groups` left-out groups keeps it, which
    `guarantee` says in words. `expected_loss` is (sum over groups of that share + 1) /
    (n_groups + 1). `accepted_share` and `selective_accuracy` (of accepted cells, for which nothing
    is guaranteed) were got with thresholds chosen on other folds. None: a model from before these
    were measured.
    """

    min_probability: float
    max_novelty: float
    error_rate: float | None = None
    guaranteed: bool | None = None
    guarantee: str | None = None
    n_groups: int | None = None
    expected_loss: float | None = None
    accepted_share: Metric | None = None
    selective_accuracy: Metric | None = None


class ReliabilityBin(msgspec.Struct, frozen=True, kw_only=True):
    """n left-out cells of like probability: its mean, and the share that was right (95 %)."""

    predicted: float
    observed: float
    low: float
    high: float
    n: int


class Reliability(msgspec.Struct, frozen=True, kw_only=True):
    """Whether cells called p sure are right in p of the cases, by bins of equal mass.

    `ece` is the expected calibration error with its 95 % interval; the Brier score (summed over
    classes) and the log loss (nats) are given without a temperature, and with one: each fold's
    logits were divided by the temperature fitted to the other folds.
    """

    bins: tuple[ReliabilityBin, ...]
    ece: float
    ece_low: float
    ece_high: float
    brier_before: float
    brier: float
    log_loss_before: float
    log_loss: float
    how: str = ""


class GroupFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How one left-out group did, by networks that had not seen it.

    `accuracy` of all its n cells, accepted or not, with Wilson's 95 % interval for these cells;
    `novelty` is their mean; `flagged` what the shift rule of the OTHER groups says of it.
    """

    group: str
    labels: tuple[str, ...]
    n: int
    accuracy: float
    low: float
    high: float
    novelty: float
    flagged: bool | None = None


class ShiftRule(msgspec.Struct, frozen=True, kw_only=True):
    """When the cells of a frame or flask are, taken together, stranger than left-out groups were.

    Random effects of novelty: `mean` (standard error `mean_se`), SD `between_sd` of groups,
    `frame_sd` of frames within a group (0 where frames were not told apart), `within_sd` of cells.
    `group_mean_sd` is the SD of a left-out group's mean: larger sets are taken to vary as much.
    A score above `threshold`, Student's one-sided quantile at n_groups - 1 degrees, flags; among
    groups like the left-out ones that happens with probability `false_alarm` if their means are
    spread normally, and it did in `observed_false_alarms` of them, each tested by the rule of the
    others. How often a strange flask is noticed is not known.
    """

    mean: float
    mean_se: float
    between_sd: float
    frame_sd: float = 0.0
    within_sd: float
    group_mean_sd: float
    threshold: float
    false_alarm: float
    observed_false_alarms: Metric
    n_groups: int
    group_kind: str
    how: str = ""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the final network was trained on; each value with its number of cells.

    `groups_of_lines` counts the groups of each line. An empty table means that nobody recorded it;
    `simulated` is true where cells are known to be.
    """

    cell_lines: dict[str, int]
    groups: int
    group_kind: str
    groups_of_lines: dict[str, int] = {}
    densities: dict[str, int] = {}
    passages: dict[str, int] = {}
    days: dict[str, int] = {}
    pairs: dict[str, int] = {}
    um_per_px: float
    detector: str
    simulated: bool | None = None


class Phenotypes(msgspec.Struct, frozen=True, kw_only=True):
    """Morphological phenotypes: clusters of cells by their LCA (Yao et al. 2019, Fig. 5).

    A cell lies at z = (lca - mean) @ axes; its phenotype is the nearest centroid (Euclidean),
    unless it is farther from it than that phenotype's limit: then it is unlike any. With
    `precisions` and `weights` phenotypes are the components of a Gaussian mixture: that of the
    highest posterior probability is taken, and distance is Mahalanobis', the length of
    (z - centroid) @ precision. `mean` float32 (d,), `axes` float32 (d, q), `centroids` float32
    (k, q) and `precisions` float32 (k, q, q), Cholesky factors of the inverse covariances, are
    base64 of little-endian bytes; `weights` are the components' shares of cells. `cells` counts
    the clustered cells of each; `unlike_any` is the share of cells from left-out groups beyond
    every limit; `stability` the adjusted Rand index between repeated clusterings.
    """

    names: tuple[str, ...]
    named_by: str = ""
    mean: str
    axes: str
    centroids: str
    precisions: str | None = None
    weights: tuple[float, ...] | None = None
    d: int
    limits: tuple[float, ...]
    unlike_any: Metric
    cells: tuple[int, ...]
    stability: Metric
    group_kind: str
    how: str = ""


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """Where the weights come from."""

    data: str
    data_sha256s: tuple[str, ...]
    groups: tuple[str, ...]
    code_version: str
    seed: int
    recipe: dict[str, str | float | int | bool | None]
    metrics: dict[str, Metric]


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """A stored question and its answer, asked at every start.

    `crops`: base64 of uint8 (n, crop_px, crop_px), raw; `logits`, `lca`: base64 float32 of what
    the trained network answers after `normalize`, shapes (n, classes) and (n, d).
    """

    n: int
    crops: str
    logits: str
    lca: str
    tolerance: float = 1e-3


class ClassifierCard(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="classifier"):
    """Everything a daemon must know to use a classifier, and a person to trust it."""

    schema: Literal["parfocal.model/1"] = "parfocal.model/1"
    name: str
    version: str
    licence: str
    created_at: str
    description: str
    attribution: str = ""
    classes: tuple[str, ...]
    prepare: PrepareCard
    calibration: Calibration
    novelty: Novelty
    abstention: Abstention
    confusion: Confusion | None
    training: Training
    golden: Golden
    caveats: tuple[str, ...] = ()
    phenotypes: Phenotypes | None = None
    reliability: Reliability | None = None
    per_group: tuple[GroupFigures, ...] | None = None
    shift: ShiftRule | None = None
    seen: Seen | None = None
    not_for: tuple[str, ...] | None = None

    @property
    def um_per_px(self) -> float:
        """Pixel size of the crops."""
        return self.prepare.pixels.um_per_px

    @property
    def crop_px(self) -> int:
        """Side of a crop."""
        return self.prepare.pixels.crop_px


class DetectorGolden(msgspec.Struct, frozen=True, kw_only=True):
    """A stored frame and the maps it gives, asked at every start.

    `frame`: base64 of uint8 (height_px, width_px) at the view's own pixel size; `maps`: base64
    float32 (n_maps, height_px / 2, width_px / 2), sides being multiples of 16.
    """

    height_px: int
    width_px: int
    frame: str
    maps: str
    tolerance: float = 2e-3


class DetectorCard(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="detector"):
    """Everything a daemon must know to find cells with a network, and a person to trust it.

    Input `image` float32 (1, 1, h, w), a view as `parfocal.fieldview` makes it, sides multiples of
    16; output `maps` float32 (1, len(maps), h / 2, w / 2). The first four maps are used live.
    """

    schema: Literal["parfocal.model/1"] = "parfocal.model/1"
    name: str
    version: str
    licence: str
    created_at: str
    description: str
    attribution: str = ""
    view: ViewRules
    fingerprint: str
    maps: tuple[str, ...]
    votes: VoteRules
    rules: FindRules
    training: Training
    golden: DetectorGolden
    caveats: tuple[str, ...] = ()

    @property
    def um_per_px(self) -> float:
        """Pixel size of the view."""
        return self.view.um_per_px
