r"""RR-CLI: every client exactly once per turn, in cohorts cut from a fresh permutation, with three nested steps.

Paper: Federated Learning with Regularized Client Participation
Authors: Grigory Malinovsky, Samuel Horváth, Konstantin Burlachenko, Peter Richtárik
Venue: ICML 2023 workshop on federated learning
arXiv: 2302.03662
Solves: the variance of client sampling: in a turn of R = n/C rounds nobody is missed and nobody comes twice
Use: the server can say who comes when; a guarantee of participation is wanted (everybody once per turn, at no cost). The
    product switch selection_strategy="reshuffled"
Avoid: availability that the server cannot plan (a fixed order: CyCP); clients that drop out of their only round
Assumes: f_i is L-smooth, mu-strongly convex for the rate; every client appears once per turn, in any order
Algorithm:
    for t = 0, 1, ...: (a turn, or meta-epoch)
        permute the clients, cut them into R cohorts of C (the last may be smaller);  z = x
        for each cohort: (a round, a step here)
            server sends z;  client i: y = a pass over its data in fresh random order from z, steps lr
                sends g_i = (z - y)/(lr * steps)
            server: z <- z - eta * mean over the cohort of n w_i g_i   (uniform weights: the mean of g_i)
        server: x <- x - theta (x - z)/(eta R)
    Between the rounds of a turn the model shown is z.
Up: d numbers per member of the cohort
Down: d numbers to the cohort
Step size: lr = 1/max L_i, eta = lr * steps of a pass (on average), theta = eta R: then it is FedAvg over reshuffled
    cohorts. Ten times smaller lr and eta with theta kept: a much lower floor at the same speed
Theorem: $\eta=\gamma N$, $\theta=\eta R$, $\gamma\le 1/L$: $E\|x_T-x^*\|^2 \le (1-\gamma\mu)^{NRT}\|x_0-x^*\|^2 +
    O(\gamma^2)$; sampling with replacement has $O(\gamma)$
Unconfirmed: the constant in front of gamma^2
"""

from __future__ import annotations

import numpy as np

from octolab.errors import OutsideAssumptions
from octolab.federation.sampling import Reshuffled, as_sampler
from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Sampler, Theory, param, torch
from octolab.problems import Problem


class State(NamedTuple):
    x: torch.Tensor  # z within a turn
    start: torch.Tensor  # x at the start of the turn
    place: int = 0  # rounds of this turn so far


class RRCLI(Method):
    slug = "rr-cli"
    tags = ("heterogeneous", "convex", "local steps", "client sampling", "random reshuffling")

    cohort: Sampler | int | float | None = param(0.5, "C, clients per round, or a sampler with turns", main=True)
    lr: Theory[float] = param(Theory(), "local step size gamma", gt=0, main=True)
    eta: Theory[float] = param(Theory(), "step of a round, on g_i", gt=0, main=True)
    theta: Theory[float] = param(Theory(), "step of a turn", gt=0, main=True)
    local_epochs: int = param(1, "passes over a client's data per round", ge=1)
    batch_size: int | None = param(16, "samples per local step; None: all, one step a pass", ge=1, main=True)

    @property
    def sampler(self) -> Sampler:
        given = self.cohort
        return as_sampler(given) if given is None or isinstance(given, Sampler) else Reshuffled(given)

    def stepsize(self, problem: Constants) -> float:
        return 1 / problem.L_max

    def theory_eta(self, problem: Constants) -> float:
        passes = np.ceil(problem.sizes / self.batch_size) if self.batch_size else np.ones(problem.n)
        return self.lr * self.local_epochs * float(passes.mean())

    def theory_theta(self, problem: Constants) -> float:
        return self.eta * (self.sampler.period(problem.n) or 1)

    def rate(self, problem: Constants) -> float | None:
        agree = problem.mu_min and float(problem.grad(problem.x_star).abs().max()) <= 1e-12 * problem.L
        turns = self.sampler.period(problem.n) or 1
        if not agree or problem.variance(self.batch_size) or not np.isclose(self.theta, self.eta * turns):
            return None  # there is a floor of O(gamma^2), or nothing is proved
        factor = float((1 - self.lr * problem.mu_min) ** (self.eta / self.lr))
        return factor if 0 < factor < 1 else None

    def check(self, problem: Problem) -> None:
        super().check(problem)
        if self.sampler.period(problem.n) is None:
            raise OutsideAssumptions(
                f"RRCLI: cohort={self.cohort!r} leaves to chance who comes how often; each client has to appear once per "
                f"turn. Give a cohort size, Reshuffled(C), Cyclic(groups), or None for everybody."
            )

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0, start=fed.x0)

    def step(self, fed: Federation, s: State) -> State:
        rounds = self.sampler.period(fed.n) or 1
        g = fed.call(self.client, s.x, to=fed.sample(self.sampler))
        z = s.x
        if len(g):  # an unlucky cohort misses its round: it will be back next turn
            z = z - self.eta * g.sum(g.weights * (fed.n / len(g)))
        if s.place + 1 < rounds:
            return State(z, s.start, s.place + 1)
        x = s.start - (self.theta / (self.eta * rounds)) * (s.start - z)
        return State(x, x)

    def client(self, cohort: Cohort, z: torch.Tensor) -> torch.Tensor:
        y = cohort.local_sgd(z, lr=self.lr, epochs=self.local_epochs, batch_size=self.batch_size)
        steps = cohort.local_steps(None, self.local_epochs, self.batch_size)
        return (z - y) / (self.lr * steps[:, None].to(z.dtype))
