"""A detector's training becomes one file that a daemon can trust."""

from datetime import datetime

import msgspec
import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from parfocal.bundle import METADATA_KEY
from parfocal.calibrate import to_base64
from parfocal.card import DetectorCard, DetectorGolden, Training
from parfocal.fieldview import field_contrast, seen
from parfocal_export.about import About
from parfocal_export.graph import OPSET, bare, quiet
from parfocal_export.question import golden_crops
from parfocal_export.verify import TOLERANCE, ParityError
from parfocal_training.detector.checkpoint import DetectorCheckpoint
from parfocal_training.detector.fit import torch_engine
from parfocal_training.detector.network import DetectorNet
from parfocal_training.detector.start import WEIGHTS_KEY, weights_text

GOLDEN_PX = 96
CPU = torch.device("cpu")
Float = NDArray[np.float32]


def make_detector_bundle(
    checkpoint: DetectorCheckpoint, net: DetectorNet, about: About, created: datetime
) -> tuple[bytes, DetectorCard, float]:
    """The bytes of the ONNX file, its card, and how far the graph is from the network.

    Raises
    ------
    ParityError
        The graph does not answer as the network does.
    """
    frame = golden_crops(1, GOLDEN_PX, np.random.default_rng(0))[0]
    view = seen(field_contrast(frame, checkpoint.view.um_per_px, checkpoint.view), checkpoint.view)
    proto = detector_graph(net)
    worst = check_parity(net, proto, view)
    card = make_card(checkpoint, about, frame, torch_engine(net, CPU)(view), created)
    for key, text in (
        (METADATA_KEY, msgspec.json.encode(card).decode()),
        (WEIGHTS_KEY, weights_text(net)),
    ):
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, text
    onnx.checker.check_model(proto)
    return proto.SerializeToString(), card, worst


def detector_graph(net: DetectorNet) -> onnx.ModelProto:
    """`image` float32 (1, 1, h, w), sides multiples of 16, to `maps` (1, n, h / 2, w / 2)."""
    sides = {2: 16 * torch.export.Dim("rows"), 3: 16 * torch.export.Dim("columns")}
    with quiet():
        program = torch.onnx.export(
            net.eval().to(memory_format=torch.contiguous_format),  # type: ignore[call-overload]
            (torch.zeros(1, 1, 64, 96),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["maps"],
            dynamic_shapes=(sides,),
            external_data=False,
            verbose=False,
        )
    if program is None:  # only when the exporter writes to a file itself
        raise RuntimeError("PyTorch's exporter returned no model")
    return bare(program.model_proto)


def check_parity(net: DetectorNet, proto: onnx.ModelProto, view: Float) -> float:
    """The largest relative difference over the golden view and one of noise of another size.

    Raises
    ------
    ParityError
        It is above `TOLERANCE`.
    """
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    noise = np.random.default_rng(0).normal(0, 1, (176, 240)).astype(np.float32)
    worst = 0.0
    for one in (view, noise):
        ours = torch_engine(net, CPU)(one)
        theirs = session.run(["maps"], {"image": one[None, None]})[0][0]
        worst = max(worst, float(np.abs(ours - theirs).max()) / max(1.0, float(np.abs(ours).max())))
    if not worst <= TOLERANCE:  # also refuses NaN
        raise ParityError(
            f"the ONNX graph differs from the trained network by {worst:.2g}, {TOLERANCE:.0e} is "
            "allowed: nothing was written; report this with the versions of torch and onnxruntime"
        )
    return worst


def make_card(
    checkpoint: DetectorCheckpoint,
    about: About,
    frame: NDArray[np.uint8],
    maps: Float,
    created: datetime,
) -> DetectorCard:
    """What the daemon and its users are told: measured by training, said by a person."""
    recipe = checkpoint.recipe
    return DetectorCard(
        name=about.name,
        version=about.version,
        licence=about.licence,
        created_at=created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        description=about.description,
        attribution=about.attribution,
        view=checkpoint.view,
        fingerprint=checkpoint.view.fingerprint,
        maps=checkpoint.config.maps,
        votes=checkpoint.votes,
        rules=checkpoint.rules,
        training=Training(
            data=checkpoint.data,
            data_sha256s=checkpoint.data_sha256s,
            groups=checkpoint.groups,
            code_version=checkpoint.code_version,
            seed=checkpoint.seed,
            recipe={
                "name": recipe.name,
                "steps": recipe.steps,
                "batch": recipe.batch,
                "learning_rate": recipe.learning_rate,
                "started_from": checkpoint.started_from,
            },
            metrics=checkpoint.metrics,
        ),
        golden=DetectorGolden(
            height_px=frame.shape[0],
            width_px=frame.shape[1],
            frame=to_base64(frame),
            maps=to_base64(maps.astype("<f4")),
        ),
        caveats=(*about.caveats, *checkpoint.caveats),
    )
