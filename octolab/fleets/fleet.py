"""Fleets: how fast each device computes and how fast its link is. All time here is virtual and deterministic.

    time of a call or job = latency + bits down / down-link + work * seconds (+ jitter) + latency + bits up / up-link

`work` is counted in gradients (a minibatch is one) or in sample-gradients. Measured wall time never enters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from octolab.params import param
from octolab.randomness import CALL, JOB, Randomness
from octolab.rooms import register


@register("jitters")
@dataclass(frozen=True)
class LogNormal:
    """Compute times are multiplied by exp(sigma N(0, 1)): median 1."""

    sigma: float = param(0.5, "spread of the logarithm", ge=0, main=True)

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

    def __call__(self, seconds: np.ndarray, u: np.ndarray) -> np.ndarray:
        return np.where(u < self.p, np.inf, seconds)


def _numbers(value: Any) -> np.ndarray | None:
    """As float64; None if it is nothing of the kind."""
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return None


@register("fleets")
@dataclass(frozen=True, eq=False)
class Fleet:
    """The devices of a federation. Every field is one number, or an array with one number per client.

    seconds: compute time per unit of work. unit: "gradient" (a minibatch counts one) or "sample".
    up, down: link speeds in bits per second. latency: seconds per message. dropout: the probability that a device that
    was asked never replies. jitter: random times, one of LogNormal, Exponential, HalfNormal, Hang, or any function of
    (seconds, uniforms). timeout: virtual seconds after which the server gives an asynchronous job up and starts the
    device anew; inf: never, so that each lost job removes its device for good. (Synchronous rounds have a deadline.)

    >>> Fleet(seconds=[1.0, 2.0], up=1e6)
    Fleet(seconds=[1. 2.], up=1000000.0)
    """

    seconds: Any = param(1.0, "compute time per unit of work, for all or one each")
    unit: str = param("gradient", "what a unit of work is", choices=("gradient", "sample"))
    up: Any = param(np.inf, "uplink, bits per second, for all or one each")
    down: Any = param(np.inf, "downlink, bits per second, for all or one each")
    latency: Any = param(0.0, "seconds per message, for all or one each")
    dropout: Any = param(0.0, "probability that a device that was asked never replies")
    jitter: Any = param(None, "random compute times; None: fixed", room="jitters")
    timeout: float = param(np.inf, "seconds after which the server starts a lost device anew")

    def __post_init__(self) -> None:
        if self.unit not in ("gradient", "sample"):
            raise ValueError(f"unit={self.unit!r}: work is counted per 'gradient' or per 'sample'.")
        rules = {
            "seconds": (lambda v: v >= 0, "seconds per unit of work, >= 0"),
            "up": (lambda v: v > 0, "bits per second, > 0 (inf: no limit)"),
            "down": (lambda v: v > 0, "bits per second, > 0 (inf: no limit)"),
            "latency": (lambda v: v >= 0, "seconds per message, >= 0"),
            "dropout": (lambda v: (v >= 0) & (v <= 1), "a probability in [0, 1]"),
            "timeout": (lambda v: v > 0, "one number of virtual seconds, > 0 (inf: never)"),
        }
        for name, (allowed, words) in rules.items():
            value = _numbers(getattr(self, name))
            if (
                value is None
                or np.isnan(value).any()
                or not np.all(allowed(value))
                or (name == "timeout" and value.ndim)
            ):
                raise ValueError(f"Fleet: {name}={getattr(self, name)!r}: give {words}.")
            object.__setattr__(self, name, value if value.ndim else float(value))

    def __repr__(self) -> str:
        shown = []
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, np.ndarray):
                shown.append(f"{f.name}={np.array2string(value, threshold=6, precision=4)}")
            elif value != f.default:
                shown.append(f"{f.name}={value!r}")
        return f"Fleet({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        """Fleets are equal if every field is, number by number."""
        return isinstance(other, Fleet) and self._facts() == other._facts()

    def __hash__(self) -> int:
        return hash(self._facts())

    def _facts(self) -> tuple[Any, ...]:
        values = (getattr(self, f.name) for f in fields(self))
        return tuple(tuple(v.tolist()) if isinstance(v, np.ndarray) else v for v in values)

    def check(self, n: int) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, np.ndarray) and value.shape != (n,):
                raise ValueError(f"Fleet: {f.name} has {len(value)} entries: there are {n} clients. Give one, or {n}.")

    @property
    def instant(self) -> bool:
        """Every device the same, no links, nothing random: time is just work."""
        same = all(
            not isinstance(getattr(self, f), np.ndarray) for f in ("seconds", "up", "down", "latency", "dropout")
        )
        return bool(
            same
            and self.up == np.inf
            and self.down == np.inf
            and self.latency == 0
            and self.dropout == 0
            and self.jitter is None
        )

    @property
    def lossless(self) -> bool:
        """No device drops out or hangs."""
        return bool(np.all(np.asarray(self.dropout) == 0)) and not isinstance(self.jitter, Hang)

    def of(self, name: str, clients: np.ndarray | int) -> Any:
        value = getattr(self, name)
        return value[clients] if isinstance(value, np.ndarray) else value

    def compute(self, work: Any, clients: np.ndarray, event: int, source: Randomness, kind: int = CALL) -> np.ndarray:
        """Seconds (m,) that the clients compute for `work` units in a call."""
        seconds = np.broadcast_to(np.asarray(self._seconds(work, clients), dtype=float), clients.shape)
        given = source.scripted("times", (event, 0, -1 if kind == CALL else int(clients[0])))
        if given is not None:
            return np.broadcast_to(np.asarray(given, dtype=float), clients.shape).copy()
        if self.jitter is None:
            return seconds
        return self._jittered(seconds, source.uniform("time", clients, event, 1, kind=kind)[:, 0].numpy(), clients)

    def job_times(self, client: int, block: int, count: int, work: float, source: Randomness) -> list[float]:
        """Seconds of a client's jobs number block * count, ..., each of `work` units: addressed by client and number."""
        u = source.uniform("time", [client], block, count, kind=JOB)[0].numpy()
        seconds = np.full(count, float(self._seconds(work, client)))
        return self._jittered(seconds, u, np.full(count, client)).tolist()

    def _seconds(self, work: Any, clients: np.ndarray | int) -> Any:
        """Seconds for `work` units. No work takes none, even on a device that would never finish any."""
        each = self.of("seconds", clients)
        if np.all(work):
            return work * each
        idle = np.equal(work, 0)
        return np.where(idle, 0.0, np.where(idle, 1, work) * each)

    def _jittered(self, seconds: np.ndarray, u: np.ndarray, clients: np.ndarray) -> np.ndarray:
        if isinstance(self.jitter, HalfNormal):
            return self.jitter(seconds, u, clients)
        return np.asarray(self.jitter(seconds, u))

    def lost(self, clients: np.ndarray, event: int, source: Randomness, kind: int = CALL) -> np.ndarray | None:
        """(m,) True where the device never replies; None if no device can drop out."""
        if not isinstance(self.dropout, np.ndarray) and self.dropout == 0:
            return None
        u = source.uniform("dropout", clients, event, 1, kind=kind)[:, 0].numpy()
        return u < self.of("dropout", clients)
