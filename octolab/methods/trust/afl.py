r"""AFL: agnostic federated learning, the model whose worst mixture of clients is best.

Paper: Agnostic Federated Learning
Authors: Mehryar Mohri, Gary Sivek, Ananda Theertha Suresh
Venue: ICML 2019
arXiv: 1902.00146
Solves: it is not known which mixture of clients the model will meet
Use: a guarantee for every client; few clients; everybody takes part
Avoid: many clients (one noisy client rules the model); client sampling
Assumes: f_i is convex and L_i-smooth
Algorithm:
    lambda = w
    for t = 0, 1, ...:
        server sends x;  client i sends f_i(x) and grad f_i(x)
        server: x <- x - lr sum lambda_i grad f_i(x);  lambda <- projection of lambda + lr_lambda f(x) onto the simplex
    The answer is the average of the x so far: x itself may circle
Up: d numbers and one more per client
Down: d numbers
Step size: 1/max L_i; the paper's rates ask for steps like $1/\sqrt T$, so that neither is more than a start: tune both
Theorem: with steps like $1/\sqrt T$,
    $\max_\lambda \sum\lambda_i f_i(\bar x) - \min_x \max_\lambda \sum\lambda_i f_i = O(1/\sqrt T)$
"""

from __future__ import annotations

from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Theory, param, torch


class State(NamedTuple):
    x: torch.Tensor
    lam: torch.Tensor  # (n,) weights of the clients
    mean: torch.Tensor  # the average of the iterates
    rounds: torch.Tensor  # how many they are


class AFL(Method):
    slug = "afl"
    needs = ("full participation",)
    tags = ("fairness", "deterministic", "minimax")

    lr: Theory[float] = param(Theory(), "step size of the model", gt=0, main=True)
    lr_lambda: float = param(0.1, "step size of the weights", ge=0, main=True)

    def stepsize(self, problem: Constants) -> float:
        return 1 / problem.L_max

    def model(self, s: State) -> torch.Tensor:
        return s.mean

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0, lam=fed.weights, mean=fed.x0, rounds=torch.zeros_like(fed.weights[0]))

    def step(self, fed: Federation, s: State) -> State:
        losses, gradients = fed.call(self.client, s.x)
        lam, who = s.lam[losses.index], losses.index
        x = s.x - self.lr * gradients.sum(lam)
        ahead = s.lam.index_add(0, who, self.lr_lambda * losses.stack().to(s.lam.dtype))
        rounds = s.rounds + 1
        return State(x=x, lam=onto_simplex(ahead), mean=s.mean + (x - s.mean) / rounds.to(x.dtype), rounds=rounds)

    def client(self, cohort: Cohort, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return cohort.loss(x), cohort.grad(x)


def onto_simplex(v: torch.Tensor) -> torch.Tensor:
    """The nearest point (n,) with entries >= 0 whose sum is 1.

    >>> onto_simplex(torch.tensor([0.5, 1.0]))
    tensor([0.2500, 0.7500])
    """
    ordered = v.sort(descending=True).values
    over = (ordered.cumsum(0) - 1) / torch.arange(1, len(v) + 1, dtype=v.dtype, device=v.device)
    last = int((ordered > over).sum()) - 1
    return (v - over[last]).clamp(min=0)
