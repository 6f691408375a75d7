r"""CyCP: FedAvg with groups of clients that become available in a fixed cycle.

Paper: On the Convergence of Federated Averaging with Cyclic Client Participation
Authors: Yae Jee Cho, Pranay Sharma, Gauri Joshi, Zheng Xu, Satyen Kale, Tong Zhang
Venue: ICML 2023
arXiv: 2302.03109
Solves: FedAvg as phones live it: the time of day decides which group is there
Use: to study fixed availability; groups that are alike and cover everybody. The product switch
    selection_strategy="cyclic"
Avoid: the server may choose: a fresh permutation per turn (RR-CLI) has a lower floor
Assumes: disjoint groups that hold every client; a group that never comes moves the fixed point
Algorithm:
    groups G_1, ..., G_K, visited in order; for t = 0, 1, ...:
        server draws m clients of G_(t mod K) uniformly without replacement (S), sends x
        client i: y <- x; several steps y <- y - lr * (stochastic) grad f_i(y); sends y - x
        server: x <- x + server_lr * mean over S of (y_i - x)
    weighting "unbiased": sum over S of w_i K |G|/m (y_i - x), for groups or weights that are not equal
Up: d numbers per member of the cohort
Down: d numbers to the cohort
Step size: 1/max L_i, safe for each client's own descent; the floor falls with it
Theorem: with $K$ groups and clients that run GD, SGD or shuffled SGD, cyclic participation can have a faster asymptotic
    rate than uniform sampling, under conditions on the groups (the abstract's claim)
Unconfirmed: the theorem's conditions and constants; our floors come out between reshuffled and random cohorts
"""

from __future__ import annotations

from typing import Any

from octolab.federation import Cyclic
from octolab.federation.sampling import as_blocks
from octolab.methods.method import caution
from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Problem, Theory, param, torch


class State(NamedTuple):
    x: torch.Tensor


class CyCP(Method):
    slug = "cyclic"
    tags = ("heterogeneous", "local steps", "client sampling", "availability")

    groups: Any = param(3, "the groups as lists of clients, or how many groups of neighbours", main=True)
    per_round: int | None = param(None, "m, clients drawn from the group; None: all of it", ge=1, main=True)
    lr: Theory[float] = param(Theory(), "local step size", gt=0, main=True)
    optimizer: str = param(
        "shuffled-sgd",
        "local steps on all data, on fresh minibatches, or on reshuffled passes",
        choices=("gd", "sgd", "shuffled-sgd"),
    )
    local_steps: int = param(5, "local steps per round", ge=1, main=True)
    batch_size: int | None = param(16, "samples per local step (sgd, shuffled-sgd)", ge=1)
    server_lr: float = param(1.0, "server step size", gt=0)
    weighting: str = param("mean", "the plain mean over the cohort, or unbiased", choices=("mean", "unbiased"))

    @property
    def sampler(self) -> Cyclic:
        return Cyclic(self.groups, self.per_round)

    def stepsize(self, problem: Constants) -> float:
        return 1 / problem.L_max

    def check(self, problem: Problem) -> None:
        super().check(problem)
        self.sampler.check(problem.n)
        if self.weighting == "mean" and float(problem.weights.max()) * problem.n > 1 + 1e-9:
            caution(
                f"CyCP: weighting='mean' counts every client alike, and {problem.name} has weights: it goes to another "
                f"optimum. Use weighting='unbiased'."
            )

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0)

    def step(self, fed: Federation, s: State) -> State:
        sampler = self.sampler
        updates = fed.call(self.client, s.x, to=fed.sample(sampler))
        if len(updates) == 0:
            return s
        if self.weighting == "mean":
            return State(x=s.x + self.server_lr * updates.sum() / len(updates))
        turns, p = len(as_blocks(sampler.groups, fed.n)), fed.place(sampler.probabilities(fed.n))
        weights = updates.weights * turns / p[updates.index].to(s.x.dtype)
        return State(x=s.x + self.server_lr * updates.sum(weights))

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        if self.optimizer == "sgd":
            y = x.expand(cohort.m, -1)
            for _ in range(self.local_steps):
                y = y - self.lr * cohort.grad(y, cohort.batch(self.batch_size))
            return y - x
        size = None if self.optimizer == "gd" else self.batch_size
        return cohort.local_sgd(x, lr=self.lr, steps=self.local_steps, batch_size=size) - x
