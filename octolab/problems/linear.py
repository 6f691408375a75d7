"""Linear models on clients' samples: what logistic and softmax regression share.

Samples lie padded in one tensor (n, N, p); padding rows are zero and have weight zero. A full pass goes through blocks
of about 4 MB, so that margins and gradient read the data once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from octolab.problems.problem import Clients, Problem, make_weights

BLOCK = 2**22  # bytes of data that one pass should touch at a time
Pair = tuple[np.ndarray, np.ndarray]


def times(rows: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """rows (m, N, p) times x, (p,) or (m, p) -> (m, N). NumPy calls one gemv per client: faster than torch's bmm."""
    if x.dim() == 1:
        return torch.from_numpy(np.matmul(rows.numpy(), x.numpy()))
    return torch.from_numpy(np.matmul(rows.numpy(), x.numpy()[:, :, None]))[:, :, 0]


def combine(c: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """sum_j c_ij rows_ij: (m, N) and (m, N, p) -> (m, p)."""
    return torch.from_numpy(np.matmul(c.numpy()[:, None, :], rows.numpy()))[:, 0]


class Linear(Problem):
    """The base of `Logistic` and `Softmax`: features, labels, a ridge, constants and test parts."""

    convex = True

    rows: torch.Tensor  # (n, N, p): the samples, with `extra` columns of ones

    def __init__(self, features: Sequence[Any], labels: Sequence[Any], *, l2: float, weights: Any, dtype: torch.dtype,
                 test: Sequence[Pair] | None, global_test: Pair | None, name: str, spec: dict | None,
                 extra: int = 0):  # fmt: skip
        if len(features) == 0 or len(features) != len(labels):
            raise ValueError(f"features has {len(features)} clients and labels {len(labels)}: give one array per client each.")
        arrays, targets = [np.asarray(a) for a in features], [np.asarray(y) for y in labels]
        p = arrays[0].shape[1] if arrays[0].ndim == 2 else -1
        for i, (a, y) in enumerate(zip(arrays, targets, strict=True)):
            if a.ndim != 2 or a.shape[1] != p or y.shape != a.shape[:1]:
                raise ValueError(f"Client {i}: features {a.shape} and labels {y.shape} do not fit; give (m_i, {p}) and (m_i,).")
            if len(a) == 0:
                raise ValueError(f"Client {i} has no samples: leave it out, or use a split that gives every client some.")
            if not np.isfinite(a).all():
                raise ValueError(f"Client {i}: the features hold inf or nan. Clean the data first.")
        if not l2 >= 0:
            raise ValueError(f"l2={l2!r}: the ridge is a number >= 0.")
        self.n, self.p, self.l2, self.dtype, self.name = len(arrays), p + extra, float(l2), dtype, name
        self.sizes = np.array([len(a) for a in arrays], dtype=np.int64)
        self.weights = make_weights(weights, self.sizes)
        self._arrays, self._targets = arrays, targets  # as given, not copied
        self._test, self._global_test, self._spec = test, global_test, spec
        self._given = {"l2": l2, "weights": weights, "test": test, "global_test": global_test, "name": name, "spec": spec}
        self.N = int(self.sizes.max())
        share = (np.arange(self.N) < self.sizes[:, None]) / self.sizes[:, None]
        self.share = torch.from_numpy(share).to(dtype)  # (n, N): 1/N_i on samples, 0 on padding
        self.rows = torch.zeros(self.n, self.N, self.p, dtype=dtype)
        for i, a in enumerate(arrays):
            self.rows[i, : len(a), :p] = torch.from_numpy(np.ascontiguousarray(a))
            self.rows[i, : len(a), p:] = 1.0

    def _samples(self, i: int) -> np.ndarray:
        """The samples (N_i, p) of client i as they enter the scores, in float64."""
        return self.rows[i, : self.sizes[i]].double().numpy()

    def _blocks(self, m: int) -> int:
        """Clients per pass over the data; all if they fit."""
        one = self.N * self.p * self.dtype.itemsize
        return m if m * one <= BLOCK else max(1, BLOCK // one)

    @property
    def chunk(self) -> int:
        size = self.d * self.dtype.itemsize
        return self.n if self.n * size <= 2**23 else max(16, 2**21 // size)

    # -- constants ---------------------------------------------------------------------------------------------------
    curvature = 0.25  # largest second derivative of the loss in the scores
    residual_bound = 1.0  # largest |derivative of the loss in the scores|^2

    def _top(self, gram: np.ndarray) -> np.ndarray:
        return np.linalg.eigvalsh(gram)[..., -1]

    @cached_property
    def _gram_top(self) -> np.ndarray:
        """(n,) largest eigenvalue of A_i'A_i/N_i, from the smaller of the two Gram matrices."""
        tops = np.empty(self.n)
        for i in range(self.n):
            a = self._samples(i)
            gram = a.T @ a if a.shape[1] <= a.shape[0] else a @ a.T
            tops[i] = self._top(gram) / len(a)
        return tops

    @property
    def extra_curvature(self) -> float:
        return self.l2

    @cached_property
    def L_i(self) -> np.ndarray:  # type: ignore[override]
        return self.curvature * self._gram_top + self.extra_curvature

    @cached_property
    def L(self) -> float:  # type: ignore[override]
        w = self.weights.numpy()
        if self.sizes.sum() < self.p:
            rows = np.concatenate([self._samples(i) * np.sqrt(w[i] / self.sizes[i]) for i in range(self.n)])
            return float(self.curvature * self._top(rows @ rows.T) + self.extra_curvature)
        gram = np.zeros((self.p, self.p))
        for i in range(self.n):
            a = self._samples(i)
            gram += (w[i] / len(a)) * (a.T @ a)
        return float(self.curvature * self._top(gram) + self.extra_curvature)

    @property
    def mu(self) -> float | None:  # type: ignore[override]
        return self.l2

    @property
    def mu_i(self) -> np.ndarray:  # type: ignore[override]
        return np.full(self.n, self.l2)

    @cached_property
    def sigma_sq(self) -> float:  # type: ignore[override]
        """A bound on the variance of a one-sample gradient at any x: max_i mean_j |a_ij|^2 (times 2 for softmax)."""
        return max(float((self._samples(i) ** 2).sum(1).mean()) for i in range(self.n)) * self.residual_bound

    @cached_property
    def x_star(self) -> torch.Tensor | None:  # type: ignore[override]
        """The minimiser by damped Newton steps (conjugate gradients where d > 1500) to rounding; needs l2 > 0."""
        if not self.strongly_convex:
            return None
        twin: Any = self if self.dtype == torch.float64 else self.with_dtype(torch.float64)
        x = torch.zeros(self.d, dtype=torch.float64)
        for _ in range(100):
            g = twin.gradient(x)
            if float(g.norm()) < 1e-14 * max(1.0, float(x.norm())):
                break
            v = -twin._newton(x, g)
            s, f, slope = 1.0, twin.value(x), float(g @ v)
            while twin.value(x + s * v) > f + s * slope / 4 + 1e-15 * abs(f) and s > 1e-6:
                s /= 2
            x = x + s * v
            if float(v.norm()) < 1e-15 * max(1.0, float(x.norm())):
                break
        return x.to(self.dtype)

    def _newton(self, x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        if self.d <= 1500:
            return torch.linalg.solve(self._mean_hessian(x), g)
        from scipy.sparse.linalg import LinearOperator, cg

        w = self.weights
        operator = LinearOperator((self.d, self.d), matvec=lambda v: (w @ self.hvp(x, torch.from_numpy(v.copy()))).numpy())
        return torch.from_numpy(cg(operator, g.numpy(), rtol=1e-10, maxiter=500)[0])

    def _mean_hessian(self, x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(self.d, self.d, dtype=self.dtype)
        for i in range(self.n):
            total += self.weights[i] * self.hessian(x, slice(i, i + 1))[0]
        return total

    # -- tests -------------------------------------------------------------------------------------------------------
    def _correct(self, scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    @cached_property
    def _test_arrays(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        pair = self._global_test
        if pair is None and self._test is not None:
            pair = (np.concatenate([x for x, _ in self._test]), np.concatenate([y for _, y in self._test]))
        if pair is None or len(pair[0]) == 0:
            return None
        return torch.as_tensor(np.asarray(pair[0], dtype=np.float64)).to(self.dtype), torch.as_tensor(np.asarray(pair[1]))

    def test_metrics(self, x: torch.Tensor) -> dict[str, float]:
        if self._test_arrays is None:
            return {}
        features, y = self._test_arrays
        return {"accuracy": float(self._correct(self._scores(features, x), y).double().mean())}

    def client_metrics(self, x: torch.Tensor, clients: Clients = None) -> dict[str, np.ndarray]:
        """Training loss (m,) and, where clients hold test parts, accuracy (m,) on each one's own (NaN if it is empty)."""
        metrics = {"loss": self.loss(x, clients).numpy()}
        if self._test is None:
            return metrics
        ids = np.arange(self.n)[clients if not isinstance(clients, torch.Tensor) else clients.numpy()] if clients is not None else np.arange(self.n)
        rows, accuracy = x.expand(len(ids), -1), np.full(len(ids), np.nan)
        for k, i in enumerate(ids):
            features, y = self._test[i]
            if len(y):
                scores = self._scores(torch.as_tensor(np.asarray(features)).to(self.dtype), rows[k])
                accuracy[k] = float(self._correct(scores, torch.as_tensor(np.asarray(y))).double().mean())
        return {**metrics, "accuracy": accuracy}

    def _scores(self, features: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError
