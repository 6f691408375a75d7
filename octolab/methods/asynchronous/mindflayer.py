r"""MindFlayer SGD: every device makes a fixed number of trials a round and gives up each that takes too long.

Paper: MindFlayer SGD: Efficient Parallel SGD in the Presence of Heterogeneous and Random Worker Compute Times
Authors: Artavazd Maranjyan, Omar Shaikh Omar, Peter Richtárik
Venue: UAI 2025
arXiv: 2410.04285
Solves: heavy-tailed job times and devices that hang, on which Rennala and ASGD stand still
Use: job times whose law is known or was profiled; the same data everywhere
Avoid: light tails (it loses a little to Ringmaster); heterogeneous data (use Vecna)
Assumes: every client has the same objective f, L-smooth; variance at most sigma^2; job time tau_i + eta_i, eta_i of a known law
Algorithm:
    clip t_i, p_i = P(eta_i <= t_i); B_i trials a round, B = sum_i p_i B_i
    for k = 0, 1, ...:
        client i makes B_i trials one after the other: compute a gradient at x; after tau_i + t_i seconds abandon it
        server: x <- x - lr * (1/B) * the sum of what came (B, not the number that came: this keeps it unbiased)
Up: d numbers per successful trial
Down: d numbers per active client and round
Step size: min(1/(2L), eps B/(2 L sigma^2)), with B at least max(1, s) by the plan
Theorem: with $t(m) = (S + \sum_{j\le m}p_j)/\sum_{j\le m}\frac{p_j}{\tau_j+t_j}$, $S = \max(1, \sigma^2/\varepsilon)$,
    clients in the order of $\tau + t$: $B_i = \lceil t(m^*)/(\tau_i+t_i) - 1\rceil$ for the first $m^* = \arg\min t$, and
    $\frac1K\sum E|\nabla f|^2 \le \varepsilon$ after
    $K = \max(1, \frac{\sigma^2}{\varepsilon B})\frac{8L\Delta}\varepsilon$ rounds
Unconfirmed: the constant 8 is recalled; the default clips (median, best throughput) are the paper's practice for a profile
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Theory, param, torch
from octolab.methods.theory.mixture import per_client
from octolab.methods.theory.times import clipped, trials


class State(NamedTuple):
    x: torch.Tensor
    k: int  # rounds done
    limit: torch.Tensor  # (n,) seconds of a trial
    p: torch.Tensor  # (n,) chance that a trial succeeds
    B: torch.Tensor  # (n,) trials a round


class MindFlayer(Method):
    slug = "mindflayer"
    needs = ("homogeneous",)
    tags: ClassVar[tuple[str, ...]] = (
        "asynchronous",
        "stochastic",
        "nonconvex",
        "networks",
        "stragglers",
        "heavy tails",
    )

    clip: float | Sequence[float] | None = param(
        None, "t_i: seconds beyond the least; None: by the rule", gt=0, main=True
    )
    rule: str = param(
        "throughput",
        "the clip from the law of times: most successes per second, or the median",
        choices=("throughput", "median"),
    )
    trials: Sequence[int] | None = param(None, "B_i, trials of each client a round; None: the theorem's plan")
    s: Theory[float] = param(Theory(), "sigma^2/eps: how much noise must be averaged out", ge=0, main=True)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    batch_size: int | None = param(1, "samples per gradient; None: all", ge=1)
    eps: float = param(0.5, "target for |grad f|^2 in the theory values", gt=0)

    def __post_init__(self) -> None:
        per_client(self, "clip")
        per_client(self, "trials")
        super().__post_init__()

    def theory_s(self, problem: Constants) -> float:
        return problem.variance(self.batch_size) / self.eps

    def stepsize(self, problem: Constants) -> float:
        noise = max(problem.variance(self.batch_size), 1e-300)
        return min(1 / (2 * problem.L), self.eps * max(1.0, self.s) / (2 * problem.L * noise))

    def init(self, fed: Federation) -> State:
        work = [fed.work_of(i, 1, self.batch_size) for i in fed.clients]
        least, limit, p = clipped(fed.fleet, np.array(work), self.rule if self.clip is None else self.clip)
        B = self.plan(least, limit, p) if self.trials is None else np.asarray(self.trials, dtype=np.int64)
        if B.shape != (fed.n,) or (B < 0).any() or not (p * B).any():
            raise ValueError(
                f"{type(self).__name__}: trials={self.trials!r}: give {fed.n} whole numbers >= 0, some of clients that succeed."
            )
        return State(fed.x0, 0, fed.place(limit), fed.place(p), fed.place(B))

    def plan(self, least: np.ndarray, limit: np.ndarray, p: np.ndarray) -> np.ndarray:
        """(n,) trials a round."""
        return trials(least, limit - least, p, self.s)

    def step(self, fed: Federation, s: State) -> State:
        sums, came = s.x.new_zeros(fed.n, fed.d), 0
        left = fed.host(s.B).copy()
        for i in np.flatnonzero(left):
            self.send(fed, int(i), s)
        for _ in range(int(left.sum())):
            job = fed.next()
            if not job.clipped:
                sums[job.client] += job.result
                came += 1
            left[job.client] -= 1
            if left[job.client]:
                self.send(fed, job.client, s)
        fed.log(accepted=came, clipped=int(s.B.sum()) - came)
        return s._replace(x=s.x - self.lr * self.combine(fed, s, sums), k=s.k + 1)

    def combine(self, fed: Federation, s: State, sums: torch.Tensor) -> torch.Tensor:
        """The estimate (d,) from the sums (n, d) of what came."""
        return sums.sum(0) / float((s.p * s.B).sum())

    def send(self, fed: Federation, i: int, s: State) -> None:
        work = fed.work_of(i, 1, self.batch_size)
        fed.submit(i, self.client, s.x, tag=s.k, work=work, limit=float(s.limit[i]))

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        return cohort.grad(x, cohort.batch(self.batch_size))
