"""What the server saw of its devices' latencies, and what it may expect: a prediction that borrows from the fleet.

    log y ~ N(mu_i, sw^2),   mu_i ~ N(m0, sb^2)
    mu_i | data = (sum log y/sw^2 + m0/sb^2)/(n_i/sw^2 + 1/sb^2)
    quantile = exp(mu + z sqrt(sw^2 + 1/(n_i/sw^2 + 1/sb^2)))

m0, sb and sw are the moments of all that was seen. A device never seen gets the fleet's median; one seen a hundred times, its
own. Nothing else is learnt: judge it by how often latencies stay below its quantiles (`coverage`).
"""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np

from octolab.arguments import FLEET, SEED, expects, number, whole
from octolab.fleets.fleet import Fleet
from octolab.randomness import Randomness


class LatencyPredictor:
    """Learns from (client, seconds) as they come; answers for any client.

    >>> seen = LatencyPredictor().observe([0, 0, 1, 1], [1.0, 1.1, 9.0, 10.0])
    >>> seen.predict([0, 1, 7]).round()
    array([1., 9., 3.])
    """

    def __init__(self) -> None:
        self._sums: dict[int, tuple[int, float, float]] = {}  # client -> count, sum and sum of squares of log seconds

    def observe(self, clients: Any, seconds: Any) -> Self:
        """Finite latencies > 0; what was lost or never came is counted elsewhere."""
        ids, times = np.atleast_1d(np.asarray(clients)), np.atleast_1d(np.asarray(seconds, dtype=float))
        if ids.shape != times.shape or ids.dtype.kind not in "iu" or (len(ids) and ids.min() < 0):
            raise ValueError("observe: give client numbers >= 0 and as many seconds.")
        if not (np.isfinite(times) & (times > 0)).all():
            raise ValueError("observe: latencies are finite numbers > 0: leave out jobs that were lost.")
        for i, y in zip(ids.tolist(), np.log(times).tolist(), strict=True):
            count, total, squares = self._sums.get(i, (0, 0.0, 0.0))
            self._sums[i] = (count + 1, total + y, squares + y * y)
        return self

    def fit(self, clients: Any, seconds: Any) -> Self:
        """Forget everything, then `observe`."""
        self._sums.clear()
        return self.observe(clients, seconds)

    @property
    def moments(self) -> tuple[float, float, float]:
        """m0, sb, sw: mean of log latency over devices, spread between devices, spread within a device."""
        if not self._sums:
            raise ValueError("The predictor has seen nothing yet: observe(clients, seconds) first.")
        count, total, squares = (np.array(column, dtype=float) for column in zip(*self._sums.values(), strict=True))
        means, free = total / count, float((count - 1).sum())
        within = max(0.0, float((squares - total * means).sum()) / free) if free > 0 else 0.0
        between = max(0.0, float(means.var(ddof=1)) - within * float((1 / count).mean())) if len(means) > 1 else 0.0
        return float(means.mean()), math.sqrt(between), math.sqrt(within)

    def _posterior(self, clients: Any) -> tuple[np.ndarray, np.ndarray, float]:
        """Mean and variance of mu_i, (m,), and sw^2."""
        m0, sb, sw = self.moments
        ids = np.atleast_1d(np.asarray(clients)).tolist()
        seen = np.array([self._sums.get(int(i), (0, 0.0, 0.0))[:2] for i in ids], dtype=float).reshape(-1, 2)
        count, total = seen[:, 0], seen[:, 1]
        if sb == 0:
            return np.full(len(ids), m0), np.zeros(len(ids)), sw**2
        if sw == 0:
            known = count > 0
            own = np.divide(total, count, out=np.full(len(ids), m0), where=known)
            return own, np.where(known, 0.0, sb**2), 0.0
        precision = count / sw**2 + 1 / sb**2
        return (total / sw**2 + m0 / sb**2) / precision, 1 / precision, sw**2

    def predict(self, clients: Any) -> np.ndarray:
        """(m,) the median of each client's next latency, in seconds."""
        return np.exp(self._posterior(clients)[0])

    def quantile(self, q: float, clients: Any) -> np.ndarray:
        """(m,) below which each client's next latency stays with probability q."""
        from scipy.special import ndtri

        if not 0 < q < 1:
            raise ValueError(f"q={q!r}: a quantile is a probability in (0, 1).")
        mean, variance, within = self._posterior(clients)
        return np.asarray(np.exp(mean + float(ndtri(q)) * np.sqrt(within + variance)))

    def coverage(self, q: float, clients: Any, seconds: Any) -> float:
        """The share of new latencies that stayed below their q-quantile: about q if the model fits."""
        return float((np.asarray(seconds) <= self.quantile(q, clients)).mean())


@expects(fleet=FLEET, n=whole(1), work=number(gt=0), bits=number(ge=0), seed=SEED)
def profile(
    fleet: Fleet, n: int | None = None, *, jobs: int = 10, work: float = 1.0, bits: float = 0.0, seed: int = 0
) -> np.ndarray:
    """(n, jobs) latencies that a server would see if every device did so many jobs; inf where a reply was lost.

    work: units per job; bits: of a reply. Devices are asked while they are online.
    """
    count = fleet.n or n
    if count is None:
        raise ValueError("This fleet has no arrays, so it does not say how many devices there are: give n=...")
    if isinstance(jobs, bool) or not isinstance(jobs, (int, np.integer)) or jobs < 1:
        raise ValueError(f"jobs={jobs!r}: give a whole number >= 1.")
    source, everybody, out = Randomness(seed), np.arange(count), np.empty((count, jobs))
    transfer = 2 * fleet.of("latency", everybody) + bits / fleet.of("up", everybody)
    for k in range(jobs):
        out[:, k] = fleet.compute(work, everybody, k, source) + transfer
        lost = fleet.lost(everybody, k, source)
        if lost is not None:
            out[lost, k] = np.inf
    return out
