"""Dropout whose masks have an address: (seed of the client's step, which dropout, which call, which number).

The same mask comes out in stacked, batched and single passes, and on any machine, since it is a hash (splitmix64,
Steele, Lea, Flood 2014) and no stream that somebody else could have moved on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
BITS = 24  # of a uniform number
Lay = Callable[[torch.Tensor], torch.Tensor]


@lru_cache(64)
def _counter(size: int) -> np.ndarray:
    return np.arange(1, size + 1, dtype=np.uint64) * np.uint64(GOLDEN)


def kept(seed: np.ndarray, size: int, p: float) -> np.ndarray:
    """Which of `size` numbers stay, each with probability 1 - p: bool (*seed.shape, size) for seeds uint64."""
    z = seed[..., None] + _counter(size)
    shifted = z >> np.uint64(30)
    for factor, by in ((FIRST, 27), (SECOND, 64 - BITS)):
        z ^= shifted
        z *= np.uint64(factor)
        np.right_shift(z, np.uint64(by), out=shifted)
    return shifted >= np.uint64(round(p * 2**BITS))  # type: ignore[no-any-return]


class Dropout(nn.Module):
    """Stands for torch.nn.Dropout(p), and for Dropout1d, 2d and 3d, which drop whole channels (spatial: dimensions after
    a channel). Off in evaluation. A kernel sets `seed`, int64, () for one client, before each pass in training.
    """

    def __init__(self, p: float, number: int, spatial: int | None = None):
        super().__init__()
        self.p, self.number, self.spatial = p, number, spatial
        self.seed: torch.Tensor | None = None
        self.lay: Lay | None = None
        self.calls = 0

    def extra_repr(self) -> str:
        return f"p={self.p}"

    def begin(self, seed: torch.Tensor, lay: Lay | None = None) -> None:
        """A new pass: seeds of the clients that are trained side by side. lay: makes of their masks what inputs are then."""
        self.seed, self.lay, self.calls = seed, lay, 0

    def mask(self, seed: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype, call: int = 0) -> torch.Tensor:
        """Zeros and 1/(1 - p), (*seed.shape, *shape) or, of channels, broadcastable to it. shape: of one client's input."""
        cut = len(shape) if self.spatial is None else max(0, len(shape) - self.spatial)
        drawn = (*shape[:cut], *(1 for _ in shape[cut:]))
        address = np.uint64((self.number * 1_000_003 + call) * FIRST % 2**64)
        stay = kept(seed.numpy().view(np.uint64) + address, math.prod(drawn), self.p)
        mask = torch.from_numpy(stay).view((*seed.shape, *drawn)).to(dtype)
        return mask.div_(1 - self.p) if self.p < 1 else mask

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return x
        assert self.seed is not None
        self.calls += 1
        mask = self.mask(self.seed, tuple(x.shape), x.dtype, self.calls - 1)
        return x * (mask if self.lay is None else self.lay(mask))


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
