"""The values that travel through parfocal, in the order they arise.

`Frame`, `Finds` and `Cells` carry pixels and stay inside a process. The Structs below them cross
the wire and the journal: they carry no pixels, hold finite numbers only, and are the single source
of the JSON Schema (`parfocal.schema`).
"""

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.reasons import CellReason, GateReason, ObjectReason

Gray = NDArray[np.uint8] | NDArray[np.uint16]
"""One-channel image, shape (h, w)."""

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
"""An image as decoded: (h, w) gray or (h, w, 3) RGB."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded image and what its own file says about it.

    `um_per_px` is None when the file carries no usable physical scale. `notes` are quality flags
    found while decoding, for example `first_page_of_3`.
    """

    pixels: Pixels  # (h, w) or (h, w, 3)
    um_per_px: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Finds:
    """Everything a detector found in one frame; n objects, cells and rejects alike.

    Parameters
    ----------
    labels : ndarray of shape (h', w'), int32
        Instance labels at the detector's own scale; 0 is background, object i has label i + 1.
    points_px : ndarray of shape (n, 2), float64
        A point inside each object (x right, y down, pixel centres, frame pixels).
    centroids_px : ndarray of shape (n, 2), float64
        Centre on which a crop is cut: that of the mask, or of its body; for a concave cell it can
        lie outside.
    boxes_px : ndarray of shape (n, 4), float64
        left, top, width, height in frame pixels.
    area_um2, score : ndarrays of shape (n,), float64
        Mask area, and how sure the detector is in [0, 1].
    reasons : tuple of n
        None for a single cell, else why the object is not one that can be classified.
    """

    labels: NDArray[np.int32]
    points_px: NDArray[np.float64]
    centroids_px: NDArray[np.float64]
    boxes_px: NDArray[np.float64]
    area_um2: NDArray[np.float64]
    score: NDArray[np.float64]
    reasons: tuple[ObjectReason | None, ...]

    def __len__(self) -> int:
        return len(self.reasons)

    def labels_at(self, shape: tuple[int, int]) -> NDArray[np.uint16]:
        """Instance labels of the single cells at frame size (h, w), numbered 1..n_cells."""
        number = np.zeros(len(self) + 1, np.uint16)
        cells = [i + 1 for i, reason in enumerate(self.reasons) if reason is None]
        number[cells] = np.arange(1, len(cells) + 1)
        h, w = self.labels.shape
        rows = np.minimum((np.arange(shape[0]) + 0.5) * h / shape[0], h - 1).astype(np.intp)
        columns = np.minimum((np.arange(shape[1]) + 0.5) * w / shape[1], w - 1).astype(np.intp)
        full: NDArray[np.uint16] = number[self.labels[rows[:, None], columns[None, :]]]
        return full


class Detector(Protocol):
    """Finds cells in a gray frame of known pixel size."""

    @property
    def name(self) -> str:
        """Short name, stated in every result."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides what is found."""

    def __call__(self, gray: Gray, um_per_px: float, /) -> Finds:
        """All objects of the frame."""


# ------------------------------------------------------------------------------------ on the wire

UnitInterval = Annotated[float, msgspec.Meta(ge=0, le=1)]


ScaleOrigin = Literal["sidecar", "folder", "file", "configuration", "argument", "table"]
"""Where a pixel size was found; the first that declares one wins. `argument` (a command's own) and
`table` (the `flasks.csv` of a folder that is replayed) win over all others."""


class ImageRef(msgspec.Struct, frozen=True, kw_only=True):
    """Where a result's image is and what it was, without its pixels."""

    path: str
    sha256: str
    width_px: int
    height_px: int
    um_per_px: float
    um_per_px_from: ScaleOrigin
    acquired_at: str
    source: str


ClosedBy = Literal["operator", "next flask", "rule"]


class FlaskRef(msgspec.Struct, frozen=True, kw_only=True):
    """The flask session that an image belongs to.

    `closed_by`: the operator, the next flask that was opened, or the rule that closes a session
    without a frame for long; None in sessions that are open, or that an older parfocal closed.
    `missing`: what this rig requires and a folder, sidecar or code in the image did not declare.
    """

    id: str
    session: str
    cell_line: str | None = None
    passage: int | None = None
    opened_at: str | None = None
    closed_at: str | None = None
    note: str | None = None
    closed_by: ClosedBy | None = None
    missing: tuple[str, ...] | None = None


