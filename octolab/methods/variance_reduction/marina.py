r"""MARINA: compressed gradient differences with now and then a full gradient, on a shared coin.

Paper: MARINA: Faster Non-Convex Distributed Learning with Compression
Authors: Eduard Gorbunov, Konstantin Burlachenko, Zhize Li, Peter Richtárik
Venue: ICML 2021
arXiv: 2102.07845
Solves: compressed uplink without the noise floor; among the best total communication for nonconvex problems
Use: many clients (n >= 10), everybody takes part, an unbiased compressor
Avoid: clients that can never send a full gradient; very different L_i; biased compressors
Assumes: f_i is L_i-smooth, convex or not; Q_i unbiased and independent over clients
Algorithm:
    g = mean grad f_i(x0)
    for t = 0, 1, ...:
        shared coin c with P(c = 1) = p;  server: x+ = x - lr * g, sends x+ and c
        client i: c = 1 sends grad f_i(x+);  c = 0 sends Q_i(grad f_i(x+) - grad f_i(x))
        server: g <- the mean of what came if c = 1, else g + the mean of what came;  x <- x+
    With batch_size the compressed rounds use one minibatch at both points (VR-MARINA).
Up: a compressed vector per client, or d numbers with probability p; d numbers once at the start
Down: d numbers and the coin's bit (x+ instead of g: the same size; the model clients form from g is the same)
Step size: 1/(L + Lt sqrt((1 - p) omega/(p n))), Lt = sqrt(mean L_i^2), p = the compressor's share of dense bits or 1/(1 + omega).
    With batch_size it is a heuristic, tune it
Theorem: $\frac1T\sum_{t<T}E|\nabla f(x_t)|^2 \le \frac{2(f(x_0) - f^*)}{\gamma T}$ for $\gamma \le (L + \tilde L A)^{-1}$,
    $A^2 = \frac{(1-p)\omega}{pn}$. Under PL $f - f^* + c|g - \nabla f|^2$ shrinks by $\max(1 - \gamma\mu, 1 - p(1 - q))$,
    $q = \gamma^2\tilde L^2A^2/(1 - \gamma L) < 1$: the paper's $q = 1/2$, $\gamma \le \frac{p}{2\mu}$, other $q$ by its own proof
"""

from __future__ import annotations

import math

from octolab.compressors import RandK
from octolab.methods.page import Cohort, Compressor, Constants, Federation, Method, NamedTuple, Theory, param, torch
from octolab.methods.theory.coin_estimators import linear_rate
from octolab.payloads import Payload


class State(NamedTuple):
    x: torch.Tensor
    g: torch.Tensor


class MARINA(Method):
    slug = "marina"
    needs = ("unbiased", "full participation")
    tags = ("heterogeneous", "nonconvex", "unbiased compression", "variance reduction")
    messages = {"full": "gradient", "difference": "difference"}  # noqa: RUF012

    compressor: Compressor = param(RandK(0.1), "unbiased compressor Q", main=True)
    p: Theory[float] = param(Theory(), "probability of a full-gradient round", gt=0, le=1, main=True)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    batch_size: int | None = param(None, "samples in the compressed rounds (VR-MARINA); None: all", ge=1)

    def theory_p(self, problem: Constants) -> float:
        bits = self.compressor.bits(problem.d)
        return 1 / (1 + self.compressor.variance(problem.d)) if bits is None else min(1.0, bits / (32 * problem.d))

    def A_squared(self, problem: Constants) -> float:
        """A^2 of the theorem; L_qm holds the weights, so that the mean is one of equal weights here."""
        equal = torch.full_like(problem.weights, 1 / problem.n)
        return (1 - self.p) * self.compressor.mean_omega(problem.d, equal) / self.p

    def stepsize(self, problem: Constants) -> float:
        return 1 / (problem.L + problem.L_qm * math.sqrt(self.A_squared(problem)))

    def rate(self, problem: Constants) -> float | None:
        if not problem.strongly_convex or self.batch_size is not None:
            return None
        change = (self.lr * problem.L_qm) ** 2 * self.A_squared(problem)
        return linear_rate(self.lr, problem.L, change, self.p, problem.mu)

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0, g=fed.call(self.full, fed.x0).mean())

    def step(self, fed: Federation, s: State) -> State:
        coin = fed.coin(self.p)
        x = s.x - self.lr * s.g
        if coin:
            return State(x=x, g=fed.call(self.full, x, coin).mean())
        return State(x=x, g=s.g + fed.call(self.difference, x, coin).weighted_sum())

    def full(self, cohort: Cohort, x: torch.Tensor, coin: bool | None = None) -> torch.Tensor:
        cohort.memory.x = x.expand(cohort.m, -1)
        return cohort.grad(x)

    def difference(self, cohort: Cohort, x: torch.Tensor, coin: bool) -> Payload:
        batch = cohort.batch(self.batch_size)
        q = self.compressor(cohort.grad(x, batch) - cohort.grad(cohort.memory.x, batch), cohort)
        cohort.memory.x = x.expand(cohort.m, -1)
        return q
