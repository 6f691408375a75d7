r"""DCGD: distributed compressed gradient descent, no memory; with quantised stochastic gradients it is QSGD.

Paper: Distributed Learning with Compressed Gradients
Authors: Sarit Khirirat, Hamid Reza Feyzmahdavian, Mikael Johansson
Venue: preprint, 2018; quantised stochastic gradients: QSGD, Alistarh et al., NeurIPS 2017, arXiv 1610.02132
arXiv: 1806.06573
Solves: a cheaper uplink with any unbiased compressor and no state
Use: as the baseline that DIANA and EF21 improve on; data alike on all clients; clients that never come back
Avoid: an exact optimum is wanted on heterogeneous data (use DIANA); biased compressors such as TopK: without memory they
    can diverge, which is shown here and not forbidden (use EF21)
Assumes: f_i is L_i-smooth and convex; Q is unbiased, E|Q(v) - v|^2 <= omega |v|^2
Algorithm:
    for t = 0, 1, ...:
        server sends x
        client i: sends Q(grad f_i(x)), of a minibatch if batch_size is given (QSGD)
        server: x <- x - lr * sum_i w_i Q(grad f_i(x))
Up: one compressed vector per client and round
Down: d numbers
Step size: 1/(L + 2 L_max omega/n), omega/n being the variance of the mean (for PermK its joint constant); none for biased Q
Theorem: $E|x_t - x^*|^2 \le (1 - \gamma\mu)^t |x_0 - x^*|^2 + \frac{2\gamma\omega}{n\mu}\cdot\frac1n\sum_i|\nabla f_i(x^*)|^2$
    for $\gamma \le (L + 2 L_{\max}\omega/n)^{-1}$ (our proof): linear down to a floor, which is 0 if clients agree
"""

from __future__ import annotations

from octolab.compressors import PermK, RandK
from octolab.errors import UnknownConstant
from octolab.methods.method import caution
from octolab.methods.page import Cohort, Compressor, Constants, Federation, Method, NamedTuple, Theory, param, torch
from octolab.payloads import Payload
from octolab.problems import Problem


class State(NamedTuple):
    x: torch.Tensor


class DCGD(Method):
    slug = "dcgd"
    tags = ("unbiased compression", "baseline", "networks")

    compressor: Compressor = param(RandK(0.25), "unbiased compressor Q (a biased one only to see it fail)", main=True)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    batch_size: int | None = param(None, "samples per gradient (QSGD); None: all", ge=1)

    def check(self, problem: Problem) -> None:
        super().check(problem)
        if not self.compressor.unbiased:
            caution(
                f"DCGD: compressor={self.compressor!r} is biased, and nobody remembers what it leaves out: no theorem "
                f"holds and it can diverge at any step size. Use EF21, which sends the same bits."
            )

    def stepsize(self, problem: Constants) -> float:
        if not self.compressor.unbiased:
            raise UnknownConstant(
                f"DCGD: no theorem gives a step size for {self.compressor!r}, which is biased: give lr=... as a number, "
                f"or use EF21."
            )
        return 1 / (problem.L + 2 * problem.L_max * self.compressor.mean_omega(problem.d, problem.weights))

    def rate(self, problem: Constants) -> float | None:
        if not self.compressor.unbiased or not problem.strongly_convex or self.batch_size is not None:
            return None
        omega, steepest = self.compressor.mean_omega(problem.d, problem.weights), problem.L_max
        exact = omega == 0 or problem.homogeneous  # else there is a floor
        bound = problem.L + 2 * steepest * omega if omega else problem.L
        return 1 - self.lr * problem.mu if exact and self.lr * bound <= 1 + 1e-12 else None

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0)

    def step(self, fed: Federation, s: State) -> State:
        return State(x=s.x - self.lr * fed.call(self.client, s.x).mean())

    def client(self, cohort: Cohort, x: torch.Tensor) -> Payload:
        return self.compressor(cohort.grad(x, cohort.batch(self.batch_size)), cohort)


def mean_omega(compressor: Compressor, problem: Constants) -> float:
    """E|sum w_i (Q_i(v_i) - v_i)|^2 <= this * sum w_i |v_i|^2: omega/n for independent Q_i; PermK's are joint."""
    if isinstance(compressor, PermK):
        return compressor.joint(problem.d, problem.n)[0]
    omega = compressor.omega(problem.d)
    assert omega is not None
    return omega * float(problem.weights.max())
