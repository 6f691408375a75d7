r"""AdaComm: many local steps at first, fewer as the loss falls, timed by the clock.

Paper: Adaptive Communication Strategies to Achieve the Best Error-Runtime Trade-off in Local-Update SGD
Authors: Jianyu Wang, Gauri Joshi
Venue: MLSys 2019
arXiv: 1810.08313
Solves: slow communication: many local steps win time at first and cost accuracy at the end; this gets nearly both
Use: a round's communication takes as long as several gradients; losses are watched against time. The product switch
    adaptive_local_steps=True
Avoid: fast links (one local step then); an exact optimum on heterogeneous data
Assumes: f_i is L-smooth, variance sigma^2; clients that are alike; a clock: a `Fleet` with seconds and latency
Algorithm:
    tau = local_steps
    for t = 0, 1, ...:
        server draws a cohort S, sends x and tau;   client i: tau steps of SGD from x, sends y_i - x
        server: x <- x + server_lr * weighted mean of the y_i - x
        every `interval` seconds the cohort sends its losses at x too, F = their mean, F_0 = the first:
            new = ceil(sqrt((F - f_inf)/(F_0 - f_inf)) local_steps);  if new >= tau: new = ceil(tau/2);  tau <- max(1, new)
Up: d numbers per member of the cohort, and one more once per interval
Down: d + 1 numbers to the cohort
Step size: 1/max L_i, safe for each client's own descent
Theorem: after time $T$, with $Y$ per step, $D$ per communication: $\frac{2(F_0 - F_{inf})}{\eta T}(Y + \frac{D}{\tau}) +
    \frac{\eta L \sigma^2}{n} + \eta^2 L^2 \sigma^2 (\tau - 1)$ bounds the mean squared gradient norm; the best is
    $\tau^* = \sqrt{2 (F_0 - F_{inf}) D/(\eta^3 L^2 \sigma^2 T)}$
Unconfirmed: the rule is recalled; its factor for decaying step sizes is left out, as lr does not decay here; losses come
    with the updates of a round, so that a new tau serves from the next round on; F is taken over all data of the cohort,
    and the paper's F has f_inf = 0 (so here, unless the problem's f* is negative)
"""

from __future__ import annotations

import math

from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Sampler, Theory, param, torch


class State(NamedTuple):
    x: torch.Tensor
    tau: int
    first: float | None  # F_0 - f_inf
    due: float  # when losses are asked for next, virtual seconds


class AdaComm(Method):
    slug = "adacomm"
    tags = ("local steps", "adaptive", "device speeds", "client sampling", "networks", "nonconvex")

    local_steps: int = param(20, "local steps at the start, tau_0", ge=1, main=True)
    interval: float = param(50.0, "virtual seconds between two adaptations, T_0", gt=0, main=True)
    lr: Theory[float] = param(Theory(), "local step size", gt=0, main=True)
    batch_size: int | None = param(None, "samples per local step; None: all", ge=1, main=True)
    cohort: Sampler | int | float | None = param(None, "who takes part in a round; None: everybody", main=True)
    server_lr: float = param(1.0, "server step size", gt=0)
    f_inf: Theory[float] = param(Theory(), "lower bound of the loss")

    def stepsize(self, problem: Constants) -> float:
        return 1 / problem.L_max

    def theory_f_inf(self, problem: Constants) -> float:
        """Losses of samples are >= 0; a quadratic's minimum may be negative."""
        return 0.0 if problem.nonnegative else min(0.0, problem.f_star)

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0, tau=self.local_steps, first=None, due=0.0)

    def step(self, fed: Federation, s: State) -> State:
        ids, now = fed.sample(self.cohort), fed.now
        fed.log(local_steps=s.tau)
        if ids is not None and len(ids) == 0:  # an empty cohort
            return s
        if now < s.due:
            updates = fed.call(self.client, s.x, s.tau, to=ids)
            return s._replace(x=s.x + self.server_lr * updates.mean())
        updates, losses = fed.call(self.telling, s.x, s.tau, to=ids)
        above = max(0.0, float(losses.mean()) - self.f_inf)
        tau = s.tau if s.first is None else self.fewer(above, s.first, s.tau)
        due = (math.floor(now / self.interval) + 1) * self.interval
        return State(s.x + self.server_lr * updates.mean(), tau, above if s.first is None else s.first, due)

    def fewer(self, above: float, first: float, tau: int) -> int:
        """The next number of local steps, from F - f_inf now and at first, and the present number."""
        new = math.ceil(math.sqrt(above / first) * self.local_steps - 1e-9) if first > 0 and above < math.inf else tau
        return max(1, new if new < tau else math.ceil(tau / 2))

    def client(self, cohort: Cohort, x: torch.Tensor, tau: int) -> torch.Tensor:
        return cohort.local_sgd(x, lr=self.lr, steps=tau, batch_size=self.batch_size) - x

    def telling(self, cohort: Cohort, x: torch.Tensor, tau: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.client(cohort, x, tau), cohort.loss(x)


def best_steps(gap: float, D: float, lr: float, L: float, variance: float, T: float) -> float:
    """tau* of the theorem: gap = F_0 - F_inf, D seconds per communication, T seconds in all."""
    return math.sqrt(2 * gap * D / (lr**3 * L**2 * variance * T))
