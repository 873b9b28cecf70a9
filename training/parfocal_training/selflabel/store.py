"""A self-label training on disk: `selflabel.json` and one network for each repeat."""

from pathlib import Path
from typing import Literal

import msgspec

from parfocal.card import DetectorRules
from parfocal.prepare import PixelRules
from parfocal_training.checkpoint import decoded
from parfocal_training.errors import DataError
from parfocal_training.model import ConvNetConfig
from parfocal_training.recipe import Recipe
from parfocal_training.write import write_whole


class Repeat(msgspec.Struct, frozen=True, kw_only=True):
    """One of the trainings.

    `last_pass` is the share recognized after the last pass, of one held-out copy of each cell,
    varied as in training; `reached` compares it with the target. None: an older version's training.
    `accuracy` and `loss` are those of the finished network on all held-out copies, made as live
    crops are: at full resolution, in their own surroundings, normalized last. `seconds` is the time
    of all passes, whatever sessions they ran in.
    """

    name: str
    seed: int
    epochs: int
    copies_seen: int
    accuracy: float
    loss: float
    seconds: float
    reached: bool
    last_pass: float | None = None
    weights_sha256: str


class SelfLabelled(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `selflabel.json`; the weights lie in `NAME/model.safetensors`.

    `held_out` of the `copies` of each cell were never trained on; nor was the cell as imaged.
    """

    schema: Literal["parfocal.selflabel/1"] = "parfocal.selflabel/1"
    created_at: str
    code_version: str
    device: str
    config: ConvNetConfig
    recipe: Recipe
    copies: int
    held_out: int
    target_accuracy: float
    seed: int
    n_cells: int
    crops_sha256: str
    pixels: PixelRules
    detector: DetectorRules
    data: str
    repeats: tuple[Repeat, ...]


def write_selflabelled(done: SelfLabelled, folder: Path) -> None:
    """Write `selflabel.json`, whose presence says that every repeat is finished."""
    text = msgspec.json.format(msgspec.json.encode(done), indent=1)
    write_whole(folder / "selflabel.json", text)


def read_selflabelled(folder: Path) -> SelfLabelled:
    """What a finished self-label training says of itself.

    Raises
    ------
    DataError
        No finished training there, or a damaged one.
    """
    path = folder / "selflabel.json"
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            f"'{folder}' holds no finished self-label training (no selflabel.json): make one with "
            "parfocal-train selflabel, or finish it with --resume"
        ) from error
    return decoded(text, SelfLabelled, path)
