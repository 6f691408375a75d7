"""What belongs to a run beside method and problem, as knobs: how long, which seed, when to stop, on what devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from octolab.experiment.run import Settings
from octolab.federation import Attack, Exponential, Fleet, HalfNormal, Hang, LogNormal
from octolab.notation import to_python
from octolab.params import Theory, param, settle

STOPS = ("loss", "grad_norm_sq", "bits", "seconds")


@dataclass(frozen=True)
class Plan:
    """The settings of a run. baseline: what is drawn beside it."""

    rounds: int = param(300, "steps of the method", ge=1)
    seed: int = param(0, "everything random follows from it", ge=0)
    baseline: str = param("auto", "drawn beside it: auto, none, or a method's slug")
    baseline_lr: float | Theory = param(Theory(), "the baseline's step size", gt=0)
    loss: float | None = param(None, "stop at this loss; None: never")
    grad_norm_sq: float | None = param(None, "stop at this squared gradient norm; None: never", ge=0)
    bits: float | None = param(None, "stop after so many bits sent up by a client; None: never", gt=0)
    seconds: float | None = param(None, "stop after so many virtual seconds; None: never", gt=0)
    attack: Attack | None = param(None, "who lies, and how; None: nobody")
    deadline: float | None = param(None, "seconds after which a round stops waiting; None: never", gt=0)
    evaluate_every: int | None = param(None, "rounds between evaluations; None: as needed", ge=1)
    dtype: str | None = param(None, "numbers", choices=(None, "float32", "float64"))

    def __post_init__(self) -> None:
        settle(self, "run")

    def arguments(self) -> dict[str, Any]:
        """As `ol.run` takes them; what is at its default is left out."""
        out: dict[str, Any] = {"rounds": self.rounds}
        until = {name: getattr(self, name) for name in STOPS if getattr(self, name) is not None}
        if until:
            out["until"] = until
        out["seed"] = self.seed
        for name in ("attack", "deadline", "evaluate_every", "dtype"):
            if getattr(self, name) is not None:
                out[name] = getattr(self, name)
        return out

    @classmethod
    def read(cls, settings: Settings, baseline: str = "auto") -> Plan:
        """The plan that gives these settings."""
        stops: dict[str, Any] = {name: getattr(settings.until, name, None) for name in STOPS}
        rest: dict[str, Any] = {
            n: getattr(settings, n) for n in ("rounds", "seed", "attack", "deadline", "evaluate_every", "dtype")
        }
        return cls(**rest, **stops, baseline=baseline)


@dataclass(frozen=True)
class Devices:
    """A fleet described by a few numbers. `_given`: a fleet that was handed in, used as it is."""

    speeds: str = param(
        "alike", "seconds per gradient over the devices", choices=("alike", "evenly spread", "a tenth slow", "root")
    )
    slowest: float = param(10.0, "how many times slower the slowest device is", ge=1)
    unit: str = param(
        "gradient", "work is counted per minibatch gradient, or per sample", choices=("gradient", "sample")
    )
    up: float | None = param(None, "uplink, bits per second; None: no limit", gt=0)
    down: float | None = param(None, "downlink, bits per second; None: no limit", gt=0)
    latency: float = param(0.0, "seconds per message", ge=0)
    dropout: float = param(0.0, "probability that a device that was asked never replies", ge=0, le=1)
    jitter: LogNormal | Exponential | HalfNormal | Hang | None = param(None, "random compute times; None: fixed")
    _given: Fleet | None = None

    def __post_init__(self) -> None:
        settle(self, "fleet")

    def seconds(self, n: int) -> Any:
        """Seconds per unit of work: 1.0, or an array (n,), the slowest last."""
        if self.speeds == "alike" or self.slowest == 1:
            return 1.0
        if self.speeds == "evenly spread":
            return np.linspace(1, self.slowest, n)
        if self.speeds == "root":
            return 1 + (self.slowest - 1) * np.sqrt(np.arange(n) / max(n - 1, 1))
        slow = max(1, n // 10)
        return np.repeat([1.0, self.slowest], [n - slow, slow])

    def _fields(self, n: int) -> dict[str, Any]:
        chosen = {"seconds": self.seconds(n), "unit": self.unit, "up": self.up, "down": self.down}
        chosen |= {"latency": self.latency, "dropout": self.dropout, "jitter": self.jitter}
        default = {"seconds": 1.0, "unit": "gradient", "latency": 0.0, "dropout": 0.0}
        return {k: v for k, v in chosen.items() if v is not None and (isinstance(v, np.ndarray) or v != default.get(k))}

    def fleet(self, n: int) -> Fleet | None:
        """The fleet of n devices; None: the default one, everybody alike."""
        if self._given is not None:
            return self._given
        chosen = self._fields(n)
        return Fleet(**chosen) if chosen else None

    def text(self, n: int) -> dict[str, str]:
        """The fleet's arguments as Python text, the speeds as the formula that makes them."""
        out = {k: to_python(v) for k, v in self._fields(n).items()}
        slow = max(1, n // 10)
        formula = {
            "evenly spread": f"np.linspace(1, {self.slowest!r}, {n})",
            "root": f"1 + {self.slowest - 1!r} * np.sqrt(np.arange({n}) / {max(n - 1, 1)})",
            "a tenth slow": f"np.repeat([1.0, {self.slowest!r}], [{n - slow}, {slow}])",
        }
        return out | ({"seconds": formula[self.speeds]} if "seconds" in out else {})

    @classmethod
    def read(cls, fleet: Fleet | None) -> Devices:
        """The devices that make this fleet: by numbers where they say it, else the fleet itself."""
        if fleet is None:
            return cls()
        arrays = [f for f in ("up", "down", "latency", "dropout") if isinstance(getattr(fleet, f), np.ndarray)]
        seconds = np.asarray(fleet.seconds)
        slowest = float(seconds.max()) if seconds.size else 1.0
        if (
            arrays
            or slowest < 1
            or not isinstance(fleet.jitter, (LogNormal, Exponential, HalfNormal, Hang, type(None)))
        ):
            return cls(_given=fleet)
        limit = lambda v: None if np.isinf(v) else v  # noqa: E731
        rest = {"up": limit(fleet.up), "down": limit(fleet.down), "latency": fleet.latency, "dropout": fleet.dropout}
        if seconds.ndim == 0 and slowest == 1:
            return cls(unit=fleet.unit, jitter=fleet.jitter, **rest)
        for speeds in ("evenly spread", "a tenth slow", "root"):
            made = cls(speeds, slowest, unit=fleet.unit, jitter=fleet.jitter, **rest)
            if np.array_equal(made.seconds(len(np.atleast_1d(seconds))), seconds):
                return made
        return cls(_given=fleet)
