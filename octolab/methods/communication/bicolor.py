r"""BiCoLoR: BiCoLoR-style, reconstructed: local training with compression in both directions, nothing dense either way.

Paper: BiCoLoR: Communication-Efficient Optimization with Bidirectional Compression and Local Training
Authors: Laurent Condat, Artavazd Maranjyan, Peter Richtárik
Venue: preprint, 2026
arXiv: 2601.12400
Solves: total communication, up and down, on ill-conditioned, strongly convex, heterogeneous problems
Use: the downlink costs as much as the uplink; everybody takes part; unbiased compressors both ways
Avoid: biased compressors (EF21-BC); a free downlink (LoCoDL); networks: a heuristic there, give numbers
Assumes: f_i is L_i-smooth and mu-strongly convex. Shares of the ridge make f_s (the server's own) and g (known to all) from it
Algorithm:
    x_i = xs = y = x0, u_i = us = v = 0; everybody holds the same y and v; s = ridge
    for t = 0, 1, ...: (a step, not a communication)
        client i: xh_i = x_i - lr (grad f_i(x_i) - s (1 + b) x_i - u_i)
        server: xh_s = xs - lr (s xs - us);   everybody: yh = y - lr (s y - v)
        shared coin, P(1) = p.  0: x_i, xs, y <- xh_i, xh_s, yh
        1: client i sends d_i = C_i(xh_i - yh); server sends d_s = C_s(xh_s - yh), made without looking at the d_i
            x_i <- xh_i - rho (xh_i - yh - d_s),  u_i <- u_i - eta (d_i - d_s);   y <- yh + rho d_s,  v <- v + eta d_s
            xs <- xh_s - rho ((1 + b)(xh_s - yh) - mean d_i),  us <- us - eta ((1 + b) d_s - mean d_i)
    The model is y. It hears of the clients through xs: from the second communication on it moves in every step
Up: one compressed vector per client, on coin 1
Down: one compressed vector, on coin 1 (and x0 once). A device that missed a step is sent y and v anew
Step size: with L, mu over all f_i, f_s, g: 2/(L + mu), ridge = mu/(2 + b), rho = 1/B, eta = p/(lr B B'), p so that both terms
    balance, B = 2 + b + (1 + 1/b)(omega_s + omega_av), B' = 1 + (1 + 1/b)(omega + omega_s). "practical": every omega = 0.
    Nothing strongly convex: ridge = 0, 1/L, p = 0.1
Theorem: (ours) $E\Psi_t \le \tau^t\Psi_0$, $\tau = \max\{(1-\gamma\mu)^2, (1-\gamma L)^2, 1 - \frac{p^2}{BB'}\}$,
    $\Psi = \frac1\gamma(\frac1n\sum|x_i - x^*|^2 + |x_s - x^*|^2 + b|y - x^*|^2) +
    \frac{1}{p\eta}(\frac1n\sum|u_i - \nabla f_i(x^*)|^2 + b|v - \nabla g(x^*)|^2)$
Unconfirmed: the exact published update. This one is rebuilt from the abstract and public reviews (common y, own vectors
    uncompressed, the server as one more client, errors that add instead of multiply), with a theorem of our own
"""

from __future__ import annotations

from octolab.compressors import Natural
from octolab.federation.delivery import current, missed, repair
from octolab.methods.page import Cohort, Compressor, Constants, Federation, Method, NamedTuple, Theory, param, torch
from octolab.methods.theory.anchor import Anchored
from octolab.methods.theory.local_steps import balanced
from octolab.payloads import Payload


class State(NamedTuple):
    y: torch.Tensor  # all four after the last communication
    v: torch.Tensor
    xs: torch.Tensor
    us: torch.Tensor
    k: int  # steps since then
    behind: torch.Tensor  # (n,) bool: who missed a step and no longer holds y, v and k


