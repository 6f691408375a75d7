r"""DIANA: unbiased compression of gradient differences, linear convergence to the exact optimum.

Paper: Distributed Learning with Compressed Gradient Differences
Authors: Konstantin Mishchenko, Eduard Gorbunov, Martin Takáč, Peter Richtárik
Venue: Optimization Methods and Software 2024; any omega: arXiv 1904.05115 (Horváth et al.)
arXiv: 1901.09269
Solves: quantised uplinks in the (strongly) convex regime without the noise floor of plain quantised gradients
Use: convex problems, heterogeneous data, an unbiased compressor such as RandK, QSGD or Natural
Avoid: TopK (biased: use EF21); nonconvex problems with large omega (use MARINA)
Assumes: f_i is L_i-smooth and convex; Q is unbiased, E|Q(v) - v|^2 <= omega |v|^2
Algorithm:
    h_i = 0, h = mean h_i
    for t = 0, 1, ...:
        server sends x
        client i: m_i = Q(grad f_i(x) - h_i), h_i <- h_i + alpha m_i, sends m_i
        server: x <- x - lr (h + mean m_i), then h <- h + alpha mean m_i
Up: one compressed vector per client and round
Down: d numbers
Step size: 1/(L_max (1 + 6 omega_av)) with alpha = 1/(1 + omega); omega_av, the variance of the mean, is omega/n, with
    weights omega max w_i
Theorem: $E V_t \le \max(1 - \gamma\mu, 1 - \frac{\alpha}{2})^t V_0$ for $\alpha \le \frac{1}{1+\omega}$,
    $V = |x - x^*|^2 + \frac{4\omega_{av}\gamma^2}{\alpha}\sum_i w_i |h_i - \nabla f_i(x^*)|^2$
"""

from __future__ import annotations

from octolab.compressors import RandK
from octolab.methods.page import (
    Cohort,
    Compressor,
    Constants,
    Federation,
    Method,
    NamedTuple,
    Stage,
    Theory,
    param,
    torch,
)
from octolab.payloads import Payload


class State(NamedTuple):
    x: torch.Tensor
    h: torch.Tensor  # the server's copy of mean h_i


class DIANA(Method):
    slug = "diana"
    needs = ("unbiased",)
    tags = ("heterogeneous", "convex", "unbiased compression", "variance reduction")
    stage = Stage("With RandK, DIANA needs fewer bits than gradient descent.", axis="bits_up", baseline="gd")

    compressor: Compressor = param(RandK(0.25), "unbiased compressor Q", main=True)
    alpha: Theory[float] = param(Theory(), "step of the shifts h_i", ge=0, le=1)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)

    def theory_alpha(self, problem: Constants) -> float:
        return 1 / (1 + self.compressor.variance(problem.d))

    def stepsize(self, problem: Constants) -> float:
        return 1 / (problem.L_max * (1 + 6 * self.compressor.mean_omega(problem.d, problem.weights)))

    def rate(self, problem: Constants) -> float | None:
        if not problem.strongly_convex or min(problem.mu_i) < 0:
            return None
        slow_enough = self.lr <= self.stepsize(problem) * (1 + 1e-12)
        if not slow_enough or not 0 < self.alpha <= (1 + 1e-12) * self.theory_alpha(problem):
            return None
        return max(1 - self.lr * problem.mu, 1 - self.alpha / 2)

    def init(self, fed: Federation) -> State:
        fed.call(self.begin)
        return State(x=fed.x0, h=torch.zeros_like(fed.x0))

    def relations(self, fed: Federation, s: State) -> dict[str, torch.Tensor]:
        return {"h = mean h_i": s.h - fed.mean_of("h")}

    def step(self, fed: Federation, s: State) -> State:
        m = fed.call(self.client, s.x).weighted_sum()
        return State(x=s.x - self.lr * (s.h + m), h=s.h + self.alpha * m)

    def begin(self, cohort: Cohort) -> None:
        cohort.memory.h = cohort.zeros()

    def client(self, cohort: Cohort, x: torch.Tensor) -> Payload:
        h = cohort.memory.h
        m = self.compressor(cohort.grad(x) - h, cohort)
        cohort.memory.h = h + self.alpha * m
        return m