class ModelRef(msgspec.Struct, frozen=True, kw_only=True):
    """Which model answered, with which preparation, on which device."""

    name: str
    version: str
    sha256: str
    fingerprint: str
    provider: str
    detector: str
    detector_matches_training: bool
    caveats: tuple[str, ...] = ()


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """How good the image is.

    `focus`: gradient energy at a quarter of the frame's resolution over that at an eighth, minus
    1/4, clipped to [0, 1] (0 = blurred or without structure, 1 = as sharp as can be; finer octaves
    hold mostly camera noise). `exposure`: 1 minus the share of pixels at either end of the grey
    scale. `flags`: `dark`, `bright`, `saturated`, `low_contrast`, `out_of_focus`, and what the
    decoder noted, such as `first_page_of_3`.
    """

    focus: UnitInterval
    exposure: UnitInterval
    flags: tuple[str, ...] = ()


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One classified cell: place in frame pixels, class, and how sure.

    `probability` is calibrated and belongs to `label`; `novelty` is 1 minus the conformal p-value
    (1 = strange). `accepted` is false where the model abstains, with `reason`. `phenotype` names
    the morphological phenotype that the cell is nearest to, or is `unlike any` where it is far
    from all; abstained cells have one too. It is None for a model whose card has no phenotypes.
    """

    id: int
    x_px: float
    y_px: float
    left_px: float
    top_px: float
    width_px: float
    height_px: float
    area_um2: float
    label: str
    probability: UnitInterval
    probabilities: dict[str, float]
    novelty: UnitInterval
    phenotype: str | None = None
    accepted: bool = True
    reason: CellReason | None = None


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """Something found in the frame that was never classified.

    `n_cells`: of a clump, how many cells it may hold, from its area and that of the frame's single
    cells; None for everything else.
    """

    reason: ObjectReason
    x_px: float
    y_px: float
    area_um2: float
    n_cells: int | None = None


class Fraction(msgspec.Struct, frozen=True, kw_only=True):
    """Number and share of cells that are one thing, with the share's 95 % interval.

    A class is counted among the accepted cells, a phenotype among all classified ones.
    """

    n: int
    fraction: UnitInterval
    low: UnitInterval
    high: UnitInterval


class AlreadyCounted(msgspec.Struct, frozen=True, kw_only=True):
    """What of a frame earlier fields of its flask have counted, so that it does not count again.

    `images`: the file names of those fields. `n_finds`: everything found there, all of it in
    `rejected`. `share` is that of the area in which a field counts cells, because a crop around
    them lies in it; `frame_share` that of the whole frame.
    """

    images: tuple[str, ...]
    n_finds: int
    share: UnitInterval
    frame_share: UnitInterval


class Density(msgspec.Struct, frozen=True, kw_only=True):
    """Cells per square millimetre, those in clumps (as estimated) too, with its 95 % interval.

    Of the part of the frame in which cells can be classified: not within half a crop of its border.
    Of a frame that lies on earlier ones, those cells and that area that were not counted before.
    """

    cells_per_mm2: float
    low: float
    high: float


class Shift(msgspec.Struct, frozen=True, kw_only=True):
    """How much stranger cells are, taken together, than those of groups left out of training.

    `score`: their mean novelty above that of left-out groups, in standard deviations of such a
    mean. Above `threshold` it is `flagged`, which also happens to the share `false_alarm` of
    ordinary groups, by design; the model's card says what it was of those left out. `group_kind`
    says what groups were (flask, field, image).
    """

    score: float
    threshold: float
    flagged: bool
    n_cells: int
    group_kind: str
    false_alarm: float | None = None


class FrameResult(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known about one image: body of `parfocal.frame/1`.

    `composition` counts accepted cells of this frame and its intervals speak of this frame only.
    `timing_ms` has the keys hash, decode, detect, cut, normalize, infer and record, and code where
    QR codes are looked for. `shift` looks at all classified cells, abstained ones too; it is None
    without cells, or when the model's card has no rule for it. `phenotypes` has every phenotype of
    the card, and `unlike any` last, among all classified cells, abstained ones too; its intervals
    speak of this frame only. It is None when the card has none. `already_counted` is None for a
    frame that lies on no earlier one; `image.source` is `camera` for a frame that parfocal's camera
    child kept, else `folder`, or `file` on the command line.
    """

    image: ImageRef
    flask: FlaskRef | None
    model: ModelRef
    quality: Quality
    cells: tuple[Cell, ...]
    rejected: tuple[Rejected, ...]
    composition: dict[str, Fraction]
    n_abstained: int
    n_rejected: int
    density: Density
    timing_ms: dict[str, float]
    revision: int = 1
    shift: Shift | None = None
    phenotypes: dict[str, Fraction] | None = None
    already_counted: AlreadyCounted | None = None


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person should know: body of `parfocal.alarm/1`."""

    name: str
    level: Literal["info", "warning", "alarm"]
    since_at: str
    text: str
    evidence: dict[str, str] = {}
    cleared: bool = False


Match = Literal["match", "mismatch", "undecided"]
"""Whether most cells of a flask are of the declared line."""


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a flask holds its declared line, and what that stands on.

    `share` of the declared class, corrected for the model's confusion; `low` and `high` are wide
    enough that all looks together err with at most 1 % on either side. `n_frames` and `n_cells`
    are those of the last look. Without numbers, `text` says why nothing was judged.
    """

    cell_line: str
    match: Match
    text: str
    share: UnitInterval | None = None
    low: UnitInterval | None = None
    high: UnitInterval | None = None
    n_cells: int = 0
    n_frames: int = 0


