r"""alpha-NormEC: smoothed normalisation with error feedback: messages shorter than one, and no threshold to tune.

Paper: Smoothed Normalization for Efficient Distributed Private Optimization
Authors: Egor Shulgin, Sarit Khirirat, Peter Richtárik
Venue: preprint, 2025
arXiv: 2502.13482
Solves: clipping has a threshold to tune, and biases heterogeneous data
Use: privacy with heterogeneous data; full gradients
Avoid: much noise with a large beta (a small one is better then)
Assumes: f_i is L_i-smooth, convex or not; everybody takes part
Algorithm:
    v_i = grad f_i(x0) or 0, v = mean v_i
    for k = 0, 1, ...:
        server sends x
        client i: D_i = (grad f_i(x) - v_i)/(alpha + |grad f_i(x) - v_i|), v_i <- v_i + beta D_i, sends D_i
        server: v <- v + beta/n (sum of what came + z N(0, I));  x <- x - lr v/|v|  (normalize=False: x - lr v)
Up: d numbers per client
Down: d numbers
Step size: beta R/((alpha + R) L_max), R = max_i |grad f_i(x0) - v_i|: the largest that the theorem allows (start="zero"); with
    start="gradient" R = 0 allows none, and 1/(10 L_max) is a start without a theorem
Theorem: beta <= alpha + R: $\min_{k\le K}|\nabla f(x_k)| \le \frac{f(x_0) - f^*}{\gamma(K+1)} + 2R + \frac{L\gamma}{2}$; noise
    adds twice $\beta\sqrt{K d s^2/n}$. With a normalised step x stays about lr away from the optimum
"""

from __future__ import annotations

from typing import ClassVar

from octolab.federation.replies import Replies
from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Problem, Theory, param, torch
from octolab.methods.theory.privacy import central, nothing
from octolab.trust.accounting import Guarantee


class State(NamedTuple):
    x: torch.Tensor
    v: torch.Tensor  # mean v_i, and the noise so far
    releases: torch.Tensor  # rounds: each releases a model


class NormEC(Method):
    slug = "normec"
    needs: ClassVar[tuple[str, ...]] = ("full participation",)
    tags: ClassVar[tuple[str, ...]] = ("heterogeneous", "nonconvex", "error feedback", "privacy")

    alpha: float = param(0.1, "smoothing; 0: plain normalisation", ge=0, main=True)
    beta: float = param(0.1, "how far a memory moves in a round", gt=0, main=True)
    lr: Theory[float] = param(Theory(), "length of a step (normalize), or step size", gt=0, main=True)
    start: str = param("zero", "v_i at the start", choices=("zero", "gradient"))
    normalize: bool = param(True, "whether the server's step has length lr")
    noise_multiplier: float = param(0.0, "z, noise on the sum of messages; 0: none, and no privacy", ge=0, main=True)
    accountant: str = param("pld", "how epsilon is counted", choices=("pld", "rdp"))

    def R(self, problem: Constants) -> float:
        far = float(torch.linalg.vector_norm(problem.grad(problem.x0), dim=1).max())
        return 0.0 if self.start == "gradient" else far

    def stepsize(self, problem: Constants) -> float:
        R = self.R(problem)
        return self.beta * R / ((self.alpha + R) * problem.L_max) if R else 1 / (10 * problem.L_max)

    def guarantee(self, problem: Problem, s: State, delta: float) -> Guarantee:
        if self.start == "gradient":
            return nothing(delta, "start='gradient' sends every client's first gradient as it is: use start='zero'")
        return central(self.noise_multiplier, None, problem.n, int(s.releases), delta, self.accountant)

    def init(self, fed: Federation) -> State:
        v = fed.call(self.begin, fed.x0).sum() / fed.n
        return State(x=fed.x0, v=v, releases=torch.zeros_like(fed.weights[0]))

    def relations(self, fed: Federation, s: State) -> dict[str, torch.Tensor]:
        return {} if self.noise_multiplier else {"v = mean v_i, all alike": s.v - fed.memory.v.mean(0)}

    def step(self, fed: Federation, s: State) -> State:
        v = s.v + self.beta / fed.n * self.total(fed, fed.call(self.client, s.x))
        return State(x=self.moved(s.x, v), v=v, releases=s.releases + 1)

    def total(self, fed: Federation, replies: Replies) -> torch.Tensor:
        """The sum of the messages, with the noise that the claim is about, however many came."""
        total = replies.sum()
        return total + self.noise_multiplier * fed.noise(total) if self.noise_multiplier else total

    def moved(self, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        length = float(torch.linalg.vector_norm(v)) if self.normalize else 1.0
        return x - self.lr / length * v if length else x

    def begin(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        cohort.memory.v = v = cohort.zeros() if self.start == "zero" else cohort.grad(x)
        return v

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        return self.normalised(cohort, cohort.grad(x))

    def normalised(self, cohort: Cohort, new: torch.Tensor) -> torch.Tensor:
        """What is sent of a new gradient (m, d): rows shorter than one."""
        away = new - cohort.memory.v
        length = self.alpha + torch.linalg.vector_norm(away, dim=1, keepdim=True)
        D = away / torch.where(length == 0, torch.ones_like(length), length)
        cohort.memory.v = cohort.memory.v + self.beta * D
        return D
