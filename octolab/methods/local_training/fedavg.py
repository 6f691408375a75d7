r"""FedAvg: local SGD and averaging, the first thing to run.

Paper: Communication-Efficient Learning of Deep Networks from Decentralized Data
Authors: Brendan McMahan, Eider Moore, Daniel Ramage, Seth Hampson, Blaise Agüera y Arcas
Venue: AISTATS 2017
arXiv: 1602.05629
Solves: fewer rounds than distributed SGD by training for several steps on each client before averaging
Use: as the first baseline, on any model
Avoid: an exact optimum on heterogeneous data is wanted: with more than one local step it stops at a wrong point
Assumes: nothing for running it; clients that agree for converging to the optimum
Algorithm:
    for t = 0, 1, ...:
        server draws a cohort S, sends x
        client i: y <- x; several steps y <- y - lr * (stochastic) grad f_i(y); sends y - x
        server: x <- x + server_lr * sum_S a_i (y_i - x), where weighting says a_i:
            ratio: w_i / sum_S w_j;   unbiased: w_i / P(i in S);   sampled: S drawn with probabilities w_i, a_i = 1/|S|
Up: d numbers per member of the cohort
Down: d numbers to the cohort
Step size: 1/max L_i, safe for each client's own descent; it does not remove the bias, which is O(lr * (steps - 1))
Theorem: one local step is gradient descent: $f(x_t) - f^* \le (1 - \gamma\mu)^t (f(x_0) - f^*)$ for
    $\gamma = lr \cdot server\_lr \le 1/L$. With $\tau_i$ full-batch steps on quadratics the limit solves
    $\sum_i w_i (I - (I - lr A_i)^{\tau_i})(x - x_i^*) = 0$, as lr tends to 0 the minimiser of $\sum_i w_i \tau_i f_i$
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from octolab.federation import Importance, Nice
from octolab.federation.replies import Replies
from octolab.federation.sampling import as_sampler
from octolab.local import LocalOptimizer
from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Sampler, Theory, param, torch
from octolab.problems import Problem


class State(NamedTuple):
    x: torch.Tensor


class FedAvg(Method):
    slug = "fedavg"
    start_here = True
    tags: ClassVar[tuple[str, ...]] = ("local steps", "client sampling", "networks", "nonconvex")

    lr: Theory[float] = param(Theory(), "local step size", gt=0, main=True)
    local_epochs: int = param(5, "passes over a client's data per round", ge=1, main=True)
    local_steps: int | Sequence[int] | None = param(
        None, "local steps per round, for all or one number per client; replaces local_epochs", ge=1
    )
    batch_size: int | None = param(None, "samples per local step; None: all", ge=1, main=True)
    cohort: Sampler | int | float | None = param(None, "who takes part in a round; None: everybody", main=True)
    weighting: str = param("ratio", "weights in the average of a cohort", choices=("ratio", "unbiased", "sampled"))
    server_lr: float = param(1.0, "server step size", gt=0)
    momentum: float = param(0.0, "momentum of the local steps, new in every round", ge=0, lt=1)
    aggregator: Callable | None = param(None, "how updates are combined; None: the weighted mean", room="aggregators")
    local: LocalOptimizer | None = param(None, "optimiser of the local steps; None: SGD with momentum")

    messages: ClassVar[Mapping[str, str]] = {"client": "update"}
    any_optimizer: ClassVar[bool] = True  # whether the local steps may be another optimiser's

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.local is not None and (self.momentum or not self.any_optimizer):
            raise ValueError(
                f"{type(self).__name__}: local={self.local!r} and momentum={self.momentum}: give the momentum to the optimiser."
                if self.any_optimizer
                else f"{type(self).__name__}: local={self.local!r}: its rule is for SGD steps only: leave local out."
            )
        if isinstance(self.local_steps, (Sequence, np.ndarray)):
            object.__setattr__(self, "local_steps", tuple(self.local_steps))

    def stepsize(self, problem: Constants) -> float:
        return 1 / problem.L_max

    def rate(self, problem: Constants) -> float | None:
        steps, step = self.local_steps or self.local_epochs, self.lr * self.server_lr
        plain = self.local is None and not self.momentum
        exact = self.batch_size is None and self.cohort is None and plain and self.aggregator is None
        if not exact or not problem.strongly_convex or step * problem.L > 1 + 1e-12:
            return None  # a floor of noise, or nothing known
        if steps == 1:
            return 1 - step * problem.mu
        if isinstance(steps, int) and problem.homogeneous and self.server_lr == 1:
            return (1 - step * problem.mu) ** steps
        return None  # it stops at another point than the optimum

    def check(self, problem: Problem) -> None:
        super().check(problem)
        name, own = type(self).__name__, self.local_steps
        if isinstance(own, tuple) and (len(own) != problem.n or any(int(k) != k or k < 1 for k in own)):
            raise ValueError(
                f"{name}: local_steps={own}: give one whole number >= 1, or {problem.n} of them, one per client."
            )
        if self.weighting != "ratio" and self.aggregator is not None:
            raise ValueError(
                f"{name}: weighting={self.weighting!r} is a weighted sum: leave out aggregator, or use 'ratio'."
            )
        if self.weighting == "unbiased":
            as_sampler(self.cohort).expected(problem.n)  # says so if they have no closed form
        self.sampler(problem)

    def sampler(self, problem: Problem) -> Sampler | int | float | None:
        """Who is drawn: with weighting "sampled", clients in proportion to their weights, with replacement."""
        if self.weighting != "sampled":
            return self.cohort
        if self.cohort is None or isinstance(self.cohort, Sampler):
            raise ValueError(
                f"{type(self).__name__}: weighting='sampled' draws clients in proportion to their weights, and "
                f"cohort={self.cohort!r}: give a number of clients, or a share in (0, 1)."
            )
        return Importance(problem.weights.numpy(), Nice(self.cohort).size(problem.n))

    def init(self, fed: Federation) -> Any:
        return State(x=fed.x0)

    def step(self, fed: Federation, s: Any) -> Any:
        updates = fed.call(self.client, s.x, to=fed.sample(self.sampler(fed.problem)))
        if len(updates) == 0:  # an empty cohort, or all dropped out
            return s
        return self.move(s, self.average(fed, updates))

    def move(self, s: Any, change: torch.Tensor) -> Any:
        """The server's step along the average update."""
        return State(x=s.x + self.server_lr * change)

    def average(self, fed: Federation, updates: Replies) -> torch.Tensor:
        """sum_S a_i (y_i - x): it points downhill."""
        if self.weighting == "ratio":
            return updates.aggregate(self.aggregator)
        if self.weighting == "sampled":
            return updates.sum() / len(updates)
        times = fed.place(as_sampler(self.cohort).expected(fed.n)[updates.clients])
        return updates.sum(updates.weights / times.to(updates.weights.dtype))

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        plan = self.plan(cohort)
        return cohort.local_sgd(x, lr=self.lr, momentum=self.momentum, optimizer=self.local, **plan).sub_(x)

    def plan(self, cohort: Cohort) -> dict[str, Any]:
        """How much local training: for `cohort.local_sgd` and `cohort.local_steps`."""
        steps, stop = self.local_steps, None
        if isinstance(steps, tuple):
            steps, stop = max(steps), cohort.own(steps)
        return {"steps": steps, "epochs": self.local_epochs, "batch_size": self.batch_size, "stop": stop}