class BiCoLoR(Anchored, Method):
    slug = "bicolor"
    needs = ("unbiased", "strongly convex", "strongly convex clients", "full participation")
    tags = (
        "heterogeneous",
        "convex",
        "local steps",
        "accelerated communication",
        "unbiased compression",
        "bidirectional",
    )

    compressor: Compressor = param(Natural(), "unbiased compressor C of the clients", main=True)
    downlink: Compressor = param(Natural(), "unbiased compressor C_s of the server", main=True)
    steps: str = param(
        "practical", "omegas in the formulas: their own, or 0", choices=("theory", "practical"), main=True
    )
    b: float = param(0.5, "weight of g", gt=0)
    ridge: Theory[float] = param(Theory(), "g = f_s = (ridge/2)|x|^2; (1 + b) times it is taken out of f_i", ge=0)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    rho: Theory[float] = param(Theory(), "step towards agreement", gt=0, le=1)
    p: Theory[float] = param(Theory(), "probability to communicate after a step", gt=0, le=1, main=True)
    eta: Theory[float] = param(Theory(), "step of u_i, us and v", gt=0)
    batch_size: int | None = param(None, "samples per local step; None: all", ge=1)

    def B(self, problem: Constants, steps: str | None = None) -> tuple[float, float]:
        """B and B'."""
        b, up, av, down = self.b, 0.0, 0.0, 0.0
        if (steps or self.steps) == "theory":
            up, down = (c.omega(problem.d) or 0.0 for c in (self.compressor, self.downlink))
            av = self.compressor.mean_omega(problem.d, problem.weights)
        return 2 + b + (1 + 1 / b) * (down + av), 1 + (1 + 1 / b) * (up + down)

    def split(self, problem: Constants) -> tuple[float, float]:
        """L and mu that all f_i, f_s and g have after the split; mu = 0: not all are strongly convex."""
        own = float(self.ridge)
        taken = (1 + self.b) * own
        return max(problem.L_max - taken, own), max(0.0, min(problem.mu_min - taken, own))

    def theory_ridge(self, problem: Constants) -> float:
        return problem.mu_min / (2 + self.b)

    def stepsize(self, problem: Constants) -> float:
        L, mu = self.split(problem)
        return 2 / (L + mu) if mu else 1 / L

    def theory_rho(self, problem: Constants) -> float:
        return 1 / self.B(problem)[0]

    def theory_p(self, problem: Constants) -> float:
        B, Bp = self.B(problem)
        return balanced(self.lr, self.split(problem)[1] if problem.strongly_convex else 0.0, B * Bp)

    def theory_eta(self, problem: Constants) -> float:
        B, Bp = self.B(problem)
        return self.p / (self.lr * B * Bp)

    def rate(self, problem: Constants) -> float | None:
        (B, Bp), mu = self.B(problem, "theory"), problem.mu_min and self.split(problem)[1]
        proved = abs(self.rho * B - 1) < 1e-9 and abs(self.eta * self.lr * B * Bp / self.p - 1) < 1e-9
        if not mu or not proved or self.batch_size is not None or self.lr * self.split(problem)[0] >= 2:
            return None
        return max((1 - self.lr * mu) ** 2, (1 - self.lr * self.split(problem)[0]) ** 2, 1 - self.p**2 / (B * Bp))

    def init(self, fed: Federation) -> State:
        fed.call(self.begin, fed.x0)
        x, zero = fed.x0, torch.zeros_like(fed.x0)
        return State(y=x, v=zero, xs=x, us=zero, k=0, behind=fed.x0.new_zeros(fed.n, dtype=torch.bool))

    def step(self, fed: Federation, s: State) -> State:
        if not fed.coin(self.p):
            return s._replace(k=s.k + 1, behind=missed(s.behind, fed.call(self.local).clients))
        behind = repair(fed, s.behind, self.restore, s.y, s.v, s.k)
        y, xs = self.coast(s.y, s.v, s.k + 1), self.coast(s.xs, s.us, s.k + 1)
        message = fed.compress(self.downlink, xs - y)
        sent = fed.call(self.exchange, message, to=current(behind))
        ds, d = message.dense(), sent.weighted_sum()
        b = self.b + (1.0 if len(sent) == fed.n else float(sent.weights.sum()))
        return State(
            y=y + self.rho * ds,
            v=s.v + self.eta * ds,
            xs=xs - self.rho * (b * (xs - y) - d),  # b + 1, less the absent: they are not pulled at
            us=s.us - self.eta * (b * ds - d),
            k=0,
            behind=missed(behind, sent.clients),
        )

    def local(self, cohort: Cohort) -> None:
        cohort.memory.x = self.after_a_step(cohort, taken=(1 + self.b) * self.ridge)
        cohort.memory.k += 1

    def exchange(self, cohort: Cohort, message: Payload) -> Payload:
        (y, v), ds = self.here(cohort), message.dense()
        x = self.after_a_step(cohort, taken=(1 + self.b) * self.ridge)
        d = self.compressor(x - y, cohort)
        cohort.memory.x = x.mul_(1 - self.rho).add_(self.rho * (y + ds))
        cohort.memory.u = cohort.memory.u.sub_(d.dense(), alpha=self.eta).add_(ds, alpha=self.eta)
        self.restore(cohort, y + self.rho * ds, v + self.eta * ds, 0)
        return d
