r"""EF21-PP: EF21 when only some clients take part; the absent keep their g_i.

Paper: EF21 with Bells & Whistles: Six Algorithmic Extensions of Modern Error Feedback
Authors: Ilyas Fatkhullin, Igor Sokolov, Eduard Gorbunov, Zhize Li, Peter Richtárik
Venue: JMLR 2025
arXiv: 2110.03294
Solves: error feedback with partial participation
Use: TopK and a few clients at a time that come back with their memory
Avoid: clients without memory between rounds
Assumes: as EF21; every client takes part with probability at least p
Algorithm:
    g_i = grad f_i(x0), g = mean g_i
    for t = 0, 1, ...:
        server: x <- x - lr * g; draws a cohort S, sends x to it
        client i in S: c_i = C(grad f_i(x) - g_i), g_i <- g_i + c_i, sends c_i;   all others keep g_i
        server: g <- g + (1/n) sum_S c_i
Up: one compressed vector per member of the cohort, and d numbers from everybody once at the start
Down: d numbers to the cohort
Step size: EF21's with alpha replaced by p alpha, p = the smallest participation probability (marginally C is then a
    compressor that sends with probability p; an exact argument)
Theorem: EF21's with $\alpha \to p\alpha$, in expectation: $\frac1T\sum_{t<T} E|\nabla f(x_t)|^2 \le \frac{2(f(x_0) -
    f^*)}{\gamma T} + \frac{G_0}{\theta T}$, $\theta = 1 - \sqrt{1 - p\alpha}$, and the same linear rate under PL
"""

from __future__ import annotations

from octolab.methods.communication.ef21 import EF21, State
from octolab.methods.page import Constants, Federation, Sampler, param, torch
from octolab.methods.theory.participation import participation

__all__ = ["EF21PP", "State"]


class EF21PP(EF21):
    slug = "ef21-pp"
    needs = ("contractive", "at most once")
    tags = ("heterogeneous", "nonconvex", "biased compression", "error feedback", "client sampling")

    cohort: Sampler | int | float | None = param(0.5, "who takes part in a round", main=True)

    def alpha(self, problem: Constants) -> float:
        return participation(self.cohort, problem.n) * super().alpha(problem)

    def step(self, fed: Federation, s: State) -> State:
        x: torch.Tensor = s.x - self.lr * s.g
        return State(x=x, g=s.g + fed.call(self.client, x, to=fed.sample(self.cohort)).weighted_sum())
