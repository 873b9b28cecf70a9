"""The device that trains."""

import torch

from parfocal_training.errors import UsageError


def device_named(name: str) -> torch.device:
    """The device of an option: `auto` is CUDA where PyTorch finds it, else the CPU.

    Raises
    ------
    UsageError
        CUDA was asked for and is not there.
    """
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise UsageError("--device cuda was asked for but this PyTorch finds no CUDA device")
    return torch.device("cuda" if has_cuda and name != "cpu" else "cpu")
