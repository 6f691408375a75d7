r"""SPPM-AS (Cohort Squeeze): a cohort is kept for K cheap rounds, which solve a prox step, before the next is drawn.

Paper: Cohort Squeeze: Beyond a Single Communication Round per Cohort in Cross-Device Federated Learning
Authors: Kai Yi, Timur Kharisov, Igor Sokolov, Peter Richtárik
Venue: NeurIPS 2024 workshop on federated learning
arXiv: 2406.01115
Solves: the total cost of communication where rounds inside a cohort are cheaper than calling a new cohort
Use: hierarchies (device to hub cheap, hub to server dear), strongly convex problems, cohorts that stand for everybody
Avoid: cohorts whose members vanish between two rounds: a cohort that loses one goes home with what it has
Assumes: f_i is mu_i-strongly convex, no smoothness needed; every client can be drawn (p_i > 0); the prox is exact
Algorithm:
    for t = 0, 1, ...:
        server draws a cohort S; f_S = sum over S of w_i f_i/p_i  (w_i = 1/n: f_i/(n p_i), never f_i/|S|)
        x <- about prox(x) = argmin_z f_S(z) + |z - x|^2/(2 gamma), by K rounds between hub and cohort:
            hub sends z;  each member sends grad f_i(z), or f_i''(x) times the vector it got (solver cg)
            hub adds them up with weights w_i/p_i, and (z - x)/gamma; x stays fixed for the K rounds
    cost = (c1 K + c2) T: c1 for a round inside the cohort, c2 for a new cohort. c1 = 1, c2 = 0 counts rounds, TK;
    c1 = c2 = 1 is (K + 1)T; c1 = 0.05, c2 = 1 is a hierarchy. The ledger counts members' bits in any case.
Up: d numbers per member and round
Down: d numbers per member and round
Step size: any gamma > 0. gamma=Theory() is the largest with a neighbourhood of eps/2; the solvers' own step lr is
    1/(L_S + 1/gamma), L_S the largest smoothness constant of a cohort's f_S
Theorem: exact prox, any $\gamma > 0$: $E\|x_t-x^*\|^2 \le (1+\gamma\mu_{AS})^{-2t}\|x_0-x^*\|^2 +
    \frac{\gamma\sigma^2_{AS}}{\gamma\mu_{AS}^2+2\mu_{AS}}$, $\mu_{AS}$ the least $\sum_{i\in C}\mu_i/(np_i)$ of a cohort
    and $\sigma^2_{AS} = E\|\nabla f_S(x^*)\|^2$
Unconfirmed: how the paper's solvers search along a line (here by slopes, so that an exchange is one vector)
"""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np

from octolab.errors import OutsideAssumptions, UnknownConstant
from octolab.federation.sampling import as_sampler
from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Sampler, Theory, param, torch
from octolab.methods.theory.arbitrary_sampling import constants, gamma_for, mu_as
from octolab.problems import Problem


class State(NamedTuple):
    x: torch.Tensor
    cohort_rounds: int = 0  # rounds between hub and cohort, K T if none was cut short
    global_rounds: int = 0  # cohorts, T


# -- solvers of min_z phi(z) = F(z) + |z - x|^2/(2 gamma), F = f_S, that count exchanges ------------------------------
# A solver is a generator. It yields an `Ask`: where the cohort is to answer, and the point it would return if the cohort
# went home now; it is sent F's gradient there (d,), or F's Hessian at x times the vector asked for. It returns its last z.
# No function value travels, so line searches go by slopes. `rounds` exchanges are used, fewer only if phi is solved.
CURVED = 1e-12  # a pair of step s and change of gradient y counts as curvature if s'y > CURVED |s| |y|


class Ask(NamedTuple):
    """at: (d,) the point, or the vector to multiply. z: (d,) the best point so far. product: Hessian times vector?"""

    at: torch.Tensor
    z: torch.Tensor
    product: bool = False


Solver = Generator[Ask, torch.Tensor, torch.Tensor]


def gd(x: torch.Tensor, gamma: float, rounds: int, lr: float) -> Solver:
    """Gradient steps on phi. The first one is F's alone: the prox term vanishes at z = x."""
    z = x
    for _ in range(rounds):
        g = yield Ask(z, z)
        z = z - lr * (g + (z - x) / gamma)
    return z


def adam(x: torch.Tensor, gamma: float, rounds: int, lr: float) -> Solver:
    """Adam's steps on phi (0.9, 0.999, 1e-8), with moments of this cohort alone: for networks."""
    z, m, v = x, torch.zeros_like(x), torch.zeros_like(x)
    for t in range(1, rounds + 1):
        g = (yield Ask(z, z)) + (z - x) / gamma
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        z = z - lr * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    return z


