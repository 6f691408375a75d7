r"""DP-SGD: every client clips the gradients of its single examples and adds noise, for the privacy of examples.

Paper: Deep Learning with Differential Privacy (each client runs it by itself)
Authors: Martín Abadi, Andy Chu, Ian Goodfellow, H. Brendan McMahan, Ilya Mironov, Kunal Talwar, Li Zhang
Venue: CCS 2016
arXiv: 1607.00133
Solves: no single example can be read from what a client sends, and no server has to be trusted
Use: few clients with many records each (hospitals), where it is the records that need protection
Avoid: where it is the clients that need it (use dp-fedavg): a client's whole habit shows; BatchNorm, which mixes examples
Assumes: one example changes one client's data only; each example is drawn by an own secret coin
Algorithm:
    for t = 0, 1, ...:
        server sends x;  client i, K times: each of its N_i examples is drawn with probability q,
            y <- y - lr (sum over the drawn of clip_C(grad f_ij(y)) + z C N(0, I)) / (q N_i);  sends y - x
        server: x <- x + mean of what came
Up: d numbers per client of the cohort
Down: d numbers per client of the cohort
Step size: 1/(10 L_max), without a theorem: tune it
Theorem: $(\varepsilon, \delta)$ for one example added or removed, by an accountant over all local steps that were taken
"""

from __future__ import annotations

from octolab.batches import Batch
from octolab.methods.page import (
    Cohort,
    Constants,
    Federation,
    Method,
    NamedTuple,
    Problem,
    Sampler,
    Theory,
    param,
    torch,
)
from octolab.methods.theory.privacy import check_bounded, clipped
from octolab.trust.accounting import Guarantee, epsilon

NOTE = "Of an example, not of a client; it holds against the server, too."


class State(NamedTuple):
    x: torch.Tensor
    releases: torch.Tensor  # (n,) steps that each client has taken


class DPSGD(Method):
    slug = "dp-sgd"
    tags = ("privacy", "local steps", "client sampling", "networks", "nonconvex")
    messages = {"client": "update"}  # noqa: RUF012

    clip: float = param(1.0, "C, the largest norm of an example's gradient", gt=0, infinite=True, main=True)
    noise_multiplier: float = param(1.0, "z, noise on a step's sum over C; 0: none, and no privacy", ge=0, main=True)
    sample_rate: float = param(0.1, "q, probability of an example in a step", gt=0, le=1, main=True)
    local_steps: int = param(1, "noisy steps of a client in a round", ge=1, main=True)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    cohort: Sampler | int | float | None = param(None, "who takes part in a round; None: everybody", main=True)
    accountant: str = param("pld", "how epsilon is counted", choices=("pld", "rdp"))

    def stepsize(self, problem: Constants) -> float:
        return 1 / (10 * problem.L_max)

    def check(self, problem: Problem) -> None:
        super().check(problem)
        check_bounded("DPSGD", "clip", self.clip, self.noise_multiplier)

    def guarantee(self, problem: Problem, s: State, delta: float) -> Guarantee:
        z, q, steps = self.noise_multiplier, self.sample_rate, int(s.releases.max())
        spent = epsilon(z, q, steps, delta, self.accountant)
        return Guarantee(
            spent, delta, steps, z, q, "poisson", "add-or-remove-one", self.accountant, unit="example", note=NOTE
        )

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0, releases=torch.zeros_like(fed.weights))

    def step(self, fed: Federation, s: State) -> State:
        asked = fed.sample(self.cohort)
        updates = fed.call(self.client, s.x, to=asked)
        x = s.x if len(updates) == 0 else s.x + updates.mean()
        took = torch.zeros_like(s.releases)
        took[slice(None) if asked is None else fed.place(asked)] = (
            1.0  # drawn twice or lost on the way: it ran once at least
        )
        return State(x=x, releases=s.releases + self.local_steps * took)

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        y = x.expand(cohort.m, -1)
        sizes = torch.from_numpy(cohort.sizes).to(x.device)
        for _ in range(self.local_steps):
            total = self.sum_of_clipped(cohort, y, sizes)
            if self.noise_multiplier:
                total = total + self.noise_multiplier * self.clip * cohort.normal(cohort.d, "noise").to(total)
            y = y - self.lr * total / (self.sample_rate * sizes.to(y.dtype))[:, None]
        return y - x

    def sum_of_clipped(self, cohort: Cohort, y: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        """(m, d): each client's drawn examples, one after the other; those with fewer rest."""
        widest = int(sizes.max())
        drawn = cohort.uniform(widest, "examples").to(y.device) < self.sample_rate
        drawn &= torch.arange(widest, device=y.device) < sizes[:, None]
        order = drawn.int().argsort(dim=1, descending=True, stable=True)
        total = torch.zeros_like(y)
        for place in range(int(drawn.sum(1).max())):
            held = drawn.gather(1, order[:, place, None])
            single = Batch(order[:, place, None] * held, held, None)
            g = cohort.grad(y, single, gradients=held[:, 0].tolist())
            total = total + torch.where(held, clipped(g, self.clip), torch.zeros_like(g))
        return total
