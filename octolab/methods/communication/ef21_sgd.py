r"""EF21-SGD: EF21 with stochastic gradients; for large batches only.

Paper: EF21 with Bells & Whistles: Six Algorithmic Extensions of Modern Error Feedback
Authors: Ilyas Fatkhullin, Igor Sokolov, Eduard Gorbunov, Zhize Li, Peter Richtárik
Venue: JMLR 2025
arXiv: 2110.03294
Solves: EF21 where exact gradients are too dear
Use: large batches; as the baseline that EF21-SGDM improves on
Avoid: small batches: noise enters every change that is compressed, and what C makes of it is biased (use EF21-SGDM)
Assumes: as EF21; stochastic gradients with variance at most sigma^2
Algorithm:
    g_i = a batch gradient at x0, g = mean g_i
    for t = 0, 1, ...:
        server: x <- x - lr * g, sends x
        client i: v = a batch gradient of f_i at x, c_i = C(v - g_i), g_i <- g_i + c_i, sends c_i
        server: g <- g + mean c_i
Up: one compressed vector per client and round, and d numbers once at the start
Down: d numbers
Step size: EF21's, 1/(L + M xi), which is proved for exact gradients; with noise it is where to start tuning
Theorem: EF21's for exact gradients. With noise there are problems (convex, d = 2, Top1) on which $E|\nabla f(x_t)|^2$ stays
    above a constant times $\sigma^2$ for every step and every number of clients: batches must grow with the accuracy
Unconfirmed: the lower bound (arXiv 2305.15155) is recalled; our tests hold an example. The step of the paper's own theorem,
    which has two free parameters, is not offered
"""

from __future__ import annotations

from octolab.methods.communication.ef21 import EF21, State
from octolab.methods.page import Cohort, Constants, Reply, param, torch

__all__ = ["EF21SGD", "State"]


class EF21SGD(EF21):
    slug = "ef21-sgd"
    tags = ("heterogeneous", "nonconvex", "biased compression", "error feedback", "stochastic", "networks")

    batch_size: int | None = param(32, "samples per gradient; None: all", ge=1, main=True)
    start_batch: int | None = param(None, "samples of the first gradient; None: all", ge=1)

    def rate(self, problem: Constants) -> float | None:
        return super().rate(problem) if self.batch_size is None else None

    def begin(self, cohort: Cohort, x: torch.Tensor) -> Reply:
        if self.start == "zero":
            cohort.memory.g = cohort.zeros()
            return None
        v = cohort.grad(x, cohort.batch(self.start_batch))
        g = v if self.start == "gradient" else self.compressor(v, cohort)
        cohort.memory.g = g
        return g

    def client(self, cohort: Cohort, x: torch.Tensor) -> Reply:
        g = cohort.memory.g
        c = self.compressor(cohort.grad(x, cohort.batch(self.batch_size)) - g, cohort)
        cohort.memory.g = g + c
        return c
