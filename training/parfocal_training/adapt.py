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
PASSES: dict[Variant, int] = {"plain": 1, "turned": 8, "flask": 8, "with-control": 14}
"""How often a crop goes through the network; statistics take one time for each of six layers."""
VARIANTS = tuple(PASSES)
CHUNK = 16
"""Crops in memory at once while statistics are estimated: 0.4 GB of the paper's network."""


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
    """A copy whose batch normalization has the statistics of these crops (n, s, s).

    Layer after layer, each from all crops that passed the layers before it: as exact as one batch
    of all of them, which would take 25 GB for 1,000 crops and the paper's network.
    """
    new = copy.deepcopy(model).eval()
    for norm in (module for module in new.modules() if isinstance(module, nn.BatchNorm2d)):
        moments = Moments(crops.device)
        watch = norm.register_forward_pre_hook(moments.add)
        for some in torch.split(crops, CHUNK):
            new(normalize_batch(centre(some, model.config.crop_px), reference)[:, None])
        watch.remove()
        norm.running_mean = moments.mean.float()
        norm.running_var = (moments.squares / (moments.n - 1)).float()
    return new


class Moments:
    """Number of values, mean, and sum of squared differences from it, of each of c maps."""

    def __init__(self, device: torch.device) -> None:
        self.n = 0
        self.mean = torch.zeros((), dtype=torch.float64, device=device)
        self.squares = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, _: nn.Module, given: tuple[Tensor]) -> None:
        """The values of more maps (n, c, h, w): Chan, Golub and LeVeque (1979)."""
        (maps,) = given
        n = maps.numel() // maps.shape[1]
        var, mean = torch.var_mean(maps, (0, 2, 3), correction=0)  # (c,)
        apart, whole = mean.double() - self.mean, self.n + n
        self.squares = self.squares + var.double() * n + apart**2 * (self.n * n / whole)
        self.mean = self.mean + apart * (n / whole)
        self.n = whole
