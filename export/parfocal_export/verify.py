"""Whether the ONNX graph answers as the trained network does."""

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from parfocal.normalize import Reference, normalize
from parfocal_training.errors import TrainingError
from parfocal_training.model import ConvNet

TOLERANCE = 1e-5
"""Largest difference allowed, relative to the largest answer (at least 1): float32 rounding."""

Pair = tuple[NDArray[np.float32], NDArray[np.float32]]


class ParityError(TrainingError):
    """The exported graph does not compute what the trained network computes."""


@torch.no_grad()
def torch_answers(model: ConvNet, crops: NDArray[np.float32]) -> Pair:
    """Logits (n, classes) and LCA (n, d) of the trained network for normalized crops (n, s, s)."""
    logits, lca = model.eval()(torch.from_numpy(crops)[:, None])
    return logits.numpy(), lca.numpy()


def onnx_answers(proto: onnx.ModelProto, crops: NDArray[np.float32]) -> Pair:
    """The same from the graph in onnxruntime, one crop at a time as the daemon does on a CPU."""
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    answers = [session.run(["logits", "lca"], {"crops": crop[None, None]}) for crop in crops]
    logits, lca = (np.concatenate(part) for part in zip(*answers, strict=True))
    return logits, lca


def check_parity(
    model: ConvNet, proto: onnx.ModelProto, golden: NDArray[np.uint8], reference: Reference
) -> float:
    """The largest relative difference over the golden crops and as many of plain noise.

    Raises
    ------
    ParityError
        It is above `TOLERANCE`.
    """
    rng = np.random.default_rng(0)  # fixed: the same model is always asked the same
    noise = rng.integers(0, 256, golden.shape, dtype=np.uint8)
    crops = normalize(np.concatenate([golden, noise]), reference)
    worst = 0.0
    for ours, theirs in zip(torch_answers(model, crops), onnx_answers(proto, crops), strict=True):
        scale = max(1.0, float(np.abs(ours).max()))
        worst = max(worst, float(np.abs(ours - theirs).max()) / scale)
    if not worst <= TOLERANCE:  # also refuses NaN
        raise ParityError(
            f"the ONNX graph differs from the trained network by {worst:.2g}, {TOLERANCE:.0e} is "
            "allowed: nothing was written; report this with the versions of torch and onnxruntime"
        )
    return worst
