"""Dropout whose masks have an address: (seed of the client's step, which dropout, which call, which number).

The same mask comes out in stacked, vmapped and single passes, and on any machine, since it is a hash (splitmix64,
Steele, Lea, Flood 2014) and no stream that somebody else could have moved on.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15 - 2**64, 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
BITS = 24  # of a uniform number


@lru_cache(64)
def _counter(size: int) -> torch.Tensor:
    return torch.arange(1, size + 1) * GOLDEN


def _shifted(z: torch.Tensor, by: int) -> torch.Tensor:
    """A logical shift to the right of int64."""
    return (z >> by) & ((1 << (64 - by)) - 1)


def _wrapped(number: int) -> int:
    """As int64 has it, which wraps around."""
    return (number + 2**63) % 2**64 - 2**63


def kept(seed: torch.Tensor, size: int, p: float) -> torch.Tensor:
    """Which of `size` numbers stay, each with probability 1 - p: bool (*seed.shape, size) for seeds int64."""
    z = seed.unsqueeze(-1) + _counter(size)
    z = (z ^ _shifted(z, 30)) * FIRST
    z = (z ^ _shifted(z, 27)) * SECOND
    return _shifted(z, 64 - BITS) >= round(p * 2**BITS)


class Dropout(nn.Module):
    """Stands for torch.nn.Dropout(p), and for Dropout1d, 2d and 3d, which drop whole channels (spatial: dimensions after
    a channel). Off in evaluation. A kernel sets `seed`, int64, () for one client, before each pass in training.
    """

    def __init__(self, p: float, number: int, spatial: int | None = None):
        super().__init__()
        self.p, self.number, self.spatial = p, number, spatial
        self.seed: torch.Tensor | None = None
        self.calls = 0

    def extra_repr(self) -> str:
        return f"p={self.p}"

    def begin(self, seed: torch.Tensor) -> None:
        """A new pass: seeds of the clients that are trained side by side."""
        self.seed, self.calls = seed, 0

    def mask(self, seed: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype, call: int = 0) -> torch.Tensor:
        """Zeros and 1/(1 - p), (*seed.shape, *shape) or, of channels, broadcastable to it. shape: of one client's input."""
        cut = len(shape) if self.spatial is None else max(0, len(shape) - self.spatial)
        drawn = (*shape[:cut], *(1 for _ in shape[cut:]))
        stay = kept(seed + _wrapped((self.number * 1_000_003 + call) * FIRST), math.prod(drawn), self.p)
        mask = stay.view((*seed.shape, *drawn)).to(dtype)
        return mask / (1 - self.p) if self.p < 1 else mask

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return x
        assert self.seed is not None
        self.calls += 1
        return x * self.mask(self.seed, tuple(x.shape), x.dtype, self.calls - 1)


SPATIAL: dict[type[nn.Module], int | None] = {nn.Dropout: None, nn.Dropout1d: 1, nn.Dropout2d: 2, nn.Dropout3d: 3}


def address(module: nn.Module) -> list[Dropout]:
    """Put addressed dropout in the place of torch's, in this module; a list of them, in order."""
    known: dict[int, Dropout] = {}
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if (
                isinstance(child, _DropoutNd)
                and type(child) in SPATIAL
                and not (child._forward_hooks or child._forward_pre_hooks)
            ):
                number = len(known)
                new = known.setdefault(id(child), Dropout(float(child.p), number, SPATIAL[type(child)]))
                setattr(parent, name, new)
    return list(known.values())
