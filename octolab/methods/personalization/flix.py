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
    client i: x_i* = argmin f_i, once and alone
    for t = 0, 1, ...:
        server sends x;  client i replies alpha_i grad f_i(alpha_i x + (1 - alpha_i) x_i*)
        server: x <- x - lr * mean of the replies
Up: d numbers per client and round
Down: d numbers
Step size: 1/(mean alpha_i^2 L_i), a bound on the mixture's smoothness
Theorem: gradient descent on $\tilde f(x) = \frac1n\sum_i f_i(\alpha_i x + (1-\alpha_i)x_i^*)$: $\tilde f(x_t) - \tilde f^*$
    shrinks by $1 - \gamma\,\frac1n\sum_i \alpha_i^2\mu_i$ a round
Unconfirmed: recalled from the paper, derived again here. On networks x_i* is what own_steps gradient steps reach
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from octolab.federation import Cohort, Federation
from octolab.methods.method import Method, Theory, param
from octolab.methods.personalization.own import check_shares, column, own_optimum


class State(NamedTuple):
    x: torch.Tensor


@dataclass(frozen=True, repr=False)
class FLIX(Method):
    slug = "flix"
    tags = ("personalisation", "heterogeneous", "convex")

    alpha: float | Sequence[float] = param(
        0.5, "share of the common model, alpha_i; where 0 is meant, use local-only", above=0, upto=1, main=True
    )
    lr: float | Theory = param(Theory(), "step size", above=0, main=True)
    own_steps: int = param(100, "gradient steps that find x_i* where it has no exact formula", low=1)
    batch_size: int | None = param(None, "samples per gradient; None: all", low=1)

    def check(self, problem: Any) -> None:
        super().check(problem)
        check_shares(type(self).__name__, self.alpha, problem.n)

    def stepsize(self, problem: Any) -> float:
        return 1 / float(problem.weights.numpy() @ (np.asarray(self.alpha) ** 2 * problem.L_i))

    def rate(self, problem: Any) -> float | None:
        if not problem.strongly_convex or problem.mu_i is None or self.batch_size is not None:
            return None
        return 1 - self.lr * float(problem.weights.numpy() @ (np.asarray(self.alpha) ** 2 * problem.mu_i))

    def init(self, fed: Federation) -> State:
        fed.call(self.begin, fed.x0)
        return State(x=fed.x0)

    def step(self, fed: Federation, s: State) -> State:
        return State(x=s.x - self.lr * fed.call(self.client, s.x).mean())

    def personal(self, fed: Federation, s: State) -> torch.Tensor:
        a = torch.as_tensor(np.broadcast_to(np.asarray(self.alpha, dtype=float), (fed.n,)).copy()).to(s.x.dtype)[
            :, None
        ]
        return a * s.x + (1 - a) * fed.memory.own

    def begin(self, cohort: Cohort, x: torch.Tensor) -> None:
        cohort.memory.own = own_optimum(cohort, x, self.lr, self.own_steps)

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        a = column(cohort, self.alpha)
        return a * cohort.grad(a * x + (1 - a) * cohort.memory.own, cohort.batch(self.batch_size))
