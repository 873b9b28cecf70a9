"""A detector's training on disk: tensors as safetensors, everything else as JSON."""

from pathlib import Path
from typing import Literal

import msgspec
import torch
from safetensors.torch import save
from torch import Tensor

from parfocal.card import Metric
from parfocal.fieldview import ViewRules
from parfocal.instances import VoteRules
from parfocal.learned import FindRules
from parfocal_training.checkpoint import decoded, fill, model_tensors, read_tensors
from parfocal_training.detector.network import DetectorConfig, DetectorNet, initialized
from parfocal_training.detector.recipe import DetectorRecipe
from parfocal_training.detector.score import FieldScore
from parfocal_training.detector.train import DetectorState, Report
from parfocal_training.errors import DataError
from parfocal_training.write import write_whole

WEIGHTS, TEXT = "model.safetensors", "checkpoint.json"


class DetectorCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a finished detector's `checkpoint.json`; the weights lie beside it."""

    schema: Literal["parfocal.detector-checkpoint/1"] = "parfocal.detector-checkpoint/1"
    created_at: str
    code_version: str
    config: DetectorConfig
    recipe: DetectorRecipe
    seed: int
    view: ViewRules
    votes: VoteRules
    rules: FindRules
    data: str
    data_sha256s: tuple[str, ...]
    groups: tuple[str, ...]
    started_from: str
    scores: tuple[FieldScore, ...]
    metrics: dict[str, Metric]
    caveats: tuple[str, ...]


class DetectorProgress(msgspec.Struct, frozen=True, kw_only=True):
    """What the header of a resumable training says beside its tensors."""

    plan: str
    step: int
    history: tuple[Report, ...]


def write_progress(state: DetectorState, plan: str, path: Path) -> None:
    """Everything that a resumed training needs: one file, whole or not there."""
    tensors = model_tensors(state.net, "net.") | model_tensors(state.averaged, "averaged.")
    for name, parameter in state.net.named_parameters():
        for key, value in state.optimizer.state[parameter].items():
            tensors[f"{key}.{name}"] = value.detach().cpu().contiguous()
    header = DetectorProgress(plan=plan, step=state.step, history=tuple(state.history))
    write_whole(path, save(tensors, {"parfocal.progress": msgspec.json.encode(header).decode()}))


def restore_progress(state: DetectorState, plan: str, path: Path) -> None:
    """Bring a fresh state to where the file stands.

    Raises
    ------
    DataError
        The file is damaged or belongs to a training with other settings.
    """
    tensors, header = read_tensors(path, "parfocal.progress")
    progress = decoded(header, DetectorProgress, path)
    if progress.plan != plan:
        raise DataError(f"'{path}' belongs to a training with other settings: use another folder")
    fill(state.net, tensors, "net.", path)
    fill(state.averaged, tensors, "averaged.", path)
    for name, parameter in state.net.named_parameters():
        state.optimizer.state[parameter] = _moments(tensors, name, parameter)
    state.step, state.history = progress.step, list(progress.history)


def _moments(tensors: dict[str, Tensor], name: str, parameter: Tensor) -> dict[str, Tensor]:
    out = {}
    for key in ("step", "exp_avg", "exp_avg_sq"):
        stored = tensors[f"{key}.{name}"]
        like = stored if key == "step" else torch.empty_like(parameter).copy_(stored)
        out[key] = like.detach()
    return out


def write_detector(checkpoint: DetectorCheckpoint, net: DetectorNet, folder: Path) -> None:
    """The weights, then `checkpoint.json`, whose presence says that the training is finished."""
    header = {"parfocal.detector": msgspec.json.encode(net.config).decode()}
    write_whole(folder / WEIGHTS, save(model_tensors(net), header))
    text = msgspec.json.format(msgspec.json.encode(checkpoint), indent=1)
    write_whole(folder / TEXT, text)


def read_detector(folder: Path) -> tuple[DetectorCheckpoint, DetectorNet]:
    """A finished detector training.

    Raises
    ------
    DataError
        No finished detector training there, or a damaged one.
    """
    try:
        text = (folder / TEXT).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            f"'{folder}' holds no finished training (no {TEXT}): make one with parfocal-train "
            "detector, or finish it with --resume"
        ) from error
    checkpoint = decoded(text, DetectorCheckpoint, folder / TEXT)
    tensors, header = read_tensors(folder / WEIGHTS, "parfocal.detector")
    net = initialized(decoded(header, DetectorConfig, folder / WEIGHTS), seed=0)
    fill(net, tensors, "", folder / WEIGHTS)
    return checkpoint, net.eval()


def is_detector(folder: Path) -> bool:
    """Whether a checkpoint folder holds a detector."""
    try:
        return b'"parfocal.detector-checkpoint/' in (folder / TEXT).read_bytes()[:200]
    except OSError:
        return False
