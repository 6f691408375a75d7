"""Synchronous or asynchronous, and which scheduler: two rules, with the numbers that decided, in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from octolab.arguments import FLEET, PROBLEM, expects, number, switch, whole
from octolab.fleets.fleet import Fleet
from octolab.fleets.jitter import variation

if TYPE_CHECKING:
    from octolab.problems import Problem

WORTH = 1.2  # from which predicted speed-up asynchrony is worth its trouble


@dataclass(frozen=True)
class Advice:
    """mode: "synchronous" or "asynchronous". scheduler: a slug ("sgd" where it is synchronous). ratio: 99th over 1st
    percentile of the devices' latencies. speedup: predicted time of synchronous over asynchronous training. reasons: text.
    """

    mode: str
    scheduler: str
    ratio: float
    speedup: float
    reasons: tuple[str, ...]

    def __repr__(self) -> str:
        lines = "\n".join(f"  - {reason}" for reason in self.reasons)
        return f"{self.mode}, scheduler {self.scheduler!r}\n{lines}"


def harmonic_time(tau: np.ndarray, s: float) -> float:
    """min_m H_m (1 + s/m), H_m = m/sum_{i <= m} 1/tau_i over the m fastest: seconds per unit of progress, at best."""
    tau = np.sort(tau[np.isfinite(tau)])
    if len(tau) == 0:
        return math.inf
    m = np.arange(1, len(tau) + 1)
    with np.errstate(divide="ignore"):
        return float((m / np.cumsum(1 / tau) * (1 + s / m)).min())


def predicted_times(tau: np.ndarray, s: float, homogeneous: bool) -> tuple[float, float]:
    """Seconds per unit of progress, synchronous and asynchronous; tau (n,) seconds a gradient, s = sigma^2/eps."""
    n, slowest = len(tau), float(tau.max())
    together = slowest * (1 + s / n)
    return together, harmonic_time(tau, s) if homogeneous else slowest + float(tau.mean()) * s / n


@expects(fleet=FLEET, problem=PROBLEM, low_latency=switch(), batch_size=whole(1), bits=number(ge=0))
def advise(
    fleet: Fleet,
    problem: Problem,
    *,
    s: float | None = None,
    rule: str = "auto",
    low_latency: bool = False,
    batch_size: int = 1,
    bits: float | None = None,
) -> Advice:
    """What to run on this fleet.

    s: sigma^2/eps, how much noise must be averaged out. rule: "latency": asynchronous if the ratio is above 10, the
    drop-out above 0.2, there are more than 1000 devices, or low latency is wanted; "time": if the predicted speed-up is
    above 1.2 (needs s); "auto": "time" where s is given. batch_size: samples per gradient. bits: of a reply; None: 32 d.
    """
    if rule not in ("auto", "latency", "time"):
        raise ValueError(f"rule={rule!r}: choose 'auto', 'latency' or 'time'.")
    if s is not None and not (isinstance(s, (int, float)) and not isinstance(s, bool) and 0 <= s < math.inf):
        raise ValueError(f"s={s!r}: give sigma^2/eps, a finite number >= 0.")
    if rule == "time" and s is None:
        raise ValueError("rule='time' needs s = sigma^2/eps: give s=..., or use rule='latency'.")
    n, one = problem.n, np.ones(problem.n)
    fleet.check(n)
    compute = fleet.seconds * one * (batch_size if fleet.unit == "sample" else 1)
    sending = (32.0 * problem.d if bits is None else bits) / (fleet.up * one) + fleet.latency
    total, dropout = compute + sending, float(np.mean(fleet.dropout))
    low, high = np.percentile(total, [1, 99])
    ratio = float(high / low) if low > 0 else (1.0 if high == 0 else math.inf)
    causes = _latency_rule(ratio, dropout, n, low_latency)
    together, apart = (math.nan, math.nan) if s is None else predicted_times(total, s, problem.homogeneous)
    speedup = math.nan if s is None else together / apart if apart > 0 else 1.0
    by_time = rule == "time" or (rule == "auto" and s is not None)
    asynchronous = speedup > WORTH if by_time else bool(causes)
    reasons = [
        f"rule of latencies: {'asynchronous, since ' + ', '.join(causes) if causes else _quiet(ratio, dropout, n)}"
    ]
    if s is not None:
        reasons.append(
            f"rule of time: synchronous {together:.3g} s against asynchronous {apart:.3g} s per unit of progress at s={s:g}, "
            f"{speedup:.3g}x (worth it above {WORTH:g}x)"
        )
    reasons.append(f"decided by the rule of {'time' if by_time else 'latencies'}")
    if not asynchronous:
        return Advice("synchronous", "sgd", ratio, speedup, tuple(reasons))
    scheduler, why = _scheduler(fleet, problem.homogeneous, dropout, float(sending.sum() / max(total.sum(), 1e-300)))
    return Advice("asynchronous", scheduler, ratio, speedup, (*reasons, why))


def _latency_rule(ratio: float, dropout: float, n: int, low_latency: bool) -> list[str]:
    causes = []
    if ratio > 10:
        causes.append(f"the 99th over the 1st percentile of latencies is {ratio:.3g} > 10")
    if dropout > 0.2:
        causes.append(f"{dropout:.0%} > 20% of the replies are lost")
    if n > 1000:
        causes.append(f"there are {n:,} > 1,000 devices")
    return [*causes, "low latency is wanted"] if low_latency else causes


def _quiet(ratio: float, dropout: float, n: int) -> str:
    return f"synchronous: ratio {ratio:.3g} <= 10, drop-out {dropout:.0%} <= 20%, {n:,} <= 1,000 devices"


def _scheduler(fleet: Fleet, homogeneous: bool, dropout: float, sending: float) -> tuple[str, str]:
    spread: Any = variation(fleet.jitter)
    heavy = spread > 1 or dropout > 0.2
    tail = f"a job's time varies by {spread:.3g} of its mean and {dropout:.0%} of the replies are lost"
    if heavy:
        slug = "mindflayer" if homogeneous else "vecna"
        return slug, f"{slug}: {tail}, so that jobs are clipped rather than waited for"
    if not homogeneous:
        return "ringleader", "ringleader: clients have different objectives, and each must count alike"
    if sending > 0.5:
        return "shadowheart", f"shadowheart: {sending:.0%} of a job's time is its upload"
    return "ringmaster", f"ringmaster: computing dominates ({1 - sending:.0%} of a job's time), {tail}"
