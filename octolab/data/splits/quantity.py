"""Splits that ignore labels: IID, and clients of unequal size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from octolab.data.splits.base import (
    Draft,
    Samples,
    Split,
    dirichlet,
    divide,
    fill_small,
    stream,
)
from octolab.params import param, settle
from octolab.rooms import register


@register("splits")
@dataclass(frozen=True)
class IID(Split):
    """Samples dealt at random: all clients share one distribution, and sizes differ by at most one."""

    def assign(self, samples: Samples, n: int | None, seed: int) -> Draft:
        n = self.clients_asked(n)
        return Draft(stream(seed, "IID").permutation(len(samples)) % n, n)


@register("splits")
@dataclass(frozen=True)
class QuantitySkew(Split):
    """Clients of unequal size, labels as in IID: their shares are drawn from Dirichlet(alpha).

    Small alpha: few clients hold most samples; large alpha: equal sizes (Li, Diao, Chen, He 2022, arXiv
    2102.02079, "quantity skew"). A client left with fewer than min_size samples is filled up from the
    largest ones (a note says so).
    """

    alpha: float = param(0.5, "small: few clients hold most samples", gt=0, main=True)
    min_size: int = param(1, "samples that every client has at least", ge=1)

    def __post_init__(self) -> None:
        settle(self)

    def assign(self, samples: Samples, n: int | None, seed: int) -> Draft:
        n = self.clients_asked(n)
        rng = stream(seed, "QuantitySkew")
        owners = divide(dirichlet(self.alpha, (1, n), rng), np.zeros(len(samples), np.int64), rng)
        owners, notes = fill_small(owners, n, self.min_size, rng, "QuantitySkew")
        return Draft(owners, n, notes)
