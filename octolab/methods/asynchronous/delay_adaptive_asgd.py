r"""Delay-adaptive ASGD: asynchronous SGD whose step shrinks with the age of the gradient.

Paper: Asynchronous SGD Beats Minibatch SGD Under Arbitrary Delays
Authors: Konstantin Mishchenko, Francis Bach, Mathieu Even, Blake Woodworth
Venue: NeurIPS 2022
arXiv: 2206.07638
Solves: very stale gradients, which throw a constant step off its course
Use: some devices much slower than the rest, the same data everywhere
Avoid: heterogeneous data (use Ringleader); thousands of slow devices (use Ringmaster)
Assumes: every client has the same objective f, L-smooth; stochastic gradients with variance at most sigma^2
Algorithm:
    all workers start at x0, k = 0
    on the arrival of g from worker i, computed at x_{k - delay}:
        x_{k+1} = x_k - lr_k g;  k <- k + 1;  worker i starts at the new x
    form "ratio": lr_k = lr * n/max(n, delay);  "threshold": lr if delay <= n, else min(lr, 1/(4 L delay))
Up: d numbers per arrival
Down: d numbers per start
Step size: 1/(2 n L), and with a target eps also at most eps/(4 L sigma^2): Ringmaster's with R = n
Theorem: $\frac1K\sum_{k<K} E|\nabla f(x_k)|^2 \le \varepsilon$ after
    $K = O(nL\Delta/\varepsilon + \sigma^2L\Delta/\varepsilon^2)$ updates whatever the delays, $\Delta = f(x_0) - \inf f$
Unconfirmed: the constants of the step size; the form "threshold" is recalled from Koloskova, Stich, Jaggi (NeurIPS 2022,
    arXiv 2206.08307), with the number of clients for the average concurrency
"""

from __future__ import annotations

from octolab.methods.constants import Known
from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Theory, param, torch


class State(NamedTuple):
    x: torch.Tensor
    k: int  # version of the server model


class DelayAdaptiveASGD(Method):
    slug = "delay-adaptive-asgd"
    needs = ("homogeneous",)
    tags = ("asynchronous", "stochastic", "nonconvex", "networks", "adaptive")

    lr: Theory[float] = param(Theory(), "step size of a fresh gradient", gt=0, main=True)
    form: str = param("ratio", "how the delay shrinks the step", choices=("ratio", "threshold"), main=True)
    batch_size: int | None = param(1, "samples per gradient; None: all", ge=1, main=True)
    eps: float | None = param(None, "target for |grad f|^2 in the theory step; None: ignore the noise", gt=0)

    def stepsize(self, problem: Constants) -> float:
        lr = 1 / (2 * problem.n * problem.L)
        if self.eps is not None:
            lr = min(lr, self.eps / (4 * problem.L * max(problem.variance(self.batch_size), 1e-300)))
        return lr

    def init(self, fed: Federation) -> State:
        s = State(x=fed.x0, k=0)
        for i in fed.clients:
            self.send(fed, i, s)
        return s

    def step(self, fed: Federation, s: State) -> State:
        job = fed.next()
        delay = s.k - job.tag
        s = State(x=s.x - self.adapted(fed, delay) * job.result, k=s.k + 1)
        fed.log(delay=delay, version=s.k)
        self.send(fed, job.client, s)
        return s

    def adapted(self, fed: Federation, delay: int) -> float:
        """The step for a gradient that is so old."""
        if self.form == "ratio":
            return self.lr * fed.n / max(fed.n, delay)
        if delay <= fed.n:
            return self.lr
        return min(self.lr, 1 / (4 * Known(fed.problem, type(self).__name__).L * delay))

    def send(self, fed: Federation, i: int, s: State) -> None:
        fed.submit(i, self.client, s.x, tag=s.k, work=fed.work_of(i, 1, self.batch_size))

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        return cohort.grad(x, cohort.batch(self.batch_size))
