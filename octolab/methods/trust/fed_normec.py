r"""Fed-alpha-NormEC: alpha-NormEC with local steps and clients that take part now and then.

Paper: First Provable Guarantees for Practical Private FL: Beyond Restrictive Assumptions
Authors: Egor Shulgin, Grigory Malinovsky, Sarit Khirirat, Peter Richtárik
Venue: preprint, 2025
arXiv: 2512.21521
Solves: private training with local steps and client sampling, without a bound on gradients
Use: privacy, heterogeneous data, clients that come and go
Avoid: much noise with a large beta
Assumes: f_i is L_i-smooth, convex or not; each client takes part by an own coin of probability p
Algorithm:
    v_i = 0, v = 0
    for k = 0, 1, ...:
        server sends x to the participants S
        client i of S: tau local steps of size local_lr from x to y_i, on all data or, incremental, one sample after the other;
            u_i = (x - y_i)/(local_lr * steps);  D_i = (u_i - v_i)/(alpha + |u_i - v_i|);  v_i <- v_i + beta D_i; sends D_i
        server: v <- v + beta/n (sum of what came + z N(0, I));  x <- x - lr v/|v|
    The weights beta/n, with which v stays mean v_i, are a reconstruction, UNCONFIRMED
Up: d numbers per participant
Down: d numbers per participant
Step size: local_lr = 1/L_max; lr = p beta R/((alpha + R) L_max), the theorem's condition with the share p of clients: a heuristic
Theorem: none is claimed here for p < 1; $(\varepsilon, \delta)$ for Poisson participants and noise z on the sum
"""

from __future__ import annotations

from octolab.federation import Poisson
from octolab.methods.page import Cohort, Constants, Federation, Problem, Sampler, Theory, param, torch
from octolab.methods.theory.privacy import central, expected_size
from octolab.methods.trust.normec import NormEC, State
from octolab.trust.accounting import Guarantee

__all__ = ["FedNormEC", "State"]


class FedNormEC(NormEC):
    slug = "fed-normec"
    needs = ("at most once",)
    tags = ("heterogeneous", "nonconvex", "error feedback", "privacy", "local steps", "client sampling")

    cohort: Sampler | int | float | None = param(Poisson(0.3), "who takes part; None: everybody", main=True)
    local_lr: Theory[float] = param(Theory(), "local step size", gt=0)
    local_steps: int = param(5, "tau, local steps on all data", ge=1, main=True)
    incremental: bool = param(False, "one pass over the samples, one after the other, instead")

    def theory_local_lr(self, problem: Constants) -> float:
        return 1 / problem.L_max

    def stepsize(self, problem: Constants) -> float:
        return super().stepsize(problem) * expected_size(self.cohort, problem.n) / problem.n

    def guarantee(self, problem: Problem, s: State, delta: float) -> Guarantee:
        if self.start == "gradient":
            return super().guarantee(problem, s, delta)
        return central(self.noise_multiplier, self.cohort, problem.n, int(s.releases), delta, self.accountant)

    def step(self, fed: Federation, s: State) -> State:
        v = s.v + self.beta / fed.n * self.total(fed, fed.call(self.client, s.x, to=fed.sample(self.cohort)))
        return State(x=self.moved(s.x, v), v=v, releases=s.releases + 1)

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        plan = {"epochs": 1, "batch_size": 1} if self.incremental else {"steps": self.local_steps}
        taken = cohort.local_steps(plan.get("steps"), plan.get("epochs"), plan.get("batch_size")).to(x)
        y = cohort.local_sgd(x, lr=self.local_lr, **plan)  # type: ignore[arg-type]
        return self.normalised(cohort, (x - y) / (self.local_lr * taken[:, None]))
