r"""L-SVRG: a few clients a round, measured against a reference point that a coin now and then renews.

Paper: Don't Jump Through Hoops and Remove Those Loops: SVRG and Katyusha are Better Without the Outer Loop
Authors: Dmitry Kovalev, Samuel Horváth, Peter Richtárik
Venue: ALT 2020
arXiv: 1901.08689
Solves: partial participation without the floor of sampled gradients, at fixed memory, by rounds in which all clients take part
Use: clients that can now and then all be called; convex problems
Avoid: clients that are never all there (SAGA); uplinks where a round of everybody is too dear
Assumes: f_i is L_i-smooth and convex; every cohort is drawn afresh, no client twice
Algorithm:
    w = x0, h_i = grad f_i(w), G = mean h_i
    for t = 0, 1, ...:
        server draws a cohort S (client i with probability p_i), sends x
        client i in S: sends grad f_i(x) - h_i
        server: x+ = x - lr (G + sum_S (w_i/p_i)(what client i sent))
        coin, P(1) = p.  1: w <- x (the old one), which all receive: h_i <- grad f_i(w), G <- mean h_i;   x <- x+
Up: d numbers per member of the cohort, d numbers from everybody on coin 1 and once at the start
Down: d numbers to the cohort, d numbers to everybody on coin 1
Step size: 1/(6 Lm), Lm = max n w_i L_i for uniform sampling; p = 1/n
Theorem: $E V_t \le \max(1 - \gamma\mu, 1 - \frac p2)^t V_0$ for $\gamma \le 1/(6L_m)$,
    $V = |x - x^*|^2 + \frac{4\gamma^2}{p}\cdot\frac1n\sum_i n^2 w_i^2 |h_i - \nabla f_i(x^*)|^2$
Unconfirmed: larger cohorts at the step of one (their variance is smaller); weights as f_i -> n w_i f_i
"""

from __future__ import annotations

from octolab.federation.sampling import as_sampler
from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Sampler, Theory, param, torch
from octolab.methods.theory.participation import participation, steepest


class State(NamedTuple):
    x: torch.Tensor
    G: torch.Tensor  # mean h_i, the gradient at the reference point


class LSVRG(Method):
    slug = "l-svrg"
    needs = ("at most once",)
    tags = ("heterogeneous", "convex", "client sampling", "variance reduction")

    cohort: Sampler | int | float | None = param(0.25, "who takes part in a round; None: everybody", main=True)
    p: Theory[float] = param(Theory(), "probability of a new reference point", gt=0, le=1)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)

    def theory_p(self, problem: Constants) -> float:
        return 1 / problem.n

    def stepsize(self, problem: Constants) -> float:
        return 1 / (6 * steepest(problem, participation(self.cohort, problem.n)))

    def rate(self, problem: Constants) -> float | None:
        if not problem.strongly_convex or min(problem.mu_i) < 0 or self.lr > self.stepsize(problem) * (1 + 1e-12):
            return None
        return max(1 - self.lr * problem.mu, 1 - self.p / 2)

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0, G=fed.call(self.begin, fed.x0).weighted_sum())

    def relations(self, fed: Federation, s: State) -> dict[str, torch.Tensor]:
        return {"G = mean h_i": s.G - fed.mean_of("h")}

    def step(self, fed: Federation, s: State) -> State:
        d = fed.call(self.client, s.x, to=fed.sample(self.cohort))
        p = fed.place(as_sampler(self.cohort).probabilities(fed.n)).to(s.x.dtype)
        x = s.x - self.lr * (s.G + d.sum(d.weights / p[d.index]))
        if not fed.coin(self.p):
            return State(x=x, G=s.G)
        return State(x=x, G=s.G + fed.call(self.renew, s.x).weighted_sum())

    def begin(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        cohort.memory.h = h = cohort.grad(x)
        return h

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        return cohort.grad(x) - cohort.memory.h

    def renew(self, cohort: Cohort, w: torch.Tensor) -> torch.Tensor:
        """The change of h_i: who misses it keeps the old one, and G stays their mean."""
        h, old = cohort.grad(w), cohort.memory.h
        cohort.memory.h = h
        return h - old
