"""The best inclusion probabilities for given norms: min sum u_i^2/p_i with sum p_i <= m, p_min <= p_i <= 1."""

from __future__ import annotations

from typing import Any

import numpy as np


def water_filling(norms: Any, m: float, floor: float = 0.0) -> np.ndarray:
    """p_i = clip(c u_i, floor, 1) with sum p_i = m, exactly (arXiv 2010.13723; with a floor: derived), (n,).

    norms: u (n,) >= 0. m: expected number of participants, n floor <= m <= n. The sum grows with c in straight pieces
    between the places where some c u_i meets floor or 1, so that c is an interpolation between two of them. Where at
    most m norms are nonzero these get 1 and the others the floor, and the budget is not used up.
    """
    u = np.asarray(norms, dtype=float)
    n = len(u)
    if not (np.isfinite(u).all() and (u >= 0).all()):
        raise ValueError("norms must be finite numbers >= 0, one per client.")
    if not 0 <= floor <= 1 or not n * floor <= m * (1 + 1e-12) or not 0 < m <= n:
        raise ValueError(
            f"m={m}, floor={floor}: {n} clients need n * floor <= m <= n, that is m between {n * floor:g} and {n}."
        )
    heavy = u > 0
    if heavy.sum() + floor * (n - heavy.sum()) <= m:
        return np.where(heavy, 1.0, floor)
    v = np.sort(u[heavy] / u.max())
    small = np.concatenate([[0.0], np.cumsum(v)])  # the sum of the j smallest
    at = np.unique(np.concatenate([floor / v, 1 / v]))
    with np.errstate(divide="ignore"):
        above = len(v) - np.searchsorted(v, 1 / at, side="left")  # how many have c v >= 1 at each of these c
        below = np.searchsorted(v, floor / at, side="left") if floor else np.zeros(len(at), dtype=np.int64)
    total = floor * below + at * (small[len(v) - above] - small[below]) + above
    c = np.interp(m - floor * (n - len(v)), total, at)
    return np.where(heavy, np.clip(c * u / u.max(), floor, 1.0), floor)
