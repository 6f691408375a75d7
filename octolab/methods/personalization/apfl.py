r"""APFL: a personal model mixed, weight by weight, from a local and the common one.

Paper: Adaptive Personalized Federated Learning
Authors: Yuyang Deng, Mohammad Mahdi Kamani, Mehrdad Mahdavi
Venue: preprint, 2020
arXiv: 2003.13461
Solves: how much of the common model a client should use: vbar_i = a_i v_i + (1 - a_i) w_i, with a_i given or learned
Use: clients differ by unknown amounts; judged on held-out data
Avoid: a_i learned on training loss without held-out data (it drifts towards 1); devices without memory
Assumes: f_i is smooth
Algorithm:
    v_i = x0, a_i = a
    for t = 0, 1, ...:
        server draws a cohort S, sends x to it
        client i in S: w_i = x; at every local step, on one batch, with vbar_i = a_i v_i + (1 - a_i) w_i:
            g = grad f_i(vbar_i);  w_i <- w_i - lr grad f_i(w_i);  v_i <- v_i - lr a_i g
            adaptive: after the round's first step a_i <- clip(a_i - lr <v_i - w_i, g>, 0, 1), from before that step
        sends w_i - x;   server: x <- x + server_lr * weighted mean of w_i - x
    The personal model is a_i v_i + (1 - a_i) x.
Up: d numbers per member of the cohort: FedAvg's
Down: d numbers to the cohort
Step size: 1/max L_i
Theorem: the path of $x$ is FedAvg's whatever the $a_i$; $a_i = 0$ gives the common model, $a_i = 1$ local-only. With one local
    step any fixed $a_i > 0$ leads to the client's own optimum of its training loss, at step size $a_i^2\,lr$ (derived: $v_i$
    makes up for $w$); with more steps near it. So $a_i$ sets how fast, and held-out data must judge
Unconfirmed: the factor a_i in v_i's step (the derivative with respect to v); the authors' library mixes outputs, not
    weights, estimates a_i's gradient by <v - w, a grad_v + (1 - a) grad_w> and adds a regulariser 0.02 a_i
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from octolab.methods.local_training.fedavg import FedAvg, State
from octolab.methods.page import Cohort, Federation, Problem, param, torch
from octolab.methods.theory.mixture import check_each, column, per_client
from octolab.problems import Batch

__all__ = ["APFL", "State"]


class APFL(FedAvg):
    slug = "apfl"
    tags = ("personalisation", "heterogeneous", "nonconvex", "networks", "client sampling", "adaptive")

    any_optimizer = False  # it takes its steps itself

    a: float | Sequence[float] = param(
        0.5, "share of the local model in the mix, at the start, for all or one each", ge=0, le=1, main=True
    )
    adaptive: bool = param(False, "learn a_i, one step a round on the training loss", choices=(False, True), main=True)
    local_steps: int | None = param(None, "local steps per round; replaces local_epochs", ge=1)
    weighting: str = param("ratio", "weights in the average of a cohort", choices=("ratio", "unbiased"))

    def __post_init__(self) -> None:
        per_client(self, "a")
        super().__post_init__()

    def check(self, problem: Problem) -> None:
        if isinstance(self.local_steps, tuple):
            raise ValueError(f"APFL: local_steps={self.local_steps}: give one whole number >= 1 for all clients.")
        super().check(problem)
        check_each(self, "a", problem.n)

    def personal(self, fed: Federation, s: State) -> torch.Tensor:
        a = fed.memory.a
        return a * fed.memory.v + (1 - a) * s.x

    def init(self, fed: Federation) -> State:
        fed.memory.v = fed.x0.repeat(fed.n, 1)  # x0 comes with the program: no traffic
        fed.memory.a = fed.x0.new_zeros(fed.n, 1) + column(self.a)
        return super().init(fed)

    def step(self, fed: Federation, s: State) -> State:
        s = super().step(fed, s)
        if self.adaptive:
            fed.log(mean_a=float(fed.memory.a.mean()))
        return s

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        w, v, a = x.expand(cohort.m, -1), cohort.memory.v, cohort.memory.a
        u, first = torch.zeros_like(w), True  # FedAvg's momentum, of w alone
        for batch in self.batches(cohort):
            busy = 1 if batch is None or batch.mask is None else batch.mask.any(1)
            g = cohort.grad(a * v + (1 - a) * w, batch, gradients=busy)
            step = cohort.grad(w, batch, gradients=busy)
            if first and self.adaptive:
                cohort.memory.a = (a - self.lr * ((v - w) * g).sum(1, keepdim=True)).clamp(0, 1)
            v_new, u_new = v - self.lr * a * g, self.momentum * u + step
            w_new, rests = w - self.lr * u_new, None if isinstance(busy, int) or bool(busy.all()) else ~busy[:, None]
            if rests is not None:
                v_new, u_new, w_new = (torch.where(rests, b, c) for b, c in ((v, v_new), (u, u_new), (w, w_new)))
            w, v, u, a, first = w_new, v_new, u_new, cohort.memory.a, False
        cohort.memory.v = v
        return w - x

    def batches(self, cohort: Cohort) -> Iterator[Batch | None]:
        """The batch of each local step: those that FedAvg trains on. None: all data."""
        count, drawn = cohort.schedule(self.local_steps, self.local_epochs, self.batch_size)
        for t in range(count):
            if drawn is None or callable(drawn):
                yield drawn and drawn(t)
            else:
                yield Batch(*(None if part is None else part[t] for part in drawn))
