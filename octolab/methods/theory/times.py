"""What the asynchronous theorems make of the devices' times: tau (n,) seconds per gradient, s = sigma^2/eps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from octolab.fleets import Fleet


def harmonic_means(tau: np.ndarray) -> np.ndarray:
    """H_m for m = 1, ..., n: the harmonic mean of the m smallest times, in ascending order of them."""
    with np.errstate(divide="ignore"):
        rates = np.cumsum(1 / np.sort(np.asarray(tau, dtype=float)))
    m = np.arange(1, len(rates) + 1)
    return np.divide(m, rates, out=np.full(len(rates), np.inf), where=rates > 0)


def optimal_time(tau: np.ndarray, s: float) -> float:
    """min_m H_m (1 + s/m): seconds per unit of progress, the lower bound's form under fixed computation times."""
    H = harmonic_means(tau)
    return float((H * (1 + s / np.arange(1, len(H) + 1))).min())


def fastest(tau: np.ndarray, s: float) -> np.ndarray:
    """The m* fastest clients, ascending numbers, m* = argmin_m H_m (1 + s/m); ties go to the smaller m and number."""
    H = harmonic_means(tau)
    m = int(np.argmin(H * (1 + s / np.arange(1, len(H) + 1)))) + 1
    return np.sort(np.argsort(tau, kind="stable")[:m])


def first_arrivals(tau: np.ndarray, s: float) -> int:
    """m = argmin_m tau_m (1 + s/m): how many arrivals a synchronous round should wait for."""
    times = np.sort(np.asarray(tau, dtype=float))
    return int(np.argmin(times * (1 + s / np.arange(1, len(times) + 1)))) + 1


def trials(tau: np.ndarray, clip: np.ndarray, p: np.ndarray, s: float) -> np.ndarray:
    """MindFlayer's B_i (n,): trials a round. A trial of client i takes at most tau_i + clip_i and succeeds with chance p_i."""
    each = tau + clip
    order = np.argsort(each, kind="stable")
    each_sorted, p_sorted = each[order], p[order]
    wanted = max(1.0, s)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (wanted + np.cumsum(p_sorted)) / np.cumsum(p_sorted / each_sorted)
    t = np.where(np.isfinite(t), t, np.inf)
    m = int(np.argmin(t))
    out = np.zeros(len(tau), dtype=np.int64)
    chosen = order[: m + 1]
    out[chosen] = np.maximum(np.ceil(t[m] / each[chosen] - 1 - 1e-12), 0).astype(np.int64)
    if not (p * out).any():  # so little is wanted that one trial of the best device does
        out[order[0]] = 1
    return out


def even_share(total: int, lower: np.ndarray) -> np.ndarray:
    """RAS: whole numbers a >= 0 of sum `total` that minimise max_i a_i lower_i; who costs nothing shares it all evenly."""
    free = np.flatnonzero(lower <= 0)
    a = np.zeros(len(lower), dtype=np.int64)
    if len(free):
        a[free] = total // len(free)
        a[free[: total % len(free)]] += 1
        return a
    for _ in range(total):
        a[int(np.argmin((a + 1) * lower))] += 1
    return a


def clipped(
    fleet: Fleet, work: np.ndarray, clip: str | float | Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least time, limit and chance of success (n,) of one trial of `work` (n,) units on each device.

    clip: seconds beyond the least time, one number or one per client; "median" of the law; or "throughput", the limit that
    makes limit/p smallest. A drop-out is a trial that does not succeed.
    """
    n = len(work)
    least, limit, p = np.zeros(n), np.zeros(n), np.zeros(n)
    given = None if isinstance(clip, str) else np.broadcast_to(np.asarray(clip, dtype=float), (n,))
    for i, law in enumerate(fleet.law(n)):
        times = law * work[i]
        chance = np.arange(1, len(times) + 1) / len(times)
        least[i] = times[0] if fleet.jitter is None or given is None else float(fleet.of("seconds", i)) * work[i]
        if given is not None:
            limit[i] = least[i] + given[i]
        elif clip == "median":
            limit[i] = times[(len(times) - 1) // 2]
        elif clip == "throughput":
            limit[i] = times[int(np.argmin(times / chance))]
        else:
            raise ValueError(f"clip={clip!r}: give seconds, one number or one per client, 'median' or 'throughput'.")
        p[i] = np.searchsorted(times, limit[i] * (1 + 1e-12), side="right") / len(times)
        p[i] *= 1 - float(fleet.of("dropout", i))
    return least, limit, p
