"""The policies. Each is a frozen value; `policy(delay, n)` is the weight of an update that is `delay` versions old."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any

from octolab.faces import Shown
from octolab.rooms import register


@dataclass(frozen=True)
class Staleness(Shown):
    """The base of all policies: `policy(delay, n) -> float`, the weight of an update; 0 discards it.

    delay: server versions since its work began (0: fresh); n: clients at work. Weights are not normalised.
    """

    def __call__(self, delay: int, n: int = 1) -> float:
        raise NotImplementedError


@register("staleness")
@dataclass(frozen=True)
class Constant(Staleness):
    """1: every update counts alike.

    >>> Constant()(7)
    1.0
    """

    def __call__(self, delay: int, n: int = 1) -> float:
        return 1.0


@register("staleness")
@dataclass(frozen=True)
class Polynomial(Staleness):
    """(1 + delay)^-a (Xie, Koyejo, Gupta 2019, arXiv 1903.03934; FedBuff with a = 1/2).

    >>> Polynomial(0.5)(3)
    0.5
    """

    a: float = 0.5

    def __post_init__(self) -> None:
        _check("Polynomial", "a", self.a, 0)

    def __call__(self, delay: int, n: int = 1) -> float:
        return float((1 + delay) ** -self.a)


@register("staleness")
@dataclass(frozen=True)
class Hinge(Staleness):
    """1 while delay <= b, else 1/(a (delay - b) + 1) (arXiv 1903.03934).

    >>> [Hinge(10, 4)(delay) for delay in (4, 5)]
    [1.0, 0.09090909090909091]
    """

    a: float = 10.0
    b: float = 4.0

    def __post_init__(self) -> None:
        _check("Hinge", "a", self.a, 0)
        _check("Hinge", "b", self.b, 0)

    def __call__(self, delay: int, n: int = 1) -> float:
        return 1.0 if delay <= self.b else 1 / (self.a * (delay - self.b) + 1)


@register("staleness")
@dataclass(frozen=True)
class Exponential(Staleness):
    """exp(-a delay).

    >>> round(Exponential(1.0)(1), 4)
    0.3679
    """

    a: float = 0.5

    def __post_init__(self) -> None:
        _check("Exponential", "a", self.a, 0)

    def __call__(self, delay: int, n: int = 1) -> float:
        return math.exp(-self.a * delay)


@register("staleness")
@dataclass(frozen=True)
class DelayAdaptive(Staleness):
    """n / max(n, delay): Mishchenko and others' step, which shrinks for delays beyond the number of clients (arXiv 2206.07638).

    >>> DelayAdaptive()(10, n=5)
    0.5
    """

    def __call__(self, delay: int, n: int = 1) -> float:
        return n / max(n, delay)


@register("staleness")
@dataclass(frozen=True)
class Reject(Staleness):
    """1 while delay <= threshold, else 0: a later update is discarded, unevaluated. Ringmaster's R is threshold + 1.

    >>> [Reject(5)(delay) for delay in (5, 6)]
    [1.0, 0.0]
    """

    threshold: int = 5

    def __post_init__(self) -> None:
        value = self.threshold
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 0:
            raise ValueError(f"Reject: threshold={value!r}: give a whole number of versions >= 0.")

    def __call__(self, delay: int, n: int = 1) -> float:
        return float(delay <= self.threshold)


def _check(owner: str, name: str, value: Any, low: float) -> None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= low
    if not good:
        raise ValueError(f"{owner}: {name}={value!r}: give a number >= {low:g}.")
