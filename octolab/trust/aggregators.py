"""Robust aggregators: what a server may use instead of the mean. `rule(rows, weights)`: (r, d), (r,) -> (d,).

Coordinate rules ignore the weights: they defend against a minority of equals (Yin, Chen, Ramchandran, Bartlett, ICML
2018, arXiv 1803.01498).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octolab.params import param, settle
from octolab.rooms import register

__all__ = ["CoordinateMedian", "Mean", "TrimmedMean"]


@register("aggregators")
@dataclass(frozen=True)
class Mean:
    """sum w_i x_i / sum w_i."""

    def __call__(self, rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return (weights / weights.sum()) @ rows


@register("aggregators")
@dataclass(frozen=True)
class CoordinateMedian:
    """The median of every coordinate; for an even number of rows the mean of the two middle values.

    >>> CoordinateMedian()(torch.tensor([[1.0], [2.0], [9.0], [4.0]]), torch.ones(4))
    tensor([3.])
    """

    def __call__(self, rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        ordered, r = rows.sort(dim=0).values, len(rows)
        return (ordered[(r - 1) // 2] + ordered[r // 2]) / 2


@register("aggregators")
@dataclass(frozen=True)
class TrimmedMean:
    """Per coordinate, drop the b largest and b smallest, average the rest. If nothing were left, b = (r - 1) // 2."""

    b: int = param(1, "how many of each end are dropped", ge=0, main=True)

    def __post_init__(self) -> None:
        settle(self)

    def __call__(self, rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        r = len(rows)
        b = self.b if r - 2 * self.b > 0 else (r - 1) // 2
        return rows.sort(dim=0).values[b : r - b].mean(0)
