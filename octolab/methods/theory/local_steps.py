"""How often to communicate: what Scaffnew's relatives share."""

from __future__ import annotations

import math


def balanced(lr: float, mu: float, cost: float) -> float:
    """The p at which consensus, 1 - p^2/cost a step, contracts as fast as local steps, (1 - lr mu)^2; 0.1 if mu = 0."""
    return min(1.0, math.sqrt(cost * (1 - (1 - lr * mu) ** 2))) if mu > 0 else 0.1
