r"""EF21-W: weighted EF21, whose analysis allows a much larger step where the L_i differ wildly.

Paper: Error Feedback Reloaded: From Quadratic to Arithmetic Mean of Smoothness Constants
Authors: Peter Richtárik, Elnur Gasanov, Konstantin Burlachenko
Venue: ICLR 2024
arXiv: 2402.10774
Solves: EF21's small step when a few clients have a large L_i: mean L_i takes the place of sqrt(mean L_i^2)
Use: as EF21, with known or estimated L_i that differ much
Avoid: expecting better iterates from the weights: with a positively homogeneous compressor (TopK, RandK, SignNorm) the iterates
    and the bits are EF21's own at the same step. The step is the win, and it is EF21's too (smoothness="mean" there)
Assumes: f is L-smooth and f_i is L_i-smooth, convex or not; the L_i are known up to one common factor; C is contractive
Algorithm:
    w_i = L_i/sum L_j, g_i = grad f_i(x0)/(n w_i), g = sum w_i g_i
    for t = 0, 1, ...:
        server: x <- x - lr * g, sends x
        client i: c_i = C(grad f_i(x)/(n w_i) - g_i), g_i <- g_i + c_i, sends c_i
        server: g <- g + sum w_i c_i
    With batch_size: stochastic gradients (EF21-W-SGD); with cohort: some clients at a time (EF21-W-PP).
Up: one compressed vector per client (of the cohort) and round, and d numbers once at the start
Down: d numbers
Step size: 1/(L + M xi), M = mean L_i (smoothness="mean"), at most sqrt(n) times the step with M = sqrt(mean L_i^2) of EF21's
    first analysis (smoothness="quadratic"); `steps(problem)` gives both. xi = (1 + sqrt(1 - p alpha))/(p alpha) - 1
Theorem: $\frac1T\sum_{t<T}|\nabla f(x_t)|^2 \le \frac{2(f(x_0) - f^*)}{\gamma T} + \frac{G_0}{\theta T}$,
    $G = \sum_i w_i |g_i - \nabla f_i/(n w_i)|^2$, and EF21's linear rate under PL, both with $M = \frac1n\sum_i L_i$
Unconfirmed: the formulas are re-derived and checked numerically, the paper's text was not read; the step with batch_size is
    the one for exact gradients
"""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np

from octolab.errors import AssumptionWarning
from octolab.federation import Replies
from octolab.methods.communication.ef21 import EF21, State
from octolab.methods.page import Cohort, Constants, Federation, Problem, Reply, Sampler, param, torch
from octolab.methods.theory.participation import participation

__all__ = ["EF21W", "State"]


class EF21W(EF21):
    slug = "ef21-w"
    needs = ("contractive", "at most once")

    L_i: tuple[float, ...] | None = param(None, "the clients' L_i, up to one common factor; None: the problem's")
    batch_size: int | None = param(None, "samples per gradient; None: all", ge=1)
    cohort: Sampler | int | float | None = param(None, "who takes part in a round; None: everybody")

    def check(self, problem: Problem) -> None:
        super().check(problem)
        if self.L_i is not None:
            given = np.asarray(self.L_i, dtype=float)
            if given.shape != (problem.n,) or not np.isfinite(given).all() or not (given > 0).all():
                raise ValueError(f"EF21W: L_i={self.L_i!r}: give {problem.n} numbers > 0, one per client, or None.")
        elif problem.L_i is None:
            warnings.warn(
                f"EF21W: the smoothness constants L_i of {problem.name} are unknown (nobody knows them for a network), so "
                f"all weights are 1/n and this is EF21. Give L_i=(...), estimated up to one common factor, for example "
                f"from ratios of gradient differences.",
                AssumptionWarning,
                stacklevel=3,
            )

    def alpha(self, problem: Constants) -> float:
        return participation(self.cohort, problem.n) * super().alpha(problem)

    def rate(self, problem: Constants) -> float | None:
        return super().rate(problem) if self.batch_size is None else None

    def steps(self, problem: Constants) -> dict[str, float]:
        """The step of both analyses: with the arithmetic and with the quadratic mean of the L_i."""
        return {M: dataclasses.replace(self, smoothness=M).stepsize(problem) for M in ("mean", "quadratic")}

    def scales(self, problem: Problem) -> torch.Tensor:
        """(n,) 1/(n w_i): what client i's gradient is multiplied by. (Weights p_i of the objective: p_i/w_i.)"""
        L_i = self.L_i if self.L_i is not None else problem.L_i
        if L_i is None:
            return torch.ones(problem.n, dtype=problem.dtype)
        L = torch.as_tensor(np.asarray(L_i, dtype=float))
        return ((problem.weights @ L) / L).to(problem.dtype)

    def init(self, fed: Federation) -> State:
        g = fed.call(self.begin, fed.x0)
        return State(x=fed.x0, g=self.weighted(fed, g))

    def step(self, fed: Federation, s: State) -> State:
        x = s.x - self.lr * s.g
        return State(x=x, g=s.g + self.weighted(fed, fed.call(self.client, x, to=fed.sample(self.cohort))))

    def relations(self, fed: Federation, s: State) -> dict[str, torch.Tensor]:
        own = fed.weights / self.scales(fed.problem)
        return {"g = sum of w_i g_i": s.g - torch.tensordot(own, fed.memory.scaled, 1)}

    def weighted(self, fed: Federation, replies: Replies) -> torch.Tensor:
        """sum w_i c_i over those who replied."""
        return replies.sum(replies.weights / self.scales(fed.problem)[replies.index])

    def begin(self, cohort: Cohort, x: torch.Tensor) -> Reply:
        v = self.gradient(cohort, x, None)
        sent = v if self.start == "gradient" else self.compressor(v, cohort)
        cohort.memory.scaled = cohort.zeros() if self.start == "zero" else sent
        return None if self.start == "zero" else sent

    def client(self, cohort: Cohort, x: torch.Tensor) -> Reply:
        g = cohort.memory.scaled
        c = self.compressor(self.gradient(cohort, x, self.batch_size) - g, cohort)
        cohort.memory.scaled = g + c
        return c

    def gradient(self, cohort: Cohort, x: torch.Tensor, batch_size: int | None) -> torch.Tensor:
        return cohort.grad(x, cohort.batch(batch_size)) * self.scales(cohort.problem)[cohort.rows][:, None]
