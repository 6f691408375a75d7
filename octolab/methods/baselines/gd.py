r"""GD: distributed gradient descent, the yardstick.

Paper: Méthode générale pour la résolution des systèmes d'équations simultanées
Authors: Augustin-Louis Cauchy
Venue: Comptes rendus, 1847
arXiv: none
Solves: smooth problems with exact gradients and no tricks
Use: as the baseline every other method has to beat
Avoid: bandwidth is scarce or data are large: every round sends d numbers each way and passes over all data
Assumes: f is L-smooth; heterogeneous data are fine
Algorithm:
    x0 given
    for t = 0, 1, ...:
        server sends x
        client i replies grad f_i(x)
        server: x <- x - lr * sum_i w_i grad f_i(x)
Up: d numbers per client and round
Down: d numbers
Step size: 1/L
Theorem: for $\gamma \le 1/L$: $f(x_t) - f^* \le \frac{|x_0 - x^*|^2}{2\gamma t}$ if $f$ is convex,
    $f(x_t) - f^* \le (1 - \gamma\mu)^t (f(x_0) - f^*)$ if it is $\mu$-strongly convex (or PL),
    $\min_{s<t}|\nabla f(x_s)|^2 \le \frac{2(f(x_0) - f^*)}{\gamma t}$ in any case
"""

from __future__ import annotations

from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Theory, param, torch


class State(NamedTuple):
    x: torch.Tensor


class GD(Method):
    slug = "gd"
    tags = ("deterministic",)
    messages = {"client": "gradient"}  # noqa: RUF012

    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)

    def stepsize(self, problem: Constants) -> float:
        return 1 / problem.L

    def rate(self, problem: Constants) -> float | None:
        linear = problem.strongly_convex and self.lr * problem.L <= 1 + 1e-12
        return 1 - self.lr * problem.mu if linear else None

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0)

    def step(self, fed: Federation, s: State) -> State:
        g = fed.call(self.client, s.x).mean()
        return State(x=s.x - self.lr * g)

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        return cohort.grad(x)
