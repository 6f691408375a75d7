r"""LoCoDL: local training and any unbiased compressor together, doubly accelerated.

Paper: LoCoDL: Communication-Efficient Distributed Learning with Local Training and Compression
Authors: Laurent Condat, Artavazd Maranjyan, Peter Richtárik
Venue: ICLR 2025
arXiv: 2403.04348
Solves: uplink bits on ill-conditioned, strongly convex, heterogeneous problems: sqrt(kappa) from local steps, and compression
Use: the uplink is the bottleneck, everybody takes part, an unbiased compressor (Natural first)
Avoid: TopK (biased: use EF21); client sampling; a downlink as dear as the uplink (BiCoLoR); networks: a heuristic, give numbers
Assumes: f_i is L_i-smooth and mu-strongly convex. g(y) = (ridge/2)|y|^2 is known to all and taken out of every f_i
Algorithm:
    x_i = y = x0, u_i = v = 0; everybody holds the same y and v
    for t = 0, 1, ...: (a step, not a communication)
        client i: xh_i = x_i - lr (grad f_i(x_i) - ridge x_i - u_i);   everybody: yh = y - lr (ridge y - v)
        shared coin, P(1) = p.  0: x_i <- xh_i, y <- yh
        1: client i sends d_i = C_i(xh_i - yh); server replies dbar = (1/(2n)) sum d_i;   c = p chi/(lr (1 + 2 omega))
            x_i <- (1 - rho) xh_i + rho (yh + dbar), y <- yh + rho dbar;   u_i <- u_i + c (dbar - d_i), v <- v + c dbar
    The model is y, which moves in every step: all know g and v, so nothing is sent for it.
Up: one compressed vector per client, on coin 1
Down: d numbers, on coin 1 (and x0 once). A device that missed a step is sent y and v anew
Step size: with L, mu after the split (ridge = mu/2 of the f_i): 2/(L + mu), chi = rho = 1/(1 + omega_av), omega_av = omega/n, p
    so that both terms balance. "practical": the same with omega = 0. Nothing strongly convex: ridge = 0, 1/L, p = 0.1
Theorem: $E\Psi_t \le \tau^t\Psi_0$, $\tau = \max\{(1-\gamma\mu)^2, (1-\gamma L)^2, 1 - \frac{p^2\chi}{1+2\omega}\}$ for
    $\gamma < 2/L$, $2\rho - \rho^2(1+\omega_{av}) \ge \chi > 0$; $\Psi = \frac1\gamma\sum_i(|x_i - x^*|^2 + |y - x^*|^2) +
    \frac{\gamma(1+2\omega)}{p^2\chi}\sum_i(|u_i - \nabla f_i(x^*)|^2 + |v - \nabla g(x^*)|^2)$
Unconfirmed: the paper's own experiments (compressors, data sets) are recalled; absent clients are our extension (exact, no rate)
"""

from __future__ import annotations

from octolab.compressors import Natural
from octolab.federation.delivery import current, deliver, missed, repair
from octolab.methods.page import Cohort, Compressor, Constants, Federation, Method, NamedTuple, Theory, param, torch
from octolab.methods.theory.anchor import Anchored
from octolab.methods.theory.local_steps import balanced
from octolab.payloads import Payload


class State(NamedTuple):
    y: torch.Tensor  # y and v after the last communication
    v: torch.Tensor
    k: int  # steps since then
    behind: torch.Tensor  # (n,) bool: who missed a step and no longer holds y, v and k