def cg(x: torch.Tensor, gamma: float, rounds: int, lr: float) -> Solver:
    """Linear conjugate gradients on phi's quadratic model at x: one gradient, then rounds - 1 Hessian products.

    On quadratics d + 1 rounds give the exact prox; elsewhere it is one truncated Newton step.
    """
    r = -(yield Ask(x, x))
    if rounds == 1:
        return x + lr * r
    s, p, size = torch.zeros_like(x), r, float(r @ r)
    solved = 1e-30 * size
    for _ in range(rounds - 1):
        if size <= solved:
            break
        Hp = (yield Ask(p, x + s, product=True)) + p / gamma
        bend = float(p @ Hp)
        if bend <= 0:  # the model has no minimum this way
            break
        s, r = s + (size / bend) * p, r - (size / bend) * Hp
        size, old = float(r @ r), size
        p = r + (size / old) * p
    return x + s


def nonlinear_cg(x: torch.Tensor, gamma: float, rounds: int, lr: float) -> Solver:
    """Polak-Ribiere+ with a secant line search: a probe gives the length (exact on quadratics), then a gradient.

    Two exchanges per direction; a gradient that is left over at the end is worth a step of length lr.
    """
    z, length = x, lr
    g = yield Ask(z, z)
    p, left = -g, rounds - 1
    while left > 0:
        slope = float(g @ p)
        if slope >= 0:
            p, slope = -g, -float(g @ g)
        if slope == 0:
            return z
        probe = z + length * p
        ahead = (yield Ask(probe, z)) + (probe - x) / gamma
        left -= 1
        bend = float(ahead @ p) - slope
        if bend > 0:
            length *= min(-slope / bend, 100.0)
            z = z + length * p
            if left == 0:
                return z
            ahead = (yield Ask(z, z)) + (z - x) / gamma
            left -= 1
        else:  # no minimum in sight: go to the probe, and look twice as far next time
            z, length = probe, 2 * length
        beta = max(0.0, float(ahead @ (ahead - g)) / float(g @ g))
        g, p = ahead, -ahead + beta * p
    return z - lr * g


def lbfgs(x: torch.Tensor, gamma: float, rounds: int, lr: float) -> Solver:
    """Quasi-Newton steps of full length, with all pairs of this cohort (BFGS from a scaled identity): one exchange a step.

    A step whose slope at its end is steeper uphill than it was downhill has gone too far: it is not taken, but its
    curvature shortens the next one. The last step is taken unseen.
    """
    pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
    z = x
    g = yield Ask(z, z)
    for _ in range(rounds - 1):
        s = -_inverse_hessian(g, pairs, lr)
        ahead = (yield Ask(z + s, z)) + (z + s - x) / gamma
        y = ahead - g
        if float(s @ y) > CURVED * float(s.norm() * y.norm()):
            pairs.append((s, y))
        if float(ahead @ s) <= abs(float(g @ s)):
            z, g = z + s, ahead
    return z - _inverse_hessian(g, pairs, lr)


def _inverse_hessian(g: torch.Tensor, pairs: list[tuple[torch.Tensor, torch.Tensor]], lr: float) -> torch.Tensor:
    """The two-loop recursion: the quasi-Newton matrix times g; lr times g before any curvature is known."""
    if not pairs:
        return lr * g
    q, weights = g, []
    for s, y in reversed(pairs):
        a = (s @ q) / (s @ y)
        weights.append(a)
        q = q - a * y
    s, y = pairs[-1]
    r = (s @ y) / (y @ y) * q
    for (s, y), a in zip(pairs, reversed(weights), strict=True):
        r = r + (a - (y @ r) / (s @ y)) * s
    return r


SOLVERS: dict[str, Callable[[torch.Tensor, float, int, float], Solver]] = {
    "gd": gd,
    "cg": cg,
    "nonlinear-cg": nonlinear_cg,
    "lbfgs": lbfgs,
    "adam": adam,
}


