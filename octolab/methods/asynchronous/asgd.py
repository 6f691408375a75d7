r"""ASGD: asynchronous SGD, nobody waits for anybody.

Paper: Asynchronous SGD Beats Minibatch SGD Under Arbitrary Delays
Authors: Konstantin Mishchenko, Francis Bach, Mathieu Even, Blake Woodworth
Venue: NeurIPS 2022
arXiv: 2206.07638
Solves: no waiting for slow devices; the asynchronous baseline
Use: devices of similar speed and the same data distribution
Avoid: heterogeneous data (it converges to a wrong point); very unequal speeds (use Ringmaster)
Assumes: every client has the same objective f, L-smooth; stochastic gradients with variance at most sigma^2
Algorithm:
    all workers start at x0, k = 0
    on the arrival of g from worker i, computed at x_{k - delay}:
        x_{k+1} = x_k - lr_k g;  k <- k + 1;  worker i starts at the new x
    lr_k = lr s(delay) for a staleness policy s (constant: the paper's vanilla form); a weight 0 discards g, k stays
Up: d numbers per arrival
Down: d numbers per start
Step size: 1/(2 n L), and with a target eps also at most eps/(4 L sigma^2): Ringmaster's with R = n
Theorem: $\frac1K\sum_{k<K} E|\nabla f(x_k)|^2 \le \varepsilon$ after
    $K = O(nL\Delta/\varepsilon + \sigma^2L\Delta/\varepsilon^2)$ updates, $\Delta = f(x_0) - \inf f$; with $\tau_i$ seconds per
    gradient in $O(H(L\Delta/\varepsilon + \sigma^2L\Delta/(n\varepsilon^2)))$ seconds, $H = (\frac1n\sum_i \tau_i^{-1})^{-1}$
Unconfirmed: the constants (the order is the paper's); tune lr for real use
"""

from __future__ import annotations

import warnings

from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Theory, param, torch
from octolab.staleness import Constant, DelayAdaptive, Staleness


class State(NamedTuple):
    x: torch.Tensor
    k: int  # version of the server model


class ASGD(Method):
    slug = "asgd"
    needs = ("homogeneous",)
    tags = ("asynchronous", "stochastic", "nonconvex", "networks")

    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    staleness: Staleness = param(Constant(), "weight of a late gradient", main=True)
    batch_size: int | None = param(1, "samples per gradient; None: all", ge=1, main=True)
    eps: float | None = param(None, "target for |grad f|^2 in the theory step; None: ignore the noise", gt=0)
    policy: str = param("vanilla", "the old name of two policies", choices=("vanilla", "delay-adaptive"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.policy == "delay-adaptive":
            warnings.warn(
                "ASGD(policy='delay-adaptive') is now the method DelayAdaptiveASGD, or staleness=ol.staleness.DelayAdaptive().",
                DeprecationWarning,
                stacklevel=3,
            )
            object.__setattr__(self, "staleness", DelayAdaptive())
            object.__setattr__(self, "policy", "vanilla")

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
        weight = self.staleness(delay, fed.n)
        if weight > 0:  # a rejected gradient is not even evaluated
            s = State(x=s.x - self.lr * weight * job.result, k=s.k + 1)
        fed.log(delay=delay, accepted=weight > 0)
        self.send(fed, job.client, s)
        return s

    def send(self, fed: Federation, i: int, s: State) -> None:
        fed.submit(i, self.client, s.x, tag=s.k, work=fed.work_of(i, 1, self.batch_size))

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        return cohort.grad(x, cohort.batch(self.batch_size))
