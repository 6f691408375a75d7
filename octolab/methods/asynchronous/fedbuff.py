r"""FedBuff: asynchronous updates gather in a buffer; the server steps when it is full.

Paper: Federated Learning with Buffered Asynchronous Aggregation
Authors: John Nguyen, Kshitiz Malik, Hongyuan Zhan, Ashkan Yousefpour, Michael Rabbat, Mani Malek, Dzmitry Huba
Venue: AISTATS 2022
arXiv: 2106.06639
Solves: no waiting for stragglers, and yet sums of several clients' updates (which secure aggregation needs)
Use: production-like fleets with local training; the industry's asynchronous baseline
Avoid: heterogeneous data: fast clients are heard more often and pull the model to theirs
Assumes: nothing for running it; smooth f_i, bounded delays and gradients for the paper's theorem
Algorithm:
    `concurrency` clients are at work at any time
    client i: y <- x; local SGD steps; sends x - y
    server: buffer += s(delay) (x - y), delay in server versions; one idle client starts at the present x
        after `buffer` updates: x <- x - server_lr * sum / buffer (or / the sum of weights); version + 1
Up: d numbers per arrival
Down: d numbers per start
Step size: 1/L_max, safe for each client's own descent
Theorem: the paper's rate is for its own step sizes and bounded gradients; none here for constant ones
Unconfirmed: who starts next is drawn uniformly among the idle
"""

from __future__ import annotations

import numpy as np

from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Theory, param, torch
from octolab.staleness import Polynomial, Staleness


class State(NamedTuple):
    x: torch.Tensor
    k: int  # version of the server model


class FedBuff(Method):
    slug = "fedbuff"
    tags = ("asynchronous", "local steps", "networks", "nonconvex", "stragglers")

    buffer: int = param(10, "updates per server step", ge=1, main=True)
    concurrency: int | None = param(None, "clients at work at any time; None: all", ge=1, main=True)
    staleness: Staleness = param(Polynomial(0.5), "weight of a late update", main=True)
    lr: Theory[float] = param(Theory(), "local step size", gt=0, main=True)
    server_lr: float = param(1.0, "server step size", gt=0)
    local_steps: int = param(5, "local steps of a job", ge=1, main=True)
    batch_size: int | None = param(None, "samples per local step; None: all", ge=1)
    normalise: str = param("buffer", "what the sum is divided by", choices=("buffer", "weights"))

    def stepsize(self, problem: Constants) -> float:
        return 1 / problem.L_max

    def init(self, fed: Federation) -> State:
        s, busy = State(x=fed.x0, k=0), min(self.concurrency or fed.n, fed.n)
        chosen = fed.everybody if busy == fed.n else fed.sample(busy)
        for i in fed.everybody if chosen is None else chosen:
            self.send(fed, int(i), s)
        return s

    def step(self, fed: Federation, s: State) -> State:
        total, weights, late, count = torch.zeros_like(s.x), 0.0, 0, 0
        while True:
            job = fed.next()
            weight = self.staleness(s.k - job.tag, fed.n)
            if weight > 0:
                total, weights, count = total + weight * job.result, weights + weight, count + 1
            else:
                late += 1  # rejected: it does not fill the buffer, and is not even trained
            fed.log(delay=s.k - job.tag)
            if count == self.buffer:
                break
            self.next_client(fed, job.client, s)
        share = self.buffer if self.normalise == "buffer" else weights
        s = State(x=s.x - self.server_lr / share * total, k=s.k + 1)
        fed.log(accepted=count, rejected=late, version=s.k)
        self.next_client(fed, job.client, s)
        return s

    def next_client(self, fed: Federation, back: int, s: State) -> None:
        """One idle client starts; with everybody at work that is the one who has just come back."""
        if self.concurrency is None or self.concurrency >= fed.n:
            return self.send(fed, back, s)
        idle = np.setdiff1d(fed.everybody, [job.client for job in fed.running()])
        return self.send(fed, fed.pick(idle), s)

    def send(self, fed: Federation, i: int, s: State) -> None:
        fed.submit(i, self.client, s.x, tag=s.k, work=fed.work_of(i, self.local_steps, self.batch_size))

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        return x - cohort.local_sgd(x, lr=self.lr, steps=self.local_steps, batch_size=self.batch_size)