class LoCoDL(Anchored, Method):
    slug = "locodl"
    needs = ("unbiased", "strongly convex", "strongly convex clients", "full participation")
    tags = ("heterogeneous", "convex", "local steps", "accelerated communication", "unbiased compression")

    compressor: Compressor = param(Natural(), "unbiased compressor C", main=True)
    steps: str = param("theory", "omega in the formulas: its own, or 0", choices=("theory", "practical"), main=True)
    ridge: Theory[float] = param(Theory(), "g = (ridge/2)|y|^2 is taken out of every f_i", ge=0)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    rho: Theory[float] = param(Theory(), "step towards agreement", gt=0, lt=2)
    chi: Theory[float] = param(Theory(), "step of u_i and v, before the factor p/(lr (1 + 2 omega))", gt=0, le=1)
    p: Theory[float] = param(Theory(), "probability to communicate after a step", gt=0, le=1, main=True)
    batch_size: int | None = param(None, "samples per local step; None: all", ge=1)

    def omega(self, d: int) -> float:
        return 0.0 if self.steps == "practical" else float(self.compressor.omega(d) or 0)

    def omega_av(self, problem: Constants) -> float:
        return 0.0 if self.steps == "practical" else self.compressor.mean_omega(problem.d, problem.weights)

    def split(self, problem: Constants) -> tuple[float, float]:
        """L and mu that all f_i and g have after the split; mu = 0: not all are strongly convex."""
        ridge = float(self.ridge)
        return max(problem.L_max - ridge, ridge), max(0.0, min(problem.mu_min - ridge, ridge))

    def theory_ridge(self, problem: Constants) -> float:
        return problem.mu_min / 2

    def stepsize(self, problem: Constants) -> float:
        L, mu = self.split(problem)
        return 2 / (L + mu) if mu else 1 / L

    def theory_rho(self, problem: Constants) -> float:
        return 1 / (1 + self.omega_av(problem))

    def theory_chi(self, problem: Constants) -> float:
        return 2 * self.rho - self.rho**2 * (1 + self.omega_av(problem))

    def theory_p(self, problem: Constants) -> float:
        mu = self.split(problem)[1] if problem.strongly_convex else 0.0
        return balanced(self.lr, mu, (1 + 2 * self.omega(problem.d)) / self.chi)

    def rate(self, problem: Constants) -> float | None:
        if not problem.mu_min or self.batch_size is not None:
            return None
        (L, mu), omega = self.split(problem), self.compressor.variance(problem.d)
        slope = self.chi / (1 + 2 * self.omega(problem.d))  # as it is used
        room = 2 * self.rho - self.rho**2 * (1 + self.compressor.mean_omega(problem.d, problem.weights))
        if not mu or self.lr * L >= 2 or slope * (1 + 2 * omega) > room + 1e-12:
            return None
        return max((1 - self.lr * mu) ** 2, (1 - self.lr * L) ** 2, 1 - self.p**2 * slope)

    def init(self, fed: Federation) -> State:
        fed.call(self.begin, fed.x0)
        return State(y=fed.x0, v=torch.zeros_like(fed.x0), k=0, behind=fed.x0.new_zeros(fed.n, dtype=torch.bool))

    def relations(self, fed: Federation, s: State) -> dict[str, torch.Tensor]:
        return {"mean u_i + v = 0": fed.mean_of("u") + s.v}

    def step(self, fed: Federation, s: State) -> State:
        if not fed.coin(self.p):
            return s._replace(k=s.k + 1, behind=missed(s.behind, fed.call(self.local).clients))
        behind = repair(fed, s.behind, self.restore, s.y, s.v, s.k)
        sent = fed.call(self.send, to=current(behind))
        behind = missed(behind, sent.clients)
        if len(sent) == 0:
            return s._replace(k=s.k + 1, behind=behind)
        # who is absent is left out of the average and keeps u_i; v follows, so that mean u_i + v stays 0
        share = 1.0 if len(sent) == fed.n else float(sent.weights.sum())
        dbar, yh = sent.mean() / 2, self.coast(s.y, s.v, s.k + 1)
        lost = deliver(fed, self.receive, dbar, *([] if share == 1 else [share]), to=sent.clients)
        behind = behind.index_fill(0, fed.place(lost), True)
        return State(y=yh + self.rho * dbar, v=s.v + self.pull(fed.d) * share * dbar, k=0, behind=behind)

    def pull(self, d: int) -> float:
        """c, the step of u_i and v."""
        return self.p * self.chi / (self.lr * (1 + 2 * self.omega(d)))

    def local(self, cohort: Cohort) -> None:
        cohort.memory.x = self.after_a_step(cohort, taken=self.ridge)
        cohort.memory.k += 1

    def send(self, cohort: Cohort) -> Payload:
        (y, _), x = self.here(cohort), self.after_a_step(cohort, taken=self.ridge)
        d = self.compressor(x - y, cohort)
        cohort.memory.x = x  # what is read from memory is a copy, to be changed in place
        cohort.memory.u = cohort.memory.u.sub_(d.dense(), alpha=self.pull(cohort.d))
        return d

    def receive(self, cohort: Cohort, dbar: torch.Tensor, share: float = 1.0) -> None:
        (y, v), c = self.here(cohort), self.pull(cohort.d)
        cohort.memory.x = cohort.memory.x.mul_(1 - self.rho).add_(self.rho * (y + dbar))
        cohort.memory.u = cohort.memory.u.add_(dbar, alpha=c)
        self.restore(cohort, y + self.rho * dbar, v + c * share * dbar, 0)
