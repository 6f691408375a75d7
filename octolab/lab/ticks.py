"""Where an axis has its numbers, and how they are written: 20k, 1.5M, 10 to a power."""

from __future__ import annotations

import math


def ticks(low: float, high: float) -> list[float]:
    """Round numbers in [low, high], about five."""
    if not high > low:
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(m for m in (1, 2, 2.5, 5, 10) if (high - low) / (step * m) <= 6)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first < 1:
        return ticks(low, high)
    return [10.0**k for k in range(first, last + 1, max(1, -(-(last - first) // 6)))]


def number(value: float) -> str:
    """A number with a unit letter: 20k, 1.5M."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def exponent(value: float) -> int | None:
    """k where a value is the power 10^k and far enough from 1 to be written so, else None."""
    if value <= 0:
        return None
    k = math.log10(value)
    return round(k) if abs(k - round(k)) < 1e-9 and not 0.001 <= value <= 1000 else None