# -- the method ---------------------------------------------------------------------------------------------------------
class SPPMAS(Method):
    slug = "sppm-as"
    needs = ("strongly convex",)
    tags = ("heterogeneous", "convex", "client sampling", "proximal", "hierarchical")

    cohort: Sampler | int | float | None = param(0.5, "the arbitrary sampling S; None: everybody", main=True)
    local_rounds: int = param(10, "K, rounds with one cohort", ge=1, main=True)
    gamma: Theory[float] = param(10.0, "prox step, 1 to 1000 in the paper", gt=0, main=True)
    solver: str = param("lbfgs", "how the prox is found", choices=tuple(SOLVERS), main=True)
    lr: Theory[float] = param(Theory(), "the solver's step (gd, adam), or its first one", gt=0)
    batch_size: int | None = param(None, "samples per gradient; None: all", ge=1)
    c1: float = param(1.0, "cost of a round inside a cohort", ge=0)
    c2: float = param(0.0, "cost of a new cohort", ge=0)
    eps: float = param(5e-3, "squared distance to x* that gamma=Theory() aims at", gt=0)

    def theory_gamma(self, problem: Constants) -> float:
        return gamma_for(self.eps, *constants(problem, self.cohort))

    def stepsize(self, problem: Constants) -> float:
        if self.solver == "adam":
            raise UnknownConstant("SPPMAS: solver='adam' has no step from theory: give lr=..., 0.001 to 0.1, say.")
        largest = -mu_as(self.cohort, -problem.L_i, problem.weights.numpy())
        return 1 / (largest + (0 if isinstance(self.gamma, Theory) else 1 / self.gamma))

    def check(self, problem: Problem) -> None:
        super().check(problem)
        sampler = as_sampler(self.cohort)
        if not sampler.independent:
            raise OutsideAssumptions(
                f"SPPMAS: cohort={sampler!r}: f_S is unbiased only if every cohort is drawn afresh. Choose Nice, "
                f"Stratified, Block, Importance, Poisson or Full."
            )
        if not (sampler.expected(problem.n) > 0).all():
            raise ValueError(f"SPPMAS: cohort={sampler!r}: some client is never drawn; every p_i must be > 0.")
        if self.solver == "cg" and not problem.has_hessian and type(problem).hvp is Problem.hvp:
            raise OutsideAssumptions(
                f"SPPMAS: solver='cg' needs Hessian-vector products, which {problem.name} does not give: "
                f"use solver='nonlinear-cg', 'lbfgs' or 'adam'."
            )

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0)

    def step(self, fed: Federation, s: State) -> State:
        members, weights = self.draw(fed)
        x, rounds = (s.x, 0) if len(members) == 0 else self.squeeze(fed, s.x, members, weights)
        s = State(x, s.cohort_rounds + rounds, s.global_rounds + (rounds > 0))
        cost = self.c1 * s.cohort_rounds + self.c2 * s.global_rounds
        fed.log(cohort_rounds=s.cohort_rounds, global_rounds=s.global_rounds, cost=cost)
        return s

    def draw(self, fed: Federation) -> tuple[np.ndarray, torch.Tensor]:
        """The members (m,), and w_i/p_i for every client (n,), times how often it was drawn."""
        chosen = fed.sample(as_sampler(self.cohort))
        members, times = np.unique(fed.everybody if chosen is None else chosen, return_counts=True)
        weights = np.zeros(fed.n)
        weights[members] = times * (fed.host(fed.weights.double()) / as_sampler(self.cohort).expected(fed.n))[members]
        return members, fed.place(weights).to(fed.x0.dtype)

    def squeeze(
        self, fed: Federation, x: torch.Tensor, members: np.ndarray, weights: torch.Tensor
    ) -> tuple[torch.Tensor, int]:
        """K rounds with one cohort; returns z, and how many there were."""
        solving = SOLVERS[self.solver](x, self.gamma, self.local_rounds, self.lr)  # type: ignore[arg-type]
        ask, rounds = next(solving), 0
        while True:
            fn = self.product if ask.product else self.anchor if self.solver == "cg" else self.gradient
            replies = fed.call(fn, ask.at, to=None if len(members) == fed.n else members)
            rounds += 1
            if len(replies) < len(members) and (rounds > 1 or len(replies) == 0):
                return ask.z, rounds  # f_S has lost a member: what there is, is kept
            members = replies.clients  # who answered the first time is the cohort
            try:
                ask = solving.send(replies.sum(weights[replies.index]))
            except StopIteration as end:
                return end.value, rounds

    def gradient(self, cohort: Cohort, z: torch.Tensor) -> torch.Tensor:
        return cohort.grad(z, cohort.batch(self.batch_size))

    def anchor(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        cohort.memory.centre = x.expand(cohort.m, -1)  # kept for the products that follow
        return cohort.grad(x)

    def product(self, cohort: Cohort, v: torch.Tensor) -> torch.Tensor:
        return cohort.hvp(cohort.memory.centre, v)
