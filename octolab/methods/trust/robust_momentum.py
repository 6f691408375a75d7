r"""Robust-Momentum: client momentum, and a robust rule of its clipped distance from the server's estimate.

Paper: Byzantine Robustness and Partial Participation Can Be Achieved at Once: Just Clip Gradient Differences
Authors: Grigory Malinovsky, Peter Richtárik, Samuel Horváth, Eduard Gorbunov
Venue: NeurIPS 2024 (its heuristic for networks)
arXiv: 2311.14127
Solves: attackers among sampled clients where variance reduction does not help: networks, minibatches
Use: networks with attackers, client sampling
Avoid: where a theorem is wanted (there is none for this form)
Assumes: nothing that is proved
Algorithm:
    g = rule of grad f_i(x0)
    for t = 0, 1, ...:
        server: x+ = x - lr * g, sends x+ to the cohort
        client i: m_i <- beta m_i + (1 - beta) grad f_i(x+), sends m_i (its first is the gradient itself)
        server: g <- g + rule of clip_l(m_i - g), l = clip |x+ - x|;  x <- x+
Up: d numbers per client of the cohort
Down: d numbers
Step size: 1/(2 max L_i), and clip = 2 max L_i as for Byz-VR-MARINA-PP: a start and no theorem's. Tune both, clip in {0.1, 1, 10}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from octolab.federation.rule import RuleContext, combined
from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Sampler, Theory, param, torch
from octolab.trust.aggregators import Bucketing, clip_factors


class State(NamedTuple):
    x: torch.Tensor
    g: torch.Tensor


class RobustMomentum(Method):
    slug = "robust-momentum"
    tags = ("attackers", "client sampling", "networks", "nonconvex", "momentum")
    messages: ClassVar[Mapping[str, str]] = {"client": "gradient", "begin": "gradient"}

    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    clip: Theory[float] = param(Theory(), "distances are clipped to this times |x+ - x|", gt=0, main=True)
    beta: float = param(0.9, "momentum of the clients", ge=0, lt=1, main=True)
    batch_size: int | None = param(None, "samples per gradient; None: all", ge=1)
    cohort: Sampler | int | float | None = param(None, "who takes part in a round; None: everybody", main=True)
    aggregator: Callable[..., torch.Tensor] = param(Bucketing(2), "the robust rule", room="aggregators")

    def stepsize(self, problem: Constants) -> float:
        return 1 / (2 * problem.L_max)

    def theory_clip(self, problem: Constants) -> float:
        return 2 * problem.L_max

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0, g=fed.call(self.begin, fed.x0).aggregate(self.aggregator))

    def step(self, fed: Federation, s: State) -> State:
        x = s.x - self.lr * s.g
        replies = fed.call(self.client, x, to=fed.sample(self.cohort))
        limit = self.clip * float((x - s.x).norm())
        if len(replies) == 0 or limit == 0:
            return State(x=x, g=s.g)

        def rule(rows: torch.Tensor, weights: torch.Tensor, context: RuleContext) -> torch.Tensor:
            away = rows - s.g
            return combined(self.aggregator, away * clip_factors(away, limit), weights, context)

        return State(x=x, g=s.g + replies.aggregate(rule))

    def begin(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        cohort.memory.m = m = cohort.grad(x, cohort.batch(self.batch_size))
        return m

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        g = cohort.grad(x, cohort.batch(self.batch_size))
        cohort.memory.m = m = self.beta * cohort.memory.m + (1 - self.beta) * g
        return m
