r"""OCS and AOCS: everybody computes, few upload, those with large updates more likely, and the sum stays unbiased.

Paper: Optimal Client Sampling for Federated Learning
Authors: Wenlin Chen, Samuel Horváth, Peter Richtárik
Venue: TMLR 2022
arXiv: 2010.13723
Solves: the uplink, when only m clients on average may upload in a round: the least variance that m uploads can have
Use: uplink bound; clients whose updates differ in size; variant "aocs" where only sums may reach the server. The product
    switches selection_strategy="importance-sampling", importance_weights="gradient-norm"
Avoid: compute or downlink is what is scarce: all clients receive the model and train in every round
Assumes: f_i is L_i-smooth; all available clients answer
Algorithm:
    for t = 0, 1, ...:
        server sends x to all;  client i: U_i = y_i - x after its local steps, sends u_i = |w_i U_i|
        ocs:  server finds p minimising sum u_i^2/p_i with sum p_i <= m, floor <= p_i <= 1 (water-filling), sends p_i
        aocs: server sends m/sum u; p_i = min(m u_i/sum u, 1); up to `loops` times: clients with p_i < 1 send (1, p_i), the
              others (0, 0); server sends c = (m - n + I)/P from the sums I, P; these clients set p_i <- min(c p_i, 1)
        client i, with its own coin of p_i: sends U_i/p_i
        server: x <- x + server_lr * sum over those who sent of w_i U_i/p_i
Up: one number per client; d numbers from m clients on average; aocs: two numbers more per loop
Down: d numbers and one to every client; aocs: one number more per loop
Step size: 1/(K (L + 2 L_max (n/m - 1) max w_i)) for K local steps: what m uploads drawn uniformly allow (derived)
Theorem: the variance $\sum_i \frac{1-p_i}{p_i} u_i^2$ is at most that of uniform sampling of $m$; it is zero, as with
    full participation, if at most $m$ norms are nonzero
Unconfirmed: loops = 4 as the paper's default; floor is not in the paper (a fairness floor on p_i)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from octolab.federation import Each, Replies
from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Problem, Theory, param, torch
from octolab.payloads import Dense, Gated


class State(NamedTuple):
    x: torch.Tensor


class OCS(Method):
    slug = "ocs"
    tags = ("heterogeneous", "local steps", "client sampling", "importance sampling", "networks", "nonconvex")

    uploads: float = param(
        0.25, "m, uploads per round on average, or a share of the clients in (0, 1)", gt=0, main=True
    )
    variant: str = param("ocs", "the optimal p_i, or approximate from sums alone", choices=("ocs", "aocs"), main=True)
    lr: Theory[float] = param(Theory(), "local step size", gt=0, main=True)
    local_steps: int = param(1, "local steps per round", ge=1, main=True)
    batch_size: int | None = param(None, "samples per local step; None: all", ge=1)
    server_lr: float = param(1.0, "server step size", gt=0)
    floor: float = param(0.0, "fairness: the smallest probability to upload (ocs)", ge=0, lt=1)
    loops: int = param(4, "rescaling loops (aocs)", ge=1)

    def budget(self, n: int) -> float:
        return self.uploads * n if self.uploads < 1 else float(self.uploads)

    def stepsize(self, problem: Constants) -> float:
        worst = (problem.n / self.budget(problem.n) - 1) * float(problem.weights.max())
        return 1 / (self.local_steps * (problem.L + 2 * problem.L_max * worst))

    def check(self, problem: Problem) -> None:
        super().check(problem)
        n, m = problem.n, self.budget(problem.n)
        if m > n:
            raise ValueError(f"OCS: uploads={self.uploads}: there are only {n} clients. Choose a number in (0, {n}].")
        if n * self.floor > m * (1 + 1e-12):
            raise ValueError(
                f"OCS: floor={self.floor}: {n} clients at this probability upload {n * self.floor:g} times a round, and "
                f"uploads={self.uploads} allows {m:g}. Choose a floor in [0, {m / n:g}], or more uploads."
            )
        if self.floor and self.variant == "aocs":
            raise ValueError(
                f"OCS: floor={self.floor}: a floor needs variant='ocs', where the server knows every norm."
            )

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0)

    def step(self, fed: Federation, s: State) -> State:
        norms = fed.call(self.train, s.x)
        if len(norms) == 0:
            return s
        sent = (self.optimal if self.variant == "ocs" else self.agreed)(fed, norms)
        fed.log(uploads=0 if sent.payload is None else int(sent.payload.sent.sum()))  # type: ignore[attr-defined]
        return State(x=s.x + self.server_lr / float(norms.weights.sum()) * sent.sum(sent.weights))

    def optimal(self, fed: Federation, norms: Replies) -> Replies:
        """The server knows all norms and tells everyone its probability."""
        answered = len(norms)
        p = water_filling(fed.host(norms.stack()), min(self.budget(fed.n), answered), self.floor)
        p_i = Each(fed.place(p).to(fed.x0.dtype))
        return fed.call(self.upload, p_i, to=None if answered == fed.n else norms.clients)

    def agreed(self, fed: Federation, norms: Replies) -> Replies:
        """The server knows sums alone, and clients find their probabilities with it."""
        to, m, total = norms.clients, self.budget(fed.n), float(norms.sum())
        c, fn = m / total if total else 0.0, self.share
        for _ in range(self.loops):
            tally = fed.call(fn, c, to=to)
            to, fn = tally.clients, self.rescale
            inside, mass = tally.sum().tolist()
            c = (min(m, len(to)) - len(to) + inside) / mass if mass > 0 else 1.0
            if c <= 1 + 1e-9:  # nobody is left to raise; 1 + 2e-16 is rounding, and would cost another loop
                return fed.call(self.upload_own, None, to=to)
        return fed.call(self.upload_own, c, to=to)

    def train(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        update = cohort.local_sgd(x, lr=self.lr, steps=self.local_steps, batch_size=self.batch_size) - x
        cohort.memory.update = update
        cohort.memory.p = norms = update.norm(dim=1) * cohort.weights.to(update.dtype)
        return norms

    def upload(self, cohort: Cohort, p: torch.Tensor) -> Gated:
        coin = cohort.uniform(1, "upload")[:, 0] < p
        return Gated(Dense(cohort.memory.update / torch.where(coin, p, 1.0)[:, None]), coin)

    def share(self, cohort: Cohort, c: float) -> torch.Tensor:
        return self.tally(cohort, (c * cohort.memory.p).clamp(max=1))

    def rescale(self, cohort: Cohort, c: float | None) -> torch.Tensor:
        p = cohort.memory.p
        return self.tally(cohort, torch.where(p < 1, ((c or 1.0) * p).clamp(max=1), p))

    def tally(self, cohort: Cohort, p: torch.Tensor) -> torch.Tensor:
        cohort.memory.p = p
        free = (p < 1).to(p.dtype)
        return torch.stack([free, free * p], 1)

    def upload_own(self, cohort: Cohort, c: float | None) -> Gated:
        self.rescale(cohort, c)
        return self.upload(cohort, cohort.memory.p)


def water_filling(norms: Sequence[float] | np.ndarray, m: float, floor: float = 0.0) -> np.ndarray:
    """p_i = clip(c u_i, floor, 1) with sum p_i = m, exactly (arXiv 2010.13723; with a floor: derived), (n,).

    norms: u (n,) >= 0. m: expected number of participants, n floor <= m <= n. The sum grows with c in straight pieces
    between the places where some c u_i meets floor or 1, so that c is an interpolation between two of them. Where at
    most m norms are nonzero these get 1 and the others the floor, and the budget is not used up.
    """
    u = np.asarray(norms, dtype=float)
    n = len(u)
    if not (np.isfinite(u).all() and (u >= 0).all()):
        raise ValueError("norms must be finite numbers >= 0, one per client.")
    if not 0 <= floor <= 1 or not n * floor <= m * (1 + 1e-12) or not 0 < m <= n:
        raise ValueError(
            f"m={m}, floor={floor}: {n} clients need n * floor <= m <= n, that is m between {n * floor:g} and {n}."
        )
    heavy = u > 0
    if heavy.sum() + floor * (n - heavy.sum()) <= m:
        return np.where(heavy, 1.0, floor)
    v = np.sort(u[heavy] / u.max())
    small = np.concatenate([[0.0], np.cumsum(v)])  # the sum of the j smallest
    at = np.unique(np.concatenate([floor / v, 1 / v]))
    with np.errstate(divide="ignore"):
        above = len(v) - np.searchsorted(v, 1 / at, side="left")  # how many have c v >= 1 at each of these c
        below = np.searchsorted(v, floor / at, side="left") if floor else np.zeros(len(at), dtype=np.int64)
    total = floor * below + at * (small[len(v) - above] - small[below]) + above
    c = np.interp(m - floor * (n - len(v)), total, at)
    return np.where(heavy, np.clip(c * u / u.max(), floor, 1.0), floor)
