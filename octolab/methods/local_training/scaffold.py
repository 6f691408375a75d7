r"""SCAFFOLD: local SGD with control variates, so that clients no longer drift apart.

Paper: SCAFFOLD: Stochastic Controlled Averaging for Federated Learning
Authors: Sai Praneeth Karimireddy, Satyen Kale, Mehryar Mohri, Sashank Reddi, Sebastian Stich, Ananda Theertha Suresh
Venue: ICML 2020
arXiv: 1910.06378
Solves: client drift, exactly, also with partial participation
Use: clients that return and remember; several local steps on heterogeneous data
Avoid: stateless cross-device clients (their c_i goes stale)
Assumes: f_i is L_i-smooth; uniform weights (with others it stays exact, for sum w_i f_i)
Algorithm:
    c_i = 0, c = 0
    for t = 0, 1, ...:
        server draws a cohort S, sends x and c
        client i: y = x; K times y <- y - lr (grad f_i(y) - c_i + c)
            c_i+ = grad f_i(x) (option I) or c_i - c + (x - y)/(K lr) (option II); sends y - x and c_i+ - c_i; c_i <- c_i+
        server: x <- x + (server_lr/|S|) sum_S (y_i - x);   c <- c + (1/n) sum_S (c_i+ - c_i)   (n, not |S|)
Up: 2 d numbers per member of the cohort
Down: 2 d numbers to the cohort
Step size: min(1/(81 K L server_lr), |S|/(15 mu n K server_lr)) if strongly convex, else
    (1/(24 K L server_lr)) (|S|/n)^(2/3), with L = max L_i
Theorem: strongly convex, exact gradients: with $\tilde\gamma = K \cdot lr \cdot server\_lr$ the error shrinks by
    $1 - \mu\tilde\gamma/2$ per round, that is $O((n/|S| + L/\mu)\log(1/\varepsilon))$ rounds: as gradient descent, not faster
Unconfirmed: the constants 81, 15 and 24 are recalled, not read in the paper; they are safe and small, so tune lr
"""

from __future__ import annotations

from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Sampler, Theory, param, torch
from octolab.methods.theory.participation import participation


class State(NamedTuple):
    x: torch.Tensor
    c: torch.Tensor  # mean c_i over all clients


class SCAFFOLD(Method):
    slug = "scaffold"
    start_here = True
    needs = ("at most once",)
    tags = ("heterogeneous", "local steps", "client sampling", "networks", "nonconvex")

    local_steps: int = param(5, "local steps K per round", ge=1, main=True)
    lr: Theory[float] = param(Theory(), "local step size", gt=0, main=True)
    batch_size: int | None = param(None, "samples per local step; None: all", ge=1, main=True)
    cohort: Sampler | int | float | None = param(None, "who takes part in a round; None: everybody", main=True)
    server_lr: float = param(1.0, "server step size", gt=0)
    option: int = param(2, "how c_i is refreshed: 1 (a gradient at x) or 2 (from the path)", choices=(1, 2))

    def stepsize(self, problem: Constants) -> float:
        K, share = self.local_steps, participation(self.cohort, problem.n)
        if problem.strongly_convex:
            return min(1 / (81 * K * problem.L_max * self.server_lr), share / (15 * problem.mu * K * self.server_lr))
        return share ** (2 / 3) / (24 * K * problem.L_max * self.server_lr)

    def rate(self, problem: Constants) -> float | None:
        if self.batch_size is not None or not problem.mu_min or self.lr > self.stepsize(problem) * (1 + 1e-12):
            return None
        return 1 - problem.mu_min * self.local_steps * self.lr * self.server_lr / 2

    def init(self, fed: Federation) -> State:
        fed.call(self.begin)
        return State(x=fed.x0, c=torch.zeros_like(fed.x0))

    def relations(self, fed: Federation, s: State) -> dict[str, torch.Tensor]:
        return {"c = mean c_i": s.c - fed.mean_of("c")}

    def step(self, fed: Federation, s: State) -> State:
        ids = fed.sample(self.cohort)
        if ids is not None and len(ids) == 0:  # an empty cohort
            return s
        dy, dc = fed.call(self.client, s.x, s.c, to=ids)
        return State(x=s.x + self.server_lr * dy.mean(), c=s.c + dc.weighted_sum())

    def begin(self, cohort: Cohort) -> None:
        cohort.memory.c = cohort.zeros()

    def client(self, cohort: Cohort, x: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        own = cohort.memory.c
        correction = c - own
        y = cohort.local_sgd(x, lr=self.lr, steps=self.local_steps, batch_size=self.batch_size, correction=correction)
        fresh = cohort.grad(x) if self.option == 1 else (x - y) / (self.local_steps * self.lr) - correction
        cohort.memory.c = fresh
        return y - x, fresh - own
