r"""DP-FedAvg: clipped updates and Gaussian noise, so that no client's data can be read from the models.

Paper: Learning Differentially Private Recurrent Language Models; adaptive clipping: Differentially Private Learning with Adaptive
    Clipping (NeurIPS 2021, arXiv 1905.03871)
Authors: H. Brendan McMahan, Daniel Ramage, Kunal Talwar, Li Zhang; Galen Andrew, Om Thakkar, H. Brendan McMahan, Swaroop
    Ramaswamy
Venue: ICLR 2018
arXiv: 1710.06963
Solves: models may be released without revealing whether any one client took part
Use: many clients (hundreds in a round), a trusted server; the baseline of every privacy experiment
Avoid: few clients (below some 50 in a round the noise dominates); data sizes as weights (they are private)
Assumes: each client is drawn by an own secret coin (Poisson), or so many without replacement; the noise is really random
Algorithm:
    for t = 0, 1, ...:
        S: every client with probability q (an empty S is legal, the server still steps); m = q n, a public constant
        server sends x (and C);  client i trains to y_i, sends clip_C(y_i - x)
        server: x <- x + server_lr (sum over S of what came + z C N(0, I)) / m
    quantile (adaptive C): i also sends the bit [|y_i - x| <= C];  b = (sum of (bit - 1/2) + sigma_b N(0, 1))/m + 1/2;
        C <- C exp(-clip_lr (b - quantile));  updates then get z' = (z^-2 - (2 sigma_b)^-2)^(-1/2), so that both cost what z costs
    trust: "central" as above; "local": each client adds z C N(0, I) itself; "distributed": each z C N(0, I)/sqrt(survivors),
        and a round with fewer reports is void
Up: d numbers per client of the cohort (and a bit, for an adaptive C)
Down: d numbers per client of the cohort (and C, if it is adaptive)
Step size: 1/L_max for the local steps; no theorem is claimed. Clip at a typical norm of an update, known from public data
Theorem: $(\varepsilon, \delta)$ by an accountant, for the rounds that really happened: `run.guarantee(delta)`
"""

from __future__ import annotations

import math

from octolab.federation import Poisson
from octolab.methods.page import (
    Cohort,
    Constants,
    Federation,
    Method,
    NamedTuple,
    Problem,
    Reply,
    Sampler,
    Theory,
    param,
    torch,
)
from octolab.methods.theory.privacy import DISTRIBUTED, central, check_bounded, clipped, expected_size, local
from octolab.payloads import Scalars
from octolab.trust.accounting import Guarantee


class State(NamedTuple):
    x: torch.Tensor
    clip: torch.Tensor  # C
    releases: torch.Tensor  # rounds: each releases a model


