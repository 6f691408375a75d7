r"""OSMD sampling: an online bandit learns whom to ask from those it asked, and the gradient stays unbiased.

Paper: Adaptive Client Sampling in Federated Learning via Online Learning with Bandit Feedback
Authors: Boxin Zhao, Lingxiao Wang, Ziqi Liu, Zhiqiang Zhang, Jun Zhou, Chaochao Chen, Mladen Kolar
Venue: preprint, 2021
arXiv: 2112.14332
Solves: importance sampling without asking everybody for its norm: only the drawn clients compute and upload
Use: gradients that differ in size between clients, and keep doing so. The product switch
    selection_strategy="adaptive"
Avoid: a learning rate eta that nobody tunes: the feedback carries 1/p^3
Assumes: f_i is L_i-smooth; every p_i >= floor/n > 0
Algorithm:
    p_i = 1/n
    for t = 0, 1, ...:
        server draws K clients from p with replacement (N_i times client i), sends x to them
        client i: sends g_i, its gradient (or (x - y_i)/lr after several local steps)
        server: x <- x - lr * (1/K) sum N_i w_i g_i/p_i;   a_i = w_i^2 |g_i|^2
            q_i = p_i exp(eta N_i a_i/(K^2 p_i^3));  p <- the KL projection of q on {p_i >= floor/n, sum p_i = 1}:
            the k smallest are set to floor/n, the others scaled (the smallest k that is feasible)
Up: d numbers per client drawn (once, however often it was drawn)
Down: d numbers per client drawn
Step size: 1/(K' (L + 2 L_max max w_i n/(K floor))) for K' local steps, from p_i >= floor/n (derived)
Theorem: $E[N_i a_i/(K^2 p_i^3)] = a_i/(K p_i^2)$, minus the derivative of the variance $\frac1K\sum a_i/p_i$: online mirror
    descent, so the regret against the best $p$ in hindsight is sublinear
Unconfirmed: floor = 0.4; eta=None is K^2/(20 n^3 mean a_i), a in the first round, our own rule
"""

from __future__ import annotations

import numpy as np

from octolab.federation import Importance
from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Theory, param, torch


class State(NamedTuple):
    x: torch.Tensor
    p: torch.Tensor  # (n,) float64
    eta: float = 0.0  # 0: not known before the first feedback


class OSMD(Method):
    slug = "osmd"
    tags = ("heterogeneous", "client sampling", "importance sampling", "adaptive", "nonconvex")

    draws: int = param(2, "K, clients drawn per round, with replacement", ge=1, main=True)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    eta: float | None = param(None, "learning rate of p; None: from the first feedback", gt=0, main=True)
    floor: float = param(0.4, "p_i >= floor/n; 1 is uniform sampling", gt=0, le=1, main=True)
    local_steps: int = param(1, "local steps per round", ge=1)
    batch_size: int | None = param(None, "samples per local step; None: all", ge=1)

    def stepsize(self, problem: Constants) -> float:
        worst = float(problem.weights.max()) * problem.n / (self.draws * self.floor)
        return 1 / (self.local_steps * (problem.L + 2 * problem.L_max * worst))

    def init(self, fed: Federation) -> State:
        return State(fed.x0, fed.x0.new_full((fed.n,), 1 / fed.n, dtype=torch.float64), self.eta or 0.0)

    def step(self, fed: Federation, s: State) -> State:
        p = fed.host(s.p)
        drawn = fed.sample(Importance(p / p.sum(), self.draws))
        ids, times = np.unique(fed.everybody if drawn is None else drawn, return_counts=True)
        g = fed.call(self.client, s.x, to=ids)
        if len(g) == 0:
            return s
        who = g.clients
        times, weights = times[np.isin(ids, who)], fed.host(g.weights.double())
        share = times * weights / (self.draws * p[who])
        x = s.x - self.lr * g.sum(fed.place(share).to(s.x.dtype))
        a = weights**2 * fed.host((g.stack().double() ** 2).sum(1))
        eta = s.eta or self.first_eta(fed.n, float((times * a).sum() / times.sum()))
        gain = np.zeros(fed.n)
        gain[who] = eta * times * a / (self.draws**2 * p[who] ** 3)
        fed.log(p_min=float(p.min()), p_max=float(p.max()))
        return State(x, fed.place(tilted(p, gain, self.floor)), eta)

    def first_eta(self, n: int, mean: float) -> float:
        return self.draws**2 / (20 * n**3 * mean) if mean > 0 else 0.0

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        if self.local_steps == 1:
            return cohort.grad(x, cohort.batch(self.batch_size))
        return (x - cohort.local_sgd(x, lr=self.lr, steps=self.local_steps, batch_size=self.batch_size)) / self.lr


def tilted(p: np.ndarray, gain: np.ndarray, floor: float) -> np.ndarray:
    """The KL projection of p exp(gain) on {p_i >= floor/n, sum p_i = 1}; p, gain (n,)."""
    log_q = np.log(p) + gain
    q = np.exp(log_q - log_q.max())  # 1/p^3 overflows easily
    n, order = len(q), q.argsort(kind="stable")
    rising = q[order]
    rest = np.cumsum(rising[::-1])[::-1]  # the sum of all but the k smallest
    scaled = rising * (1 - np.arange(n) * floor / n) / rest  # the smallest of them, if k are set to the floor
    k = int(np.argmax(scaled >= floor / n * (1 - 1e-12)))
    out = np.empty(n)
    out[order[:k]] = floor / n
    out[order[k:]] = rising[k:] * ((1 - k * floor / n) / rest[k])
    return out
