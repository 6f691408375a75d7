"""EF21: error feedback that converges exactly on heterogeneous data.

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
    M = sqrt(mean L_i^2) (the original paper); then mean |grad f(x_t)|^2 <= 2 (f(x0) - f*)/(lr T) + G0/(theta T)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from octolab.compressors import Compressor, TopK
from octolab.federation import Cohort, Federation
from octolab.methods.method import Method, Theory, param


class State(NamedTuple):
    x: torch.Tensor
    g: torch.Tensor  # the server's copy of mean g_i


def xi(alpha: float) -> float:
    """sqrt(beta/theta) for theta = 1 - sqrt(1 - alpha), beta = (1 - alpha)/theta: about 2/alpha, and 0 at alpha = 1."""
    return (1 + math.sqrt(1 - alpha)) / alpha - 1


@dataclass(frozen=True, repr=False)
class EF21(Method):
    slug = "ef21"
    needs = ("contractive", "full participation")
    tags = ("heterogeneous", "nonconvex", "biased compression", "error feedback")

    compressor: Compressor = param(TopK(0.05), "contractive compressor C", main=True)
    lr: float | Theory = param(Theory(), "step size", above=0, main=True)
    start: str = param("gradient", "g_i at the start", choices=("gradient", "compressed", "zero"))
    smoothness: str = param(
        "mean", "M in the step size: mean L_i, or their quadratic mean", choices=("mean", "quadratic")
    )

    def stepsize(self, problem: Any) -> float:
        M = problem.L_mean if self.smoothness == "mean" else problem.L_qm
        return 1 / (problem.L + M * xi(self.compressor.alpha(problem.d)))

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0, g=fed.call(self.begin, fed.x0).total())

    def step(self, fed: Federation, s: State) -> State:
        x = s.x - self.lr * s.g
        return State(x=x, g=s.g + fed.call(self.client, x).total())

    def begin(self, cohort: Cohort, x: torch.Tensor) -> Any:
        if self.start == "zero":
            cohort.memory.g = cohort.zeros()
            return None
        g = cohort.grad(x) if self.start == "gradient" else self.compressor(cohort.grad(x), cohort)
        cohort.memory.g = g
        return g

    def client(self, cohort: Cohort, x: torch.Tensor) -> Any:
        g = cohort.memory.g
        c = self.compressor(cohort.grad(x) - g, cohort)
        cohort.memory.g = g + c
        return c
