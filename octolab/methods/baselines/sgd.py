r"""SGD: distributed minibatch SGD, everybody (or a cohort) sends a stochastic gradient.

Paper: Better Mini-Batch Algorithms via Accelerated Gradient Methods
Authors: Andrew Cotter, Ohad Shamir, Nathan Srebro, Karthik Sridharan
Venue: NeurIPS 2011
arXiv: 1106.4574
Solves: data too large for exact gradients; the synchronous baseline of the asynchronous methods
Use: as the baseline with minibatches; a step costs the time of the slowest client
Avoid: slow clients hold everybody up (use Ringmaster), or an exact optimum is wanted at a constant step
Assumes: f is L-smooth; stochastic gradients with bounded variance sigma^2
Algorithm:
    for t = 0, 1, ...:
        server draws a cohort S, sends x
        client i replies a gradient over a minibatch, g_i
        server: x <- x - lr * sum_S w_i g_i / sum_S w_i
Up: d numbers per member of the cohort
Down: d numbers to the cohort
Step size: 1/L where the noise is unknown or zero; with variance sigma^2 and a target eps, min(1/L, n eps/(2 L sigma^2))
Theorem: everybody taking part, $\gamma \le 1/L$:
    $\frac1T\sum_{t<T}E|\nabla f(x_t)|^2 \le \frac{2(f(x_0) - f^*)}{\gamma T} + \frac{\gamma L\sigma^2}{n}$; strongly convex:
    $E f(x_t) - f^* \le (1-\gamma\mu)^t (f(x_0) - f^*) + \frac{\gamma L\sigma^2}{2\mu n}$, linear down to a floor,
    which is 0 with exact gradients
"""

from __future__ import annotations

from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Sampler, Theory, param, torch


class State(NamedTuple):
    x: torch.Tensor


class SGD(Method):
    slug = "sgd"
    tags = ("stochastic", "client sampling", "networks", "nonconvex")
    messages = {"client": "gradient"}  # noqa: RUF012

    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    batch_size: int | None = param(32, "samples per gradient; None: all", ge=1, main=True)
    cohort: Sampler | int | float | None = param(None, "who takes part in a round; None: everybody", main=True)
    eps: float | None = param(None, "target for |grad f|^2 in the theory step; None: ignore the noise", gt=0)

    def stepsize(self, problem: Constants) -> float:
        if self.eps is None:
            return 1 / problem.L
        return min(
            1 / problem.L, problem.n * self.eps / (2 * problem.L * max(problem.variance(self.batch_size), 1e-300))
        )

    def rate(self, problem: Constants) -> float | None:
        exact = self.batch_size is None and self.cohort is None
        linear = exact and problem.strongly_convex and self.lr * problem.L <= 1 + 1e-12
        return 1 - self.lr * problem.mu if linear else None

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0)

    def step(self, fed: Federation, s: State) -> State:
        replies = fed.call(self.client, s.x, to=fed.sample(self.cohort))
        return State(x=s.x - self.lr * replies.mean())

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        return cohort.grad(x, cohort.batch(self.batch_size))
