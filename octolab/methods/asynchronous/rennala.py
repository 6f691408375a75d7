r"""Rennala SGD: a step from the first S gradients at the present point, whoever they come from; nothing stale, nobody awaited.

Paper: Optimal Time Complexities of Parallel Stochastic Optimization Methods Under a Fixed Computation Model
Authors: Alexander Tyurin, Peter Richtárik
Venue: NeurIPS 2023
arXiv: 2305.12387
Solves: unequal devices in optimal time without a stale gradient and without knowing any speed
Use: as Ringmaster, where an algorithm without staleness is easier to trust; the same data everywhere
Avoid: heterogeneous data: fast clients decide the point (use Malenia)
Assumes: every client has the same objective f, L-smooth, convex or not; stochastic gradients with variance at most sigma^2
Algorithm:
    for k = 0, 1, ...:
        everybody computes gradients at x, one after the other
        server: adds up what comes that was computed at x, until there are S of them
        x <- x - lr * (1/S) sum;  everybody starts at the new x
            variant "stop": running jobs are cancelled;  "ignore": they end, and are discarded on arrival
Up: d numbers per arrival, discarded ones too
Down: d numbers per client and round
Step size: S = max(1, ceil(sigma^2/eps)), lr = min(1/L, eps S/(2 L sigma^2))
Theorem: $\frac1K\sum_{k<K} E|\nabla f(x_k)|^2 \le \varepsilon$ after $K = 24 L\Delta/\varepsilon$ steps,
    $\Delta = f(x_0) - \inf f$, each of at most $2\min_m H_m(1 + \frac Sm)$ seconds,
    $H_m = (\frac1m\sum_{i\le m}\tau_i^{-1})^{-1}$: the lower bound's order
Unconfirmed: the constant 24 is recalled; our runs meet eps in a quarter of these steps
"""

from __future__ import annotations

import math

from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Theory, param, torch


class State(NamedTuple):
    x: torch.Tensor
    k: int  # version of the server model


class Rennala(Method):
    slug = "rennala"
    needs = ("homogeneous",)
    tags = ("asynchronous", "stochastic", "nonconvex", "networks")

    S: Theory[int] = param(Theory(), "gradients per step", ge=1, main=True)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    variant: str = param(
        "stop", "what becomes of jobs at the old point: cancelled, or ignored on arrival", choices=("stop", "ignore")
    )
    batch_size: int | None = param(1, "samples per gradient; None: all", ge=1, main=True)
    eps: float = param(0.5, "target for |grad f|^2 in the theory values", gt=0)

    def theory_S(self, problem: Constants) -> int:
        return max(1, math.ceil(problem.variance(self.batch_size) / self.eps * (1 - 1e-12)))  # 2.0000000000000004 is 2

    def stepsize(self, problem: Constants) -> float:
        noise = max(problem.variance(self.batch_size), 1e-300)
        return min(1 / problem.L, self.eps * self.S / (2 * problem.L * noise))

    def init(self, fed: Federation) -> State:
        s = State(x=fed.x0, k=0)
        for i in fed.clients:
            self.send(fed, i, s)
        return s

    def step(self, fed: Federation, s: State) -> State:
        total, count, late = torch.zeros_like(s.x), 0, 0
        while True:
            job = fed.next()
            if job.tag == s.k:
                total, count = total + job.result, count + 1
            else:
                late += 1  # computed at an older point: not even evaluated
            if count == self.S:
                break
            self.send(fed, job.client, s)
        s = State(x=s.x - self.lr / self.S * total, k=s.k + 1)
        fed.log(accepted=count, rejected=late, version=s.k)
        self.send(fed, job.client, s)
        if self.variant == "stop":
            for old in fed.running():
                if old.tag != s.k:
                    fed.cancel(old)
                    self.send(fed, old.client, s)
        return s

    def send(self, fed: Federation, i: int, s: State) -> None:
        fed.submit(i, self.client, s.x, tag=s.k, work=fed.work_of(i, 1, self.batch_size))

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        return cohort.grad(x, cohort.batch(self.batch_size))
