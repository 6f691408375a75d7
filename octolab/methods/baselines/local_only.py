r"""LocalOnly: every client trains alone and tells nobody: what federated learning has to beat for each client.

Paper: none: the baseline of every personalisation paper
Authors: folklore
Venue: none
arXiv: none
Solves: one good model per client where data are plenty at home; no traffic, nothing leaves a device
Use: as the horizontal line beside personalised and global models, with the same local work
Avoid: little data per client, or one model for all is wanted
Assumes: nothing
Algorithm:
    x_i = x0
    for t = 0, 1, ...:
        client i: as many local steps from x_i as FedAvg takes per round (or, exactly, x_i = argmin f_i); keeps x_i
    shown: the personal models x_i, each on its own client's data; as server model their mean, which nobody computes
Up: nothing
Down: nothing
Step size: 1/max L_i; client i then converges to its own optimum, f_i(x_i) - f_i^* <= (1 - lr mu_i)^k (f_i(x0) - f_i^*)
Theorem: gradient descent on each $f_i$: $|x_i^k - x_i^*|^2 \le (1 - lr\,\mu_i)^k |x_0 - x_i^*|^2$; the mean of the $x_i^*$ is
    not the minimiser of $f$
"""

from __future__ import annotations

from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Sampler, Theory, param, torch


class State(NamedTuple):
    x: torch.Tensor  # weighted mean of the clients' models: for charts, never sent


class LocalOnly(Method):
    slug = "local-only"
    tags = ("personalisation", "heterogeneous", "networks", "nonconvex")

    lr: Theory[float] = param(Theory(), "local step size", gt=0, main=True)
    local_epochs: int = param(5, "passes over a client's data per round", ge=1, main=True)
    local_steps: int | None = param(None, "local steps per round; replaces local_epochs", ge=1)
    batch_size: int | None = param(None, "samples per local step; None: all", ge=1, main=True)
    momentum: float = param(0.0, "momentum of the local steps, new in every round", ge=0, lt=1)
    cohort: Sampler | int | float | None = param(None, "who trains in a round, for FedAvg's work; None: everybody")
    solver: str = param("sgd", "local training, or the exact minimiser (needs Hessians)", choices=("sgd", "exact"))

    def stepsize(self, problem: Constants) -> float:
        return 1 / problem.L_max

    def personal(self, fed: Federation, s: State) -> torch.Tensor:
        return fed.memory.x

    def init(self, fed: Federation) -> State:
        fed.memory.x = fed.x0.repeat(fed.n, 1)  # x0 comes with the program: no traffic
        return State(x=fed.x0)

    def step(self, fed: Federation, s: State) -> State:
        fed.call(self.train, to=fed.sample(self.cohort))
        return State(x=fed.weights @ fed.memory.x)

    def train(self, cohort: Cohort) -> None:
        x = cohort.memory.x
        if self.solver == "exact":
            cohort.memory.x = cohort.prox(x, 0.0)
        else:
            cohort.memory.x = cohort.local_sgd(x, lr=self.lr, steps=self.local_steps, epochs=self.local_epochs,
                                               batch_size=self.batch_size, momentum=self.momentum)  # fmt: skip
