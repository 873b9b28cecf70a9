"""The network as the daemon runs it: an ONNX graph with nothing in it but standard operators."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import torch
from torch import Tensor, nn

from parfocal_training.model import Block, ConvNet, pooled

OPSET = 18
"""Old enough for every onnxruntime that parfocal supports, new enough for PyTorch's exporter."""


class Deployed(nn.Module):
    """The same function as `ConvNet`, with batch normalization after the pooling where exact.

    BN after ReLU is a fixed scale and shift of each map once training is over, so it commutes
    with average pooling: a quarter of the work, the same answer. Between convolution and ReLU (the
    authors' order) it stays where it is; onnxruntime folds it into the convolution.
    """

    def __init__(self, model: ConvNet) -> None:
        super().__init__()
        self.model = model.eval()

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Crops (n, 1, 224, 224), float32 levels 0-255, to logits (n, classes) and LCA (n, d)."""
        config = self.model.config
        x = self.model.shrink((crops - config.level_zero) / config.level_unit)
        for block in self.model.blocks:
            assert isinstance(block, Block)
            if block.order == "conv-relu-bn":
                x = block.bn(block.pool(torch.relu(block.conv(x))))
            else:
                x = block(x)
        lca = pooled(x, config)  # (n, 32 * 3 * 3)
        return self.model.head(lca), lca


def to_onnx(model: ConvNet) -> onnx.ModelProto:
    """The graph: `crops` float32 (n, 1, s, s) to `logits` (n, classes) and `lca` (n, d)."""
    side = model.config.crop_px
    with quiet():
        program = torch.onnx.export(
            Deployed(model).eval(),
            (torch.zeros(2, 1, side, side),),  # 2: a batch of 1 would be taken for a constant
            dynamo=True,
            opset_version=OPSET,
            input_names=["crops"],
            output_names=["logits", "lca"],
            dynamic_shapes={"crops": {0: torch.export.Dim("n")}},
            external_data=False,
            verbose=False,
        )
    if program is None:  # only when the exporter writes to a file itself
        raise RuntimeError("PyTorch's exporter returned no model")
    return bare(program.model_proto)


@contextmanager
def quiet() -> Iterator[None]:
    """PyTorch's exporter warns of its own internals and of a torchvision nobody asked for."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        log.setLevel(level)


def bare(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Without the exporter's notes, which hold source lines and paths of this machine."""
    graph = proto.graph
    parts = (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (proto, graph, *parts):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    return proto
