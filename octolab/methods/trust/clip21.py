r"""Clip21: error feedback for clipping, so that clipped messages lead to the optimum on heterogeneous data.

Paper: Clip21: Error Feedback for Gradient Clipping
Authors: Sarit Khirirat, Eduard Gorbunov, Samuel Horváth, Rustem Islamov, Fakhri Karray, Peter Richtárik
Venue: preprint, 2023
arXiv: 2305.18929
Solves: clipping each client's gradient stops at a point that is no optimum; here what is cut off is sent later
Use: messages of bounded norm (for privacy, for instance), heterogeneous data, full gradients
Avoid: minibatches at a constant step (use clip21-sgd2m); gradients that never exceed tau (then it is GD)
Assumes: f_i is L_i-smooth, convex or not; everybody takes part; no bound on gradients
Algorithm:
    v_i = 0, v = 0
    for k = 0, 1, ...:
        server sends x
        client i: c_i = clip_tau(grad f_i(x) - v_i), v_i <- v_i + c_i, sends c_i
        server: v <- v + mean c_i;  x <- x - lr v
    With batch_size: minibatch gradients (Clip21-SGD)
Up: d numbers per client
Down: d numbers
Step size: min(1/L, tau/(2 L_max G)), with D = max_i (|grad f_i(x0)| - tau)_+, E = D^2 + 2 D^3/(3 tau) and
    G = sqrt(2 L (f(x0) - f*) + E) + D: derived here and safe, not the paper's, which is UNCONFIRMED. Try 0.1 to 3 over L
Theorem: with that step nobody clips after $\lceil 2D/\tau\rceil + 1$ steps, from where on it is gradient descent, and
    $\frac1K\sum_{k<K}|\nabla f(x_k)|^2 \le \frac{2(f(x_0) - f^*)}{\gamma K} + \frac EK$
"""

from __future__ import annotations

import math

from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Theory, param, torch
from octolab.methods.theory.privacy import clipped


class State(NamedTuple):
    x: torch.Tensor
    v: torch.Tensor  # mean v_i
    releases: torch.Tensor  # rounds: each releases a model


class Clip21(Method):
    slug = "clip21"
    needs = ("full participation",)
    tags = ("heterogeneous", "nonconvex", "error feedback", "privacy")

    tau: float = param(1.0, "the largest norm of a message", gt=0, infinite=True, main=True)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    batch_size: int | None = param(None, "samples per gradient (Clip21-SGD); None: all", ge=1)

    def stepsize(self, problem: Constants) -> float:
        if math.isinf(self.tau):
            return 1 / problem.L
        x0 = problem.x0
        longest = float(torch.linalg.vector_norm(problem.grad(x0), dim=1).max())
        D = max(0.0, longest - self.tau)
        E = D**2 + 2 * D**3 / (3 * self.tau)
        gap = max(0.0, float(problem.weights @ problem.loss(x0).double()) - problem.f_star)
        G = math.sqrt(2 * problem.L * gap + E) + D
        return min(1 / problem.L, self.tau / (2 * problem.L_max * G)) if G else 1 / problem.L

    def init(self, fed: Federation) -> State:
        fed.call(self.begin)
        return State(x=fed.x0, v=torch.zeros_like(fed.x0), releases=torch.zeros_like(fed.weights[0]))

    def relations(self, fed: Federation, s: State) -> dict[str, torch.Tensor]:
        return {"v = mean v_i": s.v - fed.mean_of("v")}

    def step(self, fed: Federation, s: State) -> State:
        v = s.v + fed.call(self.client, s.x).weighted_sum()
        return State(x=s.x - self.lr * v, v=v, releases=s.releases + 1)

    def begin(self, cohort: Cohort) -> None:
        cohort.memory.v = cohort.zeros()

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        v = cohort.memory.v
        c = clipped(cohort.grad(x, cohort.batch(self.batch_size)) - v, self.tau)
        cohort.memory.v = v + c
        return c
