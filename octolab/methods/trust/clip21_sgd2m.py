r"""Clip21-SGD2M: Clip21 with momentum at the clients and at the server, which minibatches and noise need.

Paper: Double Momentum and Error Feedback for Clipping with Fast Rates and Differential Privacy
Authors: Rustem Islamov, Samuel Horváth, Aurelien Lucchi, Peter Richtárik, Eduard Gorbunov
Venue: preprint, 2025
arXiv: 2502.11682
Solves: Clip21 keeps the noise of minibatches and of privacy; momentum averages it away
Use: minibatches, local differential privacy, heterogeneous data
Avoid: exact gradients without noise (Clip21 is simpler)
Assumes: f_i is L_i-smooth, convex or not; everybody takes part; the authors claim no amplification by sampling
Algorithm:
    v_i = g_i = 0, g = 0
    for k = 0, 1, ...:
        server: x <- x - lr g, sends x
        client i: v_i <- (1 - beta) v_i + beta grad f_i(x);  c_i = clip_tau(v_i - g_i);  g_i <- g_i + weight c_i
            sends c_i (+ e_i, e_i ~ N(0, (z tau)^2 I))
        server: g <- g + weight mean of what came
Up: d numbers per client
Down: d numbers
Step size: 1/L, without the theorem's constants: tune it. beta = 0.1 and weight in 0.01 to 1 are UNCONFIRMED for the paper
Theorem: with small beta and weight, the rate of SGD with momentum without a bound on gradients;
    $(\varepsilon, \delta)$ as DP-Clip21
"""

from __future__ import annotations

from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Problem, Theory, param, torch
from octolab.methods.theory.privacy import check_bounded, clipped, local
from octolab.trust.accounting import Guarantee


class State(NamedTuple):
    x: torch.Tensor
    g: torch.Tensor
    releases: torch.Tensor  # rounds: each releases a model


class Clip21SGD2M(Method):
    slug = "clip21-sgd2m"
    needs = ("full participation",)
    tags = ("heterogeneous", "nonconvex", "error feedback", "privacy", "momentum", "networks")

    tau: float = param(1.0, "the largest norm of a message, before noise", gt=0, infinite=True, main=True)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    beta: float = param(0.1, "momentum of the clients: the weight of a new gradient", gt=0, le=1, main=True)
    weight: float = param(0.5, "weight of a message at server and client", gt=0, le=1, main=True)
    batch_size: int | None = param(None, "samples per gradient; None: all", ge=1)
    noise_multiplier: float = param(0.0, "z, a message's noise over tau; 0: none, and no privacy", ge=0)
    accountant: str = param("pld", "how epsilon is counted", choices=("pld", "rdp"))

    def stepsize(self, problem: Constants) -> float:
        return min(self.beta, self.weight) / problem.L

    def check(self, problem: Problem) -> None:
        super().check(problem)
        check_bounded("Clip21SGD2M", "tau", self.tau, self.noise_multiplier)

    def guarantee(self, problem: Problem, s: State, delta: float) -> Guarantee:
        return local(self.noise_multiplier, int(s.releases), delta, self.accountant)

    def init(self, fed: Federation) -> State:
        fed.call(self.begin)
        return State(x=fed.x0, g=torch.zeros_like(fed.x0), releases=torch.zeros_like(fed.weights[0]))

    def relations(self, fed: Federation, s: State) -> dict[str, torch.Tensor]:
        return {} if self.noise_multiplier else {"g = mean g_i": s.g - fed.mean_of("g")}

    def step(self, fed: Federation, s: State) -> State:
        x = s.x - self.lr * s.g
        g = s.g + self.weight * fed.call(self.client, x).weighted_sum()
        return State(x=x, g=g, releases=s.releases + 1)

    def begin(self, cohort: Cohort) -> None:
        cohort.memory.v, cohort.memory.g = cohort.zeros(), cohort.zeros()

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        new = cohort.grad(x, cohort.batch(self.batch_size))
        cohort.memory.v = v = (1 - self.beta) * cohort.memory.v + self.beta * new
        c = clipped(v - cohort.memory.g, self.tau)
        cohort.memory.g = cohort.memory.g + self.weight * c
        if not self.noise_multiplier:
            return c
        return c + self.noise_multiplier * self.tau * cohort.normal(cohort.d, "noise").to(c)
