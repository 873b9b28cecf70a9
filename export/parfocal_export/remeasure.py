"""A finished bundle measured on flasks that it never saw: the same weights, a new card.

What a model can be trusted with depends on the laboratory. The crops of your own flasks decide
the calibration, the limits of abstention, novelty and shift, and every figure of the card.
"""

from collections import Counter
from datetime import datetime

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from parfocal.bundle import METADATA_KEY, Bundle
from parfocal.calibrate import NoveltyScore
from parfocal.card import ClassifierCard
from parfocal.classify import OnnxClassifier
from parfocal.normalize import normalize
from parfocal.types import Gray
from parfocal_export.about import About
from parfocal_export.sentences import as_written, completed, with_sentences
from parfocal_training.cropset import CropSet
from parfocal_training.crossvalidate import group_folds
from parfocal_training.errors import DataError
from parfocal_training.evaluate import LeftOut, measure
from parfocal_training.neighbours import among_others
from parfocal_training.novelty import thinned

Singles = NDArray[np.float32]

MOST_FOLDS = 5
BATCH = 64


def remeasured(
    bundle: Bundle, crop_set: CropSet, about: About, error_rate: float, now: datetime
) -> tuple[bytes, ClassifierCard]:
    """The bundle with the card that these crops give it; its graph is the same.

    Temperature and thresholds are fitted on all of the crops; the stated figures are those of each
    part of them by what the other parts decide. Sentences that follow from figures are made anew; a
    person's stay, unless `about.keep` is false, and those of `about` come after them.

    Raises
    ------
    DataError
        The crops were cut in another way, are of other lines or of too few groups, or were
        trained on.
    """
    check_fit(bundle.card, crop_set)
    left_out = answered(bundle, crop_set)
    kind = crop_set.index.group_kind
    measured = measure(left_out, kind, 0, error_rate, bundle.card.classes)
    old = as_written(bundle.card) if about.keep else with_sentences(bundle.card, (), ())
    card = msgspec.structs.replace(
        old,
        name=about.name,
        version=about.version,
        licence=about.licence,
        created_at=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        description=about.description or old.description,
        attribution=about.attribution or old.attribution,
        calibration=measured.calibration,
        abstention=measured.abstention,
        confusion=measured.confusion,
        novelty=msgspec.structs.replace(old.novelty, scores=thinned(left_out.distances)),
        training=msgspec.structs.replace(old.training, metrics=measured.metrics),
        caveats=(*old.caveats, *about.caveats),
        reliability=measured.reliability,
        per_group=measured.per_group,
        shift=measured.shift,
        not_for=(*(old.not_for or ()), *about.not_for),
    )
    card = completed(card)
    return with_card(bundle.data, card), card


def held_out(crop_set: CropSet) -> CropSet:
    """The crops that a fit leaves for a later test; all of a set in which none is set apart."""
    test = np.flatnonzero([row.image.split == "test" for row in crop_set.index.rows])
    return crop_set.of(test) if len(test) else crop_set


def source(crop_set: CropSet) -> str:
    """Which images these crops are of, in words."""
    apart = all(row.image.split == "test" for row in crop_set.index.rows)
    return f"{'the test images of ' if apart else ''}'{crop_set.index.data}'"


def check_fit(card: ClassifierCard, crop_set: CropSet) -> None:
    """Whether the crops can measure this model.

    Raises
    ------
    DataError
        They cannot; the message says why.
    """
    rules, pixels = crop_set.index.rules, card.prepare.pixels
    groups = {(row.image.cell_line, row.image.group) for row in crop_set.index.rows}
    of_line = Counter(line for line, _ in sorted(groups))
    if set(of_line) - set(card.classes) or len(of_line) < 2:
        raise DataError(
            f"the crops are of {', '.join(of_line)}, the model tells apart "
            f"{', '.join(card.classes)}: give crops of these lines (parfocal-train crops "
            "--class-names OLD=NEW renames)"
        )
    single = [line for line, n in of_line.items() if n < 2]
    if single:
        kind = crop_set.index.group_kind
        raise DataError(
            f"the crops of {', '.join(single)} are of one {kind}: two of each line, or more, are "
            "needed to measure a model"
        )
    differ = rules.differences(pixels)
    if differ:
        raise DataError(f"the crops are not cut as the model wants them ({differ}): cut them again")
    shared = set(crop_set.sha256s) & set(card.training.data_sha256s)
    if shared:
        raise DataError(
            f"{len(shared)} of {len(crop_set.sha256s)} images were trained on: a model is measured "
            "on flasks that it never saw"
        )


def answered(bundle: Bundle, crop_set: CropSet) -> LeftOut:
    """What the model says of every crop, through the daemon's own engine."""
    classifier = OnnxClassifier(bundle, "cpu")
    reference = bundle.card.prepare.pixels.reference_distribution()

    def said(crops: Gray) -> tuple[Singles, Singles]:
        parts = [
            classifier(normalize(crops[some], reference))
            for some in np.array_split(np.arange(len(crops)), max(1, len(crops) // BATCH))
        ]
        return np.concatenate([p.logits for p in parts]), np.concatenate([p.lca for p in parts])

    every = np.arange(len(crop_set))
    logits, lca = said(crop_set.bare(every))
    moved = among_others(crop_set, every, 0)
    names, rows = bundle.card.classes, crop_set.index.rows
    labels = np.array([names.index(row.image.cell_line) for row in rows], np.int64)
    per_class = [
        len({g for g, c in zip(crop_set.groups, labels, strict=True) if c == label})
        for label in np.unique(labels)
    ]
    present = tuple(names[label] for label in np.unique(labels))
    dense = np.searchsorted(np.unique(labels), labels).astype(np.int64)
    ready = any(row.x_px is None for row in rows)
    return LeftOut(
        logits=logits.astype(np.float64),
        labels=labels,
        folds=group_folds(dense, crop_set.groups, min(MOST_FOLDS, *per_class), 0, present),
        groups=crop_set.groups,
        distances=NoveltyScore(bundle.card.novelty, len(names)).distance(lca),
        images=() if ready else tuple(row.image.path for row in rows),
        tested=f"test of the finished model on {source(crop_set)}, which it never saw,",
        among_others=None if moved is None else said(moved)[0].argmax(1),
    )


def with_card(data: bytes, card: ClassifierCard) -> bytes:
    """The same graph with another card."""
    proto = onnx.load_from_string(data)
    for entry in proto.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = msgspec.json.encode(card).decode()
    onnx.checker.check_model(proto)
    out: bytes = proto.SerializeToString()
    return out
