"""The tridiagonal quadratic of the asynchronous papers: the same function for all workers."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch

from octolab.arguments import expects, number, one_of, whole
from octolab.batches import Batch
from octolab.problems.facts import FLOAT
from octolab.problems.noise import Noise
from octolab.problems.problem import Clients, Problem, flat_layout, make_weights
from octolab.randomness import Draws


class Tridiagonal(Problem):
    """The same f(x) = 1/2 x'Ax - b'x for all n workers, A = (1/4) tridiag(-1, 2, -1), b = (1/4)(-1, 0, ..., 0).

    The test problem of Ringmaster, Rennala and kin: x0 = sqrt(d) e_1, stochastic gradients carry noise of
    standard deviation `noise`, "scalar" (one number added to all coordinates, as in the authors' code) or
    "iid". A stencil: no d x d matrix is ever formed.

    >>> Tridiagonal(d=100, n=10).L
    0.999758141145994
    """

    portable = True
    convex = True
    homogeneous = True
    nonnegative = False

    @expects(n=whole(1), d=whole(1), noise=number(ge=0), noise_kind=one_of("scalar", "iid"), dtype=FLOAT)
    def __init__(
        self,
        d: int = 100,
        n: int = 10,
        noise: float = 0.01,
        noise_kind: str = "scalar",
        dtype: torch.dtype = torch.float64,
    ):
        if d < 1 or n < 1:
            raise ValueError(f"Tridiagonal(d={d}, n={n}): need d >= 1 and n >= 1.")
        self.d, self.n, self.dtype, self.name = d, n, dtype, "Tridiagonal"
        self.noise = Noise(noise, noise_kind)
        self.sigma_sq = self.noise.sigma**2 * d
        self.sizes = np.ones(n, dtype=np.int64)
        self.weights = make_weights(None, self.sizes)
        self.layout = flat_layout(d)
        self.x0 = torch.zeros(d, dtype=dtype)
        self.x0[0] = d**0.5
        self.has_hessian = d <= 2000

    def _apply(self, x: torch.Tensor) -> torch.Tensor:
        """A x, for x (..., d)."""
        y = 0.5 * x
        y[..., 1:] -= 0.25 * x[..., :-1]
        y[..., :-1] -= 0.25 * x[..., 1:]
        return y

    def gradient(self, x: Any) -> torch.Tensor:
        g = self._apply(self.as_x(x))
        g[..., 0] += 0.25
        return g

    def value(self, x: Any) -> float:
        x = self.as_x(x)
        return float(x @ self._apply(x)) / 2 + float(x[0]) / 4

    def grad(self, x: torch.Tensor, clients: Clients = None, batch: Batch | None = None) -> torch.Tensor:
        g, m = self.gradient(x), self.count(clients)
        if batch is not None and batch.noise is not None:
            return g + batch.noise
        return g.view(m, -1) if g.numel() == m * self.d else g.expand(m, -1).clone()

    def loss(self, x: torch.Tensor, clients: Clients = None, batch: Batch | None = None) -> torch.Tensor:
        f = (x * self._apply(x)).sum(-1) / 2 + x[..., 0] / 4
        return f.expand(self.count(clients)).clone()

    def hessian(self, x: torch.Tensor, clients: Clients = None) -> torch.Tensor:
        if not self.has_hessian:
            return super().hessian(x, clients)
        return self._apply(torch.eye(self.d, dtype=self.dtype)).expand(self.count(clients), -1, -1).clone()

    def draw_batch(self, size: Any, clients: Clients, draws: Draws) -> Batch:
        return self.noise.draw(size, self.count(clients), self.d, draws, self.dtype)

    @property
    def L(self) -> float:  # type: ignore[override]
        return float(0.5 + 0.5 * np.cos(np.pi / (self.d + 1)))

    @property
    def mu(self) -> float:  # type: ignore[override]
        return float(0.5 - 0.5 * np.cos(np.pi / (self.d + 1)))

    @property
    def L_i(self) -> np.ndarray:  # type: ignore[override]
        return np.full(self.n, self.L)

    @property
    def mu_i(self) -> np.ndarray:  # type: ignore[override]
        return np.full(self.n, self.mu)

    @cached_property
    def x_star(self) -> torch.Tensor:  # type: ignore[override]
        """Solves tridiag(-1, 2, -1) x = -e_1: a straight line from -d/(d+1) to 0."""
        return -1 + torch.arange(1, self.d + 1, dtype=self.dtype) / (self.d + 1)

    def with_dtype(self, dtype: torch.dtype) -> Tridiagonal:
        return Tridiagonal(self.d, self.n, self.noise.sigma, self.noise.kind, dtype)

    @property
    def spec(self) -> dict[str, Any]:
        return {
            "kind": "Tridiagonal",
            "d": self.d,
            "n": self.n,
            "noise": self.noise.sigma,
            "noise_kind": self.noise.kind,
            "dtype": str(self.dtype).removeprefix("torch."),
        }
