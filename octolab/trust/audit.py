"""An attack on a claim of privacy: play the distinguishing game many times, and see what epsilon it disproves.

A mechanism is run on two neighbouring data sets, with and without a canary, under many seeds; an adversary looks at one
number of each outcome. Its errors bound epsilon from below, with confidence: a claim below that bound is false.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import beta, norm

from octolab.trust.accounting import epsilon

Score = Callable[[int], float]
"""A seed -> what the adversary sees of one run: the outcome's inner product with the canary, say."""


def lower_bound(
    without: Sequence[float] | np.ndarray,
    with_canary: Sequence[float] | np.ndarray,
    delta: float = 1e-5,
    confidence: float = 0.95,
) -> float:
    """The largest epsilon that these scores disprove at this delta: no (epsilon, delta)-private mechanism makes them.

    The threshold is chosen on the first half of the scores and judged on the second, so that it is no fit. The rates of error
    are taken at their Clopper-Pearson bounds. (Kairouz, Oh, Viswanath, ICML 2015; Jagielski, Ullman, Oprea, NeurIPS 2020.)
    """
    a, b = _scores(without, with_canary)
    half = len(a) // 2
    grid = np.quantile(np.concatenate([a[:half], b[:half]]), np.linspace(0.02, 0.98, 49))
    best = max(grid, key=lambda t: _bound(a[:half] > t, b[:half] > t, delta, confidence))
    return max(0.0, _bound(a[half:] > best, b[half:] > best, delta, confidence))


def gaussian_lower_bound(
    without: Sequence[float] | np.ndarray,
    with_canary: Sequence[float] | np.ndarray,
    delta: float = 1e-5,
    confidence: float = 0.95,
) -> float:
    """The same for Gaussian noise without sampling, whose whole trade-off of errors is one number mu = sensitivity/noise.

    One pair of error rates bounds mu, and mu gives epsilon at any delta: far tighter than `lower_bound` at a small one.
    (Dong, Roth, Su, JRSS-B 2022; Nasr et al., USENIX Security 2023.)
    """
    a, b = _scores(without, with_canary)
    half, level = len(a) // 2, (1 - confidence) / 2
    threshold = (np.median(a[:half]) + np.median(b[:half])) / 2
    rates = []
    for errors in (a[half:] > threshold, b[half:] <= threshold):
        k, n = int(errors.sum()), len(errors)
        rates.append(float(beta.ppf(1 - level, k + 1, n - k)) if k < n else 1.0)
    mu = norm.ppf(1 - rates[0]) - norm.ppf(rates[1])
    return epsilon(1 / mu, delta=delta) if mu > 0 else 0.0


def _scores(
    without: Sequence[float] | np.ndarray, other: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(without, dtype=float), np.asarray(other, dtype=float)
    if min(len(a), len(b)) < 20:
        raise ValueError(f"{len(a)} and {len(b)} scores: an audit needs at least 20 of each.")
    least = min(len(a), len(b))
    return a[:least], b[:least]


def _bound(false_alarm: np.ndarray, hit: np.ndarray, delta: float, confidence: float) -> float:
    """log of (hit rate - delta)/(false-alarm rate), or of the misses the other way round, at their confidence bounds."""
    level = (1 - confidence) / 2
    found = [-math.inf]
    for high, low in ((hit, false_alarm), (~false_alarm, ~hit)):
        k, n = int(high.sum()), len(high)
        least = beta.ppf(level, k, n - k + 1) if k else 0.0
        j, m = int(low.sum()), len(low)
        most = beta.ppf(1 - level, j + 1, m - j) if j < m else 1.0
        if least > delta:
            found.append(math.log((least - delta) / most))
    return float(max(found))
