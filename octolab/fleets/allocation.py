"""Who takes part in a round, and with how much work, under budgets of time, server, network and battery.

The idea of re-solving a linear programme every round is COpter's (Subramanya, Dennis, Smith, Ganger, SOSP 2025), which is a
solver for such problems and knows nothing of federated learning; the model here is ours:

    maximise  sum_iq p_i v_q x_iq          y_i in [0, 1]: takes part;  x_iq >= 0: gradients in segment q of its utility
    subject to  x_iq <= (most/Q) y_i
                h_i sum_q x_iq <= (W - u_i) y_i                     h_i seconds a gradient, u_i seconds an upload
                P h_i sum_q x_iq + R u_i y_i <= E_i                 energy: watts P computing, R sending
                c sum y <= C,   bits sum y <= B W                   server and network
                y_i >= floor_i                                      fairness, where it is asked for

v = 1, 1/2, 1/4, 1/8: more gradients of one device help less and less. Both coupling rows are proportional to sum y, so
without a fairness row the programme separates: the exact solution is to fill sum y with the steepest pieces of concave V_i(y).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from octolab.arguments import FLEET, expects, number, whole
from octolab.fleets.fleet import JOULES, Fleet

VALUES = (1.0, 0.5, 0.25, 0.125)
CLOSE = 1e-9


@dataclass(frozen=True, eq=False)
class Allocation:
    """participates: (n,) bool. work: (n,) whole numbers of gradients. value: of the plan; bound: of the programme before
    rounding. seconds, joules: (n,) what the plan takes of each device."""

    participates: np.ndarray
    work: np.ndarray
    value: float
    bound: float
    seconds: np.ndarray
    joules: np.ndarray

    def __repr__(self) -> str:
        return (
            f"Allocation: {int(self.participates.sum()):,} of {len(self.work):,} devices, {int(self.work.sum()):,} "
            f"gradients, value {self.value:.6g} of at most {self.bound:.6g}"
        )


class Round(NamedTuple):
    """A round's numbers, arrays (n,): seconds h per gradient and u per upload, most gradients, energy, weights p."""

    h: np.ndarray
    u: np.ndarray
    energy: np.ndarray
    power: np.ndarray
    radio: np.ndarray
    p: np.ndarray
    window: float
    most: int
    places: float  # sum y at most

    @property
    def able(self) -> np.ndarray:
        """(n,) who could take part at all: an upload fits into the window and into the battery."""
        return (self.u < self.window) & (self.radio * self.u <= self.energy) & (self.energy > 0) & np.isfinite(self.h)

    def gradients(self, y: np.ndarray) -> np.ndarray:
        """The most gradients at participation y, (n,) or (n, k)."""
        wide = y.ndim > 1
        h, u, energy, power, radio = (
            v[:, None] if wide else v for v in (self.h, self.u, self.energy, self.power, self.radio)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            time = np.where(h > 0, (self.window - u) * y / h, np.inf)
            battery = np.where(power * h > 0, (energy - radio * u * y) / (power * h), np.inf)
        return np.minimum(np.minimum(self.most * y, np.where(y > 0, time, 0.0)), np.maximum(battery, 0.0))

    def worth(self, y: np.ndarray) -> np.ndarray:
        """V_i(y): the value of the most gradients, filled segment by segment."""
        left, segment = self.gradients(y), self.most / len(VALUES) * y
        total = np.zeros_like(left)
        for v in VALUES:
            part = np.minimum(left, segment)
            total += v * part
            left = left - part
        return total * (self.p[:, None] if y.ndim > 1 else self.p)


@expects(
    fleet=FLEET,
    n=whole(1),
    seconds=number(gt=0),
    server_core_seconds=number(ge=0, infinite=True),
    bandwidth_mbps=number(ge=0, infinite=True),
    battery_share=number(gt=0, le=1),
    bits=number(ge=0),
)
def allocate(
    fleet: Fleet,
    n: int | None = None,
    *,
    seconds: float,
    server_core_seconds: float = math.inf,
    bandwidth_mbps: float = math.inf,
    battery_share: float = 1.0,
    spent: Any = 0.0,
    bits: float = 1e6,
    reply_core_seconds: float = 0.05,
    most: int = 32,
    weights: Any = None,
    at_least: Any = None,
    solver: str = "auto",
) -> Allocation:
    """The plan of one round of `seconds` virtual seconds.

    fleet: see `Fleet`; n: how many devices, where no array says it. server_core_seconds: what the server has in the round,
    of which a reply takes `reply_core_seconds`. bandwidth_mbps: of the whole network, which carries `bits` per reply.
    battery_share: of each device's battery that may be spent in all, of which `spent` joules, one number or (n,), are
    gone. most: gradients of one device at most. weights: (n,) worth of a gradient. at_least: (n,) participation y_i that
    fairness asks for. solver: "greedy" (exact, no fairness row), "highs" (scipy's linear programme), "auto".

    >>> from octolab.fleets import Fleet
    >>> allocate(Fleet(seconds=[1.0, 2.0, 50.0], up=1e6), seconds=11).work
    array([10,  5,  0])
    """
    count = fleet.n or n
    if count is None:
        raise ValueError("This fleet has no arrays, so it does not say how many devices there are: give n=...")
    _check(seconds, server_core_seconds, bandwidth_mbps, battery_share, bits, reply_core_seconds, most, solver)
    problem = _round(fleet, count, seconds, battery_share, spent, bits, most, weights)
    places = [server_core_seconds / reply_core_seconds if reply_core_seconds > 0 else math.inf]
    places.append(bandwidth_mbps * 1e6 * seconds / bits if bits > 0 else math.inf)
    problem = problem._replace(places=min(*places, float(count)))
    if at_least is not None and solver == "greedy":
        raise ValueError("solver='greedy' knows no fairness row: leave out at_least, or use solver='highs'.")
    if at_least is None and solver in ("auto", "greedy"):
        y, bound = _greedy(problem)
    else:
        y, bound = _highs(problem, None if at_least is None else np.broadcast_to(np.asarray(at_least, float), (count,)))
    return _rounded(problem, y, bound)


def _check(
    seconds: Any, server: Any, bandwidth: Any, share: Any, bits: Any, reply: Any, most: Any, solver: str
) -> None:
    rules = {
        "seconds": (seconds, 0, math.inf, False),
        "server_core_seconds": (server, 0, math.inf, True),
        "bandwidth_mbps": (bandwidth, 0, math.inf, True),
        "battery_share": (share, 0, 1, True),
        "bits": (bits, 0, math.inf, False),
        "reply_core_seconds": (reply, 0, math.inf, False),
    }
    for name, (value, low, high, closed) in rules.items():
        real = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        if (
            not real
            or not low <= value <= high
            or (not closed and math.isinf(value))
            or (name == "seconds" and value == 0)
        ):
            raise ValueError(
                f"allocate: {name}={value!r}: give a number in [{low:g}, {high:g}{']' if closed else ')'}."
            )
    if isinstance(most, bool) or not isinstance(most, (int, np.integer)) or most < 1:
        raise ValueError(f"allocate: most={most!r}: give a whole number of gradients >= 1.")
    if solver not in ("auto", "greedy", "highs"):
        raise ValueError(f"allocate: solver={solver!r}: choose 'auto', 'greedy' or 'highs'.")


def _round(
    fleet: Fleet, n: int, seconds: float, share: float, spent: Any, bits: float, most: int, weights: Any
) -> Round:
    one = np.ones(n)
    energy = np.maximum(0.0, fleet.battery * JOULES * share * one - np.asarray(spent, dtype=float))
    p = one if weights is None else np.asarray(weights, dtype=float)
    if p.shape != (n,) or not (np.isfinite(p) & (p >= 0)).all():
        raise ValueError(f"allocate: weights={weights!r}: give {n} finite numbers >= 0.")
    upload = fleet.latency * one + bits / (fleet.up * one)
    return Round(fleet.seconds * one, upload, energy, fleet.power * one, fleet.radio * one, p, seconds, most, math.inf)


def _greedy(r: Round) -> tuple[np.ndarray, float]:
    """Exact: all pieces of all V_i(y), the steepest first, until sum y is spent."""
    able = r.able
    full = np.where(able, 1.0, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = [np.minimum(r.most, np.where(r.h > 0, (r.window - r.u) / r.h, np.inf))]
        slopes += [r.most / len(VALUES) * k + 0 * r.h for k in range(1, len(VALUES) + 1)]
        # where the battery's line cuts gradients = slope * y
        cuts = [np.where(r.power * r.h > 0, r.energy / (s * r.power * r.h + r.radio * r.u), np.inf) for s in slopes]
    points = np.sort(np.stack([0 * full, full, *(np.clip(np.nan_to_num(c, nan=1.0), 0, full) for c in cuts)], 1), 1)
    worth = r.worth(points)
    width, gain = np.diff(points, axis=1), np.diff(worth, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(width > 1e-15, gain / width, -np.inf)
    order = np.argsort(-slope, axis=None, kind="stable")
    order = order[slope.ravel()[order] > 0]
    before = np.cumsum(width.ravel()[order]) - width.ravel()[order]
    used = np.clip(r.places - before, 0, width.ravel()[order])
    y = np.bincount(order // width.shape[1], weights=used, minlength=len(r.h))
    return y, float((used * slope.ravel()[order]).sum())


def _highs(r: Round, at_least: np.ndarray | None) -> tuple[np.ndarray, float]:
    """The linear programme as it stands, by scipy's HiGHS. Variables: y (n), then x_q (n) for each segment."""
    from scipy import sparse
    from scipy.optimize import linprog

    n, q = len(r.h), len(VALUES)
    eye, none = sparse.identity(n, format="csr"), sparse.csr_matrix((n, n))
    able = r.able
    u, h = np.where(able, r.u, 0.0), np.where(np.isfinite(r.h), r.h, 0.0)
    rows, right = [], []
    for k in range(q):
        rows.append(sparse.hstack([-(r.most / q) * eye, *(eye if j == k else none for j in range(q))]))
        right.append(np.zeros(n))
    rows.append(sparse.hstack([sparse.diags(-(r.window - u)), *[sparse.diags(h)] * q]))
    right.append(np.zeros(n))
    limited = np.isfinite(r.energy)
    if limited.any():
        keep = np.flatnonzero(limited)
        battery = sparse.hstack([sparse.diags(r.radio * u), *[sparse.diags(r.power * h)] * q]).tocsr()
        rows.append(battery[keep])
        right.append(r.energy[keep])
    rows.append(sparse.csr_matrix(np.concatenate([np.ones(n), np.zeros(n * q)])[None]))
    right.append(np.array([r.places]))
    low = np.zeros(n) if at_least is None else np.where(able, at_least, 0.0)
    bounds = [*zip(low, able.astype(float), strict=True), *[(0.0, None)] * (n * q)]
    worth = np.concatenate([np.zeros(n), *(v * r.p for v in VALUES)])
    solved = linprog(
        -worth, A_ub=sparse.vstack(rows).tocsr(), b_ub=np.concatenate(right), bounds=bounds, method="highs"
    )
    if solved.status != 0:
        raise ValueError(
            f"No plan keeps to these budgets ({solved.message.split(' (')[0]}): ask for less fairness (at_least), or give more "
            f"server seconds or bandwidth."
        )
    return np.asarray(solved.x[:n]), float(-solved.fun)


def _rounded(r: Round, y: np.ndarray, bound: float) -> Allocation:
    """Whole devices and whole gradients: the smallest fractions are dropped, and work is cut to what fits."""
    worth = r.worth(np.where(r.able, 1.0, 0.0))
    order = np.lexsort((-worth, -np.round(y, 9)))
    order = order[(y[order] > CLOSE) & r.able[order]][: math.floor(r.places + CLOSE)]
    chosen = np.zeros(len(y))
    chosen[order] = 1.0
    work = np.floor(r.gradients(chosen) + CLOSE).astype(np.int64)
    part = work > 0
    h = np.where(part, r.h, 0.0)
    whole = np.minimum(
        np.maximum(work[:, None] - r.most / len(VALUES) * np.arange(len(VALUES)), 0), r.most / len(VALUES)
    )
    taken = np.where(part, work * h + r.u, 0.0)
    joules = np.where(part, r.power * work * h + r.radio * np.where(part, r.u, 0.0), 0.0)
    return Allocation(part, work, float((whole @ np.array(VALUES)) @ r.p), bound, taken, joules)
