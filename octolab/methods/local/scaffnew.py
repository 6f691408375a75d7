"""Scaffnew (ProxSkip): communicate after a coin, and pay sqrt(kappa) communications instead of kappa.

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
Step size: 1/max L_i with p = sqrt(lr mu) = 1/sqrt(kappa): E Psi_t <= (1 - min(lr mu, p^2))^t Psi_0,
    Psi = sum |x_i - x*|^2 + (lr/p)^2 sum |h_i - grad f_i(x*)|^2
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from octolab.federation import Cohort, Federation
from octolab.methods.method import Method, Theory, param


class State(NamedTuple):
    x: torch.Tensor  # the last average: what the server knows


@dataclass(frozen=True, repr=False)
class Scaffnew(Method):
    slug = "scaffnew"
    needs = ("strongly convex", "full participation")
    tags = ("heterogeneous", "convex", "local steps", "accelerated communication")

    lr: float | Theory = param(Theory(), "step size", above=0, main=True)
    p: float | Theory = param(Theory(), "probability to communicate after a step", above=0, upto=1, main=True)
    batch_size: int | None = param(None, "samples per local step; None: all", low=1)

    def stepsize(self, problem: Any) -> float:
        return 1 / problem.L_max

    def theory_p(self, problem: Any) -> float:
        if not problem.strongly_convex:
            return 0.1
        return min(1.0, math.sqrt(self.lr * float(min(problem.mu_i))))

    def init(self, fed: Federation) -> State:
        fed.call(self.begin, fed.x0)
        return State(x=fed.x0)

    def step(self, fed: Federation, s: State) -> State:
        if not fed.coin(self.p):
            fed.call(self.local)
            return s
        sent = fed.call(self.send)
        x, owed = sent.mean(), sent.clients
        for _ in range(
            100
        ):  # who sent must hear the mean, or the h_i no longer sum to zero: repeated where it was lost
            heard = fed.call(self.receive, x, to=None if len(owed) == fed.n else owed).clients
            owed = np.setdiff1d(owed, heard)
            if len(owed) == 0:
                break
        return State(x=x)

    def begin(self, cohort: Cohort, x: torch.Tensor) -> None:
        cohort.memory.x = x.expand(cohort.m, -1)
        cohort.memory.h = cohort.zeros()

    def ahead(self, cohort: Cohort) -> torch.Tensor:
        x = cohort.memory.x
        return x - self.lr * (cohort.grad(x, cohort.batch(self.batch_size)) - cohort.memory.h)

    def local(self, cohort: Cohort) -> None:
        cohort.memory.x = self.ahead(cohort)

    def send(self, cohort: Cohort) -> torch.Tensor:
        z = self.ahead(cohort)
        cohort.memory.x = z
        return z

    def receive(self, cohort: Cohort, x: torch.Tensor) -> None:
        cohort.memory.h += (self.p / self.lr) * (x - cohort.memory.x)
        cohort.memory.x = x.expand(cohort.m, -1)
