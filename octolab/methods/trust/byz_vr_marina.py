r"""Byz-VR-MARINA: compressed gradient differences, now and then a full gradient, and a robust rule instead of the mean.

Paper: Variance Reduction is an Antidote to Byzantines: Better Rates, Weaker Assumptions and Communication Compression as a
    Cherry on the Top
Authors: Eduard Gorbunov, Samuel Horváth, Peter Richtárik, Gauthier Gidel
Venue: ICLR 2023
arXiv: 2206.00529
Solves: attackers among the clients; the noise that they hide in dies out, so that nothing is left for them to hide in
Use: convex problems and small networks; an honest majority that takes part in every round
Avoid: client sampling (use Byz-VR-MARINA-PP); deep networks (variance reduction helps little there)
Assumes: f_i of the honest clients is L_i-smooth, convex or not; fewer than half of the clients attack, f of them is known;
    Q is unbiased and independent over clients
Algorithm:
    g = rule of grad f_i(x0)
    for t = 0, 1, ...:
        shared coin c with P(c = 1) = p;  server sends g and c to all: every client forms x+ = x - lr * g
        client i: c = 1 sends grad f_i(x+);  c = 0 sends Q_i(grad f_i(x+) - grad f_i(x)), one minibatch at both points
        server: g <- rule of what came if c = 1, else g + rule of what came;  x <- x+
Up: a compressed vector per client, or d numbers with probability p; d numbers once at the start
Down: d numbers and the coin's bit, to all
Step size: 1/(L (1 + sqrt A)), L = max L_i, A by Theorem 4.1 of the paper on Byz-VR-MARINA-PP with everybody asked: safe, and
    a hundred times smaller than what works; tune it. The rules' constant c is UNCONFIRMED, and a field
Theorem: $E|\nabla f(\hat x_K)|^2 \le \frac{2\Phi_0}{\gamma(K+1)} + \frac{4\hat D\zeta^2}{p}$, where $\zeta$ is how much
    the honest clients' gradients differ. Same data everywhere and PL: $(1 - \rho)^K$ down to nothing,
    $\rho = \min\{\gamma\mu, p/8\}$
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np

from octolab.compressors import Identity
from octolab.federation.delivery import current, repair, spread
from octolab.federation.replies import Replies
from octolab.methods.page import (
    Cohort,
    Compressor,
    Constants,
    Federation,
    Method,
    NamedTuple,
    Reply,
    Theory,
    param,
    torch,
)
from octolab.methods.theory.robust import good_cohorts, norm_bound
from octolab.trust.aggregators import Bucketing


class State(NamedTuple):
    x: torch.Tensor
    g: torch.Tensor
    behind: torch.Tensor  # (n,) bool: who missed a message and no longer holds x


class ByzVRMARINA(Method):
    slug = "byz-vr-marina"
    start_here = True
    needs = ("unbiased",)
    tags: ClassVar[tuple[str, ...]] = ("attackers", "nonconvex", "unbiased compression", "variance reduction")
    messages: ClassVar[Mapping[str, str]] = {"full": "gradient", "difference": "difference"}

    compressor: Compressor = param(Identity(), "unbiased compressor Q", main=True)
    aggregator: Callable[..., torch.Tensor] = param(Bucketing(2), "the robust rule", main=True, room="aggregators")
    p: Theory[float] = param(Theory(), "probability of a full-gradient round", gt=0, le=1, main=True)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    batch_size: int | None = param(None, "samples in the compressed rounds; None: all", ge=1, main=True)
    f: int = param(1, "attackers that the step size allows for", ge=0)
    c: float = param(1.0, "the rule's constant in the step size (UNCONFIRMED)", ge=0)

    def sizes(self, n: int) -> tuple[int, int]:
        """How many are asked without the coin, and with it."""
        return n, n

    def theory_p(self, problem: Constants) -> float:
        bits = self.compressor.bits(problem.d)
        shares = [self.sizes(problem.n)[0] / problem.n, 1.0 if bits is None else bits / (32 * problem.d)]
        if bits is None:
            shares.append(1 / (1 + self.compressor.variance(problem.d)))
        if self.batch_size is not None:
            shares.append(self.batch_size / float(np.mean(problem.sizes)))
        return min(1.0, *shares)

    def A(self, problem: Constants) -> float:
        """The theorem's A. Step 1/(L (1 + sqrt A)); with sqrt(2 A) under PL."""
        n, honest, asked = problem.n, problem.n - self.f, self.sizes(problem.n)[0]
        delta, omega, p = self.f / n, self.compressor.variance(problem.d), self.p
        good, one = good_cohorts(n, honest, asked, delta)
        spread_ = 32 * good * honest * one * (30 * omega + 11) * (1 + 2 * self.c * delta) / (p**2 * (1 - delta) * asked)
        return float(spread_ + 16 * (1 - good) * (1 + 4 * norm_bound(self.aggregator, problem.d) ** 2) / p**2)

    def stepsize(self, problem: Constants) -> float:
        return float(1 / (problem.L_max * (1 + math.sqrt(self.A(problem)))))

    def rate(self, problem: Constants) -> float | None:
        if (
            not (problem.strongly_convex and problem.homogeneous)
            or self.batch_size is not None
            or 2 * self.f >= problem.n
        ):
            return None  # a neighbourhood, or nothing known
        bound = 1 / (problem.L_max * (1 + math.sqrt(2 * self.A(problem))))
        return 1 - min(self.lr * problem.mu, self.p / 8) if self.lr <= bound * (1 + 1e-12) else None

    def init(self, fed: Federation) -> State:
        g = fed.call(self.begin, fed.x0).aggregate(self.aggregator)
        return State(x=fed.x0, g=g, behind=fed.x0.new_zeros(fed.n, dtype=torch.bool))

    def relations(self, fed: Federation, s: State) -> dict[str, torch.Tensor]:
        return {"who is not behind holds x": (fed.memory.next - s.x)[~s.behind]}

    def step(self, fed: Federation, s: State) -> State:
        x, coin = s.x - self.lr * s.g, fed.coin(self.p)
        behind = repair(fed, s.behind, self.restore, s.x)
        behind = spread(fed, behind, self.receive, (s.g, coin))
        replies = fed.call(self.full if coin else self.difference, to=self.asked(fed, coin, behind))
        if len(replies) == 0:
            return State(x=x, g=s.g, behind=behind)
        g = replies.aggregate(self.aggregator) if coin else s.g + self.change(replies, float((x - s.x).norm()))
        return State(x=x, g=g, behind=behind)

    def asked(self, fed: Federation, coin: bool, behind: torch.Tensor) -> np.ndarray | None:
        return current(behind)

    def change(self, replies: Replies, length: float) -> torch.Tensor:
        """What g changes by in a round without the coin, after a step of that length."""
        return replies.aggregate(self.aggregator)

    def begin(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        cohort.memory.x = cohort.memory.next = x.expand(cohort.m, -1)
        return cohort.grad(x)

    def restore(self, cohort: Cohort, x: torch.Tensor) -> None:
        cohort.memory.x = cohort.memory.next = x.expand(cohort.m, -1)

    def receive(self, cohort: Cohort, sent: tuple[torch.Tensor, bool]) -> None:
        cohort.memory.x = x = cohort.memory.next
        cohort.memory.next = x - self.lr * sent[0]

    def full(self, cohort: Cohort) -> torch.Tensor:
        return cohort.grad(cohort.memory.next)

    def difference(self, cohort: Cohort) -> Reply:
        batch = cohort.batch(self.batch_size)
        return self.compressor(cohort.grad(cohort.memory.next, batch) - cohort.grad(cohort.memory.x, batch), cohort)
