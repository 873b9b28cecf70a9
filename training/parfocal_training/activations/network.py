"""What a network answers to normalized crops, in log odds."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parfocal_training.model import ConvNet

Image = NDArray[np.float32]


def on_network(crops: Image, model: ConvNet) -> Tensor:
    """Normalized crops (n, s, s) as the network takes them: (n, 1, s, s) on its device."""
    device = next(model.parameters()).device
    return torch.from_numpy(np.ascontiguousarray(crops, np.float32))[:, None].to(device)


def fast(model: ConvNet) -> ConvNet:
    """The same network in evaluation mode, channels last: the memory order convolutions want."""
    ordered: ConvNet = model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return ordered


def log_odds(logits: Tensor, answer: int) -> Tensor:
    """Log of p / (1 - p) of class `answer`: (n,); for two classes the difference of the logits."""
    others = torch.cat([logits[:, :answer], logits[:, answer + 1 :]], 1)  # (n, classes - 1)
    return logits[:, answer] - others.logsumexp(1)


@torch.no_grad()
def support(model: ConvNet, crops: Image, answer: int) -> NDArray[np.float64]:
    """Log odds (n,) of a class for normalized crops (n, s, s), in batches kind to a CPU's cache."""
    parts = [log_odds(model(x)[0], answer) for x in torch.split(on_network(crops, model), 1)]
    values: NDArray[np.float64] = torch.cat(parts).cpu().numpy().astype(np.float64)
    return values
