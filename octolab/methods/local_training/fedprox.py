r"""FedProx: FedAvg with a proximal term that keeps clients near the model they received.

Paper: Federated Optimization in Heterogeneous Networks
Authors: Tian Li, Anit Kumar Sahu, Manzil Zaheer, Maziar Sanjabi, Ameet Talwalkar, Virginia Smith
Venue: MLSys 2020
arXiv: 1812.06127
Solves: less drift on heterogeneous data, and stragglers whose partial work counts instead of being thrown away
Use: devices of unequal speed; heterogeneous networks where FedAvg is unstable
Avoid: an exact optimum is wanted: the bias shrinks with mu and never vanishes, and progress slows (SCAFFOLD, FedDyn)
Assumes: for the theorem: bounded dissimilarity, mu large against the nonconvexity
Algorithm:
    for t = 0, 1, ...:
        server draws a cohort S, sends x
        client i: y_i ~ argmin f_i(y) + (mu/2)|y - x|^2, by as much local training as it gets done; sends y_i - x
        server: x <- x + server_lr * weighted mean of the y_i - x
Up: d numbers per member of the cohort
Down: d numbers to the cohort
Step size: 1/(max L_i + mu)
Theorem: with $B$-bounded dissimilarity and $\gamma$-inexact solutions, for $\mu$ large enough each round descends by
    $\rho\,|\nabla f(x_t)|^2$ in expectation, $\rho = \rho(\mu, \gamma, B) > 0$. Exact solutions are
    $y_i = \mathrm{prox}_{f_i/\mu}(x)$; the fixed point tends to $x^*$ as $\mu \to \infty$
Unconfirmed: the conditions of the theorem are recalled; each device of a cohort straggles by its own coin (the study
    in the paper fixes their share), and does a uniform number of its epochs (or steps) in 1..E
"""

from __future__ import annotations

from typing import Any

from octolab.methods.local_training.fedavg import FedAvg, State
from octolab.methods.page import Cohort, Constants, param, torch

__all__ = ["FedProx", "State"]


class FedProx(FedAvg):
    slug = "fedprox"
    tags = ("heterogeneous", "local steps", "client sampling", "stragglers", "networks", "nonconvex")

    mu: float = param(0.1, "weight of the proximal term", ge=0, main=True)
    stragglers: float = param(0.0, "share of devices that do a random part of their work", ge=0, le=1)
    solver: str = param("sgd", "local training, or the exact minimiser (needs Hessians)", choices=("sgd", "exact"))

    def stepsize(self, problem: Constants) -> float:
        return 1 / (problem.L_max + self.mu)

    def rate(self, problem: Constants) -> float | None:
        return super().rate(problem) if self.mu == 0 and self.solver == "sgd" and not self.stragglers else None

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        if self.solver == "exact":
            return cohort.prox(x, self.mu) - x
        plan = self.plan(cohort)
        return cohort.local_sgd(x, lr=self.lr, momentum=self.momentum, prox=self.mu, optimizer=self.local, **plan) - x

    def plan(self, cohort: Cohort) -> dict[str, Any]:
        plan = super().plan(cohort)
        if self.stragglers == 0:
            return plan
        whole = cohort.local_steps(**plan)
        parts = whole if self.local_steps is not None else torch.full_like(whole, self.local_epochs)
        slow, share = cohort.uniform(2, "stragglers").unbind(1)
        done = (1 + (share * parts).long()) * (whole // parts)  # whole epochs, or steps
        return {**plan, "stop": torch.where(slow < self.stragglers, done, whole)}
