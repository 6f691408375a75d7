r"""Power-of-Choice: of d candidates the m with the highest loss train: faster at first, and biased towards them.

Paper: Client Selection in Federated Learning: Convergence Analysis and Power-of-Choice Selection Strategies
Authors: Yae Jee Cho, Jianyu Wang, Gauri Joshi
Venue: AISTATS 2022 (as Towards Understanding Biased Client Selection in Federated Learning)
arXiv: 2010.01243
Solves: slow early rounds, and clients with high loss who are left behind
Use: the worst clients matter; early accuracy; as the biased baseline of client selection
Avoid: the optimum of f is wanted: the bias towards clients with high loss does not vanish (OCS, OSMD are unbiased)
Assumes: losses that can be compared: a constant left out of some f_i (as in ol.problems.quadratics) misleads it
Algorithm:
    for t = 0, 1, ...:
        server draws d candidates without replacement, client i with probability in proportion to w_i
        pow-d:  sends x to them, each replies f_i(x);   cpow-d: the loss on a minibatch
        rpow-d: no exchange; the server takes each one's loss from its last participation (never seen: infinite)
        the m candidates with the highest loss (ties: lower number) train from x and send y_i - x
        server: x <- x + server_lr * (1/m) sum (y_i - x)
Up: one number per candidate (rpow-d: one with each update), and d numbers from each of the m
Down: d numbers per candidate (rpow-d: to the m only)
Step size: 1/max L_i, safe for each client's own descent
Theorem: convex case, rate $O(1/T)$ to a neighbourhood, both the better and the larger the more the selection favours
    high losses
Unconfirmed: rpow-d's "running loss" (here f_i at the model received, on its batch_size or all), its start at infinity
"""

from __future__ import annotations

import numpy as np

from octolab.federation import Nice, Weighted
from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Problem, Theory, param, torch


class State(NamedTuple):
    x: torch.Tensor
    losses: torch.Tensor  # (n,) each client's last known loss (rpow-d)


class PowerOfChoice(Method):
    slug = "power-of-choice"
    tags = ("heterogeneous", "local steps", "client sampling", "fairness", "networks", "nonconvex")

    cohort: int | float = param(0.25, "m, clients that train: a number or a share", gt=0, main=True)
    candidates: int | float = param(
        0.5, "d, clients that are asked first, m <= d <= n: a number or a share", gt=0, main=True
    )
    variant: str = param(
        "pow-d", "losses: exact, on a minibatch, or last known", choices=("pow-d", "cpow-d", "rpow-d"), main=True
    )
    lr: Theory[float] = param(Theory(), "local step size", gt=0, main=True)
    local_steps: int = param(5, "local steps per round", ge=1, main=True)
    batch_size: int | None = param(None, "samples per local step and per loss of cpow-d; None: all", ge=1)
    server_lr: float = param(1.0, "server step size", gt=0)

    def stepsize(self, problem: Constants) -> float:
        return 1 / problem.L_max

    def sizes(self, n: int) -> tuple[int, int]:
        """(m, d)."""
        return Nice(self.cohort).size(n), Nice(self.candidates).size(n)

    def check(self, problem: Problem) -> None:
        super().check(problem)
        for name in ("cohort", "candidates"):
            if not isinstance(getattr(self, name), (int, float)):
                raise ValueError(
                    f"PowerOfChoice: {name}={getattr(self, name)!r}: give a number of clients, or a share."
                )
        m, d = self.sizes(problem.n)
        if not m <= d <= problem.n:
            raise ValueError(
                f"PowerOfChoice: candidates={self.candidates} is {d} and cohort={self.cohort} is {m} of {problem.n} "
                f"clients: choose cohort <= candidates <= {problem.n}."
            )
        Weighted(problem.weights.numpy(), d).check(problem.n)

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0, losses=fed.x0.new_full((fed.n,), torch.inf))

    def step(self, fed: Federation, s: State) -> State:
        m, d = self.sizes(fed.n)
        asked = fed.sample(Weighted(fed.host(fed.weights.double()), d))
        ids: np.ndarray = fed.everybody if asked is None else asked
        if self.variant == "rpow-d":
            updates, losses = fed.call(self.train_anew, s.x, to=highest(ids, fed.host(s.losses)[ids], m))
            known = s.losses.clone()
            known[losses.index] = losses.stack()
        else:
            said = fed.call(self.tell, s.x, to=ids)
            updates, known = fed.call(self.train, to=highest(said.clients, fed.host(said.stack()), m)), s.losses
        if len(updates) == 0:
            return State(s.x, known)
        return State(s.x + self.server_lr * updates.sum() / len(updates), known)

    def tell(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        cohort.memory.received = x.expand(cohort.m, -1)  # those who are chosen need not get it again
        return cohort.loss(x, cohort.batch(self.batch_size) if self.variant == "cpow-d" else None)

    def train(self, cohort: Cohort) -> torch.Tensor:
        return self.update(cohort, cohort.memory.received)

    def train_anew(self, cohort: Cohort, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.update(cohort, x), cohort.loss(x, cohort.batch(self.batch_size))

    def update(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        return cohort.local_sgd(x, lr=self.lr, steps=self.local_steps, batch_size=self.batch_size) - x


def highest(ids: np.ndarray, losses: np.ndarray, m: int) -> np.ndarray:
    """The m of ids with the highest losses, ascending; ties go to the lower number."""
    return np.sort(ids[(-np.asarray(losses, dtype=float)).argsort(kind="stable")[:m]])
