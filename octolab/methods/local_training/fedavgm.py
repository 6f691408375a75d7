r"""FedAvgM: FedAvg with momentum at the server.

Paper: Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification
Authors: Tzu-Ming Harry Hsu, Hang Qi, Matthew Brown
Venue: preprint, 2019
arXiv: 1909.06335
Solves: updates that point in another direction every round, since every cohort holds other classes
Use: small cohorts of very unlike clients, networks
Avoid: an exact optimum is wanted (the drift of local steps stays)
Assumes: nothing for running it
Algorithm:
    m = 0
    for t = 0, 1, ...:
        D <- FedAvg's average of y_i - x over the cohort
        m <- beta m + D;   x <- x + server_lr m
Up: d numbers per member of the cohort
Down: d numbers to the cohort
Step size: 1/max L_i for the clients, safe for their own descent; a constant D ends up moving x by
    D server_lr/(1 - beta) a round, so server_lr = 1 - beta keeps the pace of FedAvg
Theorem: none in the paper; with one local step it is the heavy ball, $x_{t+1} = x_t - \gamma\nabla f(x_t) +
    \beta(x_t - x_{t-1})$, $\gamma = lr \cdot server\_lr$
"""

from __future__ import annotations

from octolab.methods.local_training.fedavg import FedAvg
from octolab.methods.page import Constants, Federation, NamedTuple, param, torch


class State(NamedTuple):
    x: torch.Tensor
    m: torch.Tensor


class FedAvgM(FedAvg):
    slug = "fedavgm"
    tags = ("heterogeneous", "local steps", "client sampling", "networks", "nonconvex")

    beta: float = param(0.9, "momentum of the server", ge=0, lt=1, main=True)
    server_lr: float = param(1.0, "server step size", gt=0, main=True)

    def rate(self, problem: Constants) -> float | None:
        return super().rate(problem) if self.beta == 0 else None

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0, m=torch.zeros_like(fed.x0))

    def move(self, s: State, change: torch.Tensor) -> State:
        m = self.beta * s.m + change
        return State(x=s.x + self.server_lr * m, m=m)
