r"""APFL: a personal model mixed, weight by weight, from a local and the common one.

Paper: Adaptive Personalized Federated Learning
Authors: Yuyang Deng, Mohammad Mahdi Kamani, Mehrdad Mahdavi
Venue: preprint, 2020
arXiv: 2003.13461
Solves: how much of the common model a client should use: vbar_i = a_i v_i + (1 - a_i) w_i, with a_i given or learned
Use: clients differ by unknown amounts; judged on held-out data
Avoid: a_i learned on training loss without held-out data (it may drift to 0 or 1); devices without memory
Assumes: f_i is smooth
Algorithm:
    v_i = x0, a_i = a
    for t = 0, 1, ...:
        server draws a cohort S, sends x to it
        client i in S: w_i = x; at every local step, on one batch, with vbar_i = a_i v_i + (1 - a_i) w_i:
            g = grad f_i(vbar_i);  w_i <- w_i - lr grad f_i(w_i);  v_i <- v_i - lr a_i g
        if adaptive, once a round: a_i <- clip(a_i - lr <v_i - w_i, grad f_i(vbar_i)>, 0, 1)
        sends w_i - x;   server: x <- x + weighted mean of w_i - x
Up: d numbers per member of the cohort: FedAvg's
Down: d numbers to the cohort
Step size: 1/max L_i
Theorem: the path of $x$ is FedAvg's whatever the $\alpha_i$; $\alpha_i = 0$ gives the common model, $\alpha_i = 1$ local-only
Unconfirmed: the factor a_i in v_i's step (the derivative with respect to v); the authors' library mixes outputs, not
    weights, and adds a regulariser 0.02 a_i
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from octolab.federation import Cohort, Federation, Sampler
from octolab.methods.local.fedavg import State
from octolab.methods.method import Method, Theory, param


@dataclass(frozen=True, repr=False)
class APFL(Method):
    slug = "apfl"
    tags = ("personalisation", "heterogeneous", "nonconvex", "networks", "client sampling", "adaptive")

    a: float = param(0.5, "share of the local model in the mix, at the start", low=0, upto=1, main=True)
    adaptive: bool = param(False, "learn a_i, one step a round on the training loss", choices=(False, True), main=True)
    lr: float | Theory = param(Theory(), "local step size", above=0, main=True)
    local_steps: int = param(5, "local steps per round", low=1, main=True)
    batch_size: int | None = param(None, "samples per local step; None: all", low=1)
    cohort: Sampler | int | float | None = param(None, "who takes part in a round; None: everybody")

    def stepsize(self, problem: Any) -> float:
        return 1 / problem.L_max

    def init(self, fed: Federation) -> State:
        fed.memory.v = fed.x0.repeat(fed.n, 1)  # x0 comes with the program: no traffic
        fed.memory.a = torch.full((fed.n, 1), self.a, dtype=fed.x0.dtype)
        return State(x=fed.x0)

    def step(self, fed: Federation, s: State) -> State:
        updates = fed.call(self.client, s.x, to=fed.sample(self.cohort))
        fed.log(mean_a=float(fed.memory.a.mean()))
        return s if len(updates) == 0 else State(x=s.x + updates.mean())

    def personal(self, fed: Federation, s: State) -> torch.Tensor:
        a = fed.memory.a
        return a * fed.memory.v + (1 - a) * s.x

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        w, v, a = x.expand(cohort.m, -1), cohort.memory.v, cohort.memory.a
        for _ in range(self.local_steps):
            batch = cohort.batch(self.batch_size)
            g = cohort.grad(a * v + (1 - a) * w, batch)
            w, v = w - self.lr * cohort.grad(w, batch), v - self.lr * a * g
        if self.adaptive:
            g = cohort.grad(a * v + (1 - a) * w, cohort.batch(self.batch_size))
            cohort.memory.a = (a - self.lr * ((v - w) * g).sum(1, keepdim=True)).clamp(0, 1)
        cohort.memory.v = v
        return w - x
