r"""Malenia SGD: everybody computes until the harmonic mean of the clients' counts suffices; every client counts equally.

Paper: Optimal Time Complexities of Parallel Stochastic Optimization Methods Under a Fixed Computation Model
Authors: Alexander Tyurin, Peter Richtárik
Venue: NeurIPS 2023
arXiv: 2305.12387
Solves: unequal devices with data of their own: fast ones average more noise away, and none decides alone
Use: heterogeneous data, noisy gradients, no stale gradients wanted
Avoid: a device that never answers (nothing goes on without it); little noise (then it waits like minibatch SGD)
Assumes: f is L-smooth; stochastic gradients of every f_i with variance at most sigma^2
Algorithm:
    for k = 0, 1, ...:
        everybody computes gradients at x, one after the other; B_i = how many came from client i
        server waits until all B_i >= 1 and sum_i w_i^2/B_i <= 1/S (w_i = 1/n: n/sum_i (1/B_i) >= S/n)
        x <- x - lr * sum_i w_i (1/B_i) sum_j g_ij;  running jobs are cancelled, everybody starts at the new x
Up: d numbers per arrival
Down: d numbers per client and round
Step size: S = max(n, ceil(sigma^2/eps)), lr = min(1/L, eps S/(2 L sigma^2))
Theorem: $\frac1K\sum_{k<K} E|\nabla f(x_k)|^2 \le \varepsilon$ after $K = 24 L\Delta/\varepsilon$ steps,
    $\Delta = f(x_0) - \inf f$; in $O(\tau_n L\Delta/\varepsilon + \bar\tau\sigma^2L\Delta/(n\varepsilon^2))$ seconds,
    $\tau_n$ the slowest, $\bar\tau$ the mean
Unconfirmed: the constant 24 is recalled; the rule with weights is ours (it bounds the same variance)
"""

from __future__ import annotations

import math

from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Theory, param, torch


class State(NamedTuple):
    x: torch.Tensor
    k: int  # version of the server model


class Malenia(Method):
    slug = "malenia"
    needs = ("full participation",)
    tags = ("asynchronous", "stochastic", "heterogeneous", "nonconvex", "networks")

    S: Theory[int] = param(Theory(), "how many gradients a step is worth", ge=1, main=True)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    batch_size: int | None = param(1, "samples per gradient; None: all", ge=1, main=True)
    eps: float = param(0.5, "target for |grad f|^2 in the theory values", gt=0)

    def theory_S(self, problem: Constants) -> int:
        return max(problem.n, math.ceil(problem.variance(self.batch_size) / self.eps * (1 - 1e-12)))

    def stepsize(self, problem: Constants) -> float:
        noise = max(problem.variance(self.batch_size), 1e-300)
        return min(1 / problem.L, self.eps * self.S / (2 * problem.L * noise))

    def init(self, fed: Federation) -> State:
        s = State(x=fed.x0, k=0)
        for i in fed.clients:
            self.send(fed, i, s)
        return s

    def step(self, fed: Federation, s: State) -> State:
        sums, counts = s.x.new_zeros(fed.n, fed.d), s.x.new_zeros(fed.n)
        while True:
            job = fed.next()
            sums[job.client] += job.result
            counts[job.client] += 1
            spread = (fed.weights**2 / counts).sum()  # infinite while somebody is missing, unless weightless
            if bool(counts.min() > 0) and float(spread) * self.S <= 1 + 1e-12:
                break
            fed.expect(int(counts.argmin()))
            self.send(fed, job.client, s)
        g = fed.weights @ (sums / counts[:, None])
        s = State(x=s.x - self.lr * g, k=s.k + 1)
        fed.log(accepted=int(counts.sum()), version=s.k)
        self.send(fed, job.client, s)
        for old in fed.running():
            if old.tag != s.k:
                fed.cancel(old)
                self.send(fed, old.client, s)
        return s

    def send(self, fed: Federation, i: int, s: State) -> None:
        fed.submit(i, self.client, s.x, tag=s.k, work=fed.work_of(i, 1, self.batch_size))

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        return cohort.grad(x, cohort.batch(self.batch_size))
