r"""ATA: how many tasks each device gets in a round, learned from the times that they took; less device work for the same pace.

Paper: ATA: Adaptive Task Allocation for Efficient Resource Management in Distributed Machine Learning
Authors: Artavazd Maranjyan, El Mehdi Saad, Peter Richtárik, Francesco Orabona
Venue: ICML 2025
arXiv: 2502.00775
Solves: a round needs exactly B gradients; who computes how many, when speeds are unknown and random?
Use: battery and device time count; the same data everywhere
Avoid: only the clock counts: the greedy rule (everybody computes, the first B win) is faster and wastes more
Assumes: every client has the same objective; task times of a device are independent and sub-exponential
Algorithm:
    c_i tasks done, mu_i their mean time; round k' + 1:
        LCB_i = max(0, mu_i - confidence alpha_i (sqrt(l/c_i) + l/c_i)), l = ln(2 k'^2)
        first one task to each device never tried; the rest: a_i of sum B minimising max_i a_i LCB_i
        device i computes its a_i gradients at x one after the other;  x <- x - lr * the mean of the B gradients
    rule "ata": alpha_i = alpha;  "empirical": alpha_i = 2 mu_i;  "uniform": B/n each;  "oracle": the true means for LCB;
        "greedy": everybody computes at x, the first B arrivals count, the rest are cancelled
Up: d numbers per task
Down: d numbers per device and round
Step size: 1/L where the noise is ignored; with a target eps min(1/L, eps B/(2 L sigma^2)): Rennala's
Theorem: with the paper's constant 4e for `confidence` the time of $K$ rounds is within $1 + 4\eta\ln B$ of the oracle's,
    $\eta = \max_i \alpha_i/\mu_i$, up to $O(\log K)$
Unconfirmed: the default confidence 0.1 is ours: the theorem's 4e = 10.9 needs far more than 100,000 rounds to pay
"""

from __future__ import annotations

import math

import numpy as np

from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Theory, param, torch
from octolab.methods.theory.times import even_share


class State(NamedTuple):
    x: torch.Tensor
    k: int  # rounds done
    tasks: torch.Tensor  # (n,) done
    mean: torch.Tensor  # (n,) seconds, the mean time of a task


class ATA(Method):
    slug = "ata"
    needs = ("homogeneous",)
    tags = ("asynchronous", "stochastic", "nonconvex", "adaptive", "resources")

    B: int = param(16, "gradients per round", ge=1, main=True)
    rule: str = param(
        "empirical", "how tasks are shared out", choices=("ata", "empirical", "uniform", "oracle", "greedy"), main=True
    )
    confidence: float = param(0.1, "constant of the confidence bound; the theorem's is 4e", ge=0, main=True)
    alpha: float | None = param(None, "bound on the spread of task times, for rule='ata'; None: the largest mean", gt=0)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    batch_size: int | None = param(1, "samples per gradient; None: all", ge=1)
    eps: float | None = param(None, "target for |grad f|^2 in the theory step; None: ignore the noise", gt=0)

    def stepsize(self, problem: Constants) -> float:
        if self.eps is None:
            return 1 / problem.L
        noise = max(problem.variance(self.batch_size), 1e-300)
        return min(1 / problem.L, self.eps * self.B / (2 * problem.L * noise))

    def init(self, fed: Federation) -> State:
        none = torch.zeros(fed.n, dtype=torch.float64, device=fed.x0.device)
        return State(fed.x0, 0, none, none)

    def step(self, fed: Federation, s: State) -> State:
        left = np.full(fed.n, self.B) if self.rule == "greedy" else self.share(fed, s)
        spent, done = s.mean * s.tasks, s.tasks.clone()
        for device in np.flatnonzero(left):
            self.send(fed, int(device), s)
        total = torch.zeros_like(s.x)
        for came in range(self.B):
            job = fed.next()
            i = job.client
            total = total + job.result
            spent[i] += job.time - job.started
            done[i] += 1
            left[i] -= 1
            if left[i] and came + 1 < self.B:
                self.send(fed, i, s)
        for job in fed.running():  # of the greedy rule
            fed.cancel(job)
        fed.log(devices=int((done > s.tasks).sum()))
        return State(s.x - self.lr / self.B * total, s.k + 1, done, spent / done.clamp(min=1))

    def share(self, fed: Federation, s: State) -> np.ndarray:
        """(n,) how many tasks each device gets in this round."""
        n, count, mean = fed.n, fed.host(s.tasks), fed.host(s.mean)
        if self.rule == "uniform":  # the remainder goes round
            extra = (np.arange(n) - s.k * (self.B % n)) % n < self.B % n
            return np.full(n, self.B // n) + extra
        if self.rule == "oracle":
            return even_share(self.B, fed.fleet.mean_seconds(n))
        a = np.zeros(n, dtype=np.int64)
        a[np.flatnonzero(count == 0)[: self.B]] = 1
        rest = self.B - int(a.sum())
        if rest == 0:
            return a
        log, tried = math.log(2 * max(1, s.k) ** 2), np.maximum(count, 1)
        largest = float(mean.max()) if self.alpha is None else self.alpha
        spread = 2 * mean if self.rule == "empirical" else np.full(n, largest)
        bound = np.maximum(0.0, mean - self.confidence * spread * (np.sqrt(log / tried) + log / tried))
        return a + even_share(rest, np.where(count == 0, np.inf, bound))

    def send(self, fed: Federation, i: int, s: State) -> None:
        fed.submit(i, self.client, s.x, work=fed.work_of(i, 1, self.batch_size))

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        return cohort.grad(x, cohort.batch(self.batch_size))
