r"""SAGA: a few clients a round, and the last gradient of all the others, so that sampling leaves no noise.

Paper: SAGA: A Fast Incremental Gradient Method With Support for Non-Strongly Convex Composite Objectives
Authors: Aaron Defazio, Francis Bach, Simon Lacoste-Julien
Venue: NIPS 2014
arXiv: 1407.0202
Solves: partial participation without the floor of sampled gradients: a linear rate with one client a round
Use: clients that return and remember one gradient; convex problems; nothing is compressed
Avoid: networks with thousands of clients that seldom return: their gradients are old; very unequal w_i L_i
Assumes: f_i is L_i-smooth and convex; every cohort is drawn afresh, no client twice
Algorithm:
    phi_i = grad f_i(x0), A = mean phi_i
    for t = 0, 1, ...:
        server draws a cohort S (client i with probability p_i), sends x
        client i in S: sends d_i = grad f_i(x) - phi_i;  phi_i <- grad f_i(x)
        server: x <- x - lr (A + sum_S (w_i/p_i) d_i), then A <- A + sum_S w_i d_i
Up: d numbers per member of the cohort, and d numbers from everybody once at the start
Down: d numbers to the cohort
Step size: 1/(3 Lm), Lm = max n w_i L_i (times 1/(n p) where some client comes with a probability p below 1/n)
Theorem: one client a round, $\gamma = 1/(3L_m)$, $L_m = \max_i n w_i L_i$: $E|x_t - x^*|^2 \le (1 - \rho)^t C_0$,
    $\rho = \min(\frac1{4n}, \frac{\mu}{3L_m})$, $C_0$ of the order of $|x_0 - x^*|^2 + \frac{n}{\mu n + L_m}(f(x_0) - f^*)$
Unconfirmed: larger cohorts at the step of one (their variance is smaller); weights as f_i -> n w_i f_i
"""

from __future__ import annotations

from octolab.federation.sampling import as_sampler
from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Sampler, Theory, param, torch
from octolab.methods.theory.participation import participation, steepest


class State(NamedTuple):
    x: torch.Tensor
    A: torch.Tensor  # mean phi_i


class SAGA(Method):
    slug = "saga"
    needs = ("at most once",)
    tags = ("heterogeneous", "convex", "client sampling", "variance reduction")

    cohort: Sampler | int | float | None = param(0.25, "who takes part in a round; None: everybody", main=True)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)

    def stepsize(self, problem: Constants) -> float:
        return 1 / (3 * steepest(problem, participation(self.cohort, problem.n)))

    def rate(self, problem: Constants) -> float | None:
        if not problem.strongly_convex or min(problem.mu_i) < 0 or self.lr > self.stepsize(problem) * (1 + 1e-12):
            return None
        seldom = min(1 / problem.n, participation(self.cohort, problem.n))
        return 1 - min(seldom / 4, self.lr * problem.mu)

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0, A=fed.call(self.begin, fed.x0).weighted_sum())

    def relations(self, fed: Federation, s: State) -> dict[str, torch.Tensor]:
        return {"A = mean phi_i": s.A - fed.mean_of("phi")}

    def step(self, fed: Federation, s: State) -> State:
        d = fed.call(self.client, s.x, to=fed.sample(self.cohort))
        p = fed.place(as_sampler(self.cohort).probabilities(fed.n)).to(s.x.dtype)
        return State(x=s.x - self.lr * (s.A + d.sum(d.weights / p[d.index])), A=s.A + d.weighted_sum())

    def begin(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        cohort.memory.phi = g = cohort.grad(x)
        return g

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        g, phi = cohort.grad(x), cohort.memory.phi
        cohort.memory.phi = g
        return g - phi
