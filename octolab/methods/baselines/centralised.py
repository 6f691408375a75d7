r"""Centralised: all data in one place, SGD on the pool: what federated learning gives up for leaving data at home.

Paper: A Stochastic Approximation Method
Authors: Herbert Robbins, Sutton Monro
Venue: Annals of Mathematical Statistics, 1951
arXiv: none
Solves: nothing federated: it is the upper line of every chart
Use: as the horizontal line that federated methods try to reach with the same work
Avoid: data may not leave the clients
Assumes: f is L-smooth
Algorithm:
    x = x0
    for t = 0, 1, ...: (a round)
        `local_steps` times: x <- x - lr * sum_i w_i g_i(x), g_i over batch_size samples of client i's part (None: all)
    A round evaluates as many gradients as one of FedAvg with the same local_steps and batch_size and everybody; the
    objective has the same weights
Up: nothing (the data came first, and are not counted)
Down: nothing
Step size: 1/L
Theorem: gradient descent: $f(x_T) - f^* \le (1 - lr\,\mu)^{T \cdot local\_steps} (f(x_0) - f^*)$ for $lr \le 1/L$
"""

from __future__ import annotations

import numpy as np

from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Theory, param, torch


class State(NamedTuple):
    x: torch.Tensor
    t: int


class Centralised(Method):
    slug = "centralised"
    tags = ("stochastic", "networks", "nonconvex")

    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    local_steps: int = param(5, "steps per round", ge=1, main=True)
    batch_size: int | None = param(None, "samples per step from each client's part; None: all", ge=1, main=True)

    def stepsize(self, problem: Constants) -> float:
        return 1 / problem.L

    def rate(self, problem: Constants) -> float | None:
        if self.batch_size is not None or not problem.strongly_convex or self.lr * problem.L > 1 + 1e-12:
            return None
        return (1 - self.lr * problem.mu) ** self.local_steps

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0, t=0)

    def step(self, fed: Federation, s: State) -> State:
        x, problem = s.x, fed.problem
        pool = Cohort(problem, fed.memory, fed.randomness, fed.everybody, fed.all_rows, event=s.t)
        for _ in range(self.local_steps):
            batch = pool.batch(self.batch_size)
            x = x - self.lr * (problem.gradient(x) if batch is None else problem.pooled_gradient(x, batch))
        self.charge(fed)
        return State(x=x, t=s.t + 1)

    def charge(self, fed: Federation) -> None:
        """The work of a round, and its time: the one machine is as fast as all devices together."""
        held, steps = fed.problem.sizes, self.local_steps
        samples = held if self.batch_size is None else np.minimum(held, self.batch_size)
        fed.ledger.add(gradients=float(steps), samples=steps * samples.astype(float))
        work = float(samples.sum()) if fed.fleet.unit == "sample" else fed.n
        seconds = np.broadcast_to(fed.fleet.of("seconds", fed.everybody), (fed.n,))
        fed.now += 0.0 if (seconds == 0).any() else steps * work / float((1 / seconds).sum())
