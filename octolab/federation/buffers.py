"""Large buffers that are used again once nobody holds them.

To give 20 MB back to the operating system and to ask for them anew in every round costs page faults: in local training of a
hundred clients on two threads, up to a fifth of a round (measured on a virtual machine).
"""

from __future__ import annotations

import math
import sys

import numpy as np
import torch

LARGE = 2**22  # bytes from which it pays
KEPT = 8  # buffers at most
ALIGNED = 64  # bytes: a cache line


class Buffers:
    """`buffers.empty(shape, dtype)`: an uninitialised tensor, in memory that an earlier one has given back."""

    def __init__(self) -> None:
        self._kept: list[np.ndarray] = []

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        size = math.prod(shape) * dtype.itemsize
        if size < LARGE:
            return torch.empty(shape, dtype=dtype)
        free = [k for k in range(len(self._kept)) if sys.getrefcount(self._kept[k]) == _ALONE]
        fits = [k for k in free if len(self._kept[k]) == size + ALIGNED]
        if fits:
            raw = self._kept[fits[0]]
        else:
            raw = np.empty(size + ALIGNED, np.uint8)
            self._kept = [*[b for k, b in enumerate(self._kept) if k not in free][1 - KEPT :], raw]
        start = -raw.__array_interface__["data"][0] % ALIGNED
        return torch.from_numpy(raw[start : start + size]).view(dtype).view(shape)


_kept = [np.empty(1, np.uint8)]
_ALONE = sys.getrefcount(_kept[0])  # references to an array that only its list holds: a tensor on it holds another
