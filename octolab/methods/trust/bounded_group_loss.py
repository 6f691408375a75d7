r"""Bounded group loss: no group's loss above its cap, and otherwise the best model.

Paper: Fair Federated Learning via Bounded Group Loss
Authors: Shengyuan Hu, Zhiwei Steven Wu, Virginia Smith
Venue: IEEE SaTML 2024
arXiv: 2203.10190
Solves: a model that is good on average and bad for a protected group; groups may lie across all clients
Use: known groups, a cap that can be reached
Avoid: groups that nobody knows (use q-ffl or afl over clients); a cap below what any model reaches: the multipliers then stand at
    their bound, which the history's `saturation` shows
Assumes: convex losses; the groups of all samples are known (a problem without groups: every client is one)
Algorithm:
    theta = 0
    for t = 0, 1, ...:
        lambda_a = B exp(theta_a)/(1 + sum_b exp(theta_b));  server sends x and 1/N + lambda_a/m_a for each group
        client i: sends the sum of its losses at x in each group;  trains on its samples, weighted by these numbers times n
        server: x <- x + mean of the clients' changes;  r_a = sums / counts;  theta_a <- theta_a + lr_theta (r_a - cap_a)
    The answer is the average of the x so far: x itself may circle. Whether the paper measures r before or after the local
    steps is UNCONFIRMED: here before
Up: d numbers and one per group; the counts once at the start
Down: d numbers and one per group
Step size: 1/((1 + B) max L_i), as large as the weighted loss allows where groups are as large as clients; lr_theta in [0.05, 1]
Theorem: averages are a $\nu$-saddle point, $\nu = O(1/\sqrt T)$; from that $F(\bar x) \le F(x_{\mathrm{feasible}}) + 2\nu$ and
    $\max_a (r_a - \zeta_a)_+ \le (F_{\max} + 2\nu)/B$ (the paper's own constants are UNCONFIRMED)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Problem, Theory, param, torch
from octolab.problems.groups import Held, held, numbered, ridge


class State(NamedTuple):
    x: torch.Tensor
    theta: torch.Tensor  # (G,)
    counts: torch.Tensor  # (n, G) samples of each client in each group
    mean: torch.Tensor  # the average of the iterates
    rounds: torch.Tensor  # how many they are


class BoundedGroupLoss(Method):
    slug = "bounded-group-loss"
    tags = ("fairness", "groups", "minimax", "local steps")

    cap: float | Sequence[float] = param(
        0.6, "the largest loss a group may have, for all or one number per group", gt=0, main=True
    )
    B: float = param(5.0, "bound on the sum of the multipliers: tighter caps, slower convergence", ge=0, main=True)
    lr: Theory[float] = param(Theory(), "step size of the model", gt=0, main=True)
    lr_theta: float = param(0.3, "step size of the multipliers", ge=0, main=True)
    local_steps: int = param(1, "gradient steps of a client in a round", ge=1)

    def check(self, problem: Problem) -> None:
        super().check(problem)
        groups = len(numbered(problem)[1])
        if isinstance(self.cap, Sequence) and len(self.cap) != groups:
            raise ValueError(f"BoundedGroupLoss: cap={self.cap}: give one number, or {groups} of them, one per group.")

    def stepsize(self, problem: Constants) -> float:
        return 1 / ((1 + self.B) * problem.L_max)

    def model(self, s: State) -> torch.Tensor:
        return s.mean

    def multipliers(self, theta: torch.Tensor) -> torch.Tensor:
        """lambda (G,); their sum is below B."""
        slack = torch.zeros_like(theta[:1])
        return self.B * torch.cat([slack, theta]).softmax(0)[1:]

    def init(self, fed: Federation) -> State:
        replies = fed.call(self.begin)
        groups = len(numbered(fed.problem)[1])
        counts = fed.x0.new_zeros(fed.n, groups).index_copy_(0, replies.index, replies.stack().to(fed.x0.dtype))
        return State(
            x=fed.x0,
            theta=counts.new_zeros(groups),
            counts=counts,
            mean=fed.x0,
            rounds=torch.zeros_like(fed.weights[0]),
        )

    def step(self, fed: Federation, s: State) -> State:
        lam, size = self.multipliers(s.theta), s.counts.sum(0)
        weight = 1 / s.counts.sum() + lam / size.clamp(min=1)
        losses, moves = fed.call(self.client, s.x, weight)
        x = s.x + moves.sum() / max(len(moves), 1)
        heard = s.counts[moves.index].sum(0)
        r = losses.sum() / heard.clamp(min=1)
        theta = s.theta + self.lr_theta * torch.where(heard > 0, r - self.caps(r), torch.zeros_like(r))
        fed.log(worst_group=float(r[heard > 0].max()) if bool((heard > 0).any()) else math.nan)
        fed.log(saturation=float(lam.sum()) / self.B if self.B else 0.0)
        rounds = s.rounds + 1
        return State(x=x, theta=theta, counts=s.counts, mean=s.mean + (x - s.mean) / rounds.to(x.dtype), rounds=rounds)

    def caps(self, like: torch.Tensor) -> torch.Tensor:
        given = self.cap if isinstance(self.cap, Sequence) else [self.cap] * len(like)
        return torch.as_tensor(given, dtype=like.dtype, device=like.device)

    def begin(self, cohort: Cohort) -> torch.Tensor:
        here = held(cohort.problem, cohort.ids)
        counts = cohort.zeros(len(numbered(cohort.problem)[1]))
        return counts.scatter_add_(1, here.which, here.size.to(counts.dtype))

    def client(self, cohort: Cohort, x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        here = held(cohort.problem, cohort.ids)
        y, sums = x.expand(cohort.m, -1), cohort.zeros(len(weight))
        for place, batch in enumerate(here.batches()):
            own = (cohort.loss(x, batch) - ridge(cohort.problem, x)) * here.size[:, place]
            sums.scatter_add_(1, here.which[:, place, None], own[:, None])
        for _ in range(self.local_steps):
            y = y - self.lr * self.gradient(cohort, here, y, weight)
        return sums, y - x

    def gradient(self, cohort: Cohort, here: Held, y: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """(m, d) of n times the client's part of the Lagrangian; the ridge counts once."""
        penalty = getattr(cohort.problem, "l2", 0.0) * y
        total = penalty.clone()
        for place, batch in enumerate(here.batches()):
            share = cohort.n * weight[here.which[:, place]] * here.size[:, place]
            total += share[:, None] * (cohort.grad(y, batch) - penalty)
        return total
