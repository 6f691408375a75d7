"""Heterogeneous quadratic objectives f_i(x) = 1/2 x'A_i x - b_i'x, given or generated."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch

from octolab.arguments import SEED, expects, number, one_of, short, text, whole
from octolab.batches import Batch
from octolab.problems.facts import FLOAT
from octolab.problems.noise import Noise, noisy
from octolab.problems.problem import Clients, Problem, fingerprint, flat_layout, make_weights
from octolab.randomness import Draws


class Quadratics(Problem):
    """f_i(x) = 1/2 x'A_i x - b_i'x for arrays A (n, d, d), symmetric, and b (n, d).

    weights: None (1/n each) or n numbers. noise: standard deviation of the gradient noise that minibatches
    carry. Constants are exact: L_i = max |eigenvalue| of A_i, mu_i = its smallest, L and mu of f, x_star, f_star.

    >>> Quadratics([[[2.0]], [[4.0]]], [[1.0], [5.0]]).x_star
    tensor([1.], dtype=torch.float64)
    """

    portable = True
    nonnegative = False

    @expects(noise=number(ge=0), noise_kind=one_of("scalar", "iid"), dtype=FLOAT, name=text())
    def __init__(
        self,
        A: Any,
        b: Any,
        weights: Any = None,
        *,
        noise: float = 0.0,
        noise_kind: str = "iid",
        x0: Any = None,
        name: str = "Quadratics",
        dtype: torch.dtype = torch.float64,
        spec: dict[str, Any] | None = None,
    ):
        A, b = _array("A", A), _array("b", b)
        if A.ndim != 3 or A.shape[1] != A.shape[2] or b.shape != A.shape[:2] or A.size == 0:
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
        self.x0 = torch.zeros(self.d, dtype=dtype)
        if x0 is not None:
            self.x0 = self.check_x0(x0)
        self.noise = Noise(noise, noise_kind)
        self.sigma_sq = self.noise.sigma**2 * self.d
        self.has_hessian = True
        self.homogeneous = bool((A[0] == A).all() and (b == b[0]).all())
        self._given = {"weights": weights, "noise": noise, "noise_kind": noise_kind, "x0": x0, "name": name}
        self._spec = spec

    # -- clients' functions ----------------------------------------------------------------------------------
    def _rows(self, clients: Clients) -> tuple[torch.Tensor, torch.Tensor]:
        return (self.A, self.b) if clients is None else (self.A[clients], self.b[clients])

    def grad(self, x: torch.Tensor, clients: Clients = None, batch: Batch | None = None) -> torch.Tensor:
        A, b = self._rows(clients)
        Ax = A @ x if x.dim() == 1 else torch.bmm(A, x[:, :, None])[:, :, 0]
        return noisy(Ax - b, batch)

    def loss(self, x: torch.Tensor, clients: Clients = None, batch: Batch | None = None) -> torch.Tensor:
        A, b = self._rows(clients)
        x = x.expand(len(b), -1)
        return ((torch.bmm(A, x[:, :, None])[:, :, 0] / 2 - b) * x).sum(1)

    def hessian(self, x: torch.Tensor, clients: Clients = None) -> torch.Tensor:
        return self._rows(clients)[0].clone()

    def draw_batch(self, size: Any, clients: Clients, draws: Draws) -> Batch:
        return self.noise.draw(size, self.count(clients), self.d, draws, self.dtype)

    # -- the whole objective ---------------------------------------------------------------------------------
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

    # -- constants -------------------------------------------------------------------------------------------
    def minimisers(self) -> np.ndarray:
        """(n, d) float64: where each f_i is smallest, A_i^{-1} b_i; numpy's LinAlgError if an A_i is singular."""
        return np.linalg.solve(self._A64, self._b64[:, :, None])[:, :, 0]

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
    def convex(self) -> bool:  # type: ignore[override]
        return bool(self._spectrum.min() >= -1e-12 * self.L)

    @cached_property
    def mu(self) -> float | None:  # type: ignore[override]
        return max(0.0, float(self._spectrum.min())) if self.convex else None

    @property
    def constants_note(self) -> str | None:  # type: ignore[override]
        if self.convex:
            return None
        low = self._spectrum.min()
        return f"f is not convex (its smallest eigenvalue is {low:.4g}), so mu and x_star do not exist."

    @cached_property
    def x_star(self) -> torch.Tensor | None:  # type: ignore[override]
        if not self.convex or self.mu is None:
            return None
        w = self.weights.numpy()
        A, b = np.tensordot(w, self._A64, 1), w @ self._b64
        x = np.linalg.solve(A, b) if self.mu > 1e-12 * self.L else np.linalg.lstsq(A, b, rcond=None)[0]
        reached = np.allclose(A @ x, b, atol=1e-8 * (1 + np.abs(b).max()))
        return torch.from_numpy(x).to(self.dtype) if reached else None

    @property
    def chunk(self) -> int:
        size = self.d * self.d * self.dtype.itemsize
        return self.n if self.n * size <= 2**25 else max(16, 2**20 // size)

    def with_dtype(self, dtype: torch.dtype) -> Quadratics:
        return Quadratics(self._A64, self._b64, dtype=dtype, spec=self._spec, **self._given)

    @property
    def spec(self) -> dict[str, Any]:
        dtype = str(self.dtype).removeprefix("torch.")
        if self._spec is not None:
            return {**self._spec, "dtype": dtype}
        numbers = np.array([self.noise.sigma, self.noise.kind == "iid"])
        given = fingerprint(self._A64, self._b64, self.weights.numpy(), numbers)
        return {"kind": "Quadratics", "given": given, "n": self.n, "d": self.d, "dtype": dtype}


def _array(name: str, given: Any) -> np.ndarray:
    try:
        held = np.asarray(given)
        if held.dtype.kind in "biuf":
            return held.astype(np.float64)
    except ValueError:  # ragged
        pass
    raise ValueError(f"{name}={short(given)}: give an array of real numbers, A (n, d, d) and b (n, d).")


@expects(
    n=whole(1),
    d=whole(1),
    noise=number(ge=0),
    noise_kind=one_of("scalar", "iid"),
    L=number(gt=0),
    mu=number(),
    spread=number(ge=0),
    L_spread=number(ge=1),
    eigenbasis=one_of("shared", "random"),
    seed=SEED,
)
def quadratics(
    n: int = 10,
    d: int = 20,
    *,
    L: float = 10.0,
    mu: float = 1.0,
    spread: float = 1.0,
    L_spread: float = 1.0,
    eigenbasis: str = "shared",
    seed: int = 0,
    noise: float = 0.0,
    noise_kind: str = "iid",
) -> Quadratics:
    """Heterogeneous quadratics with every eigenvalue of every A_i in [mu, L], both reached by each client.

    spread: standard deviation of the clients' own minimisers around a common one, per coordinate; 0: they
    agree. L_spread: L_max/L_min; the clients are scaled log-evenly from L/L_spread to L, each keeping kappa_i
    = L/mu. eigenbasis: "shared" (f is as ill conditioned as its parts) or "random" (one rotation per client:
    averaging makes f well conditioned, and methods that profit from ill conditioning look bad). noise: see `Quadratics`.

    >>> round(quadratics(n=4, d=5, L=100, mu=1).L_max, 9)
    100.0
    """
    if n < 1 or d < 1 or not 0 < mu <= L or not spread >= 0 or not L_spread >= 1:
        raise ValueError(
            f"quadratics(n={n}, d={d}, L={L}, mu={mu}, spread={spread}, L_spread={L_spread}): "
            f"need n, d >= 1, 0 < mu <= L, spread >= 0, L_spread >= 1."
        )
    if eigenbasis not in ("shared", "random"):
        raise ValueError(f"eigenbasis={eigenbasis!r}: choose 'shared' or 'random'.")
    rng = np.random.default_rng(seed)
    values = np.exp(rng.uniform(np.log(mu), np.log(L), (n, d)))
    values[:, 0], values[:, -1] = mu, L
    values *= L_spread ** -np.linspace(1, 0, n)[:, None]
    basis = np.linalg.qr(rng.normal(size=(n if eigenbasis == "random" else 1, d, d)))[0]
    A = (basis * values[:, None, :]) @ basis.transpose(0, 2, 1)
    A = (A + A.transpose(0, 2, 1)) / 2
    centre = rng.normal(size=d)
    minimisers = centre + spread * rng.normal(size=(n, d))
    b = np.einsum("nij,nj->ni", A, minimisers)
    spec = {
        "kind": "quadratics",
        "n": n,
        "d": d,
        "L": L,
        "mu": mu,
        "spread": spread,
        "L_spread": L_spread,
        "eigenbasis": eigenbasis,
        "seed": seed,
        "noise": noise,
        "noise_kind": noise_kind,
    }
    return Quadratics(A, b, noise=noise, noise_kind=noise_kind, spec=spec)
