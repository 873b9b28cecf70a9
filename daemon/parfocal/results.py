"""Assembles the result of one frame from what the two children answered."""

import math

import numpy as np

from parfocal.card import ClassifierCard
from parfocal.gate.places import inside
from parfocal.inference import Classified
from parfocal.intervals import composition, density
from parfocal.phenotypes import answers
from parfocal.prepare import PixelRules
from parfocal.reader import Prepared
from parfocal.reasons import ObjectReason
from parfocal.shift import shift
from parfocal.types import AlreadyCounted, Cell, FlaskRef, FrameResult, ImageRef, ModelRef

LEAST_MM2 = 1e-6
"""Of a frame without new area: nothing can be said about its density, but in finite numbers."""

UNCLASSIFIED_CELLS = (ObjectReason.CLUMP, ObjectReason.OVER_LIMIT)
"""Finds that are cells, although none was classified."""


def model_ref(
    card: ClassifierCard, sha256: str, provider: str, detector: str, detector_fingerprint: str
) -> ModelRef:
    """How results name the model; states whether the detector is the one of the training crops."""
    trained_with = card.prepare.detector
    return ModelRef(
        name=card.name,
        version=card.version,
        sha256=sha256,
        fingerprint=card.prepare.fingerprint,
        provider=provider,
        detector=detector,
        detector_matches_training=trained_with.fingerprint == detector_fingerprint,
        caveats=card.caveats,
    )


def cells_of(prepared: Prepared, classified: Classified, card: ClassifierCard) -> tuple[Cell, ...]:
    """The classified cells, numbered from 1 in the order they were found."""
    cells = []
    unnamed: list[str | None] = [None] * len(classified.reasons)
    rows = zip(
        prepared.chosen,
        classified.probabilities,
        classified.novelty,
        classified.reasons,
        classified.phenotypes or unnamed,
        strict=True,
    )
    for number, (i, probabilities, novelty, reason, phenotype) in enumerate(rows, 1):
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        (x, y), (left, top, width, height) = prepared.points[i], prepared.boxes[i]
        cells.append(
            Cell(
                id=number,
                x_px=x,
                y_px=y,
                left_px=left,
                top_px=top,
                width_px=width,
                height_px=height,
                area_um2=prepared.areas_um2[i],
                label=card.classes[best],
                probability=probabilities[best],
                probabilities=dict(zip(card.classes, probabilities, strict=True)),
                novelty=novelty,
                phenotype=phenotype,
                accepted=reason is None,
                reason=reason,
            )
        )
    return tuple(cells)


def frame_result(
    path: str,
    source: str,
    prepared: Prepared,
    classified: Classified,
    card: ClassifierCard,
    model: ModelRef,
    flask: FlaskRef | None,
    revision: int = 1,
    already_counted: AlreadyCounted | None = None,
) -> FrameResult:
    """The complete result of one image; `source` is where it is from if its sidecar does not say.

    Of a frame that lies on earlier ones, give what `parfocal.overlaps.counted_once` leaves.
    """
    cells = cells_of(prepared, classified, card)
    accepted = [cell for cell in cells if cell.accepted]
    counts = {label: sum(c.label == label for c in accepted) for label in card.classes}
    named = {name: sum(c.phenotype == name for c in cells) for name in answers(card.phenotypes)}
    n_counted, counted_mm2 = counted(prepared, card.prepare.pixels)
    new = 1 - already_counted.share if already_counted else 1.0
    return FrameResult(
        image=ImageRef(
            path=path,
            sha256=prepared.sha256,
            width_px=prepared.width_px,
            height_px=prepared.height_px,
            um_per_px=prepared.um_per_px,
            um_per_px_from=prepared.um_per_px_from,
            acquired_at=prepared.acquired_at,
            source=prepared.declared.source or source,
        ),
        flask=flask,
        model=model,
        quality=prepared.quality,
        cells=cells,
        rejected=tuple(prepared.rejected),
        composition=composition(counts),
        n_abstained=len(cells) - len(accepted),
        n_rejected=len(prepared.rejected),
        density=density(n_counted, max(LEAST_MM2, new * counted_mm2)),
        timing_ms={**prepared.timing_ms, "infer": classified.infer_ms},
        revision=revision,
        shift=shift([(len(cells), sum(cell.novelty for cell in cells))], card.shift),
        phenotypes=composition(named) or None,
        already_counted=already_counted,
    )


def counted(prepared: Prepared, rules: PixelRules) -> tuple[int, float]:
    """Cells in the part of a frame in which cells can be classified, and its area in mm2.

    Within half a crop of the border none can, and an object there may be cut: border and finds in
    it count neither way. Cells of clumps, as estimated, and cells over the limit count.
    """
    size, margin_px = (prepared.height_px, prepared.width_px), margin_of(rules, prepared.um_per_px)
    more = [one for one in prepared.rejected if one.reason in UNCLASSIFIED_CELLS]
    there = inside(np.array([(one.x_px, one.y_px) for one in more]).reshape(-1, 2), size, margin_px)
    n = sum(one.n_cells or 1 for one, counts in zip(more, there, strict=True) if counts)
    sides_mm = [max(0.0, side - 2 * margin_px) * prepared.um_per_px / 1000 for side in size]
    return len(prepared.chosen) + n, math.prod(sides_mm)


def margin_of(rules: PixelRules, um_per_px: float) -> float:
    """Half a crop, in pixels of an image of this scale."""
    return rules.crop_px / 2 * rules.um_per_px / um_per_px


def lca_rows(classified: Classified, n: int) -> list[bytes]:
    """The float16 activations of each of n cells."""
    if n == 0:
        return []
    size, rest = divmod(len(classified.lca), n)
    if rest or math.isclose(size, 0):
        raise ValueError(f"{len(classified.lca)} bytes of activations do not divide over {n} cells")
    return [classified.lca[i * size : (i + 1) * size] for i in range(n)]