class Contamination(msgspec.Struct, frozen=True, kw_only=True):
    """Cells of another class than declared.

    `fraction` is corrected for the model's confusion, with its 95 % interval. `found` is decided
    on `answered_other`, the share of cells that the model answered otherwise, against what it
    answers of a pure flask: `expected_other` with SD `expected_other_sd` between flasks, which
    `sd_assumed` says to be assumed. Over all looks a pure flask is called contaminated with at most
    1 %; what was found at one look stays found. The numbers are those of the last look. A
    contamination of `limit_of_detection` is found in 95 of 100 flasks like this one.
    """

    found: bool
    fraction: UnitInterval
    low: UnitInterval
    high: UnitInterval
    limit_of_detection: UnitInterval
    n_cells: int
    n_frames: int
    answered_other: UnitInterval
    expected_other: UnitInterval
    expected_other_sd: float
    sd_assumed: bool
    text: str


class Confluence(msgspec.Struct, frozen=True, kw_only=True):
    """Share of the area that cells cover, by the detector's masks, with its 95 % interval."""

    fraction: UnitInterval
    low: UnitInterval
    high: UnitInterval


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of a flask beside those of earlier passages, with its 99 % control limits."""

    value: float
    mean: float
    low: float
    high: float
    outside: bool


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """A flask beside earlier passages of its line; `figures` is empty when they are too few.

    `n_passages` were scored by the same model with the same preparation and detector;
    `n_other_model` were not, and are left out.
    """

    n_passages: int
    text: str
    figures: dict[str, Control] = {}
    n_other_model: int = 0


class FlaskVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Running totals of a flask session: body of `parfocal.flask/1`.

    Intervals take frames as clusters (`parfocal.intervals`). What two fields show counts once, so
    `n_rejected` leaves out what was `already_counted`. `open` is false in the last verdict
    of a session. `composition` counts accepted cells as they were answered. `shift`, `phenotypes`
    and what follows look at all cells that the present model classified, abstained ones too;
    `phenotypes` has every phenotype of its card, and `unlike any` last, and is None when the card
    has none. `corrected` is the share of each class corrected for the model's confusion on left-out
    groups (`n` still counts answers); it is None when the card has no confusion, and when `shift`
    is flagged, because then no known rate of errors holds. `advice` says what to do next;
    `more_fields` is how many fields it asks for.
    """

    flask: FlaskRef
    open: bool
    n_frames: int
    n_cells: int
    n_abstained: int
    n_rejected: int
    composition: dict[str, Fraction]
    density: Density | None
    shift: Shift | None = None
    phenotypes: dict[str, Fraction] | None = None
    corrected: dict[str, Fraction] | None = None
    declared_match: Match | None = None
    declared: Declared | None = None
    contamination: Contamination | None = None
    confluence: Confluence | None = None
    advice: str | None = None
    more_fields: int | None = None
    trend: Trend | None = None


State = Literal["starting", "ready", "degraded", "stopping"]


class CameraBeat(msgspec.Struct, frozen=True, kw_only=True):
    """A camera that parfocal drives: what its gate says now, and counts since the service started.

    `view` is why the last frame was not taken; None when it was, when the gate goes by time, and
    while no frame comes. `frames` were looked at, `kept` are files. `dropped` were made by the
    camera and are none: nobody saw them, or a newer one replaced them before they were written; it
    is the beat's own `dropped`. `overflows`: how often the camera's buffer was full. A buffer that
    stops when it is full does not say what it missed: then one is counted, so `dropped` is the
    least that it can be. `losses`: how often the camera was lost.
    """

    view: GateReason | None
    frames: int
    kept: int
    dropped: int
    overflows: int
    losses: int


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's pulse, every second, never journaled: body of `parfocal.beat/1`.

    `camera` is None where parfocal drives none.
    """

    seq: int
    tseq: dict[str, int]
    replay: str
    state: State
    reasons: tuple[str, ...]
    provider: str
    queue_depth: int
    dropped: int
    uptime_s: float
    files: dict[str, int]
    camera: CameraBeat | None = None


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """Second part of every message: who, which, when, and the body's hash.

    `seq` counts the whole log, `tseq` the messages of this topic; a beat repeats the head of the
    log. `(rig, log, seq)` names a message for ever. `schema` names the body's layout; a later
    parfocal may send ones that are unknown here.
    """

    schema: Annotated[str, msgspec.Meta(pattern=r"^parfocal\.[a-z]+/[0-9]+$")]
    rig: str
    log: str
    seq: int
    tseq: int
    msg_id: str
    published_at: str
    sha256: str
