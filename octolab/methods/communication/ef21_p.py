r"""EF21-P: error feedback at the server, on the shift of the model, so that the downlink carries little.

Paper: EF21-P and Friends: Improved Theoretical Communication Complexity for Distributed Optimization with Bidirectional
    Compression
Authors: Kaja Gruntkowska, Alexander Tyurin, Peter Richtárik
Venue: ICML 2023
arXiv: 2209.15218
Solves: a dear broadcast: clients hold a model w that follows the server's x through compressed messages
Use: the downlink is the bottleneck; clients that stay
Avoid: the uplink is the bottleneck (use EF21 or EF21-BC); clients that come and go: who missed a message is sent d numbers
Assumes: f is L-smooth, convex or not; C is contractive
Algorithm:
    w = x0, held by everybody
    for t = 0, 1, ...:
        client i: sends grad f_i(w)
        server: x <- x - lr * mean grad f_i(w), h = C(x - w), sends h;   everybody: w <- w + h
    A client that missed h is sent w whole before the next round.
Up: d numbers per client and round
Down: one compressed vector per round, and d numbers once at the start
Step size: 1/(L (1 + xi)), xi = (1 + sqrt(1 - alpha))/alpha - 1 (our proof: only the smoothness of f enters, not the L_i)
Theorem: (ours) $\frac1T\sum_{t<T}E|\nabla f(x_t)|^2 \le \frac{2(f(x_0) - f^*)}{\gamma T}$ for
    $\gamma \le \frac{1}{L(1 + \xi)}$; under PL $f(x) - f^* + \frac{\gamma L^2}{2\theta q}|x - w|^2$ shrinks by
    $\max(1 - \gamma\mu, 1 - \theta(1 - q))$, $\theta = 1 - \sqrt{1-\alpha}$, $q = \gamma^2 L^2\xi^2/(1 - \gamma L) < 1$
Unconfirmed: the paper's own step and rate; the paper's "friends" (DCGD and DIANA uplinks beside it) are left out
"""

from __future__ import annotations

from octolab.compressors import TopK
from octolab.federation.delivery import current, repair, spread
from octolab.methods.page import Cohort, Compressor, Constants, Federation, Method, NamedTuple, Theory, param, torch
from octolab.methods.theory.error_feedback import linear_rate, xi
from octolab.payloads import Payload


class State(NamedTuple):
    x: torch.Tensor
    w: torch.Tensor  # what the clients hold for x
    behind: torch.Tensor  # (n,) bool: who missed a message and no longer holds w


class EF21P(Method):
    slug = "ef21-p"
    needs = ("contractive",)
    tags = ("heterogeneous", "nonconvex", "biased compression", "error feedback", "downlink")

    compressor: Compressor = param(TopK(0.05), "contractive compressor C of the server", main=True)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)

    def stepsize(self, problem: Constants) -> float:
        return 1 / (problem.L * (1 + xi(self.compressor.contraction(problem.d))))

    def rate(self, problem: Constants) -> float | None:
        if not problem.strongly_convex:
            return None
        alpha = self.compressor.contraction(problem.d)
        return linear_rate(float(self.lr), problem.L, problem.L, alpha, problem.mu)

    def init(self, fed: Federation) -> State:
        fed.call(self.restore, fed.x0)
        return State(x=fed.x0, w=fed.x0, behind=fed.x0.new_zeros(fed.n, dtype=torch.bool))

    def relations(self, fed: Federation, s: State) -> dict[str, torch.Tensor]:
        return {"who is not behind holds w": (fed.memory.held - s.w)[~s.behind]}

    def step(self, fed: Federation, s: State) -> State:
        behind = repair(fed, s.behind, self.restore, s.w)
        gradients = fed.call(self.client, to=current(behind))
        if len(gradients) == 0:
            return s._replace(behind=behind)
        x = s.x - self.lr * gradients.mean()
        h = fed.compress(self.compressor, x - s.w)
        return State(x=x, w=s.w + h, behind=spread(fed, behind, self.receive, h))

    def restore(self, cohort: Cohort, w: torch.Tensor) -> None:
        cohort.memory.held = w.expand(cohort.m, -1)

    def receive(self, cohort: Cohort, h: Payload) -> None:
        cohort.memory.held = cohort.memory.held + h

    def client(self, cohort: Cohort) -> torch.Tensor:
        return cohort.grad(cohort.memory.held)
