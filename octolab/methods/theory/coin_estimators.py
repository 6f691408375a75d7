"""The linear rate of methods that, on a coin, replace an estimate of the gradient by the gradient: MARINA, PAGE."""

from __future__ import annotations


def linear_rate(lr: float, L: float, change: float, p: float, mu: float) -> float | None:
    """The factor per step under PL, or None if the step is larger than the proof allows.

    The estimate's error grows by at most `change` |x+ - x|^2/lr^2 a step (as (lr M)^2 A) and dies with probability p:
    f - f* + c|g - grad f|^2 shrinks by max(1 - lr mu, 1 - p(1 - q)), q = change/(1 - lr L) < 1.
    """
    left = 1 - lr * L
    if left < -1e-12 or (change > 0 and change >= left):
        return None
    return 1 - lr * mu if change == 0 else max(1 - lr * mu, 1 - p * (1 - change / left))
