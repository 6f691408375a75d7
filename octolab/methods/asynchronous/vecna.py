r"""Vecna SGD: MindFlayer for heterogeneous data: everybody makes trials, and every client counts by its weight.

Paper: MindFlayer SGD: Efficient Parallel SGD in the Presence of Heterogeneous and Random Worker Compute Times
Authors: Artavazd Maranjyan, Omar Shaikh Omar, Peter Richtárik
Venue: UAI 2025
arXiv: 2410.04285
Solves: heavy-tailed job times and devices that hang, where clients have data of their own
Use: heterogeneous data, job times whose law is known or was profiled
Avoid: the same data everywhere (MindFlayer leaves the slow out); a device that never finishes within its clip
Assumes: f is L-smooth; variance at most sigma^2 on every client; job time tau_i + eta_i, eta_i of a known law
Algorithm:
    clip t_i, p_i = P(eta_i <= t_i) > 0; B_i trials a round
    for k = 0, 1, ...:
        client i makes B_i trials one after the other: compute a gradient at x; after tau_i + t_i seconds abandon it
        server: x <- x - lr * sum_i w_i (1/(p_i B_i)) * the sum of what came from client i
Up: d numbers per successful trial
Down: d numbers per client and round
Step size: 0.02/L, a rule of thumb that worked in our runs: tune it
Theorem: with $B_i = \lceil T/(\tau_i + t_i)\rceil$, $T = \max_i(\tau_i+t_i) + \frac sn\cdot\frac1n\sum_i\frac{\tau_i+t_i}{p_i}$,
    a round lasts about $T$ seconds and its noise is of order $\sigma^2$ over the harmonic mean of the $p_iB_i$
Unconfirmed: the plan is recalled, and the step size is ours: the paper's could not be checked
"""

from __future__ import annotations

import numpy as np

from octolab.errors import NothingUnderWay
from octolab.methods.asynchronous.mindflayer import MindFlayer, State
from octolab.methods.page import Constants, Federation, torch


class Vecna(MindFlayer):
    slug = "vecna"
    needs = ("full participation",)
    tags = (
        "asynchronous",
        "stochastic",
        "heterogeneous",
        "nonconvex",
        "networks",
        "stragglers",
        "heavy tails",
    )

    def stepsize(self, problem: Constants) -> float:
        return 0.02 / problem.L

    def plan(self, least: np.ndarray, limit: np.ndarray, p: np.ndarray) -> np.ndarray:
        if not p.all():
            raise NothingUnderWay(
                f"Vecna: client {int(p.argmin())} makes no trial that succeeds, and every client counts: give a longer clip, or "
                f"leave it out."
            )
        T = limit.max() + self.s / len(p) * (limit / p).mean()
        return np.ceil(T / limit * (1 - 1e-12)).astype(np.int64)

    def combine(self, fed: Federation, s: State, sums: torch.Tensor) -> torch.Tensor:
        return fed.weights @ (sums / (s.p * s.B).to(sums.dtype)[:, None])
