r"""PMTL: private multi-task learning: every client has its own model, and no client is exposed by what the others learn.

Paper: Private Multi-Task Learning: Formulation and Applications to Federated Learning
Authors: Shengyuan Hu, Zhiwei Steven Wu, Virginia Smith
Venue: TMLR 2023
arXiv: 2108.12978
Solves: personal models under differential privacy: they keep their accuracy as epsilon falls
Use: many clients whose tasks are alike, not the same
Avoid: where one model for all is wanted
Assumes: clients are drawn by own secret coins, or so many without replacement; uniform weights
Algorithm:
    w_i = wbar = x0
    for t = 0, 1, ...:
        server sends wbar to the cohort S
        client i of S: steps w_i <- w_i - lr (grad f_i(w_i) + lam (w_i - wbar)) from its own w_i;  sends clip_C(w_i - wbar)
        server: wbar <- wbar + (sum of what came + z C N(0, I)) / m, m the expected size of S
    (The authors' program replaces the anchor wbar after its first minibatch and weighs by data sizes; the paper does not.)
Up: d numbers per client of the cohort
Down: d numbers per client of the cohort
Step size: 1/(L_max + lam); z = sigma m/C in the authors' terms
Theorem: joint (billboard) differential privacy: wbar is $(\varepsilon, \delta)$-DP, and each $w_i$ comes from wbar and client
    i's own data, so that all others' models hide it; $w_i$ itself is not private. The convergence theorem is UNCONFIRMED
"""

from __future__ import annotations

from octolab.federation import Poisson
from octolab.methods.page import (
    Cohort,
    Constants,
    Federation,
    Method,
    NamedTuple,
    Problem,
    Sampler,
    Theory,
    param,
    torch,
)
from octolab.methods.theory.privacy import central, check_bounded, clipped, expected_size
from octolab.trust.accounting import Guarantee

NOTE = "Joint DP: of the common model, and of each client's model against all other clients; no personal model is private itself."


class State(NamedTuple):
    x: torch.Tensor  # wbar
    releases: torch.Tensor  # rounds: each releases a model


class PMTL(Method):
    slug = "pmtl"
    needs = ("at most once",)
    tags = ("privacy", "personalisation", "heterogeneous", "local steps", "client sampling", "networks")

    lam: float = param(0.1, "lambda, strength of the leash to the mean model", ge=0, main=True)
    clip: float = param(
        1.0, "C, the largest norm of what is sent; inf: nothing is clipped", gt=0, infinite=True, main=True
    )
    noise_multiplier: float = param(1.0, "z, noise on the sum over C; 0: none, and no privacy", ge=0, main=True)
    cohort: Sampler | int | float | None = param(Poisson(0.3), "who takes part; None: everybody", main=True)
    lr: Theory[float] = param(Theory(), "local step size", gt=0, main=True)
    local_steps: int | None = param(None, "local steps per round; None: local_epochs", ge=1)
    local_epochs: int = param(1, "passes over a client's data per round", ge=1)
    batch_size: int | None = param(None, "samples per local step; None: all", ge=1)
    accountant: str = param("pld", "how epsilon is counted", choices=("pld", "rdp"))

    def stepsize(self, problem: Constants) -> float:
        return 1 / (problem.L_max + self.lam)

    def check(self, problem: Problem) -> None:
        super().check(problem)
        check_bounded("PMTL", "clip", self.clip, self.noise_multiplier)

    def guarantee(self, problem: Problem, s: State, delta: float) -> Guarantee:
        return central(
            self.noise_multiplier, self.cohort, problem.n, int(s.releases), delta, self.accountant, note=NOTE
        )

    def personal(self, fed: Federation, s: State) -> torch.Tensor:
        return fed.memory.w

    def init(self, fed: Federation) -> State:
        fed.memory.w = fed.x0.repeat(fed.n, 1)  # x0 comes with the program: no traffic
        return State(x=fed.x0, releases=torch.zeros_like(fed.weights[0]))

    def step(self, fed: Federation, s: State) -> State:
        total = fed.call(self.client, s.x, to=fed.sample(self.cohort)).sum()
        if self.noise_multiplier:
            total = total + self.noise_multiplier * self.clip * fed.noise(total)
        x = s.x + total / expected_size(self.cohort, fed.n)
        return State(x=x, releases=s.releases + 1)

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        w, epochs = cohort.memory.w, None if self.local_steps else self.local_epochs
        leash = self.lam * (w - x)  # with prox, whose centre is the start: lam (y - w) + lam (w - x)
        w = cohort.local_sgd(
            w,
            lr=self.lr,
            steps=self.local_steps,
            epochs=epochs,
            batch_size=self.batch_size,
            prox=self.lam,
            correction=leash,
        )
        cohort.memory.w = w
        return clipped(w - x, self.clip)
