r"""EF14: classic error feedback, which adds what was not sent to the next message.

Paper: 1-Bit Stochastic Gradient Descent and its Application to Data-Parallel Distributed Training of Speech DNNs
Authors: Frank Seide, Hao Fu, Jasha Droppo, Gang Li, Dong Yu
Venue: Interspeech 2014; analysed in arXiv 1809.07599 (Stich, Cordonnier, Jaggi) and 1901.09847 (Karimireddy et al.)
arXiv: 1901.09847
Solves: biased compression without divergence; the baseline that EF21 replaced
Use: to compare with EF21
Avoid: an exact optimum on heterogeneous data: grad f_i(x*) != 0 is compressed for ever, so it stops in a neighbourhood
Assumes: f_i is L_i-smooth; C is contractive
Algorithm:
    e_i = 0
    for t = 0, 1, ...:
        server sends x
        client i: p_i = e_i + lr * grad f_i(x), c_i = C(p_i), e_i <- p_i - c_i, sends c_i
        server: x <- x - mean c_i
Up: one compressed vector per client and round
Down: d numbers
Step size: EF21's, 1/(L + M xi), M = mean L_i, so that both can be compared at the same step; not a theorem on EF14
Theorem: for every compressor $z_t = x_t - \sum_i w_i e_i^t$ makes a gradient step: $z_{t+1} = z_t - \gamma\nabla f(x_t)$. At a
    constant step $x_t$ stops $O(\gamma^2\zeta^2/\alpha^2)$ from the optimum in squared distance,
    $\zeta^2 = \sum w_i |\nabla f_i(x^*)|^2$
"""

from __future__ import annotations

from octolab.compressors import TopK
from octolab.methods.page import Cohort, Compressor, Constants, Federation, Method, NamedTuple, Theory, param, torch
from octolab.methods.theory.error_feedback import xi
from octolab.payloads import Payload


class State(NamedTuple):
    x: torch.Tensor


class EF14(Method):
    slug = "ef14"
    needs = ("contractive",)
    tags = ("biased compression", "error feedback", "nonconvex")

    compressor: Compressor = param(TopK(0.05), "contractive compressor C", main=True)
    lr: Theory[float] = param(Theory(), "step size (inside the message)", gt=0, main=True)

    def stepsize(self, problem: Constants) -> float:
        return 1 / (problem.L + problem.L_mean * xi(self.compressor.contraction(problem.d)))

    def init(self, fed: Federation) -> State:
        fed.call(self.begin)
        return State(x=fed.x0)

    def step(self, fed: Federation, s: State) -> State:
        return State(x=s.x - fed.call(self.client, s.x).weighted_sum())

    def begin(self, cohort: Cohort) -> None:
        cohort.memory.e = cohort.zeros()

    def client(self, cohort: Cohort, x: torch.Tensor) -> Payload:
        p = cohort.memory.e + self.lr * cohort.grad(x)
        c = self.compressor(p, cohort)
        cohort.memory.e = p - c
        return c
