r"""FLIX: an explicit mixture of everybody's model and one's own.

Paper: FLIX: A Simple and Communication-Efficient Alternative to Local Methods in Federated Learning
Authors: Elnur Gasanov, Ahmed Khaled, Samuel Horváth, Peter Richtárik
Venue: AISTATS 2022
arXiv: 2111.11556
Solves: one model does not fit all: every client uses alpha_i x + (1 - alpha_i) x_i*, x common, x_i* its own optimum
Use: each client can find its own optimum once, beforehand; you want to say how personal each client's model is
Avoid: own data too few to learn from (alpha near 1 then); communication is dear (Scafflix needs sqrt(kappa) of it)
Assumes: f_i is L_i-smooth; own optima x_i* found beforehand, exactly or nearly
Algorithm:
    client i: x_i* = argmin f_i, once and alone (not needed if alpha_i = 1)
    for t = 0, 1, ...:
        server sends x;  client i replies alpha_i grad f_i(alpha_i x + (1 - alpha_i) x_i*)
        server: x <- x - lr * mean of the replies
    What it minimises is the history's personal_loss.
Up: d numbers per client and round
Down: d numbers (and x0 once, to start the search for x_i*)
Step size: 1/(mean alpha_i^2 L_i), a bound on the mixture's smoothness
Theorem: gradient descent on $\tilde f(x) = \sum_i w_i f_i(\alpha_i x + (1-\alpha_i)x_i^*)$, which is
    $\sum_i w_i\alpha_i^2 L_i$-smooth: for $\gamma$ up to its inverse $\tilde f(x_t) - \tilde f^*$ shrinks by
    $1 - \gamma\sum_i w_i\alpha_i^2\mu_i$ a round, from a start that is $O(\max\alpha_i^2)$
Unconfirmed: recalled from the paper, derived again here. Where x_i* is not solved exactly (networks, large d) it is what
    own_steps local steps reach; FLIX then runs on with these in its place
"""

from __future__ import annotations

from typing import Any

import numpy as np

from octolab.methods.page import Cohort, Constants, Federation, NamedTuple, Theory, param, torch
from octolab.methods.theory.mixture import Mixture, rows


class State(NamedTuple):
    x: torch.Tensor


class FLIX(Mixture):
    slug = "flix"
    tags = ("personalisation", "heterogeneous", "convex")

    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)

    def scaled(self, problem: Constants, constants: Any) -> float:
        """sum w_i alpha_i^2 c_i for c = L_i or mu_i."""
        return float(problem.weights.numpy() @ (np.square(self.alpha) * constants))

    def stepsize(self, problem: Constants) -> float:
        return 1 / self.scaled(problem, problem.L_i)

    def rate(self, problem: Constants) -> float | None:
        exact = problem.strongly_convex and self.batch_size is None
        if not exact or self.lr * self.scaled(problem, problem.L_i) > 1 + 1e-12:
            return None
        return 1 - self.lr * self.scaled(problem, problem.mu_i)

    def init(self, fed: Federation) -> State:
        if self.personalised:
            fed.call(self.begin, fed.x0)
            self.find_own(fed)
        return State(x=fed.x0)

    def step(self, fed: Federation, s: State) -> State:
        return State(x=s.x - self.lr * fed.call(self.client, s.x).mean())

    def personal(self, fed: Federation, s: State) -> torch.Tensor:
        return self.models(fed, s.x)

    def begin(self, cohort: Cohort, x: torch.Tensor) -> None:
        cohort.memory.own = x.expand(cohort.m, -1)

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        return rows(cohort, self.shares) * cohort.grad(self.mixed(cohort, x), cohort.batch(self.batch_size))

    def equivalent(self, cohort: Cohort) -> float:
        return self.lr * float(np.mean(np.square(self.alpha)))
