r"""Ditto: FedAvg's model for all, and beside it a personal one for each client on a leash.

Paper: Ditto: Fair and Robust Federated Learning Through Personalization
Authors: Tian Li, Shengyuan Hu, Ahmad Beirami, Virginia Smith
Venue: ICML 2021
arXiv: 2012.04221
Solves: clients that differ: v_i minimises f_i(v) + (lam/2)|v - w|^2, w from any global method (here FedAvg)
Use: personal accuracy, robustness to odd clients; clients come back with their memory
Avoid: devices without memory; no data for training a model of one's own
Assumes: f_i is smooth
Algorithm:
    v_i = x0
    for t = 0, 1, ...:
        server draws a cohort S, sends x to it
        client i in S: local SGD from x gives y_i, sends y_i - x
            local SGD from v_i on f_i(v) + (lam/2)|v - x|^2 gives v_i
        server: x <- x + weighted mean of y_i - x
Up: d numbers per member of the cohort: FedAvg's
Down: d numbers to the cohort
Step size: 1/max L_i for the global model, 1/(max L_i + lam) at most for the personal ones
Theorem: with $x_t \to x^*$ and exact subproblems $v_i \to \mathrm{prox}_{f_i/\lambda}(x^*)$: $\lambda = 0$ is local-only,
    $\lambda \to \infty$ the global model
Unconfirmed: the authors' code takes the same batches for both models; here each draws its own
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from octolab.federation import Cohort, Federation, Sampler
from octolab.methods.local.fedavg import State
from octolab.methods.method import Method, Theory, param


@dataclass(frozen=True, repr=False)
class Ditto(Method):
    slug = "ditto"
    tags = ("personalisation", "heterogeneous", "nonconvex", "networks", "client sampling")

    lam: float = param(1.0, "lambda, strength of the leash to the common model", low=0, main=True)
    lr: float | Theory = param(Theory(), "local step size", above=0, main=True)
    local_epochs: int = param(5, "passes over a client's data per round", low=1, main=True)
    local_steps: int | None = param(None, "local steps per round; replaces local_epochs", low=1)
    batch_size: int | None = param(None, "samples per local step; None: all", low=1)
    cohort: Sampler | int | float | None = param(None, "who takes part in a round; None: everybody")

    def stepsize(self, problem: Any) -> float:
        return 1 / (problem.L_max + self.lam)

    def init(self, fed: Federation) -> State:
        fed.memory.v = fed.x0.repeat(fed.n, 1)  # x0 comes with the program: no traffic
        return State(x=fed.x0)

    def step(self, fed: Federation, s: State) -> State:
        updates = fed.call(self.client, s.x, to=fed.sample(self.cohort))
        return s if len(updates) == 0 else State(x=s.x + updates.mean())

    def personal(self, fed: Federation, s: State) -> torch.Tensor:
        return fed.memory.v

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        work = {"lr": self.lr, "steps": self.local_steps, "epochs": self.local_epochs, "batch_size": self.batch_size}
        y, v = cohort.local_sgd(x, **work), cohort.memory.v
        cohort.memory.v = cohort.local_sgd(v, **work, prox=self.lam, correction=self.lam * (v - x))
        return y - x
