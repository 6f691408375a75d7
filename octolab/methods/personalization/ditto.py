r"""Ditto: FedAvg's model for all, and beside it a personal one for each client on a leash.

Paper: Ditto: Fair and Robust Federated Learning Through Personalization
Authors: Tian Li, Shengyuan Hu, Ahmad Beirami, Virginia Smith
Venue: ICML 2021
arXiv: 2012.04221
Solves: clients that differ: v_i minimises f_i(v) + (lam/2)|v - w|^2, w from any global method (here FedAvg with all it can)
Use: personal accuracy, robustness to odd clients (with a robust aggregator too); clients come back with their memory
Avoid: devices without memory; no data for training a model of one's own; twice the local work is too much
Assumes: f_i is smooth
Algorithm:
    v_i = x0
    for t = 0, 1, ...:
        server draws a cohort S, sends x to it
        client i in S: local SGD from x gives y_i, sends y_i - x
            local SGD from v_i on f_i(v) + (lam/2)|v - x|^2, x as received, gives v_i
        server: x <- x + server_lr * weighted mean of y_i - x
Up: d numbers per member of the cohort: FedAvg's
Down: d numbers to the cohort
Step size: 1/(max L_i + lam), for both models
Theorem: $x$ is FedAvg's to the last bit. If $x_t \to \bar x$, then $v_i \to \mathrm{prox}_{f_i/\lambda}(\bar x)$: each
    personal step shrinks the distance by $1 - \gamma(\mu_i + \lambda)$. $\lambda = 0$ is local-only, and
    $|v_i - \bar x| \le |\nabla f_i(\bar x)|/\lambda$ leads to the common model as $\lambda \to \infty$
Unconfirmed: the authors' code takes the same batches for both models; here each draws its own. Their choice of lam by the
    client's validation loss ("dynamic", out of 0.1, 1 and 2) is left out: clients here hold no validation part
"""

from __future__ import annotations

from octolab.methods.local_training.fedavg import FedAvg, State
from octolab.methods.page import Cohort, Constants, Federation, param, torch

__all__ = ["Ditto", "State"]


class Ditto(FedAvg):
    slug = "ditto"
    start_here = True
    tags = ("personalisation", "heterogeneous", "nonconvex", "networks", "client sampling", "local steps")

    lam: float = param(1.0, "lambda, strength of the leash to the common model", ge=0, main=True)
    personal_steps: int | None = param(None, "local steps of the personal model; None: as many as the common one", ge=1)
    personal_lr: float | None = param(None, "their size; None: lr", gt=0)
    weighting: str = param("ratio", "weights in the average of a cohort", choices=("ratio", "unbiased"))
    solver: str = param("sgd", "of v_i: local training, or exactly (needs Hessians)", choices=("sgd", "exact"))

    def stepsize(self, problem: Constants) -> float:
        return 1 / (problem.L_max + self.lam)

    def personal(self, fed: Federation, s: State) -> torch.Tensor:
        return fed.memory.v

    def init(self, fed: Federation) -> State:
        fed.memory.v = fed.x0.repeat(fed.n, 1)  # x0 comes with the program: no traffic
        return super().init(fed)

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        change = super().client(cohort, x)
        cohort.memory.v = self.personally(cohort, cohort.memory.v, x)
        return change

    def personally(self, cohort: Cohort, v: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """(m, d) the personal models after a round in which x (d,) was received."""
        if self.solver == "exact":
            return cohort.prox(x, self.lam)
        plan = self.plan(cohort)
        if self.personal_steps is not None:
            plan |= {"steps": self.personal_steps, "stop": None}
        leash = self.lam * (v - x)  # with prox, whose centre is the start: lam (y - v) + lam (v - x)
        return cohort.local_sgd(v, lr=self.personal_lr or self.lr, prox=self.lam, correction=leash, **plan)
