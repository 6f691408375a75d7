"""What a stochastic gradient is taken over: sample numbers, or drawn noise. Shared by problems and cohorts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch


class Batch(NamedTuple):
    """Samples to use: client-local numbers (m, b) and a mask (m, b) of those that count (None: all); or drawn noise (m, d).

    For several local steps: index and mask (steps, m, b). seeds: (m,) int64, or (steps, m), of what is random inside a
    module; None: nothing is. A batch that is used at two points has the same dropout at both.
    """

    index: torch.Tensor | None  # type: ignore[assignment]
    mask: torch.Tensor | None
    noise: torch.Tensor | None
    seeds: torch.Tensor | None = None

    def until(self, stop: torch.Tensor) -> Batch:
        """Of a schedule of samples, index (steps, m, b): nothing more for client i after its first stop_i steps, (m,)."""
        assert self.index is not None
        steps = min(len(self.index), max(1, int(stop.max())))
        index, mask = self.index[:steps], None if self.mask is None else self.mask[:steps]
        if int(stop.min()) < steps:
            busy = (torch.arange(steps)[:, None] < stop)[:, :, None]
            mask = busy.expand(index.shape) if mask is None else mask & busy
        return Batch(index, mask, self.noise, self.seeds)


Drawn = Batch | Callable[[int], Batch]
"""Batches for all local steps: stacked (steps, m, b), or a function that draws the one for step t when it is needed."""


def moves(steps: int, batch: Drawn | None, stop: torch.Tensor | None) -> torch.Tensor | None:
    """(steps, m): who moves at which local step; None: everybody at every step. stop: (m,), after how many steps one rests."""
    moving = None
    if isinstance(batch, Batch) and batch.mask is not None:
        moving = batch.mask.any(2)
    if stop is not None and int(stop.min()) < steps:
        busy = torch.arange(steps)[:, None] < stop
        moving = busy if moving is None else moving & busy
    return moving
