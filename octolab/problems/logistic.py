"""Binary logistic regression, with a ridge or the non-convex regulariser of the EF21 papers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.nn.functional import softplus

from octolab import portable
from octolab.arguments import expects, number
from octolab.metrics import Scored
from octolab.problems.facts import CLIENTS, SAMPLES
from octolab.problems.linear import Linear, combination, combine, products, times
from octolab.problems.problem import fingerprint, flat_layout
from octolab.problems.samples import Share
from octolab.problems.scoring import Pair


class Logistic(Linear):
    """f_i(x) = mean_j log(1 + exp(-y_ij a_ij'x)) + l2/2 |x|^2 + nonconvex * sum_k x_k^2/(1 + x_k^2).

    features: n arrays (m_i, d); labels: n arrays (m_i,) of -1 and +1. weights: None (1/n each), "examples" or
    n numbers. L_i = lambda_max(A_i'A_i)/(4 m_i) + l2 + 2 nonconvex; mu = l2 (unknown with the non-convex regulariser).

    >>> Logistic([[[2.0]], [[0.0]]], [[1], [-1]], l2=1.0).L_i
    array([2., 1.])
    """

    @expects(**SAMPLES, labels=CLIENTS, nonconvex=number("the regulariser's weight", ge=0))
    def __init__(
        self,
        features: Sequence[ArrayLike],
        labels: Sequence[ArrayLike],
        l2: float = 0.0,
        *,
        nonconvex: float = 0.0,
        weights: str | ArrayLike | None = None,
        x0: ArrayLike | None = None,
        test: Sequence[Pair] | None = None,
        global_test: Pair | None = None,
        dtype: torch.dtype = torch.float64,
        name: str = "Logistic",
        spec: dict[str, Any] | None = None,
    ):
        if not nonconvex >= 0:
            raise ValueError(f"nonconvex={nonconvex!r}: the regulariser's weight is a number >= 0.")
        super().__init__(
            features,
            labels,
            l2=l2,
            weights=weights,
            dtype=dtype,
            test=test,
            global_test=global_test,
            name=name,
            spec=spec,
        )
        for i, (first, size) in enumerate(zip(self.data.first.tolist(), self.sizes.tolist(), strict=True)):
            self._check_signs(self.data.flat_y[first : first + size], f"Client {i}: labels")
        for part in (self._test, self._global_test):
            if part is not None:
                self._check_signs(part.Y, "The test labels")
        self.data.flat *= self.data.flat_y[:, None]  # rows are y_ij a_ij from here on; padding is zero anyway
        self.nonconvex, self.d = float(nonconvex), self.p
        self.convex = self.nonconvex == 0
        if not self.convex:
            self.constants_note = "With the non-convex regulariser f has no constant mu and no known minimiser."
        self.has_hessian = self.d <= 2000
        self.layout = flat_layout(self.d)
        self.x0 = torch.zeros(self.d, dtype=dtype)
        if x0 is not None:
            self.x0 = self.check_x0(x0)

    @staticmethod
    def _check_signs(y: torch.Tensor, what: str) -> None:
        if not bool((y.abs() == 1).all()):
            raise ValueError(f"{what} are {y.unique()[:5].tolist()}; logistic regression needs -1 and +1.")

    def mislabelled(self, clients: Sequence[int]) -> Logistic:
        twin, rows = self._twin(), self.data.rows_of(clients)
        twin.data = self.data.twin()
        twin.data.flat, twin.data.flat_y = self.data.flat.clone(), self.data.flat_y.clone()
        twin.data.flat[rows] *= -1  # rows are y_ij a_ij
        twin.data.flat_y[rows] *= -1
        return twin

    # -- one block of clients --------------------------------------------------------------------------------
    def _gradient(
        self,
        rows: torch.Tensor,
        y: torch.Tensor,
        share: Share,
        x: np.ndarray,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        a = rows.numpy()
        c = products(a, x)  # becomes -share/(1 + exp(z)); in place, so that a small block stays in the cache
        (portable.exp if portable.on() else np.exp)(c, out=c)
        c += 1
        np.divide(-share if isinstance(share, float) else share.neg().numpy(), c, out=c)
        return combination(c, a, out)

    def _loss(self, rows: torch.Tensor, y: torch.Tensor, share: Share, x: torch.Tensor) -> torch.Tensor:
        return (softplus(times(rows, x).neg_()) * share).sum(1)

    def _both(
        self, rows: torch.Tensor, y: torch.Tensor, share: torch.Tensor, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        z = times(rows, x).neg_()
        return (softplus(z) * share).sum(1), combine(torch.sigmoid(z).mul_(share).neg_(), rows)

    def _bend(self, rows: torch.Tensor, share: Share, x: torch.Tensor) -> torch.Tensor:
        """Second derivatives in the margins times share, (m, N)."""
        s = torch.sigmoid(times(rows, x))
        return s * (1 - s) * share

    def _hessian(self, rows: torch.Tensor, share: Share, x: torch.Tensor) -> torch.Tensor:
        return torch.bmm((rows * self._bend(rows, share, x)[:, :, None]).mT, rows)

    def _product(self, rows: torch.Tensor, share: Share, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return combine(times(rows, v) * self._bend(rows, share, x), rows)

    # -- the regularisers ------------------------------------------------------------------------------------
    def _penalty(self, x: torch.Tensor) -> torch.Tensor:
        f = self.l2 / 2 * (x * x).sum(-1)
        return f + self.nonconvex * (x * x / (1 + x * x)).sum(-1) if self.nonconvex else f

    def _with_penalty(self, g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        g = super()._with_penalty(g, x)
        return g.add_(self.nonconvex * 2 * x / (1 + x * x) ** 2) if self.nonconvex else g

    def _penalty_curvature(self, x: torch.Tensor) -> torch.Tensor:
        c = torch.full_like(x, self.l2)
        return c + self.nonconvex * (2 - 6 * x * x) / (1 + x * x) ** 3 if self.nonconvex else c

    @property
    def extra_curvature(self) -> float:
        return self.l2 + 2 * self.nonconvex

    @property
    def mu(self) -> float | None:  # type: ignore[override]
        return None if self.nonconvex else self.l2

    def _rows_of(self, X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        return X * Y[:, None]

    def _hits(self, x: torch.Tensor, X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        return ((self._outputs(x, X, Y) > 0) == (Y > 0)).double()

    def _outputs(self, x: torch.Tensor, X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        return times(X, x)

    def test_scores(self, x: torch.Tensor, *, by_client: bool = False) -> Scored | None:
        scored = super().test_scores(x, by_client=by_client)
        return None if scored is None else scored._replace(labels=(scored.labels > 0).astype(np.int64))

    @property
    def spec(self) -> dict[str, Any]:
        dtype = str(self.dtype).removeprefix("torch.")
        if self._spec is not None:
            return {**self._spec, "dtype": dtype}
        numbers = np.array([self.l2, self.nonconvex])
        given = fingerprint(self.data.flat.numpy(), self.data.flat_y.numpy(), self.sizes, self.weights.numpy(), numbers)
        return {"kind": "Logistic", "given": given, "n": self.n, "d": self.d, "dtype": dtype}
