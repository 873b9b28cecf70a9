"""What a finished training says of raw crops: calibrated, as the daemon would say it."""

import numpy as np
import torch
from numpy.typing import NDArray

from parfocal.calibrate import softmax
from parfocal.types import Gray
from parfocal_training.checkpoint import Checkpoint
from parfocal_training.model import ConvNet
from parfocal_training.train import answer


def calibrated_answers(
    model: ConvNet, checkpoint: Checkpoint, crops: Gray
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Probabilities (n, classes) and LCA (n, d) of raw crops (n, s, s), uint8 or uint16."""
    wide = crops if crops.dtype == np.uint8 else crops.astype(np.int32)  # as PyTorch computes
    levels = torch.from_numpy(np.ascontiguousarray(wide))
    logits, lca = answer(model, levels, checkpoint.pixels.reference_distribution())
    temperature = checkpoint.measured.calibration.temperature
    return softmax(logits.numpy().astype(np.float64) / temperature), lca.numpy()
