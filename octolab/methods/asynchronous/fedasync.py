r"""FedAsync: every model that arrives is mixed into the server's at once, the later the less.

Paper: Asynchronous Federated Optimization
Authors: Cong Xie, Sanmi Koyejo, Indranil Gupta
Venue: OPT 2020 workshop
arXiv: 1903.03934
Solves: no waiting, with local training on the devices
Use: as the plainest asynchronous baseline with local steps
Avoid: heterogeneous data: fast clients are heard more often and pull the model to theirs
Assumes: nothing for running it; weakly convex f and bounded delays for the paper's theorem
Algorithm:
    all clients start at x0
    client i: y <- x; local SGD steps on f_i(y) + (rho/2)|y - x|^2; sends y
    on the arrival of y, delay versions late: a = alpha s(delay); x <- (1 - a) x + a y; client i starts at the new x
Up: d numbers per arrival
Down: d numbers per start
Step size: 1/(L_max + rho), safe for each client's own descent
Theorem: none for a constant alpha but convergence to a neighbourhood that grows with it
Unconfirmed: the paper starts clients by a scheduler; here every client is always at work
"""

from __future__ import annotations

from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Theory, param, torch
from octolab.staleness import Polynomial, Staleness


class State(NamedTuple):
    x: torch.Tensor
    k: int  # version of the server model


class FedAsync(Method):
    slug = "fedasync"
    tags = ("asynchronous", "local steps", "networks", "nonconvex")

    alpha: float = param(0.6, "share of a fresh model in the mix", gt=0, le=1, main=True)
    staleness: Staleness = param(Polynomial(0.5), "weight of a late model", main=True)
    lr: Theory[float] = param(Theory(), "local step size", gt=0, main=True)
    local_steps: int = param(5, "local steps of a job", ge=1, main=True)
    batch_size: int | None = param(None, "samples per local step; None: all", ge=1)
    rho: float = param(0.005, "weight of the proximal term", ge=0)

    def stepsize(self, problem: Constants) -> float:
        return 1 / (problem.L_max + self.rho)

    def init(self, fed: Federation) -> State:
        s = State(x=fed.x0, k=0)
        for i in fed.clients:
            self.send(fed, i, s)
        return s

    def step(self, fed: Federation, s: State) -> State:
        job = fed.next()
        delay = s.k - job.tag
        a = self.alpha * self.staleness(delay, fed.n)
        if a > 0:  # a rejected model is not even trained
            s = State(x=(1 - a) * s.x + a * job.result, k=s.k + 1)
        fed.log(delay=delay, accepted=a > 0, version=s.k)
        self.send(fed, job.client, s)
        return s

    def send(self, fed: Federation, i: int, s: State) -> None:
        fed.submit(i, self.client, s.x, tag=s.k, work=fed.work_of(i, self.local_steps, self.batch_size))

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        return cohort.local_sgd(x, lr=self.lr, steps=self.local_steps, batch_size=self.batch_size, prox=self.rho)
