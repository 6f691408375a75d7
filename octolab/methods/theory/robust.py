"""What theorems on Byzantine clients need: how often a cohort is good, and how far a rule can be pushed."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from octolab.trust.aggregators import Before, GeometricMedian, Mean, MultiKrum


def good_cohorts(n: int, honest: int, size: int, delta: float) -> tuple[float, float]:
    """(p_G, P_i): the probability that a cohort of `size` out of n holds at least (1 - delta) size of the `honest`
    clients, and that an honest client is in it, given that, times size/honest.

    >>> good_cohorts(20, 15, 1, 0.25)
    (0.75, 0.06666666666666667)
    """
    least = math.ceil((1 - delta) * size - 1e-9)
    ways = [(t, math.comb(honest, t) * math.comb(n - honest, size - t)) for t in range(max(least, 0), size + 1)]
    good = sum(w for _, w in ways) / math.comb(n, size)
    if good == 0:
        return 0.0, 0.0
    one = sum(math.comb(honest - 1, t - 1) * math.comb(n - honest, size - t) for t, _ in ways if t >= 1)
    return good, size / (n * good) * one / math.comb(n - 1, size - 1)


def norm_bound(rule: Callable[..., torch.Tensor], d: int) -> float:
    """F_A, |rule(x_1 ... x_r)| <= F_A max |x_i|: 1 for a mean of rows or a weighted one, sqrt(d) for rules by coordinate."""
    while isinstance(rule, Before):
        rule = vars(rule)["then"]
    return 1.0 if isinstance(rule, (Mean, MultiKrum, GeometricMedian)) else math.sqrt(d)
