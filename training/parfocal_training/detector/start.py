"""A detector to go on from: a checkpoint folder, or a bundle, which carries its weights too."""

import base64
import binascii
from pathlib import Path

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load, save

from parfocal.bundle import BundleError, load_detector
from parfocal.onnxfile import summarize
from parfocal_training.checkpoint import fill, model_tensors
from parfocal_training.detector.checkpoint import read_detector
from parfocal_training.detector.network import DetectorConfig, DetectorNet, initialized
from parfocal_training.errors import DataError

WEIGHTS_KEY = "parfocal.weights"
"""Metadata of a detector's ONNX file: what a fine-tune starts from. The daemon ignores it."""


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """The network's shape, and its tensors as base64 of safetensors."""

    config: DetectorConfig
    tensors: str


def weights_text(net: DetectorNet) -> str:
    """The network as a bundle carries it."""
    tensors = base64.b64encode(save(model_tensors(net))).decode()
    return msgspec.json.encode(Weights(config=net.config, tensors=tensors)).decode()


def read_start(name: str) -> tuple[DetectorNet, str]:
    """The network to start from, and what it is called.

    Raises
    ------
    DataError
        Neither a finished training nor a detector that can be trained on.
    """
    if Path(name).is_dir():
        checkpoint, net = read_detector(Path(name))
        return net, f"{checkpoint.data}, {checkpoint.created_at}"
    try:
        bundle = load_detector(name)
    except BundleError as error:
        raise DataError(f"--init: {error}") from error
    text = summarize(bundle.data).metadata.get(WEIGHTS_KEY)
    if text is None:
        raise DataError(f"--init: {bundle.path.name} carries no weights to go on from")
    try:
        weights = msgspec.json.decode(text, type=Weights)
        tensors = load(base64.b64decode(weights.tensors, validate=True))
    except (msgspec.DecodeError, binascii.Error, SafetensorError) as error:
        raise DataError(
            f"--init: the weights in {bundle.path.name} are damaged: {error}"
        ) from error
    net = initialized(weights.config, seed=0)
    fill(net, tensors, "", bundle.path)
    return net.eval(), f"{bundle.card.name} {bundle.card.version}, sha256 {bundle.sha256}"
