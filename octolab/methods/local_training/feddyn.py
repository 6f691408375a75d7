r"""FedDyn: every client's objective is tilted, round by round, until all local optima agree.

Paper: Federated Learning Based on Dynamic Regularization
Authors: Durmus Alp Emre Acar, Yue Zhao, Ramon Matas Navarro, Matthew Mattina, Paul N. Whatmough, Venkatesh Saligrama
Venue: ICLR 2021
arXiv: 2111.04263
Solves: client drift, exactly, also with partial participation, at the traffic of FedAvg (SCAFFOLD sends twice as much)
Use: clients that return and remember; heterogeneous data
Avoid: stateless clients; the server's model x in place of the mean of the clients' models, which is smoother
Assumes: f_i is L_i-smooth, convex or not; the local problems are solved
Algorithm:
    h_i = 0, h = 0   (h_i stands for grad f_i at client i's last model)
    for t = 0, 1, ...:
        server draws a cohort S, sends x
        client i: theta_i = argmin f_i(y) - <h_i, y> + (alpha/2)|y - x|^2, exactly or by SGD steps from x
            h_i <- h_i - alpha (theta_i - x);  sends theta_i (as theta_i - x);   all others keep h_i
        server: h <- h - alpha (1/n) sum_S (theta_i - x);   x <- mean_S theta_i - h/alpha
Up: d numbers per member of the cohort
Down: d numbers to the cohort
Step size: lr = 1/(max L_i + alpha); alpha = sqrt(max L_i min mu_i) if strongly convex, else the 0.01 of the paper's
    networks (0.001..0.1)
Theorem: exact solutions, everybody: $\sum_i w_i |z_i - z_i^*|^2$, $z_i = x + h_i/\alpha$, shrinks by $((1 + \delta)/2)^2$ per
    round, $\delta = \max_i \max(\frac{L_i - \alpha}{L_i + \alpha}, \frac{\alpha - \mu_i}{\alpha + \mu_i})$: the method is
    Douglas-Rachford splitting then (derived; rate of Giselsson and Boyd, arXiv 1407.6723)
Unconfirmed: gradient clipping at norm 10 and an alpha divided by n w_i (both in the authors' code) are left out; with
    weights w_i the means above are weighted by them, which keeps the fixed point at the optimum of sum w_i f_i
"""

from __future__ import annotations

import math

from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Sampler, Theory, param, torch


class State(NamedTuple):
    x: torch.Tensor  # the server's model, which clients receive ("cloud")
    h: torch.Tensor  # mean h_i over all clients
    mean: torch.Tensor  # of the models of the last cohort


class FedDyn(Method):
    slug = "feddyn"
    needs = ("at most once",)
    tags = ("heterogeneous", "local steps", "client sampling", "networks", "nonconvex")

    alpha: Theory[float] = param(Theory(), "weight of the dynamic regulariser", gt=0, main=True)
    lr: Theory[float] = param(Theory(), "local step size", gt=0, main=True)
    local_epochs: int = param(5, "passes over a client's data per round", ge=1, main=True)
    local_steps: int | None = param(None, "local steps per round, the same for all; replaces local_epochs", ge=1)
    batch_size: int | None = param(None, "samples per local step; None: all", ge=1, main=True)
    cohort: Sampler | int | float | None = param(None, "who takes part in a round; None: everybody", main=True)
    solver: str = param("sgd", "local training, or the exact minimiser (needs Hessians)", choices=("sgd", "exact"))
    report: str = param("clients", "the model shown: mean of the clients', or x", choices=("clients", "cloud"))

    def stepsize(self, problem: Constants) -> float:
        return 1 / (problem.L_max + self.alpha)

    def theory_alpha(self, problem: Constants) -> float:
        if not problem.strongly_convex:
            return 0.01
        low = problem.mu_min
        return math.sqrt(problem.L_max * low) if low > 0 else problem.L_max

    def rate(self, problem: Constants) -> float | None:
        if self.solver != "exact" or self.cohort is not None or not problem.mu_min:
            return None
        a, L, mu = self.alpha, problem.L_max, problem.mu_min
        return ((1 + max((L - a) / (L + a), (a - mu) / (a + mu))) / 2) ** 2

    def model(self, s: State) -> torch.Tensor:
        return s.mean if self.report == "clients" else s.x

    def init(self, fed: Federation) -> State:
        fed.call(self.begin)
        return State(x=fed.x0, h=torch.zeros_like(fed.x0), mean=fed.x0)

    def relations(self, fed: Federation, s: State) -> dict[str, torch.Tensor]:
        return {"h = mean h_i": s.h - fed.mean_of("h")}

    def step(self, fed: Federation, s: State) -> State:
        moved = fed.call(self.client, s.x, to=fed.sample(self.cohort))
        h, mean = s.h - self.alpha * moved.weighted_sum(), s.x + moved.mean()
        return State(x=mean - h / self.alpha, h=h, mean=mean)

    def begin(self, cohort: Cohort) -> None:
        cohort.memory.h = cohort.zeros()

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        h = cohort.memory.h
        if self.solver == "exact":
            y = cohort.prox(x, self.alpha, tilt=h)
        else:
            y = cohort.local_sgd(x, lr=self.lr, steps=self.local_steps, epochs=self.local_epochs,
                                 batch_size=self.batch_size, prox=self.alpha, correction=-h)  # fmt: skip
        cohort.memory.h = h - self.alpha * (y - x)
        return y - x
