r"""EF21: error feedback that converges exactly on heterogeneous data.

Paper: EF21: A New, Simpler, Theoretically Better, and Practically Faster Error Feedback
Authors: Peter Richtárik, Igor Sokolov, Ilyas Fatkhullin
Venue: NeurIPS 2021
arXiv: 2106.05203
Solves: biased compressors such as TopK, safely, on heterogeneous data; what is compressed is a change, so its error dies out
Use: full or large-batch gradients, everybody takes part, the uplink is the bottleneck
Avoid: tiny batches (use EF21-SGDM); client sampling (use EF21-PP)
Assumes: f is L-smooth and f_i is L_i-smooth, convex or not; C is contractive: E|C(v) - v|^2 <= (1 - alpha)|v|^2
Algorithm:
    g_i = grad f_i(x0), g = mean g_i
    for t = 0, 1, ...:
        server: x <- x - lr * g, sends x
        client i: c_i = C(grad f_i(x) - g_i), g_i <- g_i + c_i, sends c_i
        server: g <- g + mean c_i
Up: one compressed vector per client and round, and d numbers once at the start
Down: d numbers
Step size: 1/(L + M xi), xi = (1 + sqrt(1 - alpha))/alpha - 1, with M = mean L_i (Error Feedback Reloaded, arXiv 2402.10774) or
    M = sqrt(mean L_i^2) (the original paper)
Theorem: $\frac1T\sum_{t<T}|\nabla f(x_t)|^2 \le \frac{2(f(x_0) - f^*)}{\gamma T} + \frac{G_0}{\theta T}$,
    $\theta = 1 - \sqrt{1-\alpha}$, $G = \sum w_i |g_i - \nabla f_i|^2$ (for $M$ the mean:
    $\sum w_i \frac{M}{L_i}|g_i - \nabla f_i|^2$). Under PL $f - f^* + \frac{\gamma}{2\theta q} G$ shrinks by
    $\max(1 - \gamma\mu, 1 - \theta(1 - q))$, $q = \gamma^2 M^2\xi^2/(1 - \gamma L) < 1$: the paper's step is $q = 1/2$,
    $\gamma \le \theta/(2\mu)$; other $q$ by its own proof
"""

from __future__ import annotations

from typing import ClassVar

from octolab.compressors import TopK
from octolab.federation import Reply
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
from octolab.methods.theory.error_feedback import linear_rate, xi


class State(NamedTuple):
    x: torch.Tensor
    g: torch.Tensor  # the server's copy of mean g_i


class EF21(Method):
    slug = "ef21"
    start_here = True
    needs: ClassVar[tuple[str, ...]] = ("contractive", "full participation")
    tags: ClassVar[tuple[str, ...]] = ("heterogeneous", "nonconvex", "biased compression", "error feedback")
    stage = Stage(
        "With TopK, EF21 needs fewer bits than gradient descent on heterogeneous data.", axis="bits_up", baseline="gd"
    )

    compressor: Compressor = param(TopK(0.05), "contractive compressor C", main=True)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    start: str = param("gradient", "g_i at the start", choices=("gradient", "compressed", "zero"))
    smoothness: str = param(
        "mean", "M in the step size: mean L_i, or their quadratic mean", choices=("mean", "quadratic")
    )

    def alpha(self, problem: Constants) -> float:
        return self.compressor.contraction(problem.d)

    def M(self, problem: Constants) -> float:
        return float(problem.L_mean if self.smoothness == "mean" else problem.L_qm)

    def stepsize(self, problem: Constants) -> float:
        return 1 / (problem.L + self.M(problem) * xi(self.alpha(problem)))

    def rate(self, problem: Constants) -> float | None:
        if not problem.strongly_convex:
            return None
        return linear_rate(float(self.lr), problem.L, self.M(problem), self.alpha(problem), problem.mu)

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0, g=fed.call(self.begin, fed.x0).weighted_sum())

    def relations(self, fed: Federation, s: State) -> dict[str, torch.Tensor]:
        return {"g = mean g_i": s.g - fed.mean_of("g")}

    def step(self, fed: Federation, s: State) -> State:
        x = s.x - self.lr * s.g
        return State(x=x, g=s.g + fed.call(self.client, x).weighted_sum())

    def begin(self, cohort: Cohort, x: torch.Tensor) -> Reply:
        if self.start == "zero":
            cohort.memory.g = cohort.zeros()
            return None
        g = cohort.grad(x) if self.start == "gradient" else self.compressor(cohort.grad(x), cohort)
        cohort.memory.g = g
        return g

    def client(self, cohort: Cohort, x: torch.Tensor) -> Reply:
        g = cohort.memory.g
        c = self.compressor(cohort.grad(x) - g, cohort)
        cohort.memory.g = g + c
        return c
