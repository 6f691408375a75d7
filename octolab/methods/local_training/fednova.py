r"""FedNova: normalised averaging, so that unequal local work no longer shifts the optimum.

Paper: Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization
Authors: Jianyu Wang, Qinghua Liu, Hao Liang, Gauri Joshi, H. Vincent Poor
Venue: NeurIPS 2020
arXiv: 2007.07481
Solves: clients that take different numbers of local steps (epochs over unequal data, slow devices): FedAvg then
    minimises sum w_i tau_i f_i instead of sum w_i f_i
Use: local epochs with unequal data, devices of unequal speed
Avoid: equal numbers of steps (it is FedAvg then); an exact optimum is wanted at a constant step: a bias of O(lr) stays
Assumes: f_i is smooth; for the theorem bounded variance and dissimilarity
Algorithm:
    for t = 0, 1, ...:
        server draws a cohort S, sends x (and, where `seconds` are given, how many steps fit into them,
            clip(floor((seconds - transfers)/seconds per step), 1, local_steps), by what it knows of the fleet)
        client i: tau_i local steps, y_i - x = -lr sum_k a_i[k] g_k;  sends (y_i - x)/|a_i|_1 and |a_i|_1
        server: tau = weighted mean of |a_i|_1;  m <- server_momentum m + tau * weighted mean of (y_i - x)/|a_i|_1
            x <- x + server_lr m
    |a_i|_1 = tau_i;  momentum rho: (tau_i - rho (1 - rho^tau_i)/(1 - rho))/(1 - rho);
    proximal term mu: (1 - (1 - lr mu)^tau_i)/(lr mu)
Up: d + 1 numbers per member of the cohort
Down: d numbers to the cohort (d + 1 with a time budget)
Step size: 1/max L_i (1/(max L_i + mu) with a proximal term), safe for each client's own descent
Theorem: $\min_t E|\nabla f(x_t)|^2 = O(1/\sqrt{m \bar\tau T})$ for nonconvex smooth $f$: a stationary point of $f$, not of
    $\sum_i w_i \tau_i f_i / \sum_i w_i \tau_i$
Unconfirmed: the form of the server momentum (heavy ball, as in the authors' code); momentum together with mu is refused,
    since the closed forms of |a_i|_1 do not cover it; the time budget is octolab's own rule
"""

from __future__ import annotations

from typing import Any

import numpy as np

from octolab.federation import Each
from octolab.methods.local_training.fedavg import FedAvg
from octolab.methods.page import Cohort, Constants, Federation, NamedTuple, param, torch


class State(NamedTuple):
    x: torch.Tensor
    m: torch.Tensor  # the server's momentum


class FedNova(FedAvg):
    slug = "fednova"
    tags = ("heterogeneous", "local steps", "unequal work", "client sampling", "networks", "nonconvex")

    any_optimizer = False  # the normalisation is that of SGD with momentum

    weighting: str = param("ratio", "weights in the average of a cohort", choices=("ratio", "sampled"))
    mu: float = param(0.0, "weight of a proximal term", ge=0)
    server_momentum: float = param(0.0, "momentum of the server (gmf)", ge=0, lt=1)
    seconds: float | None = param(None, "time of a round: devices take what steps fit; None: no limit", gt=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.momentum and self.mu:
            raise ValueError(
                f"{type(self).__name__}: momentum={self.momentum} and mu={self.mu} together have no known normalisation: "
                f"set one of them to 0."
            )

    def stepsize(self, problem: Constants) -> float:
        return 1 / (problem.L_max + self.mu)

    def rate(self, problem: Constants) -> float | None:
        return None if self.mu or self.server_momentum or self.seconds else super().rate(problem)

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0, m=torch.zeros_like(fed.x0))

    def step(self, fed: Federation, s: State) -> State:
        ids = fed.sample(self.sampler(fed.problem))
        if ids is not None and len(ids) == 0:  # an empty cohort
            return s
        fit = () if self.seconds is None else (Each(self.fit(fed, fed.everybody if ids is None else ids)),)
        deltas, norms = fed.call(self.client, s.x, *fit, to=ids)
        if len(deltas) == 0:  # all dropped out
            return s
        tau = norms.mean() if self.weighting == "ratio" else norms.sum() / len(norms)
        m = self.server_momentum * s.m + tau * self.average(fed, deltas)
        return State(x=s.x + self.server_lr * m, m=m)

    def client(self, cohort: Cohort, x: torch.Tensor, fit: Any = None) -> Any:
        plan = self.plan(cohort)
        if fit is not None:
            plan["stop"] = torch.minimum(cohort.local_steps(**plan), fit)
        norm = self.norm(cohort.local_steps(**plan)).to(x.dtype)
        y = cohort.local_sgd(x, lr=self.lr, momentum=self.momentum, prox=self.mu, **plan)
        return (y - x) / norm[:, None], norm

    def fit(self, fed: Federation, ids: np.ndarray) -> torch.Tensor:
        """(m,) how many local steps each device has time for, at least one."""
        fleet, bits = fed.fleet, 32.0 * (fed.d + 1)  # each way
        transfers = bits / fleet.of("down", ids) + bits / fleet.of("up", ids) + 2 * fleet.of("latency", ids)
        samples = fed.problem.sizes[ids] if self.batch_size is None else self.batch_size
        step = fleet.of("seconds", ids) * (samples if fleet.unit == "sample" else 1.0)
        fit = (self.seconds - transfers) / np.maximum(step, 1e-300)
        return fed.place(np.broadcast_to(np.clip(np.floor(fit + 1e-9), 1, 2**31), ids.shape).astype(np.int64))

    def norm(self, tau: torch.Tensor) -> torch.Tensor:
        """|a|_1 for tau local steps, (m,): how far a constant gradient carries, in units of lr."""
        tau, rho, shrink = tau.double(), self.momentum, self.lr * self.mu
        if rho:
            return (tau - rho * (1 - rho**tau) / (1 - rho)) / (1 - rho)
        return (1 - (1 - shrink) ** tau) / shrink if shrink else tau
