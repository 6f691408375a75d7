r"""m-synchronous SGD: every round takes the first m gradients and lets the stragglers go.

Paper: Towards Federated Learning at Scale: System Design
Authors: Keith Bonawitz, Hubert Eichner, Wolfgang Grieskamp, and others
Venue: MLSys 2019
arXiv: 1902.01046
Solves: a round that would wait for its slowest device: more are asked than needed
Use: similar devices with a few stragglers, the same data everywhere
Avoid: heterogeneous data: the slow are never heard (use Ringleader or Malenia)
Assumes: every client has the same objective f, L-smooth; stochastic gradients with variance at most sigma^2
Algorithm:
    for k = 0, 1, ...:
        server sends x to everybody; each computes one gradient
        after the first m arrivals the other jobs are cancelled;  x <- x - lr * their mean
Up: d numbers per arrival, m a round
Down: d numbers per client and round
Step size: 1/L where the noise is ignored; with a target eps min(1/L, m eps/(2 L sigma^2)), taken with n for m = None
Theorem: minibatch SGD's with a batch of $m$; a round lasts $\tau_m$, the $m$-th smallest time. With the best $m$,
    $\arg\min_m \tau_m(1 + s/m)$, $s = \sigma^2/\varepsilon$, its time is within a logarithm of the optimal one
Unconfirmed: the logarithm is recalled
"""

from __future__ import annotations

from octolab.methods.constants import Known
from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Theory, param, torch
from octolab.methods.theory.times import first_arrivals


class State(NamedTuple):
    x: torch.Tensor
    k: int  # version of the server model


class MSync(Method):
    slug = "m-sync"
    needs = ("homogeneous",)
    tags = ("asynchronous", "stochastic", "nonconvex", "networks", "stragglers")

    m: int | None = param(None, "arrivals that end a round; None: the best for this fleet, needs eps", ge=1, main=True)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    batch_size: int | None = param(1, "samples per gradient; None: all", ge=1, main=True)
    eps: float | None = param(None, "target for |grad f|^2 in the theory values; None: ignore the noise", gt=0)

    def stepsize(self, problem: Constants) -> float:
        if self.eps is None:
            return 1 / problem.L
        noise = max(problem.variance(self.batch_size), 1e-300)
        return min(1 / problem.L, (self.m or problem.n) * self.eps / (2 * problem.L * noise))

    def init(self, fed: Federation) -> State:
        s = State(x=fed.x0, k=0)
        for i in fed.clients:
            self.send(fed, i, s)
        return s

    def step(self, fed: Federation, s: State) -> State:
        total, m = torch.zeros_like(s.x), self.wanted(fed)
        for _ in range(m):
            total = total + fed.next().result
        s = State(x=s.x - self.lr / m * total, k=s.k + 1)
        for job in fed.running():
            fed.cancel(job)
        fed.log(accepted=m, version=s.k)
        for i in fed.clients:
            self.send(fed, i, s)
        return s

    def wanted(self, fed: Federation) -> int:
        """How many arrivals end a round."""
        if self.m is not None:
            return min(self.m, fed.n)
        if self.eps is None:
            return fed.n
        seconds = fed.fleet.fixed_seconds(fed.n)
        return first_arrivals(seconds, Known(fed.problem, type(self).__name__).variance(self.batch_size) / self.eps)

    def send(self, fed: Federation, i: int, s: State) -> None:
        fed.submit(i, self.client, s.x, tag=s.k, work=fed.work_of(i, 1, self.batch_size))

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        return cohort.grad(x, cohort.batch(self.batch_size))
