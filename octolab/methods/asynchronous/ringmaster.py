r"""Ringmaster ASGD: asynchronous SGD that drops what is too stale, with the optimal time complexity.

Paper: Ringmaster ASGD: The First Asynchronous SGD with Optimal Time Complexity
Authors: Artavazd Maranjyan, Alexander Tyurin, Peter Richtárik
Venue: ICML 2025
arXiv: 2501.16168
Solves: asynchronous SGD whose speed slow workers do not destroy, without knowing any speed
Use: unequal devices, the same data distribution; the default asynchronous method
Avoid: heterogeneous data: it favours fast clients (use Ringleader or Malenia)
Assumes: every client has the same objective f, L-smooth, convex or not; stochastic gradients with variance at most sigma^2
Algorithm:
    all workers start at x0, k = 0
    on the arrival of g from worker i, computed at version k - delay:
        delay < R:  x <- x - lr * g, k <- k + 1
        else: discard g
        worker i starts at the present x
    variant "stop": after an update every running job whose delay has reached R is cancelled and starts at the present x
Up: d numbers per arrival, discarded ones too
Down: d numbers per start
Step size: R = max(1, ceil(sigma^2/eps)), lr = min(1/(2 R L), eps/(4 L sigma^2))
Theorem: $\frac1K\sum_{k<K} E|\nabla f(x_k)|^2 \le \varepsilon$ after
    $K = \lceil 8RL\Delta/\varepsilon + 16\sigma^2L\Delta/\varepsilon^2 \rceil$ updates, $\Delta = f(x_0) - \inf f$.
    Optimal in time: $R$ of them take at most $2\min_m (\frac1m\sum_{i\le m}\tau_i^{-1})^{-1}(1 + \frac Rm)$ seconds
Unconfirmed: the constants 8 and 16 are recalled; our runs stay below eps
"""

from __future__ import annotations

import math

from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Stage, Theory, param, torch


class State(NamedTuple):
    x: torch.Tensor
    k: int  # version of the server model: the number of gradients used


class Ringmaster(Method):
    slug = "ringmaster"
    start_here = True
    needs = ("homogeneous",)
    tags = ("asynchronous", "stochastic", "nonconvex", "networks")
    stage = Stage(
        "With unequal devices Ringmaster needs less time than synchronous SGD.",
        problem="same objective",
        axis="time",
        baseline="sgd",
    )

    R: Theory[int] = param(Theory(), "delays from which a gradient is discarded", ge=1, main=True)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    variant: str = param(
        "ignore", "late gradients are ignored, or their jobs stopped", choices=("ignore", "stop"), main=True
    )
    batch_size: int | None = param(1, "samples per gradient; None: all", ge=1, main=True)
    eps: float = param(1e-2, "target for |grad f|^2 in the theory values", gt=0)

    def theory_R(self, problem: Constants) -> int:
        return max(1, math.ceil(problem.variance(self.batch_size) / self.eps * (1 - 1e-12)))  # 2.0000000000000004 is 2

    def stepsize(self, problem: Constants) -> float:
        noise = max(problem.variance(self.batch_size), 1e-300)
        return min(1 / (2 * self.R * problem.L), self.eps / (4 * problem.L * noise))

    def init(self, fed: Federation) -> State:
        s = State(x=fed.x0, k=0)
        for i in fed.clients:
            self.send(fed, i, s)
        return s

    def step(self, fed: Federation, s: State) -> State:
        job = fed.next()
        delay = s.k - job.tag
        used = delay < self.R  # a staler gradient is ignored: it is not even evaluated
        if used:
            s = State(x=s.x - self.lr * job.result, k=s.k + 1)
        fed.log(delay=delay, accepted=used, version=s.k)
        self.send(fed, job.client, s)
        if used and self.variant == "stop":
            for late in fed.running():
                if s.k - late.tag >= self.R:
                    fed.cancel(late)
                    self.send(fed, late.client, s)
        return s

    def send(self, fed: Federation, i: int, s: State) -> None:
        fed.submit(i, self.client, s.x, tag=s.k, work=fed.work_of(i, 1, self.batch_size))

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        return cohort.grad(x, cohort.batch(self.batch_size))
