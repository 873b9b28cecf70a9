"""The paper's ConvNet: six blocks of convolution, ReLU, batch normalization and pooling.

Table 1 and Fig. 1d of Yao, Rochman and Sun (2019). 133,026 parameters for two classes; the last
pooled activations (32 maps of 3x3 = 288 values) are the paper's latent cell activation, LCA.

`compact` is the same kind of network at half the resolution with narrower kernels: a tenth of the
work, and whatever it learns cannot depend on grain that the optics did not make. `coarse` sees a
quarter of the resolution, where shape is left and grain is gone: for phenotypes.
"""

import math
from typing import Literal

import msgspec
import torch
from torch import Tensor, nn

LayerOrder = Literal["conv-relu-bn", "conv-bn-relu"]
Network = Literal["paper", "compact", "coarse"]
SHRINK: dict[Network, int] = {"paper": 1, "compact": 2, "coarse": 4}
MIXED_BLOCKS = 2
"""Feature statistics are mixed after the first blocks, where they are style and not yet kind."""


class ConvNetConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Shape of the network; the defaults are Table 1.

    `order` is that of the paper's text; the authors' script has `conv-bn-relu`. `shrink` averages
    so many pixels in each direction before the first block. `widths`, if any, replaces `blocks`
    times `kernels`: the maps of every block. `pooled` says what the LCA is: all values of the last
    maps (`flat`) or the mean of each (`mean`). Grey levels enter as
    `(level - level_zero) / level_unit`, a fixed scaling that is part of the network; `fit` sets it
    to the mean and SD of the reference, which every normalized crop has.
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
    shrink: int = 1
    widths: tuple[int, ...] = ()
    pooled: Literal["flat", "mean"] = "flat"

    @property
    def maps(self) -> tuple[int, ...]:
        """Number of maps after each block."""
        return self.widths or (self.kernels,) * self.blocks

    @property
    def last_px(self) -> int:
        """Side of the last maps: 3 for Table 1."""
        return self.crop_px // self.shrink >> len(self.maps)

    @property
    def lca_values(self) -> int:
        """Length of the LCA: for Table 1 32 maps x 3x3 = 288."""
        return self.maps[-1] * (self.last_px**2 if self.pooled == "flat" else 1)


def smaller(config: ConvNetConfig, shrink: int) -> ConvNetConfig:
    """The same task for a network that sees so many times less resolution."""
    return msgspec.structs.replace(
        config,
        shrink=shrink,
        first_kernel_px=7,
        kernel_px=3,
        widths=(32, 48, 64, 96),
        pooled="mean",
        order="conv-bn-relu",
    )


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

    Input float32 (n, 1, crop_px, crop_px), levels 0-255; Table 1 has maps of 112, 56, 28, 14, 7
    and 3 px.
    """

    def __init__(self, config: ConvNetConfig) -> None:
        super().__init__()
        self.config = config
        before, sizes = (1, *config.maps[:-1]), [config.kernel_px] * len(config.maps)
        sizes[0] = config.first_kernel_px
        self.shrink = nn.AvgPool2d(config.shrink) if config.shrink > 1 else nn.Identity()
        self.blocks = nn.Sequential(
            *(
                Block(maps_in, maps_out, size, config.order)
                for maps_in, maps_out, size in zip(before, config.maps, sizes, strict=True)
            )
        )
        self.head = nn.Linear(config.lca_values, config.classes)

    def forward(
        self, crops: Tensor, mix: float = 0.0, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits (n, classes) and LCA (n, lca_values), both float32, of crops (n, 1, 224, 224)."""
        return self.seen(self.shrink(crops), mix, generator)

    def seen(
        self, views: Tensor, mix: float = 0.0, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """The same of crops that were averaged already: (n, 1, 224 / shrink, 224 / shrink).

        `mix` is the probability with which a training step mixes feature statistics after each of
        the first blocks, from `generator`.
        """
        x = (views - self.config.level_zero) / self.config.level_unit
        for number, block in enumerate(self.blocks):
            x = block(x)
            if generator is not None and number < MIXED_BLOCKS and happens(mix, generator):
                x = mixed_statistics(x, generator)
        lca = pooled(x, self.config)  # (n, 32 * 3 * 3)
        logits = self.head(lca).float()  # (n, classes)
        return logits, lca


def pooled(maps: Tensor, config: ConvNetConfig) -> Tensor:
    """The LCA of the last maps (n, c, s, s): float32 (n, lca_values)."""
    return (maps.mean((2, 3)) if config.pooled == "mean" else maps.flatten(1)).float()


def draw(generator: torch.Generator) -> float:
    """A number uniform in [0, 1)."""
    return float(torch.rand((), generator=generator, device=generator.device))


def happens(share: float, generator: torch.Generator) -> bool:
    """True with this probability; one number is used up whatever it is.

    A share of 0 does not ask the device what came: a GPU would have to finish its work first.
    """
    drawn = torch.rand((), generator=generator, device=generator.device)
    return share > 0 and float(drawn) < share


def mixed_statistics(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each crop's maps with mean and SD moved towards those of another: (n, c, h, w).

    MixStyle (Zhou et al. 2021): the statistics of early maps carry the style of an image, here
    that of its flask. Weights are Beta(1/2, 1/2), as the squared sine of a uniform angle is.
    """
    mean = x.mean((2, 3), keepdim=True).detach()  # (n, c, 1, 1)
    sd = (x.var((2, 3), keepdim=True) + 1e-5).sqrt().detach()
    other = torch.randperm(len(x), generator=generator, device=x.device)
    angle = torch.rand(len(x), generator=generator, device=x.device) * (math.pi / 2)
    share = (angle.sin() ** 2)[:, None, None, None]
    mixed_sd, mixed_mean = (share * v + (1 - share) * v[other] for v in (sd, mean))
    return (x - mean) / sd * mixed_sd + mixed_mean


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


def config_of(
    network: Network,
    order: LayerOrder | None,
    classes: int,
    crop_px: int,
    level_zero: float,
    level_unit: float,
) -> ConvNetConfig:
    """The shape of a named network for a task; `order` None keeps that of the network."""
    shape = ConvNetConfig(
        classes=classes, crop_px=crop_px, level_zero=level_zero, level_unit=level_unit
    )
    if network != "paper":
        shape = smaller(shape, SHRINK[network])
    return msgspec.structs.replace(shape, order=order) if order else shape


def flops_a_crop(config: ConvNetConfig) -> float:
    """Floating-point operations of one crop's convolutions, two a multiply-add."""
    total, side, before = 0.0, config.crop_px // config.shrink, 1
    for number, maps in enumerate(config.maps):
        kernel = config.first_kernel_px if number == 0 else config.kernel_px
        total += 2 * kernel**2 * before * maps * side**2
        side, before = side // 2, maps
    return total


def parameter_count(model: nn.Module) -> int:
    """Trainable values; 133,026 for two classes."""
    return sum(p.numel() for p in model.parameters())
