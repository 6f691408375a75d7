r"""EF21-adaptive: EF21 in which every client compresses as its own link deserves, round by round.

Paper: none: octolab's own minimisation of EF21's time bound, after Kimad: Adaptive Gradient Compression with Bandwidth Awareness
Authors: octolab; EF21: Richtárik, Sokolov, Fatkhullin; Kimad: Jihao Xin, Ivan Ilin, Shunkang Zhang, Marco Canini, Peter Richtárik
Venue: Kimad: DistributedML 2023, arXiv 2312.08053; EF21: NeurIPS 2021
arXiv: none
Solves: links of very different speed: with one k for all the slowest client sets everybody's pace and precision
Use: biased compression, everybody takes part, time on the clock counts. The product switch compression="adaptive"
Avoid: equal or unlimited links (EF21 is the same and simpler); unbiased methods, whose steps need the worst omega
Assumes: as EF21, which any client- and time-varying compressor keeps as long as alpha_i stays above some alpha_min
Algorithm:
    EF21 in which client i has its own C_i: c_i = C_i(grad f_i(x) - g_i), told by one number that comes with x
    rule "theory": every `retune` rounds k_i(tau) = the most that client i uploads in tau seconds; tau minimises (seconds of a
        round)/lr(tau), lr(tau) = 1/(L + mean L_i xi(k_i/d)); lr falls at once and rises by 1.25 times at least
    rule "balanced": client i takes the k with the most captured energy |C(v)|^2/|v|^2 per second of its round
    rule "latency" (Kimad): a message fits `seconds` of upload (and `bits`): the largest k; or the best k and number of bits
        together; or the layers' shares, by an exact knapsack on the squared error
Up: one sparse vector of its own length per client and round; its length travels too, unless the server set it
Down: d numbers and one number
Step size: rule "theory": lr is the step of uncompressed rounds, 1/L, and the rule shrinks it to lr(tau). Else EF21's for the
    worst case alpha = kmin/d: very small, tune it as SGD's
Theorem: (ours) $\frac1T\sum_{t<T}|\nabla f(x_t)|^2 \le \frac{2\Psi_0}{\gamma T}$ for $\gamma \le \frac{1}{L + S}$,
    $S = \sum_i w_i L_i\,\xi(\alpha_i)$, $\alpha_i$ the worst ever used by client $i$,
    $\Psi = f - f^* + \frac{\gamma S}{2}\sum_i \frac{w_i}{L_i\xi(\alpha_i)\theta_i}|g_i - \nabla f_i|^2$;
    so the time to an accuracy is proportional to (seconds of a round)$/\gamma$
Unconfirmed: no paper prescribes rule "theory"; rule "balanced" has no theorem beyond alpha >= kmin/d
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from octolab.compressors.rows import BalancedTopK, FittedTopKQSGD, LayerTopK, RowTopK, k_within
from octolab.errors import UnknownConstant
from octolab.federation import Each
from octolab.federation.replies import Replies
from octolab.methods.communication import adaptive_rules as rules
from octolab.methods.communication.ef21 import xi
from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Problem, Theory, param, torch


class State(NamedTuple):
    x: torch.Tensor
    g: torch.Tensor
    t: int
    lr: float  # the step in use
    told: torch.Tensor  # (n,) what each client is told: its k, its budget in bits, or its idle bits
    least: torch.Tensor  # (n,) the least k since lr was raised
    links: torch.Tensor  # (4, n) what the server knows of the links, see `measured_links`


class EF21Adaptive(Method):
    slug = "ef21-adaptive"
    needs = ("full participation",)
    tags = ("heterogeneous", "nonconvex", "biased compression", "error feedback", "adaptive", "devices")

    rule: str = param("auto", "how k_i is chosen", choices=("auto", "theory", "balanced", "latency"), main=True)
    lr: Theory[float] = param(Theory(), "step size (rule theory: of uncompressed rounds)", gt=0, main=True)
    kmin: int = param(1, "entries that every message holds at least", ge=1)
    retune: int = param(10, "rounds between two plans of the server", ge=1)
    bandwidth: str = param("known", "where speeds come from", choices=("known", "measured"))
    seconds: float = param(1.0, "time budget of an upload (rule latency)", gt=0, main=True)
    bits: int | None = param(None, "budget of a message in bits (rule latency); None: only time counts", ge=1)
    spend: str = param("k", "what the budget is divided among (rule latency)", choices=("k", "k and bits", "layers"))
    start: str = param("compressed", "g_i at the start", choices=("gradient", "compressed", "zero"))
    batch_size: int | None = param(None, "samples per gradient; None: all", ge=1)

    def resolve(self, problem: Problem) -> Method:
        """rule "auto" is "theory" with a step from theory, which takes the same constants, else "balanced"."""
        if self.rule != "auto":
            return super().resolve(problem)
        rule = "theory" if isinstance(self.lr, Theory) else "balanced"
        return dataclasses.replace(self, rule=rule).resolve(problem)

    def check(self, problem: Problem) -> None:
        super().check(problem)
        if self.kmin > problem.d:
            raise ValueError(f"EF21Adaptive: kmin={self.kmin}: give 1 to {problem.d}, the model's number of entries.")
        if self.rule == "theory" and problem.L_i is None:
            raise UnknownConstant(
                f"EF21Adaptive: rule='theory' needs the constants L and L_i, and those of {problem.name} are unknown. Use "
                f"rule='balanced' or 'latency', and give lr as a number."
            )

    def stepsize(self, problem: Constants) -> float:
        if self.rule == "theory":
            return 1 / problem.L
        low = 1 if self.spend == "layers" else self.kmin
        return 1 / (problem.L + problem.L_mean * xi(low / problem.d))

    def init(self, fed: Federation) -> State:
        links = rules.known_links(fed) if self.bandwidth == "known" else rules.unknown_links(fed.n)
        least = torch.full((fed.n,), fed.d, dtype=torch.int64)
        s = State(fed.x0, torch.zeros_like(fed.x0), 0, 0.0, torch.zeros(fed.n, dtype=torch.float64), least, links)
        s = self.plan(fed, s)
        replies = fed.call(self.begin, fed.x0, Each(s.told))
        return self.heard(fed, s._replace(g=replies.weighted_sum()), replies)

    def step(self, fed: Federation, s: State) -> State:
        if s.t % self.retune == 0:
            s = self.plan(fed, s)
        x = s.x - s.lr * s.g
        replies = fed.call(self.client, x, Each(s.told))
        return self.heard(fed, s._replace(x=x, g=s.g + replies.weighted_sum(), t=s.t + 1), replies)

    def plan(self, fed: Federation, s: State) -> State:
        """What each client is told, and the step."""
        speed, latency = s.links[0].numpy(), s.links[1].numpy()
        fixed = rules.fixed_seconds(fed, latency)
        if self.rule == "theory":
            k = np.full(fed.n, self.kmin)
            if (speed > 0).all():  # everybody has been heard; else nothing can be planned yet
                k = rules.by_deadline(fed.problem, speed, fixed, self.kmin)
                k = rules.probed(k, latency, self.kmin, fed.d)
            lr, least = rules.safe_step(k, s.least.numpy(), s.lr / self.lr, fed.problem)
            return s._replace(lr=self.lr * lr, told=torch.from_numpy(k).double(), least=torch.from_numpy(least))
        if self.rule == "balanced":
            told = np.where(np.isinf(speed), speed, speed * fixed)
        else:
            told = np.minimum(speed * self.seconds, np.inf if self.bits is None else self.bits)
            if self.spend == "k":
                k = np.maximum(k_within(told, fed.d), self.kmin)
                told = np.where(speed > 0, rules.probed(k, latency, self.kmin, fed.d), k)
        return s._replace(lr=self.lr, told=torch.from_numpy(told).double())

    def heard(self, fed: Federation, s: State, replies: Replies) -> State:
        if self.bandwidth == "measured":
            s = s._replace(links=rules.measured_links(s.links, replies))
        fed.log(**rules.remarks(replies.payload), bandwidth=float(s.links[0].mean()), lr=s.lr)
        return s

    def begin(self, cohort: Cohort, x: torch.Tensor, told: torch.Tensor) -> Any:
        if self.start == "zero":
            cohort.memory.g = cohort.zeros()
            return None
        v = cohort.grad(x)
        g = v if self.start == "gradient" else self.message(v, told, cohort)
        cohort.memory.g = g
        return g

    def client(self, cohort: Cohort, x: torch.Tensor, told: torch.Tensor) -> Any:
        g = cohort.memory.g
        c = self.message(cohort.grad(x, cohort.batch(self.batch_size)) - g, told, cohort)
        cohort.memory.g = g + c
        return c

    def message(self, v: torch.Tensor, told: torch.Tensor, cohort: Cohort) -> Any:
        if self.rule == "balanced":
            return BalancedTopK(told, self.kmin)(v, cohort)
        if self.rule == "latency" and self.spend == "k and bits":
            return FittedTopKQSGD(told, self.kmin)(v, cohort)
        if self.rule == "latency" and self.spend == "layers":
            return LayerTopK(told, tuple(q.stop - q.start for q in cohort.layout))(v, cohort)
        return RowTopK(told.long())(v, cohort)
