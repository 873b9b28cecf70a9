"""Augmented copies that are never stored: copy j of cell i is always the same image.

What varies a copy comes from counters and not from a stream: each of its random numbers is a hash
of (seed, cell, copy, place of the number), the same on every device and in whatever batch the copy
comes. Copies that were held out are thereby images that training never saw.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

NOISE_PX = 1024
"""Side of the field of white noise from which every copy's noise is cut, at a place of its own."""

_GOLDEN = -7046029254386353131  # 2^64 / golden ratio, odd, as a signed number
_FIRST = -4658895280553007687
_SECOND = -7723592293110705685


def mixed(x: Tensor) -> Tensor:
    """Whole numbers scattered over all 64 bits: the finalizer of SplitMix64 (Steele et al. 2014).

    Any shape, int64; a one-to-one map, so that different numbers stay different.
    """
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, by: int) -> Tensor:
    """Shifted right with zeros coming in; PyTorch's own shift repeats the sign."""
    return (x >> by) & ((1 << (64 - by)) - 1)


@dataclass(slots=True, eq=False)
class CopyDraws:
    """Random numbers for one variant of each of n copies; made anew for every batch.

    Parameters
    ----------
    keys : tensor of shape (n,), int64
        One for each copy: `Copies.draws` makes them.
    noise : tensor of shape (NOISE_PX, NOISE_PX), float32
        White noise of SD 1.
    """

    keys: Tensor
    noise: Tensor
    calls: int = field(default=0, init=False)

    @property
    def device(self) -> torch.device:
        """Where the numbers are made."""
        return self.keys.device

    def uniform(self, shape: tuple[int, ...], crop_axis: int = 0) -> Tensor:
        """Float32 in [0, 1); place `crop_axis` of the shape counts the copies."""
        self.calls += 1
        each = math.prod(shape) // max(len(self.keys), 1)
        rest = [length for axis, length in enumerate(shape) if axis != crop_axis]
        values = self._numbers(each, self.calls)  # (n, each)
        return values.view(len(self.keys), *rest).movedim(0, crop_axis)

    def _numbers(self, each: int, stream: int) -> Tensor:
        at = torch.arange(each, device=self.device) + (stream << 32)  # (each,)
        bits = mixed(self.keys[:, None] + (at + 1) * _GOLDEN)  # (n, each)
        return _shifted(bits, 40).float() / (1 << 24)

    def normal(self, shape: tuple[int, int, int], stream: int) -> Tensor:
        """White noise of SD 1 for n crops: (n, h, w), h and w at most `NOISE_PX`.

        Its place does not depend on what was drawn before: only some batches need noise.
        """
        at = (self._numbers(2, -1 - stream) * NOISE_PX).long()  # (n, 2)
        rows, columns = (
            (at[:, axis, None] + torch.arange(shape[axis + 1], device=self.device)) % NOISE_PX
            for axis in (0, 1)
        )
        return self.noise[rows[:, :, None], columns[:, None, :]]


@dataclass(frozen=True, slots=True, eq=False)
class Copies:
    """m copies of each of n cells, of which the last `held_out` are never trained on."""

    n: int
    m: int
    held_out: int
    seed: int
    noise: Tensor

    @classmethod
    def on(cls, device: torch.device, n: int, m: int, held_out: int, seed: int) -> "Copies":
        """Copies whose numbers are made on a device."""
        generator = torch.Generator().manual_seed(seed)  # of the CPU: the same field everywhere
        noise = torch.randn(NOISE_PX, NOISE_PX, generator=generator)
        return cls(n, m, held_out, seed, noise.to(device))

    @property
    def trained(self) -> int:
        """Copies of each cell that training sees."""
        return self.m - self.held_out

    def draws(self, cells: Tensor, copies: Tensor) -> CopyDraws:
        """What varies these copies: `cells` and `copies` (b,) int64."""
        seed = mixed(torch.full_like(cells, self.seed + 1) * _GOLDEN)
        keys = mixed(mixed(seed + cells * _GOLDEN) + copies * _GOLDEN)
        return CopyDraws(keys, self.noise)

    def of_pass(self, number: int) -> Tensor:
        """The copy of every cell that comes in this pass over the cells: (n,) int64.

        In each run of `trained` passes it is every copy of every cell once, in an order of its own
        for each cell; a cell that a pass leaves out misses the copy of that pass.
        """
        run, place = divmod(number, self.trained)
        rng = np.random.default_rng((self.seed, run))
        order = rng.random((self.n, self.trained)).argsort(1)[:, place]
        return torch.from_numpy(order.astype(np.int64)).to(self.noise.device)

    def held_out_of_pass(self, number: int) -> Tensor:
        """The held-out copy (n,) by which a network is tested after this pass: they take turns."""
        copy = self.trained + number % self.held_out
        return torch.full((self.n,), copy, dtype=torch.int64, device=self.noise.device)
