r"""Shadowheart SGD: as many gradients and as many compressed messages from each device as fit into one common time.

Paper: Shadowheart SGD: Distributed Asynchronous SGD with Optimal Time Complexity Under Arbitrary Computation and
    Communication Heterogeneity
Authors: Alexander Tyurin, Marta Pozzi, Ivan Ilin, Peter Richtárik
Venue: NeurIPS 2024
arXiv: 2402.04785
Solves: unequal compute and unequal uplinks, with unbiased compression; no stale gradients at all
Use: the same data distribution everywhere, known speeds, slow uplinks
Avoid: heterogeneous data; unknown or wildly changing speeds (use Ringmaster)
Assumes: every client has the same objective f, L-smooth; variance at most sigma^2; C unbiased with variance omega
Algorithm:
    h_i seconds per gradient, tau_i seconds per compressed message, s = sigma^2/eps; t* = equilibrium time
    b_i = floor(t*/h_i), m_i = floor(t*/tau_i), w_i = 1/(b_i omega + omega s + m_i s)
    for k = 0, 1, ...:
        server sends x to the clients with b_i, m_i > 0
        client i: g_i = the sum of b_i stochastic gradients; sends m_i independent compressions C_1(g_i), ..., C_{m_i}(g_i)
        server: x <- x - lr [sum_i w_i sum_j C_j(g_i)] / [sum_i w_i m_i b_i]
Up: m_i compressed vectors per client and round
Down: d numbers to the active clients (and b_i, m_i once)
Step size: 1/(2L)
Theorem: $\frac1K\sum_{k<K} E|\nabla f(x_k)|^2 \le \varepsilon$ after $K = \lceil 16L\Delta/\varepsilon \rceil$ rounds,
    $\Delta = f(x_0) - \inf f$, of at most $2t^*$ seconds each
Unconfirmed: the constant 16 (our derivation gives 8). s is a knob in the authors' code: tune it with lr
"""

from __future__ import annotations

import math

import numpy as np

from octolab.compressors import RandK
from octolab.errors import NothingUnderWay
from octolab.federation import Each
from octolab.methods.page import Cohort, Compressor, Constants, Federation, Method, NamedTuple, Theory, param, torch
from octolab.payloads import Bundle


class State(NamedTuple):
    x: torch.Tensor
    b: torch.Tensor  # (n,) gradients per client and round
    m: torch.Tensor  # (n,) messages per client and round
    w: torch.Tensor  # (n,) weights of the messages


def equilibrium_time(h: np.ndarray, tau: np.ndarray, omega: float, s: float) -> float:
    """t*: the smallest time in which the devices together bring enough; h, tau (n,) seconds."""
    order = np.argsort(np.maximum(h, tau), kind="stable")
    h, tau, best = h[order], tau[order], math.inf
    for j in range(1, len(h) + 1):
        least = max(h[j - 1], tau[j - 1])
        if least >= best:
            break
        best = min(best, max(least, _fixed_point(h[:j], tau[:j], omega, s)))
    return float(best)


def _fixed_point(h: np.ndarray, tau: np.ndarray, omega: float, s: float) -> float:
    """The t with ( sum 1/(2 tau omega + 4 tau h s omega / t + 2 h s) )^-1 = t, by bisection."""

    def left(t: float) -> float:
        terms = 2 * tau * omega + (4 * tau * h * s * omega / t if t > 0 else 0.0) + 2 * h * s
        return 0.0 if (terms == 0).any() else 1 / float((1 / terms).sum())

    low = left(math.inf)
    if low == 0 or not math.isfinite(low):
        return low
    high = low
    while left(high) > high:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if left(middle) > middle else (low, middle)
    return high


class Shadowheart(Method):
    slug = "shadowheart"
    needs = ("homogeneous", "unbiased")
    tags = ("asynchronous", "stochastic", "nonconvex", "unbiased compression")

    compressor: Compressor = param(RandK(0.1), "unbiased compressor C", main=True)
    s: Theory[float] = param(Theory(), "sigma^2/eps: how much noise must be averaged out", ge=0, main=True)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    eps: float = param(1e-2, "target for |grad f|^2 in the theory value of s", gt=0)

    def theory_s(self, problem: Constants) -> float:
        return problem.variance(1) / self.eps

    def stepsize(self, problem: Constants) -> float:
        return 1 / (2 * problem.L)

    def plan(self, h: np.ndarray, tau: np.ndarray, omega: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """b, m, w (n,) for seconds per gradient h and per message tau."""
        t = equilibrium_time(h, tau, omega, self.s)
        if t == math.inf:
            raise NothingUnderWay(
                "Shadowheart: no device ever brings a gradient (every one takes for ever to compute or to send), so there is "
                "no equilibrium time. Give the fleet a device with finite seconds and a link."
            )
        b, m = _fits(t, h, max(1, math.ceil(self.s))), _fits(t, tau, math.ceil(1 + omega))
        idle = (b == 0) | (m == 0)
        b[idle], m[idle] = 0, 0
        spread = b * omega + omega * self.s + m * self.s
        w = np.where(idle, 0.0, 1.0 if omega == self.s == 0 else 1 / np.where(spread == 0, 1.0, spread))
        return b, m, w

    def init(self, fed: Federation) -> State:
        one = np.ones(fed.n)
        bits = self.compressor.bits(fed.d) or 32 * fed.d
        h, tau = fed.fleet.fixed_seconds(fed.n), one * (bits / fed.fleet.of("up", fed.everybody))
        b, m, w = self.plan(h, tau, self.compressor.variance(fed.d))
        fed.call(self.begin, Each(fed.place(np.stack([b, m], 1))))
        return State(fed.x0, fed.place(b), fed.place(m), fed.place(w).to(fed.x0.dtype))

    def step(self, fed: Federation, s: State) -> State:
        active = np.flatnonzero(fed.host(s.b))
        replies = fed.call(self.client, s.x, to=active)
        came = replies.index
        if len(came) == 0:
            return s
        weight = float((s.w * s.m * s.b)[came].sum())
        return s._replace(x=s.x - self.lr * replies.sum(s.w[came]) / weight)

    def begin(self, cohort: Cohort, plan: torch.Tensor) -> None:
        cohort.memory.plan = plan

    def client(self, cohort: Cohort, x: torch.Tensor) -> Bundle:
        b, m = cohort.memory.plan.unbind(1)
        g = b[:, None] * cohort.grad(x, cohort.batch(b), gradients=b)
        messages = [self.compressor(g, cohort).select((m > j).nonzero()[:, 0]) for j in range(int(m.max()))]
        owner = torch.cat([(m > j).nonzero()[:, 0] for j in range(int(m.max()))])
        return Bundle(type(messages[0]).cat(messages), owner, cohort.m)


def _fits(t: float, each: np.ndarray, most: int) -> np.ndarray:
    """How often `each` fits into t; where it takes no time, `most`."""
    with np.errstate(divide="ignore"):
        times = np.where(each > 0, np.floor(t / np.where(each > 0, each, 1.0) * (1 + 1e-12)), most)
    return times.astype(np.int64)
