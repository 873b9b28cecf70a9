"""Ways to ask a trained network about the cells of a flask it has never seen.

`plain`        as trained.
`turned`       mean logit over the eight turns and reflections of each crop.
`flask`        batch-normalization statistics re-estimated on the unlabelled cells of the asked
               flask alone (AdaBN, Li et al. 2016). In a flask of one line this removes what tells
               the lines apart; it is here to show that.
`with-control` the same on the asked flask together with a control flask of another known line
               (arXiv 2604.20824: controls stabilize what is estimated on a new batch).
"""

import copy
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from parfocal.normalize import Reference
from parfocal_training.augment import centre
from parfocal_training.model import ConvNet
from parfocal_training.normalize import normalize_batch
from parfocal_training.train import Labelled, answer

Variant = Literal["plain", "turned", "flask", "with-control"]
VARIANTS: tuple[Variant, ...] = ("plain", "turned", "flask", "with-control")


def answers(
    model: ConvNet, asked: Labelled, reference: Reference, variants: Sequence[Variant]
) -> dict[str, Tensor]:
    """Logits (n, classes) of the asked cells, one entry for each way to answer."""
    out: dict[str, Tensor] = {}
    for variant in variants:
        if variant == "plain":
            out[variant] = answer(model, asked.crops, reference)[0]
        elif variant == "turned":
            out[variant] = turned(model, asked.crops, reference)
        else:
            out[variant] = adapted(model, asked, reference, variant == "with-control")
    return out


def turned(model: ConvNet, crops: Tensor, reference: Reference) -> Tensor:
    """Mean logits (n, classes) over the eight symmetries of the square."""
    views = [torch.rot90(x, k, (1, 2)) for x in (crops, crops.flip(2)) for k in range(4)]
    return torch.stack([answer(model, view, reference)[0] for view in views]).mean(0)


def adapted(model: ConvNet, asked: Labelled, reference: Reference, control: bool) -> Tensor:
    """Logits (n, classes), each flask answered with statistics of its own.

    With `control`, the statistics are those of the flask and, in equal number, of a flask of
    another line among the asked ones; a flask without such a partner is answered as trained.
    """
    groups = torch.unique(asked.groups).tolist()
    line = {g: int(asked.labels[asked.groups == g][0]) for g in groups}
    logits = answer(model, asked.crops, reference)[0]
    for group in groups:
        mine = torch.nonzero(asked.groups == group)[:, 0]
        basis = mine
        if control:
            others = [g for g in groups if line[g] != line[group]]
            if not others:
                continue
            partner = torch.nonzero(asked.groups == others[0])[:, 0]
            n = max(len(mine), len(partner))  # repeated, so that both weigh the same
            basis = torch.cat([_filled(mine, n), _filled(partner, n)])
        new = with_statistics_of(model, asked.crops[basis], reference)
        logits[mine] = answer(new, asked.crops[mine], reference)[0]
    return logits


def _filled(cells: Tensor, n: int) -> Tensor:
    return cells[torch.arange(n, device=cells.device) % len(cells)]


@torch.no_grad()
def with_statistics_of(model: ConvNet, crops: Tensor, reference: Reference) -> ConvNet:
    """A copy whose batch normalization has the statistics of these crops (n, s, s)."""
    new = copy.deepcopy(model)
    for module in new.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain mean over all that passes
    new.train()
    x = normalize_batch(centre(crops, model.config.crop_px), reference)[:, None]
    new(x)  # one batch: the exact statistics of all of these cells
    return new.eval()
