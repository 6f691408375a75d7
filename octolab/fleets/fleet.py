"""Fleets: how fast each device computes and how fast its link is. All time here is virtual and deterministic.

    time of a call or job = latency + bits down / down-link + work * seconds (+ jitter) + latency + bits up / up-link

`work` is counted in gradients (a minibatch is one) or in sample-gradients. Measured wall time never enters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from octolab.faces import Shown
from octolab.fleets.availability import Availability, Powers
from octolab.fleets.jitter import Exponential, HalfNormal, Hang, Jitter, LogNormal, check_jitter
from octolab.params import param
from octolab.randomness import CALL, JOB, Randomness
from octolab.rooms import register

if TYPE_CHECKING:
    import os

    import pandas as pd

__all__ = ["Exponential", "Fleet", "HalfNormal", "Hang", "LogNormal"]

Each = Any  # one number, or an array with one number per client
JOULES = 3600.0  # in a watt-hour

RULES: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "seconds": (lambda v: v >= 0, "seconds per unit of work, >= 0"),
    "up": (lambda v: v > 0, "bits per second, > 0 (inf: no limit)"),
    "down": (lambda v: v > 0, "bits per second, > 0 (inf: no limit)"),
    "latency": (lambda v: v >= 0, "seconds per message, >= 0"),
    "dropout": (lambda v: (v >= 0) & (v <= 1), "a probability in [0, 1]"),
    "timeout": (lambda v: v > 0, "one number of virtual seconds, > 0 (inf: never)"),
    "battery": (lambda v: v >= 0, "watt-hours, >= 0 (inf: on the mains)"),
    "power": (lambda v: (v >= 0) & np.isfinite(v), "watts, >= 0"),
    "radio": (lambda v: (v >= 0) & np.isfinite(v), "watts, >= 0"),
    "battery_share": (lambda v: (v > 0) & (v <= 1), "one share of the battery, in (0, 1]"),
}
SINGLE = ("timeout", "battery_share")


def _numbers(value: Any) -> np.ndarray | None:
    """As float64; None if it is nothing of the kind."""
    if isinstance(value, (bool, str)):
        return None
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return None


@register("fleets")
@dataclass(frozen=True, eq=False)
class Fleet(Shown):
    """The devices of a federation. Every field is one number, or an array with one number per client.

    seconds: compute time per unit of work. unit: "gradient" (a minibatch counts one) or "sample".
    up, down: link speeds in bits per second. latency: seconds per message. dropout: the probability that a device that
    was asked never replies. jitter: random times, one of LogNormal, Exponential, HalfNormal, Hang, or any function of
    (seconds, uniforms). timeout: virtual seconds after which the server gives an asynchronous job up and starts the
    device anew; inf: never, so that each lost job removes its device for good. (Synchronous rounds have a deadline.)
    availability: when devices are online: Diurnal, Intervals, Always. computation: `Powers`, in place of `seconds`.
    battery: watt-hours of a full one, of which the share `battery_share` may be spent; a device that has spent it is
    not started any more. power, radio: watts while it computes and while it sends.

    >>> Fleet(seconds=[1.0, 2.0], up=1e6)
    Fleet(seconds=[1. 2.], up=1000000.0)
    """

    seconds: Each = param(1.0, "compute time per unit of work, for all or one each")
    unit: str = param("gradient", "what a unit of work is", choices=("gradient", "sample"))
    up: Each = param(np.inf, "uplink, bits per second, for all or one each")
    down: Each = param(np.inf, "downlink, bits per second, for all or one each")
    latency: Each = param(0.0, "seconds per message, for all or one each")
    dropout: Each = param(0.0, "probability that a device that was asked never replies")
    jitter: Jitter | None = param(None, "random compute times; None: fixed", room="jitters")
    timeout: float = param(np.inf, "seconds after which the server starts a lost device anew")
    availability: Availability | None = param(None, "when devices are online; None: always", room="availability")
    computation: Powers | None = param(None, "power as a function of time, in place of seconds", room="computation")
    battery: Each = param(np.inf, "watt-hours of a full battery, for all or one each; inf: on the mains")
    power: Each = param(3.0, "watts while a device computes")
    radio: Each = param(1.0, "watts while a device sends")
    battery_share: float = param(1.0, "share of its battery that a device may spend")

    def __post_init__(self) -> None:
        if self.unit not in ("gradient", "sample"):
            raise ValueError(f"Fleet: unit={self.unit!r}: choose what work is counted per, 'gradient' or 'sample'.")
        for name, (allowed, words) in RULES.items():
            value = _numbers(getattr(self, name))
            wrong = value is None or np.isnan(value).any() or not np.all(allowed(value))
            if value is None or wrong or (value.ndim and name in SINGLE):
                raise ValueError(f"Fleet: {name}={getattr(self, name)!r}: give {words}.")
            object.__setattr__(self, name, value if value.ndim else float(value))
        check_jitter(self.jitter)
        if self.availability is not None and not hasattr(self.availability, "online"):
            raise ValueError(f"Fleet: availability={self.availability!r}: give Diurnal, Intervals or Always.")
        if self.computation is not None and not isinstance(self.computation, Powers):
            raise ValueError(f"Fleet: computation={self.computation!r}: give Powers(times, powers).")

    def __eq__(self, other: object) -> bool:
        """Fleets are equal if every field is, number by number."""
        return isinstance(other, Fleet) and self._facts() == other._facts()

    def __hash__(self) -> int:
        return hash(self._facts())

    def _facts(self) -> tuple[Any, ...]:
        values = (getattr(self, f.name) for f in fields(self))
        return tuple(tuple(v.tolist()) if isinstance(v, np.ndarray) else v for v in values)

    # -- fleets from elsewhere ---------------------------------------------------------------------------------------
    @classmethod
    def from_frame(cls, table: pd.DataFrame, **settings: Any) -> Fleet:
        """One device per row, with the columns of `octolab.fleets.tables`; every bad row is named in the error."""
        from octolab.fleets.tables import from_frame

        return from_frame(table, **settings)

    @classmethod
    def from_csv(cls, path: str | os.PathLike, **settings: Any) -> Fleet:
        """Like `from_frame`, from a file."""
        from octolab.fleets.tables import from_csv

        return from_csv(path, **settings)

    @classmethod
    def lognormal(
        cls, count: int, compute_ratio: float = 100.0, network_ratio: float = 1.0, seed: int = 0, **settings: Any
    ) -> Fleet:
        """Log-normal devices: the 99th over the 1st percentile of compute times and link speeds is the given ratio."""
        from octolab.fleets.presets import lognormal

        return lognormal(count, compute_ratio, network_ratio, seed, **settings)

    def __repr__(self) -> str:
        shown = []
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, np.ndarray):
                shown.append(f"{f.name}={np.array2string(value, threshold=6, precision=4)}")
            elif value != f.default:
                shown.append(f"{f.name}={value!r}")
        return f"Fleet({', '.join(shown)})"

    @property
    def n(self) -> int | None:
        """How many devices, where an array says it; None: the same for any number of them."""
        sizes = [len(v) for f in fields(self) if isinstance(v := getattr(self, f.name), np.ndarray)]
        sizes += [len(v) for v in (self.availability, self.computation) if isinstance(v, Sized)]
        return sizes[0] if sizes else None

    def check(self, n: int) -> None:
        """A ValueError unless it has n devices."""
        for f in fields(self):
            value = getattr(self, f.name)
            size = len(value) if isinstance(value, Sized) and not isinstance(value, str) else n
            if size != n:
                raise ValueError(f"Fleet: {f.name} has {size} entries: there are {n} clients. Give one, or {n}.")
        if math.isfinite(float(np.max(self.battery))) and not np.any(np.asarray(self.battery) > 0):
            raise ValueError("Fleet: every battery is empty (battery=0), so that no device can take part.")

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = [getattr(self, f.name) for f in fields(self)]
        arrays.append(getattr(self.availability, "phase", None))
        return sum(a.nbytes for a in arrays if isinstance(a, np.ndarray))

    def summary(self) -> pd.DataFrame:
        """Percentiles over the devices, one row per quantity, units in the names."""
        from octolab.fleets.tables import summary

        return summary(self)

    # -- what the clock asks -----------------------------------------------------------------------------------------
    @property
    def instant(self) -> bool:
        """Every device the same, no links, nothing random: time is just work."""
        same = all(
            not isinstance(getattr(self, f), np.ndarray)
            for f in ("seconds", "up", "down", "latency", "dropout", "battery")
        )
        return bool(
            same
            and self.up == np.inf
            and self.down == np.inf
            and self.latency == 0
            and self.dropout == 0
            and self.battery == np.inf
            and self.jitter is None
            and self.availability is None
            and self.computation is None
        )

    @property
    def lossless(self) -> bool:
        """No device drops out, hangs, goes offline or runs out of battery."""
        stays = self.availability is None and bool(np.all(np.asarray(self.battery) == np.inf))
        return stays and bool(np.all(np.asarray(self.dropout) == 0)) and not isinstance(self.jitter, Hang)

    @property
    def limited(self) -> bool:
        """Whether some device has a battery."""
        return bool(np.any(np.asarray(self.battery) < np.inf))

    @property
    def budget(self) -> Any:
        """Joules that a device may spend, one number or (n,)."""
        return self.battery * JOULES * self.battery_share

    def of(self, name: str, clients: np.ndarray | int) -> Any:
        value = getattr(self, name)
        return value[clients] if isinstance(value, np.ndarray) else value

    def fixed_seconds(self, n: int) -> np.ndarray:
        """(n,) the time of one unit of work on each device, random times left out; with `computation`, of the first unit."""
        if self.computation is not None:
            return self.computation.finish(np.arange(n), np.zeros(n), np.ones(n))
        return np.broadcast_to(np.asarray(self.seconds, dtype=float), (n,)).copy()

    def mean_seconds(self, n: int) -> np.ndarray:
        """(n,) the mean time of one unit of work on each device, over its random times."""
        if self.jitter is None or self.computation is not None:
            return self.fixed_seconds(n)
        return np.array([times.mean() for times in self.law(n)])

    def law(self, n: int, points: int = 4096) -> Iterator[np.ndarray]:
        """For each device its random time of one unit of work, at `points` evenly spaced quantiles, ascending."""
        u = (np.arange(points) + 0.5) / points
        for i in range(n):
            seconds = np.full(points, float(self.of("seconds", i)))
            yield np.sort(seconds if self.jitter is None else self._jittered(seconds, u, np.full(points, i)))

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
        each = self.of("seconds", clients) if self.computation is None else 1.0  # then seconds stand for units of work
        if np.all(work):
            return work * each
        idle = np.equal(work, 0)
        return np.where(idle, 0.0, np.where(idle, 1, work) * each)

    def _jittered(self, seconds: np.ndarray, u: np.ndarray, clients: np.ndarray) -> np.ndarray:
        if isinstance(self.jitter, HalfNormal):
            return self.jitter(seconds, u, clients)
        return np.asarray(self.jitter(seconds, u))  # type: ignore[misc]

    @property
    def waits(self) -> bool:
        """Whether computing takes longer where a device is offline or slow for a time: then `passed` says how long."""
        return self.availability is not None or self.computation is not None

    def passed(self, clients: np.ndarray, start: Any, seconds: Any) -> np.ndarray:
        """(m,) virtual seconds from `start` until the clients have computed for `seconds` (units of work with
        `computation`); inf: never."""
        clock: Any = self.computation or self.availability
        return np.asarray(clock.finish(clients, start, seconds) - start)

    def energy(self, clients: np.ndarray | int, computing: Any, sending: Any) -> Any:
        """Joules of so many seconds of computing and of sending."""
        return self.of("power", clients) * computing + self.of("radio", clients) * sending

    def lost(self, clients: np.ndarray, event: int, source: Randomness, kind: int = CALL) -> np.ndarray | None:
        """(m,) True where the device never replies; None if no device can drop out."""
        if not isinstance(self.dropout, np.ndarray) and self.dropout == 0:
            return None
        u = source.uniform("dropout", clients, event, 1, kind=kind)[:, 0].numpy()
        return u < self.of("dropout", clients)
