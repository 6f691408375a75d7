r"""FairFloor: FedAvg in which every device takes part at least k times in every T rounds.

Paper: none; a rule of our own for the floor that products ask for (min_participation_per_device)
Authors: octolab
Venue: specification of octolab, derived
arXiv: none
Solves: devices that sampling leaves out: a hard floor on the number of rounds in which each one's update counted
Use: a promise has to be kept to each device, with cohorts of exactly m, also if some favourites come more often. The
    product switch min_participation_per_device=k
Avoid: a guarantee is all that is wanted: RR-CLI gives everybody the same number of rounds at no cost. Devices that are
    often away: the rule waits as long as it may, and an answer lost in the last rounds cannot be made good
Assumes: n k <= m T and k <= T; devices that answer (one that does not stays owed, and is asked again)
Algorithm:
    count_i = 0; for t = 0, ..., T - 1 (then again from 0):
        need_i = max(0, k - count_i), left = T - t
        must come: all with need_i >= left > 0, and the neediest until the needs of the others fit into m (left - 1)
        the other places: drawn without replacement, client i with probability in proportion to q_i
        FedAvg with this cohort;  count_i + 1 for those whose update arrived
    weighting "ratio": w_i/sum over S of w_i.  "unbiased": w_i/Prob(i in S | the past), 1 for those who must come
Up: d numbers per member of the cohort
Down: d numbers to the cohort
Step size: 1/max L_i, safe for each client's own descent
Theorem: at any time $\max_i need_i \le left$ and $\sum_i need_i \le m\,left$ hold, so with answering devices every count
    reaches $k$. The unbiased weights are conditionally unbiased in a round that leaves a place to draw
"""

from __future__ import annotations

import warnings
from typing import Any

from octolab.errors import AssumptionWarning
from octolab.federation import Nice, Replies
from octolab.federation.sampling import Filled, check_floor, must_come
from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Problem, Theory, param, torch


class State(NamedTuple):
    x: torch.Tensor
    counts: torch.Tensor  # (n,) int64: updates that arrived in this window of T rounds
    place: int = 0  # rounds of this window so far


class FairFloor(Method):
    slug = "fair-floor"
    tags = ("heterogeneous", "local steps", "client sampling", "fairness", "networks", "nonconvex")

    cohort: int | float = param(0.25, "m, the size of every cohort: a number or a share", gt=0, main=True)
    at_least: int = param(10, "k, rounds that each device takes part in, at the least", ge=0, main=True)
    window: int = param(100, "T, the rounds in which it does so", ge=1, main=True)
    q: Any = param(None, "(n,) weights of the free places; None: equal")
    weighting: str = param("ratio", "how updates are weighed", choices=("ratio", "unbiased"))
    lr: Theory[float] = param(Theory(), "local step size", gt=0, main=True)
    local_steps: int = param(5, "local steps per round", ge=1)
    batch_size: int | None = param(None, "samples per local step; None: all", ge=1)
    server_lr: float = param(1.0, "server step size", gt=0)

    def stepsize(self, problem: Constants) -> float:
        return 1 / problem.L_max

    def check(self, problem: Problem) -> None:
        super().check(problem)
        if not isinstance(self.cohort, (int, float)):
            raise ValueError(
                f"FairFloor: cohort={self.cohort!r}: give the number of clients in a round, or their share."
            )
        check_floor(problem.n, Nice(self.cohort).size(problem.n), self.at_least, self.window, self.q)
        if self.q is not None and self.weighting == "unbiased":
            raise ValueError(
                "FairFloor: weighting='unbiased' needs q=None: without replacement, weights q have no closed "
                "inclusion probabilities."
            )

    def init(self, fed: Federation) -> State:
        return State(fed.x0, fed.x0.new_zeros(fed.n, dtype=torch.int64))

    def step(self, fed: Federation, s: State) -> State:
        m = Nice(self.cohort).size(fed.n)
        sampler = Filled(must_come(fed.host(s.counts), self.window - s.place, m, self.at_least), m, self.q)
        updates = fed.call(self.client, s.x, to=fed.sample(sampler))
        counts = s.counts.clone()
        counts[updates.index] += 1
        fed.log(forced=len(sampler.members), least=int(counts.min()))
        after = (counts, s.place + 1) if s.place + 1 < self.window else (torch.zeros_like(counts), 0)
        if len(updates) == 0:
            return State(s.x, *after)
        move = updates.mean() if self.weighting == "ratio" else self.unbiased(fed, sampler, updates)
        return State(s.x + self.server_lr * move, *after)

    def unbiased(self, fed: Federation, sampler: Filled, updates: Replies) -> torch.Tensor:
        if len(sampler.members) == sampler.m < fed.n:
            warnings.warn(
                "FairFloor: the floor fills this cohort, so some clients could not be drawn, and weighting='unbiased' "
                "is biased in such rounds. A lower floor, or larger cohorts, leave a place to draw.",
                AssumptionWarning,
                stacklevel=2,
            )
        p = fed.place(sampler.probabilities(fed.n))[updates.index]
        return updates.sum(updates.weights / p.to(updates.weights.dtype))

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        return cohort.local_sgd(x, lr=self.lr, steps=self.local_steps, batch_size=self.batch_size) - x
