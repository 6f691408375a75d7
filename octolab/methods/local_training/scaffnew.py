r"""Scaffnew (ProxSkip): communicate after a coin, and pay sqrt(kappa) communications instead of kappa.

Paper: ProxSkip: Yes! Local Gradient Steps Provably Lead to Communication Acceleration! Finally!
Authors: Konstantin Mishchenko, Grigory Malinovsky, Sebastian Stich, Peter Richtárik
Venue: ICML 2022
arXiv: 2202.09357
Solves: the number of communications on ill-conditioned, strongly convex, heterogeneous problems
Use: everybody can take part in every communication; local work is cheap
Avoid: client sampling, no strong convexity, networks (a heuristic there)
Assumes: f_i is L-smooth and mu-strongly convex; uniform weights
Algorithm:
    x_i = x0, h_i = 0
    for t = 0, 1, ...: (a step, not a communication)
        client i: z_i = x_i - lr (grad f_i(x_i) - h_i)
        shared coin, P(1) = p.  0: x_i <- z_i
        1: sends z_i; server replies their mean xbar; x_i <- xbar, h_i <- h_i + (p/lr)(xbar - z_i)
Up: d numbers per client, on coin 1
Down: d numbers, on coin 1 (and x0 once)
Step size: 1/max L_i with p = sqrt(lr mu) = 1/sqrt(kappa); p = 0.1 where nothing is strongly convex
Theorem: $E \Psi_t \le (1 - \min(\gamma\mu, p^2))^t \Psi_0$ for $\gamma \le \frac{1}{\max L_i}$,
    $\Psi = \sum_i |x_i - x^*|^2 + \frac{\gamma^2}{p^2}\sum_i |h_i - \nabla f_i(x^*)|^2$:
    $\kappa\log(1/\varepsilon)$ steps, but only $\sqrt\kappa\log(1/\varepsilon)$ communications
"""

from __future__ import annotations

import math
from typing import ClassVar

from octolab.federation import Replies
from octolab.federation.delivery import deliver
from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Reply, Stage, Theory, param, torch


class State(NamedTuple):
    x: torch.Tensor  # the last average: what the server knows


class Scaffnew(Method):
    slug = "scaffnew"
    needs: ClassVar[tuple[str, ...]] = ("strongly convex", "full participation")
    tags: ClassVar[tuple[str, ...]] = ("heterogeneous", "convex", "local steps", "accelerated communication")
    stage = Stage(
        "On an ill-conditioned problem Scaffnew communicates less than gradient descent.",
        problem="quadratics",
        axis="bits_up",
        baseline="gd",
        values={"L": 300.0, "rounds": 5000},
    )

    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    p: Theory[float] = param(Theory(), "probability to communicate after a step", gt=0, le=1, main=True)
    batch_size: int | None = param(None, "samples per local step; None: all", ge=1)

    def stepsize(self, problem: Constants) -> float:
        return 1 / problem.L_max

    def theory_p(self, problem: Constants) -> float:
        return min(1.0, math.sqrt(self.lr * problem.mu_min)) or 0.1

    def rate(self, problem: Constants) -> float | None:
        mu = problem.mu_min
        if self.batch_size is not None or not mu or self.lr * problem.L_max > 1 + 1e-12:
            return None
        return 1 - min(self.lr * mu, self.p**2)

    def init(self, fed: Federation) -> State:
        fed.call(self.begin, fed.x0)
        return State(x=fed.x0)

    def relations(self, fed: Federation, s: State) -> dict[str, torch.Tensor]:
        return {"mean h_i = 0": fed.mean_of("h")}

    def step(self, fed: Federation, s: State) -> State:
        if not fed.coin(self.p):
            fed.call(self.local)
            return s
        sent = fed.call(self.send)
        x = self.average(sent, s.x)
        deliver(fed, self.receive, x, to=sent.clients)
        return State(x=x)

    def average(self, sent: Replies, x: torch.Tensor) -> torch.Tensor:
        """What the server makes of the clients' models; x is the last average."""
        return sent.mean()

    def begin(self, cohort: Cohort, x: torch.Tensor) -> None:
        cohort.memory.x = x.expand(cohort.m, -1)
        cohort.memory.h = cohort.zeros()

    def ahead(self, cohort: Cohort) -> torch.Tensor:
        x, h = cohort.memory.x, cohort.memory.h  # copies: x_i - lr (g_i - h_i), in place
        return x.add_(h.sub_(cohort.grad(x, cohort.batch(self.batch_size))), alpha=self.lr)

    def local(self, cohort: Cohort) -> None:
        cohort.memory.x = self.ahead(cohort)

    def send(self, cohort: Cohort) -> Reply:
        z = self.ahead(cohort)
        cohort.memory.x = z
        return z

    def receive(self, cohort: Cohort, x: torch.Tensor) -> None:
        cohort.memory.h = cohort.memory.h.add_(x - cohort.memory.x, alpha=self.p / self.lr)
        cohort.memory.x = x.expand(cohort.m, -1)
