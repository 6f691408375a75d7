"""FedAvg: local SGD and averaging, the first thing to run.

Paper: Communication-Efficient Learning of Deep Networks from Decentralized Data
Authors: Brendan McMahan, Eider Moore, Daniel Ramage, Seth Hampson, Blaise Agüera y Arcas
Venue: AISTATS 2017
arXiv: 1602.05629
Solves: fewer rounds than distributed SGD by training for several steps on each client before averaging
Use: as the first baseline, on any model
Avoid: an exact optimum on heterogeneous data is wanted: with more than one local step it stops at a wrong point
Assumes: nothing for running it; clients that agree for converging to the optimum
Algorithm:
    for t = 0, 1, ...:
        server draws a cohort S, sends x
        client i: y <- x; several steps y <- y - lr * (stochastic) grad f_i(y); sends y - x
        server: x <- x + server_lr * sum_S w_i (y_i - x) / sum_S w_i
Up: d numbers per member of the cohort
Down: d numbers to the cohort
Step size: 1/max L_i, safe for each client's own descent; it does not remove the bias, which is O(lr * (steps - 1))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from octolab.federation import Cohort, Federation, Sampler
from octolab.methods.method import Method, Theory, param


class State(NamedTuple):
    x: torch.Tensor


@dataclass(frozen=True, repr=False)
class FedAvg(Method):
    slug = "fedavg"
    tags = ("local steps", "client sampling", "networks", "nonconvex")

    lr: float | Theory = param(Theory(), "local step size", above=0, main=True)
    local_epochs: int = param(5, "passes over a client's data per round", low=1, main=True)
    local_steps: int | None = param(None, "local steps per round, the same for all; replaces local_epochs", low=1)
    batch_size: int | None = param(None, "samples per local step; None: all", low=1, main=True)
    cohort: Sampler | int | float | None = param(None, "who takes part in a round; None: everybody", main=True)
    server_lr: float = param(1.0, "server step size", above=0)
    momentum: float = param(0.0, "momentum of the local steps, new in every round", low=0, below=1)
    aggregator: Callable | None = param(None, "how updates are combined; None: the weighted mean")

    def stepsize(self, problem: Any) -> float:
        return 1 / problem.L_max

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0)

    def step(self, fed: Federation, s: State) -> State:
        cohort = fed.sample(self.cohort)
        updates = fed.call(self.client, s.x, to=cohort)
        if len(updates) == 0:  # an empty cohort, or all dropped out
            return s
        return State(x=s.x + self.server_lr * updates.aggregate(self.aggregator))

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        y = cohort.local_sgd(
            x,
            lr=self.lr,
            steps=self.local_steps,
            epochs=self.local_epochs,
            batch_size=self.batch_size,
            momentum=self.momentum,
        )
        return y - x
