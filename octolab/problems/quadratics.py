"""Quadratic objectives f_i(x) = 1/2 x'A_i x - b_i'x: given, generated, or the tridiagonal one of the async papers."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch

from octolab.problems.problem import Batch, Clients, Problem, fingerprint, flat_layout, make_weights


def _noisy(g: torch.Tensor, batch: Batch | None) -> torch.Tensor:
    return g if batch is None or batch.noise is None else g + batch.noise


class Noise:
    """Additive gradient noise: `scalar` adds one N(0, sigma^2) number to all coordinates, `iid` one to each.

    A batch of b averages b of them: standard deviation sigma/sqrt(b). The variance is sigma^2 d either way.
    """

    def __init__(self, sigma: float, kind: str):
        if not sigma >= 0:
            raise ValueError(f"noise={sigma!r}: the noise's standard deviation is a number >= 0.")
        if kind not in ("scalar", "iid"):
            raise ValueError(f"noise_kind={kind!r}: choose 'scalar' (one number for all coordinates) or 'iid'.")
        self.sigma, self.kind = float(sigma), kind

    def draw(self, size: Any, m: int, d: int, draws: Any, dtype: torch.dtype) -> Batch:
        if self.sigma == 0:
            return Batch(None, None, None)
        z = draws.normal(1 if self.kind == "scalar" else d).to(dtype)
        sizes = torch.as_tensor(size, dtype=dtype)
        scale = self.sigma / sizes.sqrt()
        return Batch(None, None, (z * (scale[:, None] if scale.dim() else scale)).expand(m, d))


class Quadratics(Problem):
    """f_i(x) = 1/2 x'A_i x - b_i'x for arrays A (n, d, d), symmetric, and b (n, d).

    weights: None (1/n each) or n numbers. noise: standard deviation of the gradient noise that minibatches carry.
    Constants are exact: L_i = max |eigenvalue| of A_i, mu_i = its smallest, L and mu of f, x_star, f_star.

    >>> Quadratics([[[2.0]], [[4.0]]], [[1.0], [5.0]]).x_star
    tensor([1.], dtype=torch.float64)
    """

    def __init__(self, A: Any, b: Any, weights: Any = None, *, noise: float = 0.0, noise_kind: str = "iid",
                 x0: Any = None, name: str = "Quadratics", dtype: torch.dtype = torch.float64, spec: Any = None):  # fmt: skip
        A, b = np.asarray(A, dtype=np.float64), np.asarray(b, dtype=np.float64)
        if A.ndim != 3 or A.shape[1] != A.shape[2] or b.shape != A.shape[:2]:
            raise ValueError(f"A has shape {A.shape} and b {b.shape}: give A (n, d, d) and b (n, d).")
        if not (np.isfinite(A).all() and np.isfinite(b).all()):
            raise ValueError("A or b holds inf or nan: give finite numbers.")
        if not np.allclose(A, A.transpose(0, 2, 1), rtol=1e-10, atol=1e-12 * max(1.0, np.abs(A).max())):
            raise ValueError("A is not symmetric: give (A + A')/2, which defines the same function.")
        (self.n, self.d), self.name, self.dtype = b.shape, name, dtype
        self._A64, self._b64 = A, b
        self.A, self.b = torch.from_numpy(A).to(dtype), torch.from_numpy(b).to(dtype)
        self.sizes = np.ones(self.n, dtype=np.int64)
        self.weights = make_weights(weights, self.sizes)
        self.layout = flat_layout(self.d)
        self.x0 = torch.zeros(self.d, dtype=dtype) if x0 is None else torch.as_tensor(np.asarray(x0), dtype=dtype)
        self.noise = Noise(noise, noise_kind)
        self.sigma_sq = self.noise.sigma**2 * self.d
        self.has_hessian = True
        self.homogeneous = bool((A == A[0]).all() and (b == b[0]).all())
        self._given = {"weights": weights, "noise": noise, "noise_kind": noise_kind, "x0": x0, "name": name}
        self._spec = spec

    # -- clients' functions ------------------------------------------------------------------------------------------
    def _rows(self, clients: Clients) -> tuple[torch.Tensor, torch.Tensor]:
        return (self.A, self.b) if clients is None else (self.A[clients], self.b[clients])

    def grad(self, x: torch.Tensor, clients: Clients = None, batch: Batch | None = None) -> torch.Tensor:
        A, b = self._rows(clients)
        Ax = A @ x if x.dim() == 1 else torch.bmm(A, x[:, :, None])[:, :, 0]
        return _noisy(Ax - b, batch)

    def loss(self, x: torch.Tensor, clients: Clients = None, batch: Batch | None = None) -> torch.Tensor:
        A, b = self._rows(clients)
        x = x.expand(len(b), -1)
        return ((torch.bmm(A, x[:, :, None])[:, :, 0] / 2 - b) * x).sum(1)

    def hessian(self, x: torch.Tensor, clients: Clients = None) -> torch.Tensor:
        return self._rows(clients)[0].clone()

    def draw_batch(self, size: Any, clients: Clients, draws: Any) -> Batch:
        return self.noise.draw(size, self.count(clients), self.d, draws, self.dtype)

    # -- the whole objective -----------------------------------------------------------------------------------------
    @cached_property
    def _mean(self) -> tuple[torch.Tensor, torch.Tensor]:
        w = self.weights.numpy()
        A, b = np.tensordot(w, self._A64, 1), w @ self._b64
        return torch.from_numpy(A).to(self.dtype), torch.from_numpy(b).to(self.dtype)

    def value(self, x: Any) -> float:
        A, b = self._mean
        x = self.as_x(x)
        return float((A @ x / 2 - b) @ x)

    def gradient(self, x: Any) -> torch.Tensor:
        A, b = self._mean
        return A @ self.as_x(x) - b

    def evaluate(self, x: torch.Tensor) -> dict[str, float]:
        A, b = self._mean
        g = A @ x - b
        return {"loss": float((g - b) @ x) / 2, "grad_norm_sq": float(g @ g)}

    # -- constants ---------------------------------------------------------------------------------------------------
    @cached_property
    def _spectra(self) -> np.ndarray:
        return np.linalg.eigvalsh(self._A64)

    @cached_property
    def _spectrum(self) -> np.ndarray:
        return np.linalg.eigvalsh(np.tensordot(self.weights.numpy(), self._A64, 1))

    @cached_property
    def L_i(self) -> np.ndarray:  # type: ignore[override]
        return np.abs(self._spectra).max(1)

    @cached_property
    def mu_i(self) -> np.ndarray:  # type: ignore[override]
        return self._spectra.min(1)

    @cached_property
    def L(self) -> float:  # type: ignore[override]
        return float(np.abs(self._spectrum).max())

    @cached_property
    def mu(self) -> float:  # type: ignore[override]
        return float(self._spectrum.min())

    @property
    def convex(self) -> bool:  # type: ignore[override]
        return self.mu >= -1e-12 * self.L

    @cached_property
    def x_star(self) -> torch.Tensor | None:  # type: ignore[override]
        if not self.convex:
            return None
        w = self.weights.numpy()
        A, b = np.tensordot(w, self._A64, 1), w @ self._b64
        x = np.linalg.solve(A, b) if self.mu > 1e-12 * self.L else np.linalg.lstsq(A, b, rcond=None)[0]
        return torch.from_numpy(x).to(self.dtype) if np.allclose(A @ x, b, atol=1e-8 * (1 + np.abs(b).max())) else None

    @property
    def chunk(self) -> int:
        size = self.d * self.d * self.dtype.itemsize
        return self.n if self.n * size <= 2**25 else max(16, 2**20 // size)

    def with_dtype(self, dtype: torch.dtype) -> Quadratics:
        return Quadratics(self._A64, self._b64, dtype=dtype, spec=self._spec, **self._given)

    @property
    def spec(self) -> dict[str, Any]:
        if self._spec is not None:
            return {**self._spec, "dtype": str(self.dtype).removeprefix("torch.")}
        given = {"kind": "Quadratics", "given": fingerprint(self._A64, self._b64, self.weights.numpy()), "n": self.n, "d": self.d}
        return {**given, "dtype": str(self.dtype).removeprefix("torch.")}


def quadratics(n: int = 10, d: int = 20, *, L: float = 10.0, mu: float = 1.0, spread: float = 1.0,
               eigenbasis: str = "shared", seed: int = 0, noise: float = 0.0, noise_kind: str = "iid") -> Quadratics:  # fmt: skip
    """Heterogeneous quadratics with every eigenvalue of every A_i in [mu, L], both reached by each client.

    spread: standard deviation of the clients' own minimisers around a common one, per coordinate; 0: they agree.
    eigenbasis: "shared" (f is as ill conditioned as its parts) or "random" (one rotation per client: averaging makes f
    well conditioned, and methods that profit from ill conditioning look bad).

    >>> quadratics(n=4, d=5, L=100, mu=1).L_max
    100.0
    """
    if n < 1 or d < 1 or not 0 < mu <= L or not spread >= 0:
        raise ValueError(f"quadratics(n={n}, d={d}, L={L}, mu={mu}, spread={spread}): need n, d >= 1, 0 < mu <= L, spread >= 0.")
    if eigenbasis not in ("shared", "random"):
        raise ValueError(f"eigenbasis={eigenbasis!r}: choose 'shared' or 'random'.")
    rng = np.random.default_rng(seed)
    values = np.exp(rng.uniform(np.log(mu), np.log(L), (n, d)))
    values[:, 0], values[:, -1] = mu, L
    if d == 1:
        values[:] = L
    basis = np.linalg.qr(rng.normal(size=(n if eigenbasis == "random" else 1, d, d)))[0]
    A = (basis * values[:, None, :]) @ basis.transpose(0, 2, 1)
    A = (A + A.transpose(0, 2, 1)) / 2
    centre = rng.normal(size=d)
    minimisers = centre + spread * rng.normal(size=(n, d))
    spec = {"kind": "quadratics", "n": n, "d": d, "L": L, "mu": mu, "spread": spread, "eigenbasis": eigenbasis,
            "seed": seed, "noise": noise, "noise_kind": noise_kind}  # fmt: skip
    return Quadratics(A, np.einsum("nij,nj->ni", A, minimisers), noise=noise, noise_kind=noise_kind, spec=spec)


class Tridiagonal(Problem):
    """The same f(x) = 1/2 x'Ax - b'x for all n workers, A = (1/4) tridiag(-1, 2, -1), b = (1/4)(-1, 0, ..., 0).

    The test problem of Ringmaster, Rennala and kin: x0 = sqrt(d) e_1, stochastic gradients carry noise of standard
    deviation `noise`, "scalar" (one number added to all coordinates, as in the authors' code) or "iid". A stencil: no
    d x d matrix is ever formed.

    >>> Tridiagonal(d=100, n=10).L
    0.9997581...
    """

    convex = True
    homogeneous = True

    def __init__(self, d: int = 100, n: int = 10, noise: float = 0.01, noise_kind: str = "scalar",
                 dtype: torch.dtype = torch.float64):  # fmt: skip
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
        return _noisy(self.gradient(x).expand(self.count(clients), -1), batch)

    def loss(self, x: torch.Tensor, clients: Clients = None, batch: Batch | None = None) -> torch.Tensor:
        f = (x * self._apply(x)).sum(-1) / 2 + x[..., 0] / 4
        return f.expand(self.count(clients)).clone()

    def hessian(self, x: torch.Tensor, clients: Clients = None) -> torch.Tensor:
        if not self.has_hessian:
            return super().hessian(x, clients)
        return self._apply(torch.eye(self.d, dtype=self.dtype)).expand(self.count(clients), -1, -1).clone()

    def draw_batch(self, size: Any, clients: Clients, draws: Any) -> Batch:
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
        return {"kind": "Tridiagonal", "d": self.d, "n": self.n, "noise": self.noise.sigma, "noise_kind": self.noise.kind,
                "dtype": str(self.dtype).removeprefix("torch.")}  # fmt: skip
