"""One file that a daemon can trust: graph, card, golden answers."""

from datetime import datetime

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from parfocal.bundle import METADATA_KEY
from parfocal.calibrate import to_base64
from parfocal.card import ClassifierCard, Golden, Phenotypes, PrepareCard, Training
from parfocal.normalize import normalize
from parfocal_export.about import About
from parfocal_export.graph import to_onnx
from parfocal_export.question import golden_crops
from parfocal_export.sentences import completed
from parfocal_export.verify import check_parity, torch_answers
from parfocal_training.checkpoint import Checkpoint
from parfocal_training.model import ConvNet

N_GOLDEN = 3


def make_bundle(
    checkpoint: Checkpoint,
    model: ConvNet,
    about: About,
    created: datetime,
    phenotypes: Phenotypes | None = None,
) -> tuple[bytes, ClassifierCard, float]:
    """The bytes of the ONNX file, its card, and how far the graph is from the network.

    Raises
    ------
    ParityError
        The graph does not answer as the network does.
    """
    reference = checkpoint.pixels.reference_distribution()
    crops = golden_crops(N_GOLDEN, checkpoint.pixels.crop_px, np.random.default_rng(0))
    proto = to_onnx(model)
    worst = check_parity(model, proto, crops, reference)
    logits, lca = torch_answers(model, normalize(crops, reference))
    card = make_card(checkpoint, about, _golden(crops, logits, lca), created)
    card = msgspec.structs.replace(card, phenotypes=phenotypes)
    entry = proto.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, msgspec.json.encode(card).decode()
    onnx.checker.check_model(proto)
    return proto.SerializeToString(), card, worst


def _golden(
    crops: NDArray[np.uint8], logits: NDArray[np.float32], lca: NDArray[np.float32]
) -> Golden:
    return Golden(
        n=len(crops),
        crops=to_base64(crops),
        logits=to_base64(logits.astype("<f4")),
        lca=to_base64(lca.astype("<f4")),
    )


def make_card(
    checkpoint: Checkpoint, about: About, golden: Golden, created: datetime
) -> ClassifierCard:
    """What the daemon and its users are told: said by a person, measured, and what follows."""
    measured = checkpoint.measured
    card = ClassifierCard(
        name=about.name,
        version=about.version,
        licence=about.licence,
        created_at=created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        description=about.description,
        attribution=about.attribution,
        classes=checkpoint.classes,
        prepare=PrepareCard(
            pixels=checkpoint.pixels,
            fingerprint=checkpoint.pixels.fingerprint,
            detector=checkpoint.detector,
        ),
        calibration=measured.calibration,
        novelty=checkpoint.novelty,
        abstention=measured.abstention,
        confusion=measured.confusion,
        training=Training(
            data=checkpoint.data,
            data_sha256s=checkpoint.data_sha256s,
            groups=checkpoint.groups,
            code_version=checkpoint.code_version,
            seed=checkpoint.seed,
            recipe=checkpoint.recipe.flat(),
            metrics=measured.metrics,
        ),
        golden=golden,
        caveats=about.caveats,
        reliability=measured.reliability,
        per_group=measured.per_group,
        shift=measured.shift,
        seen=measured.seen,
        not_for=about.not_for,
    )
    return completed(card)