class DPFedAvg(Method):
    slug = "dp-fedavg"
    start_here = True
    tags = ("privacy", "local steps", "client sampling", "networks", "nonconvex")
    messages = {"client": "update"}  # noqa: RUF012

    clip: float = param(
        1.0, "C, the largest norm of an update; of an adaptive C where it begins", gt=0, infinite=True, main=True
    )
    noise_multiplier: float = param(1.0, "z, noise on the sum over C; 0: none, and no privacy", ge=0, main=True)
    cohort: Sampler | int | float | None = param(Poisson(0.3), "who takes part; None: everybody", main=True)
    lr: Theory[float] = param(Theory(), "local step size", gt=0, main=True)
    local_steps: int | None = param(None, "local steps per round; None: local_epochs", ge=1)
    local_epochs: int = param(1, "passes over a client's data per round", ge=1, main=True)
    batch_size: int | None = param(None, "samples per local step; None: all", ge=1)
    server_lr: float = param(1.0, "server step size", gt=0)
    trust: str = param("central", "who adds the noise", choices=("central", "local", "distributed"))
    survivors: int | None = param(None, "trust='distributed': least reports of a round; None: 2/3 m", ge=1)
    quantile: float | None = param(
        None, "share of updates to leave unclipped by an adaptive C; None: C is fixed", gt=0, lt=1
    )
    clip_lr: float = param(0.2, "step size of log C", gt=0)
    bit_noise: float | None = param(None, "sigma_b, noise on the sum of the bits; None: m/20", gt=0)
    accountant: str = param("pld", "how epsilon is counted", choices=("pld", "rdp"))

    def stepsize(self, problem: Constants) -> float:
        return 1 / problem.L_max

    def check(self, problem: Problem) -> None:
        super().check(problem)
        check_bounded("DPFedAvg", "clip", self.clip, self.noise_multiplier)
        if self.quantile is not None and self.noise_multiplier:
            if self.trust != "central":
                raise ValueError(
                    f"DPFedAvg: quantile={self.quantile} with trust={self.trust!r}: adaptive clipping is central here: use "
                    f"trust='central', or a fixed clip."
                )
            if 2 * self.sigma_b(problem.n) <= self.noise_multiplier:
                raise ValueError(
                    f"DPFedAvg: bit_noise={self.sigma_b(problem.n):g} must be above noise_multiplier/2 = "
                    f"{self.noise_multiplier / 2:g}, or the bits alone would cost more than allowed."
                )

    def sigma_b(self, n: int) -> float:
        return expected_size(self.cohort, n) / 20 if self.bit_noise is None else self.bit_noise

    def least(self, n: int) -> int:
        """How many reports a sum needs, so that their noise together is enough."""
        return self.survivors or math.ceil(2 * expected_size(self.cohort, n) / 3)

    def on_updates(self, n: int) -> float:
        """The noise multiplier of the updates: with an adaptive C larger than z, because the bits are paid for, too."""
        z = self.noise_multiplier
        if self.quantile is None or z == 0:
            return z
        return (z**-2 - (2 * self.sigma_b(n)) ** -2) ** -0.5

    def guarantee(self, problem: Problem, s: State, delta: float) -> Guarantee:
        z, steps = self.noise_multiplier, int(s.releases)
        if self.trust == "local":
            return local(z, steps, delta, self.accountant)
        note = {"note": DISTRIBUTED} if self.trust == "distributed" else {}
        return central(z, self.cohort, problem.n, steps, delta, self.accountant, **note)

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0, clip=fed.x0.new_tensor(self.clip), releases=torch.zeros_like(fed.weights[0]))

    def step(self, fed: Federation, s: State) -> State:
        m, z = expected_size(self.cohort, fed.n), self.on_updates(fed.n)
        sent = [s.x] if self.quantile is None else [s.x, s.clip]
        answers = fed.call(self.client, *sent, to=fed.sample(self.cohort))
        updates, bits = (answers, None) if self.quantile is None else answers
        if self.trust == "distributed" and len(updates) < self.least(fed.n):
            fed.log(skipped=True)  # the sum would carry too little noise: it is not opened, and nothing is released
            return s
        total = updates.sum()
        if self.trust == "central" and z:
            total = total + z * s.clip * fed.noise(total)
        clip = s.clip if bits is None else self.adapted(fed, s.clip, float(bits.sum()), len(bits), m)
        return State(x=s.x + self.server_lr / m * total, clip=clip, releases=s.releases + 1)

    def adapted(self, fed: Federation, clip: torch.Tensor, below: float, count: int, m: float) -> torch.Tensor:
        noise = self.sigma_b(fed.n) * float(fed.noise(clip, "bits")) if self.noise_multiplier else 0.0
        share = (below - count / 2 + noise) / m + 0.5
        fed.log(clip=float(clip), unclipped=share)
        return clip * math.exp(-self.clip_lr * (share - (self.quantile or 0.0)))

    def client(self, cohort: Cohort, x: torch.Tensor, clip: torch.Tensor | None = None) -> Reply:
        epochs = None if self.local_steps else self.local_epochs
        y = cohort.local_sgd(x, lr=self.lr, steps=self.local_steps, epochs=epochs, batch_size=self.batch_size)
        limit = self.clip if clip is None else float(clip)
        change = clipped(y - x, limit)
        if self.trust != "central" and self.noise_multiplier:
            least = 1 if self.trust == "local" else self.least(cohort.n)
            noise = cohort.normal(cohort.d, "noise").to(change)
            change = change + self.noise_multiplier * limit / math.sqrt(least) * noise
        if clip is None:
            return change
        return change, Scalars(torch.linalg.vector_norm(y - x, dim=1) <= limit)
