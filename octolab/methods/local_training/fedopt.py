r"""FedOpt: FedAvg with an adaptive optimiser at the server, fed with the average update.

Paper: Adaptive Federated Optimization
Authors: Sashank Reddi, Zachary Charles, Manzil Zaheer, Zachary Garrett, Keith Rush, Jakub Konečný, Sanjiv Kumar,
    H. Brendan McMahan
Venue: ICLR 2021
arXiv: 2003.00295
Solves: coordinates of very different scale (embeddings, rare words) that one server step size cannot serve
Use: language models and sparse features; server_lr and lr tuned together on a grid
Avoid: an exact optimum is wanted (the drift of local steps stays); no time to tune two step sizes
Assumes: f_i smooth with bounded gradients and variance
Algorithm:
    m = 0, v = v0
    for t = 0, 1, ...:
        D <- FedAvg's average of y_i - x over the cohort: it points downhill, so the server adds
        m <- beta1 m + (1 - beta1) D
        Adagrad: v <- v + D^2;   Adam: v <- beta2 v + (1 - beta2) D^2;   Yogi: v <- v - (1 - beta2) D^2 sign(v - D^2)
        x <- x + server_lr m/(sqrt(v) + tau)        (no bias correction)
Up: d numbers per member of the cohort
Down: d numbers to the cohort
Step size: 1/max L_i for the clients, safe for their own descent; server_lr has no theory value (0.001..1, tuned)
Theorem: $\min_t E|\nabla f(x_t)|^2 = O(1/\sqrt{m K T})$ for nonconvex smooth $f$ with bounded gradients, at
    $lr = \Theta(1/(K L \sqrt T))$, $server\_lr = \Theta(\sqrt{K m})$
Unconfirmed: the theorem's step sizes are recalled, and no default of them is offered
"""

from __future__ import annotations

import dataclasses

from octolab.methods.card import Card
from octolab.methods.local_training.fedavg import FedAvg
from octolab.methods.page import Constants, Federation, NamedTuple, param, torch


class State(NamedTuple):
    x: torch.Tensor
    m: torch.Tensor
    v: torch.Tensor


class FedOpt(FedAvg):
    slug = ""  # the base of the three below
    tags = ("local steps", "adaptive", "client sampling", "networks", "nonconvex")

    server_lr: float = param(0.1, "server step size", gt=0, main=True)
    beta1: float = param(0.9, "momentum of the server", ge=0, lt=1)
    tau: float = param(1e-3, "adaptivity: the larger, the less adaptive", gt=0)
    v0: float | None = param(None, "start of v; None: tau^2", ge=0)

    def rate(self, problem: Constants) -> float | None:
        return None

    def init(self, fed: Federation) -> State:
        start = self.tau**2 if self.v0 is None else self.v0
        return State(x=fed.x0, m=torch.zeros_like(fed.x0), v=torch.full_like(fed.x0, start))

    def move(self, s: State, change: torch.Tensor) -> State:
        m = self.beta1 * s.m + (1 - self.beta1) * change
        v = self.second(s.v, change**2)
        return State(x=s.x + self.server_lr * m / (v.sqrt() + self.tau), m=m, v=v)

    def second(self, v: torch.Tensor, squared: torch.Tensor) -> torch.Tensor:
        """The next v, from D^2."""
        raise NotImplementedError

    @classmethod
    def describe(cls) -> Card:
        """The page's card under the class's own name and summary."""
        name, _, summary = (cls.__doc__ or "").partition(":")
        return dataclasses.replace(super().describe(), name=name.strip(), summary=summary.strip())


class FedAdam(FedOpt):
    """FedAdam: FedAvg with Adam at the server, without bias correction."""

    slug = "fedadam"

    beta2: float = param(0.99, "memory of v", ge=0, lt=1)

    def second(self, v: torch.Tensor, squared: torch.Tensor) -> torch.Tensor:
        return self.beta2 * v + (1 - self.beta2) * squared


class FedYogi(FedOpt):
    """FedYogi: FedAvg with Yogi at the server: v grows fast and shrinks gently."""

    slug = "fedyogi"

    beta2: float = param(0.99, "memory of v", ge=0, lt=1)

    def second(self, v: torch.Tensor, squared: torch.Tensor) -> torch.Tensor:
        return v - (1 - self.beta2) * squared * torch.sign(v - squared)


class FedAdagrad(FedOpt):
    """FedAdagrad: FedAvg with Adagrad at the server: v only grows, so steps only shrink."""

    slug = "fedadagrad"

    beta1: float = param(0.0, "momentum of the server", ge=0, lt=1)

    def second(self, v: torch.Tensor, squared: torch.Tensor) -> torch.Tensor:
        return v + squared
