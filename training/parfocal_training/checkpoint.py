"""Checkpoints on disk: tensors as safetensors, everything else as JSON inside or beside them."""

from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from parfocal.card import DetectorRules, Novelty
from parfocal.prepare import PixelRules
from parfocal_training.errors import DataError
from parfocal_training.evaluate import LeftOut, Measured
from parfocal_training.model import ConvNet, ConvNetConfig, initialized
from parfocal_training.recipe import Recipe
from parfocal_training.train import Epoch, TrainingState
from parfocal_training.write import write_whole

T = TypeVar("T")


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `checkpoint.json`: a finished training, ready to be exported.

    The weights lie beside it in `model.safetensors`. What was measured comes from groups that the
    answering network had not seen.
    """

    schema: Literal["parfocal.checkpoint/1"] = "parfocal.checkpoint/1"
    created_at: str
    code_version: str
    config: ConvNetConfig
    recipe: Recipe
    seed: int
    classes: tuple[str, ...]
    pixels: PixelRules
    detector: DetectorRules
    data: str
    data_sha256s: tuple[str, ...]
    groups: tuple[str, ...]
    novelty: Novelty
    measured: Measured


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What the header of a resumable training says beside its tensors."""

    plan: str
    epoch: int
    best_accuracy: float
    history: tuple[Epoch, ...]
    seconds: float = 0.0


def model_tensors(model: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """The weights under their names, on the CPU and in plain memory order."""
    return {
        prefix + name: value.detach().cpu().contiguous()
        for name, value in model.state_dict().items()
    }


def write_weights(model: ConvNet, path: Path) -> None:
    """The weights alone, with the network's shape in the header."""
    header = {"parfocal.config": msgspec.json.encode(model.config).decode()}
    write_whole(path, save(model_tensors(model), header))


def write_left_out(left_out: LeftOut, path: Path) -> None:
    """Answers of cross-validation, in the order of the folds; groups are in the header as JSON."""
    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(getattr(left_out, name)))
        for name in ("logits", "labels", "folds", "distances")
    }
    write_whole(path, save(tensors, {"groups": msgspec.json.encode(left_out.groups).decode()}))


def write_progress(state: TrainingState, plan: str, history: list[Epoch], path: Path) -> None:
    """Everything that a resumed training needs: one file, whole or not there."""
    tensors = model_tensors(state.model, "model.")
    if state.averaged is not state.model:
        tensors |= model_tensors(state.averaged, "averaged.")
    if state.self_head is not None:
        tensors |= model_tensors(state.self_head, "self_head.")
    for name, parameter in state.parameters():
        for kind, value in state.optimizer.state[parameter].items():
            if value is not None:
                tensors[f"optimizer.{kind}.{name}"] = value.detach().cpu().contiguous()
    tensors["generator"] = state.generator.get_state()
    header = Progress(
        plan=plan,
        epoch=state.epoch,
        best_accuracy=state.best_accuracy,
        history=tuple(history),
        seconds=state.seconds,
    )
    write_whole(path, save(tensors, {"parfocal.progress": msgspec.json.encode(header).decode()}))


def restore_progress(state: TrainingState, plan: str, path: Path) -> list[Epoch]:
    """Bring a fresh state to where the file stands, and return the epochs so far.

    Raises
    ------
    DataError
        The file is damaged or belongs to a training with other settings.
    """
    tensors, header = read_tensors(path, "parfocal.progress")
    progress = decoded(header, Progress, path)
    if progress.plan != plan:
        raise DataError(f"'{path}' belongs to a training with other settings: use another folder")
    fill(state.model, tensors, "model.", path)
    if state.averaged is not state.model:
        fill(state.averaged, tensors, "averaged.", path)
    if state.self_head is not None:
        fill(state.self_head, tensors, "self_head.", path)
    for name, parameter in state.parameters():
        for kind in ("momentum_buffer", "exp_avg", "exp_avg_sq", "step"):
            stored = tensors.get(f"optimizer.{kind}.{name}")
            if stored is None:
                continue
            like = parameter if stored.shape == parameter.shape else stored
            # in the memory order of the weights, so that sums come out bit for bit as before
            state.optimizer.state[parameter][kind] = torch.empty_like(like).copy_(stored).detach()
    state.generator.set_state(tensors["generator"])
    state.epoch, state.best_accuracy = progress.epoch, progress.best_accuracy
    state.seconds = progress.seconds
    return list(progress.history)


def read_weights(path: Path) -> ConvNet:
    """The network that `write_weights` stored, in evaluation mode on the CPU.

    Raises
    ------
    DataError
        The file is missing, damaged, or holds another network.
    """
    tensors, header = read_tensors(path, "parfocal.config")
    model = initialized(decoded(header, ConvNetConfig, path), seed=0)
    fill(model, tensors, "", path)
    return model.eval()


def write_checkpoint(checkpoint: Checkpoint, model: ConvNet, folder: Path) -> None:
    """The weights, then `checkpoint.json`, whose presence says that the training is finished."""
    write_weights(model, folder / "model.safetensors")
    text = msgspec.json.format(msgspec.json.encode(checkpoint), indent=1)
    write_whole(folder / "checkpoint.json", text)


def read_checkpoint(folder: Path) -> tuple[Checkpoint, ConvNet]:
    """A finished training.

    Raises
    ------
    DataError
        No finished training there, or a damaged one.
    """
    try:
        text = (folder / "checkpoint.json").read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        if (folder / "selflabel.json").exists():
            raise DataError(
                f"'{folder}' holds a self-label training, whose networks answer with the number of "
                "a cell and are no classifiers: for classes and phenotypes from one network make "
                "one with parfocal-train fit --set self_labels=0.5"
            ) from error
        raise DataError(
            f"'{folder}' holds no finished training (no checkpoint.json): make one with "
            "parfocal-train fit, or finish it with --resume"
        ) from error
    checkpoint = decoded(text, Checkpoint, folder / "checkpoint.json")
    return checkpoint, read_weights(folder / "model.safetensors")


def decoded(text: str | bytes, kind: type[T], path: Path) -> T:
    """JSON as a struct.

    Raises
    ------
    DataError
        It is damaged or of another version.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as error:
        raise DataError(
            f"'{path}' is damaged or of another version of parfocal: {error}"
        ) from error


def read_tensors(
    path: Path, key: str, again: str = "train that part again"
) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file, and what its header says under a key.

    `again` is what the next run does once a damaged file was deleted.

    Raises
    ------
    DataError
        The file is missing, damaged, or was not written by parfocal-train.
    """
    try:
        with safe_open(path, "pt") as file:
            header = (file.metadata() or {}).get(key)
        tensors: dict[str, Tensor] = load(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"'{path}' does not exist: the checkpoint is incomplete") from error
    except SafetensorError as error:
        raise DataError(f"'{path}' is damaged ({error}): delete it to {again}") from error
    if header is None:
        raise DataError(f"'{path}' was not written by parfocal-train (no {key} in its header)")
    return tensors, header


def fill(model: nn.Module, tensors: dict[str, Tensor], prefix: str, path: Path) -> None:
    """Copy the tensors under a prefix into a network.

    Raises
    ------
    DataError
        They are those of another network.
    """
    mine: dict[str, Any] = {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
    try:
        model.load_state_dict(mine)  # copies into the tensors, whose memory order stays
    except RuntimeError as error:
        raise DataError(f"'{path}' holds the weights of another network") from error
