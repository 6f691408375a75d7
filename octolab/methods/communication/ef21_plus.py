r"""EF21+: each client sends a compressed change or its compressed gradient itself, whichever lands nearer.

Paper: EF21: A New, Simpler, Theoretically Better, and Practically Faster Error Feedback
Authors: Peter Richtárik, Igor Sokolov, Ilyas Fatkhullin
Venue: NeurIPS 2021
arXiv: 2106.05203
Solves: EF21's first rounds, where compressing the gradient itself is often better than compressing its change
Use: as EF21, at the price of a second compression and one bit
Avoid: many clients and a large model: the server keeps all g_i, n d numbers; random compressors (use EF21)
Assumes: as EF21; C is deterministic, so that the nearer of the two is contractive too
Algorithm:
    g_i = grad f_i(x0), g = mean g_i
    for t = 0, 1, ...:
        server: x <- x - lr * g, sends x
        client i: v = grad f_i(x), a = C(v), b = C(v - g_i)
            if |a - v| < |g_i + b - v|: g_i <- a, sends a and the bit 1;  else g_i <- g_i + b, sends b and the bit 0
        server: repeats what happened to each g_i;  g = mean g_i
Up: one compressed vector and a bit per client and round, and d numbers once at the start
Down: d numbers
Step size: EF21's, 1/(L + M xi)
Theorem: EF21's: $|g_i^+ - \nabla f_i|^2$ is the smaller of two numbers, one of which is EF21's
Unconfirmed: which of the two is sent when both are equally near (here the change)
"""

from __future__ import annotations

import warnings
from typing import Any

from octolab.errors import AssumptionWarning
from octolab.methods.communication.ef21 import EF21
from octolab.methods.page import Cohort, Constants, Federation, NamedTuple, Problem, Reply, torch


class State(NamedTuple):
    x: torch.Tensor
    g: torch.Tensor
    own: torch.Tensor  # (n, d) the server's copy of every g_i: a client may replace its own


class EF21Plus(EF21):
    slug = "ef21-plus"

    def check(self, problem: Problem) -> None:
        super().check(problem)
        if not self.compressor.deterministic:
            warnings.warn(
                f"EF21Plus: compressor={self.compressor!r} is random, and the theorem needs a deterministic one such as "
                f"TopK: choosing the nearer of two random messages is not covered.",
                AssumptionWarning,
                stacklevel=3,
            )

    def rate(self, problem: Constants) -> float | None:
        return super().rate(problem) if self.compressor.deterministic else None

    def init(self, fed: Federation) -> Any:
        g = fed.call(self.begin, fed.x0)
        own = g.stack().clone() if g.payload is not None else fed.x0.new_zeros(fed.n, fed.d)
        return State(x=fed.x0, g=g.weighted_sum(), own=own)

    def step(self, fed: Federation, s: Any) -> Any:
        x = s.x - self.lr * s.g
        c, anew = fed.call(self.client, x)
        if len(c) == 0:
            return s._replace(x=x)
        who = c.index
        own = s.own.index_fill(0, who[anew.stack().bool()], 0.0).index_add_(0, who, c.stack())
        return State(x=x, g=fed.weights @ own, own=own)

    def client(self, cohort: Cohort, x: torch.Tensor) -> Reply:
        v, g = cohort.grad(x), cohort.memory.g
        a, b = self.compressor(v, cohort), self.compressor(v - g, cohort)
        changed = g + b
        anew = (v - a).norm(dim=1) < (v - changed).norm(dim=1)
        changed[anew] = a[anew].dense()
        cohort.memory.g = changed
        return type(a).cat([b, a]).select(torch.arange(cohort.m, device=x.device) + cohort.m * anew), anew
