"""The paper's ConvNet: six blocks of convolution, ReLU, batch normalization and pooling.

Table 1 and Fig. 1d of Yao, Rochman and Sun (2019). 133,026 parameters for two classes; the last
pooled activations (32 maps of 3x3 = 288 values) are the paper's latent cell activation, LCA.
"""

from typing import Literal

import msgspec
import torch
from torch import Tensor, nn

LayerOrder = Literal["conv-relu-bn", "conv-bn-relu"]


class ConvNetConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Shape of the network; the defaults are Table 1.

    `order` is that of the paper's text; the authors' script has `conv-bn-relu`. Grey levels enter
    as `(level - level_zero) / level_unit`, a fixed scaling that is part of the network; `fit` sets
    it to the mean and SD of the reference, which every normalized crop has.
    """

    classes: int
    kernels: int = 32
    first_kernel_px: int = 11
    kernel_px: int = 5
    blocks: int = 6
    crop_px: int = 224
    order: LayerOrder = "conv-relu-bn"
    level_zero: float = 128.0
    level_unit: float = 32.0

    @property
    def lca_values(self) -> int:
        """Length of the LCA: kernels x the last map (3x3 for 224 px)."""
        return self.kernels * (self.crop_px >> self.blocks) ** 2


class Block(nn.Module):
    """One block of Table 1; halves the map."""

    def __init__(self, maps_in: int, maps_out: int, kernel_px: int, order: LayerOrder) -> None:
        super().__init__()
        self.order = order
        self.conv = nn.Conv2d(maps_in, maps_out, kernel_px, padding="same")
        self.bn = nn.BatchNorm2d(maps_out)
        self.pool = nn.AvgPool2d(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(n, maps_in, s, s) -> (n, maps_out, s // 2, s // 2)."""
        x = self.conv(x)  # (n, maps_out, s, s)
        if self.order == "conv-relu-bn":
            x = self.bn(torch.relu(x))  # paper, Fig. 1d
        else:
            x = torch.relu(self.bn(x))  # authors' script
        pooled: Tensor = self.pool(x)  # (n, maps_out, s // 2, s // 2)
        return pooled


class ConvNet(nn.Module):
    """Grey-level crops to class logits and LCA.

    Input float32 (n, 1, crop_px, crop_px), levels 0-255; maps of 112, 56, 28, 14, 7, 3 px.
    """

    def __init__(self, config: ConvNetConfig) -> None:
        super().__init__()
        self.config = config
        k = config.kernels
        first = Block(1, k, config.first_kernel_px, config.order)
        rest = [Block(k, k, config.kernel_px, config.order) for _ in range(config.blocks - 1)]
        self.blocks = nn.Sequential(first, *rest)
        self.head = nn.Linear(config.lca_values, config.classes)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (n, classes) and LCA (n, lca_values), both float32."""
        x = (crops - self.config.level_zero) / self.config.level_unit  # (n, 1, 224, 224)
        lca = self.blocks(x).flatten(1).float()  # (n, 32 * 3 * 3)
        logits = self.head(lca).float()  # (n, classes)
        return logits, lca


def initialized(config: ConvNetConfig, seed: int) -> ConvNet:
    """A network with seeded weights, without touching torch's global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ConvNet(config)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                # He et al. (2015): keeps the variance of activations through six ReLU layers
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    return model


def parameter_count(model: nn.Module) -> int:
    """Trainable values; 133,026 for two classes."""
    return sum(p.numel() for p in model.parameters())
