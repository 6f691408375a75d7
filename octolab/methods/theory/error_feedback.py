"""EF21's constants, which its extensions share."""

from __future__ import annotations

import math


def xi(alpha: float) -> float:
    """sqrt(beta/theta) for theta = 1 - sqrt(1 - alpha), beta = (1 - alpha)/theta: about 2/alpha, and 0 at alpha = 1."""
    return (1 + math.sqrt(1 - alpha)) / alpha - 1


def linear_rate(lr: float, L: float, M: float, alpha: float, mu: float) -> float | None:
    """The factor per step under PL (see Theorem), or None if the step is larger than the proof allows."""
    theta, left, change = 1 - math.sqrt(1 - alpha), 1 - lr * L, (lr * M * xi(alpha)) ** 2
    if left < -1e-12 or (change > 0 and change >= left):
        return None
    return 1 - lr * mu if change == 0 else max(1 - lr * mu, 1 - theta * (1 - change / left))
