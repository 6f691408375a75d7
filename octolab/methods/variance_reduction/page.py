r"""PAGE: gradient differences of a few clients, and on a coin the gradients of all.

Paper: PAGE: A Simple and Optimal Probabilistic Gradient Estimator for Nonconvex Optimization
Authors: Zhize Li, Hongyan Bao, Xiangliang Zhang, Peter Richtárik
Venue: ICML 2021
arXiv: 2008.10898
Solves: partial participation for nonconvex problems at the optimal number of gradients; the components are the clients here
Use: cohorts of about sqrt(n), clients that can all be called now and then, exact local gradients
Avoid: clients that are never all there (SAGA, FRECON); compression (MARINA)
Assumes: f_i is L_i-smooth, convex or not; cohorts drawn uniformly without replacement
Algorithm:
    g = mean grad f_i(x0)
    for t = 0, 1, ...:
        x+ = x - lr g;   shared coin, P(1) = p
        1: everybody receives x+ and sends grad f_i(x+);  g = their mean
        0: a cohort S of b clients receives x+ and x, sends grad f_i(x+) - grad f_i(x);  g <- g + (n/b) sum_S w_i (what came)
        x <- x+
Up: d numbers per member of the cohort, d numbers from everybody on coin 1 and once at the start
Down: 2 d numbers to the cohort, d numbers to everybody on coin 1, and the coin's bit
Step size: 1/(L + Lt sqrt((1 - p)/(p b))), Lt = sqrt(mean L_i^2), p = b/(n + b)
Theorem: $\frac1T\sum_{t<T}E|\nabla f(x_t)|^2 \le \frac{2(f(x_0) - f^*)}{\gamma T}$ for $\gamma \le (L + \tilde L A)^{-1}$,
    $A^2 = \frac{1-p}{pb}$. Under PL $f - f^* + c|g - \nabla f|^2$ shrinks by $\max(1 - \gamma\mu, 1 - p(1 - q))$,
    $q = \gamma^2\tilde L^2A^2/(1 - \gamma L) < 1$
Unconfirmed: the paper has the one constant $\tilde L$ for both; the finer split is MARINA's proof
"""

from __future__ import annotations

from octolab.federation import Nice
from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Theory, param, torch
from octolab.methods.theory.coin_estimators import linear_rate


class State(NamedTuple):
    x: torch.Tensor
    g: torch.Tensor  # the estimate of the gradient


class PAGE(Method):
    slug = "page"
    needs = ("full participation",)
    tags = ("heterogeneous", "nonconvex", "client sampling", "variance reduction")

    cohort: int | float = param(0.25, "b, clients in a round without the coin: a number or a share", gt=0, main=True)
    p: Theory[float] = param(Theory(), "probability of a round with everybody", gt=0, le=1, main=True)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)

    def theory_p(self, problem: Constants) -> float:
        b = Nice(self.cohort).size(problem.n)
        return b / (problem.n + b)

    def A_squared(self, problem: Constants) -> float:
        b = Nice(self.cohort).size(problem.n)
        return (1 - self.p) / (self.p * b) if b < problem.n else 0.0

    def stepsize(self, problem: Constants) -> float:
        return 1 / (problem.L + problem.L_qm * self.A_squared(problem) ** 0.5)

    def rate(self, problem: Constants) -> float | None:
        if not problem.strongly_convex:
            return None
        change = (self.lr * problem.L_qm) ** 2 * self.A_squared(problem)
        return linear_rate(self.lr, problem.L, change, self.p, problem.mu)

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0, g=fed.call(self.full, fed.x0).mean())

    def step(self, fed: Federation, s: State) -> State:
        x, coin = s.x - self.lr * s.g, fed.coin(self.p)
        if coin:
            return State(x=x, g=fed.call(self.full, x, coin).mean())
        b = Nice(self.cohort).size(fed.n)
        d = fed.call(self.difference, x, s.x, coin, to=fed.sample(Nice(b)))
        return State(x=x, g=s.g + d.weighted_sum() * (fed.n / b))

    def full(self, cohort: Cohort, x: torch.Tensor, coin: bool | None = None) -> torch.Tensor:
        return cohort.grad(x)

    def difference(self, cohort: Cohort, x: torch.Tensor, before: torch.Tensor, coin: bool) -> torch.Tensor:
        return cohort.grad(x) - cohort.grad(before)
