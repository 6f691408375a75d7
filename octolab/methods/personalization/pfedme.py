r"""pFedMe: personal models by Moreau envelopes.

Paper: Personalized Federated Learning with Moreau Envelopes
Authors: Canh T. Dinh, Nguyen H. Tran, Tuan Dung Nguyen
Venue: NeurIPS 2020
arXiv: 2006.08848
Solves: min over w of mean_i F_i(w), F_i(w) = min_theta f_i(theta) + (lam/2)|theta - w|^2; theta_i is client i's model
Use: personal models tied to a common one that is trained for being a good centre
Avoid: local work is dear (R K gradients a round); an exact optimum of the mean of f_i is wanted
Assumes: f_i is L-smooth; lam > 2 L where f_i is not convex
Algorithm:
    for t = 0, 1, ...:
        server sends w;   every client, of the cohort or not: w_i = w; R times:
            theta_i <- argmin f_i(.; a batch) + (lam/2)|. - w_i|^2 by K steps of size lr, from the last theta_i
            w_i <- w_i - eta lam (w_i - theta_i)
        a cohort S sends w_i;  server: w <- (1 - beta) w + beta * mean over S of w_i
Up: d numbers per member of the cohort
Down: d numbers to everybody
Step size: lr = 1/(max L_i + lam) for the inner problem; eta = 0.005 is the authors' (with lam = 15, R = 20), below 1/lam
Theorem: $\nabla F_i(w) = \lambda(w - \mathrm{prox}_{f_i/\lambda}(w))$; for convex $f_i$ the envelope $F_i$ is
    $\frac{\lambda L_i}{\lambda + L_i}$-smooth and $m_i$-strongly convex, $m_i = \frac{\lambda\mu_i}{\lambda + \mu_i}$. With exact
    inner solutions and $R = 1$ a round is gradient descent on $\sum_i w_i F_i$ with step $\beta\eta$, so its gap shrinks by
    $1 - \beta\eta\sum_i w_i m_i$. With $R > 1$ it stops near that optimum, as FedAvg does
Unconfirmed: the authors' optimiser adds a weight decay of 0.001 inside, which is left out; the paper's own step sizes for its
    theorems (with R, K and batches) were not read
"""

from __future__ import annotations

import numpy as np

from octolab.methods.local_training.fedavg import State
from octolab.methods.page import Cohort, Constants, Federation, Method, Sampler, Theory, param, torch


class PFedMe(Method):
    slug = "pfedme"
    tags = ("personalisation", "heterogeneous", "nonconvex", "networks", "client sampling", "proximal")

    lam: float = param(15.0, "lambda, strength of the tie to the common model", gt=0, main=True)
    outer_steps: int = param(20, "R, outer steps per round", ge=1, main=True)
    inner_steps: int = param(5, "K, gradient steps on each inner problem", ge=1)
    eta: float = param(0.005, "outer step size", gt=0, main=True)
    lr: Theory[float] = param(Theory(), "inner step size", gt=0, main=True)
    beta: float = param(1.0, "server step size", gt=0)
    batch_size: int | None = param(None, "samples per inner problem; None: all", ge=1)
    cohort: Sampler | int | float | None = param(None, "who uploads; None: everybody")
    solver: str = param("sgd", "inner solver: steps, or exact (needs Hessians)", choices=("sgd", "exact"))

    def stepsize(self, problem: Constants) -> float:
        return 1 / (problem.L_max + self.lam)

    def rate(self, problem: Constants) -> float | None:
        exact = self.solver == "exact" and self.outer_steps == 1 and self.cohort is None
        if not exact or not problem.strongly_convex or not problem.mu_min:
            return None
        w, L, mu = problem.weights.numpy(), problem.L_i, problem.mu_i
        step, smooth = self.beta * self.eta, float(w @ (self.lam * L / (self.lam + L)))
        return 1 - step * float(w @ (self.lam * mu / (self.lam + mu))) if step * smooth <= 1 + 1e-12 else None

    def init(self, fed: Federation) -> State:
        for name in ("theta", "w"):
            fed.memory[name] = fed.x0.repeat(fed.n, 1)  # x0 comes with the program: no traffic
        return State(x=fed.x0)

    def step(self, fed: Federation, s: State) -> State:
        trained = fed.call(self.train, s.x).clients  # everybody: personal models stay fresh outside the cohort too
        chosen = fed.sample(self.cohort)
        senders = trained if chosen is None else np.intersect1d(trained, chosen)
        if len(senders) == 0:
            return s
        models = fed.call(self.send, to=None if len(senders) == fed.n else senders)
        return s if len(models) == 0 else State(x=s.x + self.beta * (models.mean() - s.x))

    def personal(self, fed: Federation, s: State) -> torch.Tensor:
        return fed.memory.theta

    def train(self, cohort: Cohort, x: torch.Tensor) -> None:
        w, theta = x.expand(cohort.m, -1), cohort.memory.theta
        for _ in range(self.outer_steps):
            theta = self.inner(cohort, theta, w)
            w = w - self.eta * self.lam * (w - theta)
        cohort.memory.theta, cohort.memory.w = theta, w

    def inner(self, cohort: Cohort, theta: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """(m, d) argmin f_i + (lam/2)|. - w_i|^2, exactly, or K steps from theta on one batch."""
        if self.solver == "exact":
            return cohort.prox(w, self.lam)
        batch = cohort.batch(self.batch_size)
        for _ in range(self.inner_steps):
            theta = theta - self.lr * (cohort.grad(theta, batch) + self.lam * (theta - w))
        return theta

    def send(self, cohort: Cohort) -> torch.Tensor:
        return cohort.memory.w
