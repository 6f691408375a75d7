r"""Scafflix: personal models, local steps of one's own size, and sqrt(kappa) communications.

Paper: Explicit Personalization and Local Training: Double Communication Acceleration in Federated Learning
Authors: Kai Yi, Laurent Condat, Peter Richtárik
Venue: TMLR 2025
arXiv: 2305.13170
Solves: FLIX's mixture with few communications; clients whose smoothness constants differ wildly (alpha = 1 is i-Scaffnew)
Use: strongly convex, everybody takes part in each communication, own optima affordable, L_i very different
Avoid: client sampling; no strong convexity (a heuristic there)
Assumes: f_i is L_i-smooth and mu_i-strongly convex; x_i* = argmin f_i is known where alpha_i < 1; uniform weights
Algorithm:
    x_i = x0, h_i = 0 (sum alpha_i h_i = 0 always)
    for t = 0, 1, ...: (a step, not a communication)
        client i: g_i = grad f_i(alpha_i x_i + (1 - alpha_i) x_i*);  z_i = x_i - (lr_i/alpha_i)(g_i - h_i)
        shared coin, P(1) = p.  0: x_i <- z_i
        1: sends z_i; server replies xbar = sum c_j z_j / sum c_j, c_j = alpha_j^2/lr_j;
           h_i <- h_i + (p alpha_i/lr_i)(xbar - z_i), x_i <- xbar
Up: d numbers per client, on coin 1, and c_i once
Down: d numbers, on coin 1 (and x0 once)
Step size: lr_i = 1/L_i for each client, p = 1/sqrt(max L_i/mu_i)
Theorem: $E\Psi_t \le (1 - \zeta)^t\,\Psi_0$, $\zeta = \min(\min_i \gamma_i\mu_i,\,p^2)$,
    $\Psi = \frac1n\sum_i \frac{\gamma_{min}}{\gamma_i}|\tilde x_i - \tilde x_i^*|^2 + \frac{\gamma_{min}}{p^2}\frac1n\sum_i
    \gamma_i |h_i - \nabla f_i(\tilde x_i^*)|^2$: $\sqrt{\kappa_{max}}$ communications
Unconfirmed: the exact printed form of the condition on the first h_i (the algebra forces sum alpha_i h_i = 0). On networks x_i*
    is what own_steps gradient steps reach
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from octolab.federation import Cohort, Federation
from octolab.methods.local.scaffnew import until_heard
from octolab.methods.method import Method, Theory, param
from octolab.methods.personalization.own import check_shares, column, own_optimum


class State(NamedTuple):
    x: torch.Tensor  # the last average: what the server knows


@dataclass(frozen=True, repr=False)
class Scafflix(Method):
    slug = "scafflix"
    needs = ("strongly convex", "full participation")
    tags = ("personalisation", "heterogeneous", "convex", "local steps", "accelerated communication")

    alpha: float | Sequence[float] = param(
        0.5, "share of the common model, alpha_i; where 0 is meant, use local-only", above=0, upto=1, main=True
    )
    lr: float | Sequence[float] | Theory = param(
        Theory(), "step size of each client, or one for all", above=0, main=True
    )
    p: float | Theory = param(Theory(), "probability to communicate after a step", above=0, upto=1, main=True)
    own_steps: int = param(100, "gradient steps that find x_i* where it has no exact formula", low=1)
    batch_size: int | None = param(None, "samples per local step; None: all", low=1)

    def check(self, problem: Any) -> None:
        super().check(problem)
        check_shares("Scafflix", self.alpha, problem.n)
        if not isinstance(self.lr, Theory):
            given = np.atleast_1d(np.asarray(self.lr, dtype=float))
            if given.shape not in ((1,), (problem.n,)) or not (given > 0).all():
                raise ValueError(f"Scafflix: lr={self.lr!r}: give one step size > 0, or {problem.n} of them.")

    def stepsize(self, problem: Any) -> np.ndarray:
        return 1 / np.asarray(problem.L_i)

    def theory_p(self, problem: Any) -> float:
        return min(1.0, math.sqrt(self._weakest(problem))) or 0.1

    def _weakest(self, problem: Any) -> float:
        """min_i lr_i mu_i; 0 without strong convexity."""
        if not problem.strongly_convex or problem.mu_i is None:
            return 0.0
        return float(np.min(np.asarray(self.lr) * problem.mu_i))

    def rate(self, problem: Any) -> float | None:
        zeta = min(self._weakest(problem), self.p**2)
        return 1 - zeta if zeta > 0 and self.batch_size is None else None

    def init(self, fed: Federation) -> State:
        fed.call(self.begin, fed.x0)
        return State(x=fed.x0)

    def step(self, fed: Federation, s: State) -> State:
        if not fed.coin(self.p):
            fed.call(self.local)
            return s
        sent = fed.call(self.send)
        c = self.weights(fed)[torch.from_numpy(sent.clients)]
        x = sent.sum(c / c.sum())
        until_heard(fed, sent.clients, self.receive, x)
        return State(x=x)

    def weights(self, fed: Federation) -> torch.Tensor:
        """(n,) c_i = alpha_i^2/lr_i, known to the server since the start."""
        c = np.broadcast_to(np.asarray(self.alpha, dtype=float) ** 2 / np.asarray(self.lr, dtype=float), (fed.n,))
        return torch.as_tensor(c.copy()).to(fed.x0.dtype)

    def personal(self, fed: Federation, s: State) -> torch.Tensor:
        a = torch.as_tensor(np.broadcast_to(np.asarray(self.alpha, dtype=float), (fed.n,)).copy()).to(s.x.dtype)[
            :, None
        ]
        return a * fed.memory.x + (1 - a) * fed.memory.own

    def begin(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        a, lr = column(cohort, self.alpha), column(cohort, self.lr)
        cohort.memory.x = x.expand(cohort.m, -1)
        cohort.memory.h = cohort.zeros()
        alone = bool((np.asarray(self.alpha) < 1).any())  # with alpha = 1 nobody needs an optimum of its own
        cohort.memory.own = own_optimum(cohort, x, lr[:, 0], self.own_steps) if alone else x.expand(cohort.m, -1)
        return (a * a / lr)[:, 0]

    def ahead(self, cohort: Cohort) -> torch.Tensor:
        a, x = column(cohort, self.alpha), cohort.memory.x
        g = cohort.grad(a * x + (1 - a) * cohort.memory.own, cohort.batch(self.batch_size))
        return x - column(cohort, self.lr) / a * (g - cohort.memory.h)

    def local(self, cohort: Cohort) -> None:
        cohort.memory.x = self.ahead(cohort)

    def send(self, cohort: Cohort) -> torch.Tensor:
        z = self.ahead(cohort)
        cohort.memory.x = z
        return z

    def receive(self, cohort: Cohort, x: torch.Tensor) -> None:
        a, lr = column(cohort, self.alpha), column(cohort, self.lr)
        cohort.memory.h = cohort.memory.h + (self.p * a / lr) * (x - cohort.memory.x)
        cohort.memory.x = x.expand(cohort.m, -1)
