"""Least squares: linear regression, all of whose constants are known exactly."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from octolab.arguments import expects, switch
from octolab.problems.facts import CLIENTS, SAMPLES
from octolab.problems.linear import Linear, combination, combine, products, times
from octolab.problems.problem import Clients, fingerprint, flat_layout
from octolab.problems.samples import Share
from octolab.problems.scoring import Pair

DIRECT = 5 * 10**7  # numbers up to which the minimiser comes from the samples themselves, not from their Gram matrix


class LeastSquares(Linear):
    """f_i(x) = mean_j (a_ij'x - y_ij)^2 + l2/2 |x|^2: at l2 = 0 the mean squared error.

    features: n arrays (m_i, p); targets: n arrays (m_i,) of real numbers. bias: append a column of ones, whose weight is
    x's last number. The Hessian of f_i is H_i = 2 A_i'A_i/m_i + l2 I everywhere, so L_i and mu_i are its largest and
    smallest eigenvalue, L and mu those of sum_i w_i H_i, and x_star solves the normal equations (where they have many
    solutions: the shortest).

    >>> LeastSquares([[[1.0], [3.0]]], [[2.0, 6.0]], bias=False).x_star.round(decimals=6)
    tensor([2.], dtype=torch.float64)
    """

    curvature = 2.0

    @expects(**SAMPLES, targets=CLIENTS, bias=switch())
    def __init__(
        self,
        features: Sequence[ArrayLike],
        targets: Sequence[ArrayLike],
        l2: float = 0.0,
        *,
        bias: bool = True,
        weights: str | ArrayLike | None = None,
        x0: ArrayLike | None = None,
        test: Sequence[Pair] | None = None,
        global_test: Pair | None = None,
        dtype: torch.dtype = torch.float64,
        name: str = "LeastSquares",
        spec: dict[str, Any] | None = None,
    ):
        super().__init__(
            features,
            targets,
            l2=l2,
            weights=weights,
            dtype=dtype,
            test=test,
            global_test=global_test,
            name=name,
            spec=spec,
            ones=bias,
            whole=False,
        )
        self.bias, self.d = bias, self.p
        self.has_hessian = self.d <= 2000
        self.layout = flat_layout(self.d)
        self.x0 = torch.zeros(self.d, dtype=dtype)
        if x0 is not None:
            self.x0 = self.check_x0(x0)

    # -- one block of clients --------------------------------------------------------------------------------
    def _gradient(
        self, rows: torch.Tensor, y: torch.Tensor, share: Share, x: np.ndarray, out: np.ndarray | None = None
    ) -> np.ndarray:
        a = rows.numpy()
        c = products(a, x)
        c -= y.numpy()
        c *= 2 * share if isinstance(share, float) else 2 * share.numpy()
        return combination(c, a, out)

    def _loss(self, rows: torch.Tensor, y: torch.Tensor, share: Share, x: torch.Tensor) -> torch.Tensor:
        return ((times(rows, x) - y).square_() * share).sum(1)

    def _both(
        self, rows: torch.Tensor, y: torch.Tensor, share: torch.Tensor, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        residual = times(rows, x) - y
        return (residual.square() * share).sum(1), combine(residual.mul_(2 * share), rows)

    def _hessian(self, rows: torch.Tensor, share: Share, x: torch.Tensor) -> torch.Tensor:
        weight = 2 * share if isinstance(share, float) else 2 * share[:, :, None]
        return torch.bmm((rows * weight).mT, rows)

    def _product(self, rows: torch.Tensor, share: Share, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return combine(times(rows, v) * (2 * share), rows)

    # -- constants -------------------------------------------------------------------------------------------
    @cached_property
    def _pooled_curvature(self) -> np.ndarray:
        """Eigenvalues of sum_i w_i H_i, ascending."""
        gram = torch.diag(torch.full((self.p,), self.l2, dtype=torch.float64))
        for rows, _, each in self._pool:
            gram += self._hessian(rows.double(), each.double(), self.x0.double())[0]
        return np.linalg.eigvalsh(gram.numpy())

    @cached_property
    def L(self) -> float:  # type: ignore[override]
        return float(self._pooled_curvature[-1])

    @cached_property
    def mu(self) -> float:  # type: ignore[override]
        """The smallest eigenvalue; 0 (less rounding) where the columns depend on each other."""
        return _least(self._pooled_curvature, self.l2)

    @cached_property
    def mu_i(self) -> np.ndarray:  # type: ignore[override]
        return np.array([self._mu_of(i) for i in range(self.n)])

    def _mu_of(self, client: int) -> float:
        a = self.data.client(client)
        if len(a) < self.p:
            return self.l2
        return _least(np.linalg.eigvalsh(2 / len(a) * (a.T @ a)) + self.l2, self.l2)

    sigma_sq = None  # type: ignore[assignment]  # a sample's gradient grows with x: no bound holds everywhere

    @cached_property
    def x_star(self) -> torch.Tensor:  # type: ignore[override]
        """The minimiser (of many: the shortest), from a least-squares solution of the pooled samples."""
        if self.dtype != torch.float64:
            exact = self.with_dtype(torch.float64)
            assert isinstance(exact, LeastSquares)
            return exact.x_star.to(self.dtype)
        scale = [each[0].sqrt() for _, _, each in self._pool]
        A = torch.cat([rows[0] * s[:, None] for (rows, _, _), s in zip(self._pool, scale, strict=True)])
        b = torch.cat([y[0] * s for (_, y, _), s in zip(self._pool, scale, strict=True)])
        if self.l2:
            A = torch.cat([A, torch.eye(self.p, dtype=A.dtype) * (self.l2 / 2) ** 0.5])
            b = torch.cat([b, b.new_zeros(self.p)])
        if A.numel() > DIRECT:
            A, b = A.T @ A, A.T @ b
        return torch.from_numpy(np.linalg.lstsq(A.numpy(), b.numpy(), rcond=None)[0])

    # -- tests -----------------------------------------------------------------------------------------------
    def _outputs(self, x: torch.Tensor, X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        """Predictions: (N,) for x (d,) and X (N, features); (k, N) for x (k, d), each with samples of its own."""
        return times(X, x[..., :-1].contiguous()) + x[..., -1:] if self.bias else times(X, x)

    def test_metrics(self, x: torch.Tensor) -> dict[str, float]:
        """mse, mae and r2 on the global test set."""
        return {} if self._global_test is None else self._global_test.errors(x, self._outputs)

    def client_metrics(self, x: torch.Tensor, clients: Clients = None) -> dict[str, np.ndarray]:
        """Training loss (m,) and, where clients have test parts, mse and mae on them (NaN: an empty one)."""
        metrics = {"loss": self.loss(x, clients).double().numpy()}
        if self._test is not None:
            ids = self.ids(clients)
            metrics["mse"] = self._test.by_client(x, ids, lambda *part: self._residual(*part).square())
            metrics["mae"] = self._test.by_client(x, ids, lambda *part: self._residual(*part).abs())
        return metrics

    def _residual(self, x: torch.Tensor, X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        return (self._outputs(x, X, Y) - Y).double()

    def client_accuracy(self, x: torch.Tensor, clients: Clients = None) -> None:
        return None

    @property
    def spec(self) -> dict[str, Any]:
        dtype = str(self.dtype).removeprefix("torch.")
        if self._spec is not None:
            return {**self._spec, "dtype": dtype}
        numbers = np.array([self.l2, self.bias])
        given = fingerprint(self.data.flat.numpy(), self.data.flat_y.numpy(), self.sizes, self.weights.numpy(), numbers)
        return {"kind": "LeastSquares", "given": given, "n": self.n, "d": self.d, "dtype": dtype}


def _least(eigenvalues: np.ndarray, floor: float) -> float:
    """The smallest eigenvalue, at least `floor`; what is rounding beside the largest counts as 0."""
    low = float(eigenvalues[0])
    return max(floor, low if low > len(eigenvalues) * np.finfo(float).eps * float(eigenvalues[-1]) else 0.0)
