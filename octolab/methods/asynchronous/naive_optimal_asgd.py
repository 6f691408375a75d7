r"""Naive Optimal ASGD: asynchronous SGD on the fastest devices alone, as many as pay.

Paper: Ringmaster ASGD: The First Asynchronous SGD with Optimal Time Complexity
Authors: Artavazd Maranjyan, Alexander Tyurin, Peter Richtárik
Venue: ICML 2025
arXiv: 2501.16168
Solves: shows how simply optimal time is had where speeds are known and never change
Use: as a foil for Ringmaster
Avoid: speeds that are unknown or change: if the chosen devices slow down, so does everything
Assumes: every client has the same objective f, L-smooth; variance at most sigma^2; fixed known times tau_i per gradient
Algorithm:
    m = argmin_m H_m (1 + s/m), H_m = harmonic mean of the m smallest tau_i, s = sigma^2/eps
    the m fastest workers start at x0; on the arrival of g from worker i: x <- x - lr g; worker i starts at the new x
Up: d numbers per arrival, from m devices
Down: d numbers per start
Step size: 1/(2 m L), and at most eps/(4 L sigma^2): Ringmaster's with R = m; taken with n where m is chosen later
Theorem: optimal in time under fixed times:
    $O(\min_m H_m(\frac{L\Delta}\varepsilon + \frac{\sigma^2L\Delta}{m\varepsilon^2}))$ seconds
Unconfirmed: the constants of the step size
"""

from __future__ import annotations

from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Theory, param, torch
from octolab.methods.theory.times import fastest


class State(NamedTuple):
    x: torch.Tensor
    k: int  # version of the server model


class NaiveOptimalASGD(Method):
    slug = "naive-optimal-asgd"
    needs = ("homogeneous",)
    tags = ("asynchronous", "stochastic", "nonconvex", "networks")

    s: Theory[float] = param(Theory(), "sigma^2/eps: how much noise must be averaged out", ge=0, main=True)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    batch_size: int | None = param(1, "samples per gradient; None: all", ge=1, main=True)
    eps: float = param(1e-2, "target for |grad f|^2 in the theory values", gt=0)

    def theory_s(self, problem: Constants) -> float:
        return problem.variance(self.batch_size) / self.eps

    def stepsize(self, problem: Constants) -> float:
        noise = max(problem.variance(self.batch_size), 1e-300)
        return min(1 / (2 * problem.n * problem.L), self.eps / (4 * problem.L * noise))

    def init(self, fed: Federation) -> State:
        s = State(x=fed.x0, k=0)
        seconds = fed.fleet.fixed_seconds(fed.n)
        for i in fastest(seconds, self.s):
            self.send(fed, int(i), s)
        return s

    def step(self, fed: Federation, s: State) -> State:
        job = fed.next()
        s = State(x=s.x - self.lr * job.result, k=s.k + 1)
        fed.log(delay=s.k - 1 - job.tag, version=s.k)
        self.send(fed, job.client, s)
        return s

    def send(self, fed: Federation, i: int, s: State) -> None:
        fed.submit(i, self.client, s.x, tag=s.k, work=fed.work_of(i, 1, self.batch_size))

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        return cohort.grad(x, cohort.batch(self.batch_size))
