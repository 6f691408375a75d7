r"""EF21-BC: EF21 compressed in both directions; nothing dense is broadcast after the start.

Paper: EF21 with Bells & Whistles: Six Algorithmic Extensions of Modern Error Feedback
Authors: Ilyas Fatkhullin, Igor Sokolov, Eduard Gorbunov, Zhize Li, Peter Richtárik
Venue: JMLR 2025
arXiv: 2110.03294
Solves: biased compression when the downlink is a bottleneck too
Use: as EF21, with clients that stay and hold the model, and a downlink as dear as the uplink
Avoid: clients that come and go: who missed a message must be sent 2 d numbers
Assumes: as EF21; both compressors are contractive
Algorithm:
    g_i = grad f_i(x0), b = g = mean g_i; everybody holds x0 and b
    for t = 0, 1, ...:
        everybody: x <- x - lr * b  (nothing is sent for it)
        client i: c_i = C(grad f_i(x) - g_i), g_i <- g_i + c_i, sends c_i
        server: g <- g + mean c_i, h = D(g - b), sends h;   everybody: b <- b + h
    A client that missed h is sent x and b whole before the next round.
Up: one compressed vector per client and round, and d numbers once at the start
Down: one compressed vector per round, and 2 d numbers once at the start
Step size: 1/(L + M sqrt(2 B)), M = sqrt(mean L_i^2), B = 8 xi_D^2 + xi_C^2 (1 + 8 xi_D^2), xi = (1 + sqrt(1 - alpha))/alpha - 1:
    our bound, safe and loose; 20 times more still converged on quadratics
Theorem: (ours) $\frac1T\sum_{t<T} E|\nabla f(x_t)|^2 = O(\Psi_0/(\gamma T))$ for $\gamma \le \frac{1}{L + M\sqrt{2B}}$, under PL
    $\Psi = f - f^* + \frac{\gamma}{\theta_D r}|g - b|^2 + c \sum w_i |g_i - \nabla f_i|^2$ shrinks by
    $\max(1 - \gamma\mu, 1 - \min(\theta_C, \theta_D)(1 - r))$, $r = \gamma M\sqrt{2B/(1 - \gamma L)} < 1$
Unconfirmed: the paper's own constant in the step
"""

from __future__ import annotations

import math

from octolab.compressors import TopK
from octolab.federation.delivery import current, repair, spread
from octolab.methods.page import Cohort, Compressor, Constants, Federation, Method, NamedTuple, Theory, param, torch
from octolab.methods.theory.error_feedback import xi
from octolab.payloads import Dense, Payload


class State(NamedTuple):
    x: torch.Tensor
    g: torch.Tensor  # mean g_i
    b: torch.Tensor  # what the clients hold for g
    behind: torch.Tensor  # (n,) bool: who missed a message and no longer holds x and b


class EF21BC(Method):
    slug = "ef21-bc"
    needs = ("contractive", "full participation")
    tags = ("heterogeneous", "nonconvex", "biased compression", "error feedback", "bidirectional")

    compressor: Compressor = param(TopK(0.05), "contractive compressor C of the clients", main=True)
    downlink: Compressor = param(TopK(0.05), "contractive compressor D of the server", main=True)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)

    def _slope(self, problem: Constants) -> float:
        """M sqrt(2 B)."""
        up, down = (xi(c.contraction(problem.d)) ** 2 for c in (self.compressor, self.downlink))
        return float(problem.L_qm * math.sqrt(2 * (8 * down + up * (1 + 8 * down))))

    def stepsize(self, problem: Constants) -> float:
        return 1 / (problem.L + self._slope(problem))

    def rate(self, problem: Constants) -> float | None:
        if not problem.strongly_convex:
            return None
        change, left = self.lr * self._slope(problem), 1 - self.lr * problem.L
        if left < -1e-12 or (change > 0 and change**2 >= left):
            return None
        r = change / math.sqrt(left) if change else 0.0
        theta = min(1 - math.sqrt(1 - c.contraction(problem.d)) for c in (self.compressor, self.downlink))
        return max(1 - self.lr * problem.mu, 1 - theta * (1 - r))

    def init(self, fed: Federation) -> State:
        g = fed.call(self.begin, fed.x0).weighted_sum()
        fed.call(self.receive, Dense(g))
        return State(x=fed.x0, g=g, b=g, behind=fed.x0.new_zeros(fed.n, dtype=torch.bool))

    def relations(self, fed: Federation, s: State) -> dict[str, torch.Tensor]:
        return {
            "g = mean g_i": s.g - fed.mean_of("g"),
            "who is not behind holds b": (fed.memory.held - s.b)[~s.behind],
        }

    def step(self, fed: Federation, s: State) -> State:
        behind = repair(fed, s.behind, self.restore, s.x, s.b)
        g = s.g + fed.call(self.client, to=current(behind)).weighted_sum()
        h = fed.compress(self.downlink, g - s.b)
        behind = spread(fed, behind, self.receive, h)
        return State(x=s.x - self.lr * s.b, g=g, b=s.b + h, behind=behind)

    def begin(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        cohort.memory.next, cohort.memory.held = x.expand(cohort.m, -1), cohort.zeros()
        cohort.memory.g = g = cohort.grad(x)
        return g

    def receive(self, cohort: Cohort, h: Payload) -> None:
        cohort.memory.held = b = cohort.memory.held + h
        cohort.memory.next = cohort.memory.next - self.lr * b

    def restore(self, cohort: Cohort, x: torch.Tensor, b: torch.Tensor) -> None:
        cohort.memory.next, cohort.memory.held = (x - self.lr * b).expand(cohort.m, -1), b.expand(cohort.m, -1)

    def client(self, cohort: Cohort) -> Payload:
        g = cohort.memory.g
        c = self.compressor(cohort.grad(cohort.memory.next) - g, cohort)
        cohort.memory.g = g + c
        return c
