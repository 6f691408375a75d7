"""Random times: how a device's compute time varies from job to job. Called with times and uniforms of the same shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from octolab.params import param, settle
from octolab.rooms import register


class Jitter(Protocol):
    """Any function of (seconds, uniforms in [0, 1)) that gives seconds >= 0, growing with the uniforms."""

    def __call__(self, seconds: np.ndarray, u: np.ndarray) -> np.ndarray: ...


@register("jitters")
@dataclass(frozen=True)
class LogNormal:
    """Compute times are multiplied by exp(sigma N(0, 1)): median 1."""

    sigma: float = param(0.5, "spread of the logarithm", ge=0, main=True)

    def __post_init__(self) -> None:
        settle(self)

    def __call__(self, seconds: np.ndarray, u: np.ndarray) -> np.ndarray:
        return seconds * np.exp(self.sigma * torch.special.ndtri(torch.from_numpy(u + 2.0**-54)).numpy())


@register("jitters")
@dataclass(frozen=True)
class Exponential:
    """Compute times are exponential with the given mean."""

    def __call__(self, seconds: np.ndarray, u: np.ndarray) -> np.ndarray:
        return -seconds * np.log1p(-u)


@register("jitters")
@dataclass(frozen=True)
class HalfNormal:
    """Compute times grow by |N(0, variance)|; `variance` is one number or one per client."""

    variance: float | Sequence[float] = param(1.0, "variance, one number or one per client", ge=0)

    def __post_init__(self) -> None:
        try:
            given = np.asarray(self.variance, dtype=float)
            good = not isinstance(self.variance, bool) and bool((np.isfinite(given) & (given >= 0)).all())
        except (TypeError, ValueError):
            good = False
        if not good:
            raise ValueError(f"HalfNormal: variance={self.variance!r}: give a finite number >= 0, or one per client.")
        settle(self)

    def __call__(self, seconds: np.ndarray, u: np.ndarray, clients: np.ndarray | None = None) -> np.ndarray:
        variance = np.asarray(self.variance, dtype=float)
        if variance.ndim and clients is not None:
            variance = variance[clients]
        return seconds + np.sqrt(variance) * torch.special.ndtri(torch.from_numpy((1 + u) / 2)).numpy()


@register("jitters")
@dataclass(frozen=True)
class Hang:
    """With probability p a job never ends (time = inf)."""

    p: float = param(0.1, "probability that a job never ends", ge=0, le=1, main=True)

    def __post_init__(self) -> None:
        settle(self)

    def __call__(self, seconds: np.ndarray, u: np.ndarray) -> np.ndarray:
        return np.where(u < self.p, np.inf, seconds)


def check_jitter(jitter: Any) -> None:
    """A ValueError unless it turns times and uniforms into times >= 0 that do not fall as the uniforms grow."""
    if jitter is None or isinstance(jitter, (LogNormal, Exponential, HalfNormal, Hang)):
        return
    choices = "give one of LogNormal, Exponential, HalfNormal, Hang, or a function of (seconds, uniforms)"
    if not callable(jitter):
        raise ValueError(f"Fleet: jitter={jitter!r}: {choices}.")
    u = np.array([0.0, 0.25, 0.5, 0.75, 1 - 2.0**-53])
    try:
        times = np.asarray(jitter(np.ones(5), u), dtype=float)
    except Exception as error:
        raise ValueError(f"Fleet: jitter={jitter!r} fails on ones ({error}): {choices}.") from error
    if times.shape != (5,) or np.isnan(times).any() or (times < 0).any():
        raise ValueError(f"Fleet: jitter={jitter!r} makes {times.tolist()} of five seconds: times are numbers >= 0.")


def variation(jitter: Any) -> float:
    """The coefficient of variation (standard deviation over mean) of a job's compute time; inf: jobs may hang."""
    if jitter is None:
        return 0.0
    if isinstance(jitter, Exponential):
        return 1.0
    if isinstance(jitter, LogNormal):
        return math.sqrt(math.expm1(jitter.sigma**2))
    if isinstance(jitter, Hang):
        return math.inf if jitter.p > 0 else 0.0
    u = (np.arange(4096) + 0.5) / 4096
    times = np.asarray(jitter(np.ones(4096), u), dtype=float)
    return math.inf if np.isinf(times).any() else float(times.std() / times.mean())
