r"""Scafflix: personal models, local steps of one's own size, and sqrt(kappa) communications.

Paper: Explicit Personalization and Local Training: Double Communication Acceleration in Federated Learning
Authors: Kai Yi, Laurent Condat, Peter Richtárik
Venue: TMLR 2025
arXiv: 2305.13170
Solves: FLIX's mixture with few communications; clients whose smoothness constants differ wildly (alpha = 1 is i-Scaffnew)
Use: strongly convex, everybody takes part in each communication, own optima affordable, L_i very different
Avoid: client sampling; no strong convexity (a heuristic there); alpha_i = 0 (use local-only)
Assumes: f_i is L_i-smooth and mu_i-strongly convex; x_i* = argmin f_i is known where alpha_i < 1
Algorithm:
    x_i = x0, h_i = 0 (sum alpha_i h_i = 0 always); x_i* found beforehand and alone
    for t = 0, 1, ...: (a step, not a communication)
        client i: g_i = grad f_i(alpha_i x_i + (1 - alpha_i) x_i*);  z_i = x_i - (lr_i/alpha_i)(g_i - h_i)
        shared coin, P(1) = p.  0: x_i <- z_i
        1: sends z_i; server replies xbar = sum c_j z_j / sum c_j, c_j = alpha_j^2/lr_j;
           h_i <- h_i + (p alpha_i/lr_i)(xbar - z_i), x_i <- xbar
Up: d numbers per client, on coin 1 (and c_i once, where they differ)
Down: d numbers, on coin 1 (and x0 once)
Step size: lr_i = 1/L_i for each client, p = 1/sqrt(max L_i/mu_i); p = 0.1 where nothing is strongly convex
Theorem: $E\Psi_t \le (1 - \zeta)^t\,\Psi_0$ for $\gamma_i \le 1/L_i$, $\zeta = \min(\min_i \gamma_i\mu_i,\,p^2)$,
    $\Psi = \frac1n\sum_i \frac{\gamma_{min}}{\gamma_i}|\tilde x_i - \tilde x_i^*|^2 + \frac{\gamma_{min}}{p^2}\frac1n\sum_i
    \gamma_i |h_i - \nabla f_i(\tilde x_i^*)|^2$: $\sqrt{\kappa_{max}}\log(\Psi_0/\varepsilon)$ communications, and
    $\Psi_0 = O(\max\alpha_i^2)$. Gradients of variance $C_i$ add $\frac{\gamma_{min}}{\zeta}\frac1n\sum_i\gamma_i C_i$
Unconfirmed: the exact printed form of the condition on the first h_i (the algebra forces sum alpha_i h_i = 0). The authors'
    released code for networks resets h in each round and mixes other heuristics; this is the paper's algorithm. With
    weights w_i of the objective c_j = w_j alpha_j^2/lr_j, which makes sum w_i alpha_i h_i = 0 (derived)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from octolab.federation.replies import Replies
from octolab.methods.local_training.scaffnew import Scaffnew, State
from octolab.methods.page import Cohort, Constants, Federation, Problem, Theory, param, torch
from octolab.methods.theory.mixture import Mixture, check_each, column, per_client, rows

__all__ = ["Scafflix", "State"]


class Scafflix(Mixture, Scaffnew):
    slug = "scafflix"
    tags = ("personalisation", "heterogeneous", "convex", "local steps", "accelerated communication")

    lr: Theory[float | Sequence[float]] = param(  # type: ignore[assignment]
        Theory(), "step size gamma_i, for all or one each", gt=0, main=True
    )

    def __post_init__(self) -> None:
        per_client(self, "lr")
        super().__post_init__()

    def check(self, problem: Problem) -> None:
        super().check(problem)
        check_each(self, "lr", problem.n)

    def stepsize(self, problem: Constants) -> Any:
        return 1 / np.asarray(problem.L_i)

    def slowest(self, problem: Constants) -> float:
        """min_i lr_i mu_i; 0 if there is a client without strong convexity."""
        if not problem.strongly_convex or problem.mu_i is None:
            return 0.0
        return max(0.0, float(np.min(np.asarray(self.lr) * problem.mu_i)))

    def theory_p(self, problem: Constants) -> float:
        return min(1.0, math.sqrt(self.slowest(problem))) or 0.1

    def rate(self, problem: Constants) -> float | None:
        slowest = self.slowest(problem)
        if self.batch_size is not None or not slowest or (np.asarray(self.lr) * problem.L_i > 1 + 1e-12).any():
            return None
        return 1 - min(slowest, self.p**2)

    @cached_property
    def strides(self) -> Any:
        """lr_i/alpha_i: one number, or (n, 1)."""
        return column(self.lr) / self.shares

    @cached_property
    def scales(self) -> Any:
        """c_i = alpha_i^2/lr_i: one number, or (n, 1). The server knows them since the start."""
        return self.shares / self.strides

    def init(self, fed: Federation) -> State:
        fed.call(self.begin, fed.x0)
        if not isinstance(self.scales, float):
            fed.call(self.tell)
        if self.personalised:
            self.find_own(fed)
        return State(x=fed.x0)

    def average(self, sent: Replies, x: torch.Tensor) -> torch.Tensor:
        """The mean with weights w_i c_i: the plain one if all have the same c_i, and wrong if they do not."""
        if isinstance(self.scales, float) or len(sent) == 0:
            return sent.mean()
        c = sent.weights * self.scales[sent.index, 0].to(sent.weights.dtype)
        return sent.sum(c / c.sum())

    def personal(self, fed: Federation, s: State) -> torch.Tensor:
        return self.models(fed, fed.memory.x)

    def begin(self, cohort: Cohort, x: torch.Tensor) -> None:
        super().begin(cohort, x)
        if self.personalised:
            cohort.memory.own = x.expand(cohort.m, -1)

    def tell(self, cohort: Cohort) -> torch.Tensor:
        return rows(cohort, self.scales)[:, 0]

    def ahead(self, cohort: Cohort) -> torch.Tensor:
        x, h = cohort.memory.x, cohort.memory.h  # copies: x_i - (lr_i/alpha_i)(g_i - h_i) in place
        g = cohort.grad(self.mixed(cohort, x), cohort.batch(self.batch_size))
        return x.add_(h.sub_(g).mul_(rows(cohort, self.strides)))

    def receive(self, cohort: Cohort, x: torch.Tensor) -> None:
        cohort.memory.h = cohort.memory.h.add_((x - cohort.memory.x).mul_(self.p / rows(cohort, self.strides)))
        cohort.memory.x = x.expand(cohort.m, -1)

    def equivalent(self, cohort: Cohort) -> Any:
        lr = rows(cohort, column(self.lr))
        return lr if isinstance(lr, float) else lr[:, 0]
