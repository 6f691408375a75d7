r"""q-FFL: clients with a larger loss count more, so that accuracy is spread more evenly.

Paper: Fair Resource Allocation in Federated Learning
Authors: Tian Li, Maziar Sanjabi, Ahmad Beirami, Virginia Smith
Venue: ICLR 2020
arXiv: 1905.10497
Solves: a model that serves most clients and fails a few
Use: fairness between clients by one knob: q = 0 is FedAvg's objective, a large q looks at the worst client only
Avoid: groups that are not the clients (use bounded-group-loss); a guarantee for every client (use afl)
Assumes: losses are positive; f_i is L_i-smooth
Algorithm:
    for t = 0, 1, ...:
        server sends x
        client i: trains to y_i, sends f_i(x) (before it trained) and v_i = (x - y_i)/lr
        server: Delta_i = f_i^q v_i, h_i = q f_i^(q-1) |v_i|^2 + f_i^q/lr;  x <- x - sum w_i Delta_i / sum w_i h_i
    With one local step on all data it is q-FedSGD, v_i = grad f_i(x)
Up: d numbers and one more per client of the cohort
Down: d numbers
Step size: 1/max L_i for the local steps; 1/lr stands for the smoothness in h_i, as the paper estimates it
Theorem: none that gives a rate; the minimiser of $\sum_i \frac{w_i}{q+1} f_i^{q+1}$ is what it moves to
"""

from __future__ import annotations

from octolab.methods.page import (
    Cohort,
    Constants,
    Federation,
    Method,
    NamedTuple,
    Sampler,
    Theory,
    param,
    torch,
)


class State(NamedTuple):
    x: torch.Tensor


class QFFL(Method):
    slug = "q-ffl"
    needs = ("positive losses",)
    tags = ("fairness", "local steps", "client sampling", "networks", "nonconvex")

    q: float = param(1.0, "how much larger losses count more; 0: not", ge=0, main=True)
    lr: Theory[float] = param(Theory(), "local step size", gt=0, main=True)
    local_steps: int | None = param(1, "local steps per round; None: local_epochs", ge=1, main=True)
    local_epochs: int = param(1, "passes over a client's data, where local_steps is None", ge=1)
    batch_size: int | None = param(None, "samples per local step; None: all", ge=1)
    cohort: Sampler | int | float | None = param(None, "who takes part in a round; None: everybody", main=True)

    def stepsize(self, problem: Constants) -> float:
        return 1 / problem.L_max

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0)

    def step(self, fed: Federation, s: State) -> State:
        losses, moves = fed.call(self.client, s.x, to=fed.sample(self.cohort))
        if len(moves) == 0:
            return s
        f, v, w = losses.stack(), moves.stack(), moves.weights
        fq = f**self.q
        h = self.q * f ** (self.q - 1) * (v * v).sum(1) + fq / self.lr if self.q else fq / self.lr
        return State(x=s.x - ((w * fq) @ v) / (w @ h))

    def client(self, cohort: Cohort, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        loss, epochs = cohort.loss(x), None if self.local_steps else self.local_epochs
        y = cohort.local_sgd(x, lr=self.lr, steps=self.local_steps, epochs=epochs, batch_size=self.batch_size)
        return loss, (x - y) / self.lr
