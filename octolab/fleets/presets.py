"""Fleets of a kind, ILLUSTRATIVE: plausible orders of magnitude, not measurements of anybody's devices.

    time of a job = samples * c_i * J + bits/bandwidth_i,   J log-normal(0, jitter),   c_i, bandwidth_i log-normal

The ratio of a fleet is the 99th over the 1st percentile of its compute times. FedScale (arXiv 2105.11367) and FLASH (arXiv
2006.06983) measured spreads of this order; medians, bandwidths and duties are our choice.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np

from octolab.arguments import SEED, expects
from octolab.errors import WrongArgument
from octolab.fleets.availability import Diurnal
from octolab.fleets.fleet import Fleet
from octolab.fleets.jitter import LogNormal
from octolab.randomness import Randomness
from octolab.rooms import nearest

Z99 = 2.3263478740408408  # the normal's 99th percentile


def _lognormal(n: int, median: float, sigma: float, seed: int, purpose: str) -> np.ndarray:
    """(n,) device i's value is a function of (seed, purpose, i)."""
    return median * np.exp(sigma * Randomness(seed).draws(n).normal(1, f"fleet/{purpose}")[:, 0].numpy())


def _count(n: Any, name: str = "n") -> int:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"{name}={n!r}: a fleet has a whole number of devices, >= 1.")
    return int(n)


def _fleet(settings: dict[str, Any]) -> Fleet:
    known = [f.name for f in fields(Fleet)]
    for name, value in settings.items():
        if name not in known:
            raise WrongArgument(
                f"{name}={value!r}: a fleet has no such setting.{nearest(name, known)} Known are {', '.join(known)}."
            )
    return Fleet(**settings)


@expects(seed=SEED)
def lognormal(
    count: int, compute_ratio: float = 100.0, network_ratio: float = 1.0, seed: int = 0, **settings: Any
) -> Fleet:
    """See `Fleet.lognormal`: median 1 second per unit of work; network_ratio 1: no limit on links, else median 10 Mbps."""
    for name, value in (("compute_ratio", compute_ratio), ("network_ratio", network_ratio)):
        real = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        if not real or not 1 <= value < math.inf:
            raise ValueError(f"{name}={value!r}: give the 99th over the 1st percentile, a number >= 1.")
    n = _count(count, "count")
    made: dict[str, Any] = {"seconds": _lognormal(n, 1.0, math.log(compute_ratio) / (2 * Z99), seed, "compute")}
    if network_ratio > 1:
        made["up"] = _lognormal(n, 1e7, math.log(network_ratio) / (2 * Z99), seed, "network")
        made["down"] = made["up"]
    return _fleet(made | settings)


def _preset(
    n: int, seed: int, settings: dict[str, Any], ratio: float, median: float, mbps: float, spread: float, **rest: Any
) -> Fleet:
    up = _lognormal(_count(n), mbps * 1e6, spread, seed, "network")
    seconds = _lognormal(n, median, math.log(ratio) / (2 * Z99), seed, "compute")
    return _fleet({"seconds": seconds, "unit": "sample", "up": up, "down": up, **rest, **settings})


@expects(seed=SEED)
def phones(n: int = 1000, seed: int = 0, **settings: Any) -> Fleet:
    """Phones (illustrative): 100x between fast and slow, 10 ms a sample, 10 Mbps, 10 % drop out, online a tenth of the
    time and mostly at night, 12 Wh of battery. settings: fields of `Fleet` that should be otherwise.
    """
    online = Diurnal(duty=0.1, ratio=4.0, peak=2 * 3600.0, seed=seed)
    rest = {"jitter": LogNormal(0.4), "dropout": 0.10, "availability": online, "timeout": 600.0, "battery": 12.0}
    return _preset(n, seed, settings, 100.0, 0.010, 10.0, 1.0, **rest)


@expects(seed=SEED)
def iot(n: int = 1000, seed: int = 0, **settings: Any) -> Fleet:
    """Small devices (illustrative): 10x, 50 ms a sample, 5 Mbps, 5 % drop out, online 90 % of the time."""
    rest = {"jitter": LogNormal(0.2), "dropout": 0.05, "availability": Diurnal(duty=0.9, seed=seed), "timeout": 1800.0}
    return _preset(n, seed, settings, 10.0, 0.050, 5.0, 0.7, **rest)


@expects(seed=SEED)
def hospitals(n: int = 50, seed: int = 0, **settings: Any) -> Fleet:
    """Hospitals (illustrative): 2x, 2 ms a sample, 200 Mbps, 1 % drop out, always online."""
    return _preset(n, seed, settings, 2.0, 0.002, 200.0, 0.5, jitter=LogNormal(0.05), dropout=0.01, timeout=3600.0)
