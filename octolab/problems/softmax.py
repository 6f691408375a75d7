"""Multinomial logistic regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from octolab.arguments import expects, switch, whole
from octolab.layers import Layer
from octolab.problems.facts import CLIENTS, SAMPLES
from octolab.problems.linear import Linear
from octolab.problems.problem import fingerprint
from octolab.problems.samples import Share
from octolab.problems.scoring import Pair


class Softmax(Linear):
    """f_i(W) = mean_j [logsumexp(W a_ij) - (W a_ij)_{y_ij}] + l2/2 |W|^2, W (classes, p), x = W flattened, d
    = classes p.

    features: n arrays (m_i, p); labels: n arrays (m_i,) of 0..classes-1. bias: append a column of ones (and p
    grows by 1). L_i = lambda_max(A_i'A_i)/(2 m_i) + l2, an upper bound (Böhning 1992); mu = l2.
    """

    curvature = 0.5
    residual_bound = 2.0

    @expects(**SAMPLES, labels=CLIENTS, classes=whole(2), bias=switch())
    def __init__(
        self,
        features: Sequence[ArrayLike],
        labels: Sequence[ArrayLike],
        classes: int | None = None,
        l2: float = 0.0,
        *,
        bias: bool = True,
        weights: str | ArrayLike | None = None,
        x0: ArrayLike | None = None,
        test: Sequence[Pair] | None = None,
        global_test: Pair | None = None,
        dtype: torch.dtype = torch.float64,
        name: str = "Softmax",
        spec: dict[str, Any] | None = None,
    ):
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
            ones=bias,
        )
        low, top = int(self.data.flat_y.min()), int(self.data.flat_y.max()) + 1
        self.bias, self.classes = bias, top if classes is None else int(classes)
        if low < 0 or top > self.classes or self.classes < 2:
            raise ValueError(
                f"labels run from {low} to {top - 1}: softmax with {self.classes} classes needs 0..{self.classes - 1}."
            )
        for part in (self._test, self._global_test):
            if part is not None:
                part.check_labels(self.classes)
        self.d = self.classes * self.p
        self.has_hessian = self.d <= 2000
        self.layout = [Layer("weight", (self.classes, self.p), "head", 0, self.d)]
        self.x0 = torch.zeros(self.d, dtype=dtype)
        if x0 is not None:
            self.x0 = self.check_x0(x0)

    def mislabelled(self, clients: Sequence[int]) -> Softmax:
        twin, rows = self._twin(), self.data.rows_of(clients)
        twin.data = self.data.twin()
        twin.data.flat_y = self.data.flat_y.clone()
        twin.data.flat_y[rows] = self.classes - 1 - twin.data.flat_y[rows]
        return twin

    # -- one block of clients --------------------------------------------------------------------------------
    def _scores(self, rows: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return rows @ x.view(*x.shape[:-1], self.classes, self.p).mT  # (m, N, C)

    def _slope(
        self,
        residual: torch.Tensor,
        rows: torch.Tensor,
        y: torch.Tensor,
        share: Share,
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """From the softmax (m, N, C), overwritten, to the gradient (m, d)."""
        residual.scatter_add_(2, y[:, :, None], residual.new_full((1, 1, 1), -1.0).expand(*y.shape, 1))
        residual.mul_(share if isinstance(share, float) else share[:, :, None])
        if out is None:
            return torch.bmm(residual.mT, rows).view(len(rows), self.d)
        torch.bmm(residual.mT, rows, out=out.view(len(rows), self.classes, self.p))
        return out

    def _gradient(
        self,
        rows: torch.Tensor,
        y: torch.Tensor,
        share: Share,
        x: np.ndarray,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        P = torch.softmax(self._scores(rows, torch.from_numpy(x)), -1)
        return self._slope(P, rows, y, share, None if out is None else torch.from_numpy(out)).numpy()

    def _loss(self, rows: torch.Tensor, y: torch.Tensor, share: Share, x: torch.Tensor) -> torch.Tensor:
        z = self._scores(rows, x)
        return ((torch.logsumexp(z, -1) - z.gather(2, y[:, :, None])[:, :, 0]) * share).sum(1)

    def _both(
        self, rows: torch.Tensor, y: torch.Tensor, share: torch.Tensor, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        z = self._scores(rows, x)
        top = torch.logsumexp(z, -1, keepdim=True)
        loss = ((top - z.gather(2, y[:, :, None]))[:, :, 0] * share).sum(1)
        return loss, self._slope((z - top).exp_(), rows, y, share)

    def _hessian(self, rows: torch.Tensor, share: Share, x: torch.Tensor) -> torch.Tensor:
        P = torch.softmax(self._scores(rows, x), -1)
        m, C, p = len(rows), self.classes, self.p
        H = torch.empty(m, C, p, C, p, dtype=self.dtype)
        for a in range(C):
            for b in range(a, C):
                c = P[:, :, a] * ((1.0 if a == b else 0.0) - P[:, :, b]) * share
                H[:, a, :, b] = torch.bmm((rows * c[:, :, None]).mT, rows)
                H[:, b, :, a] = H[:, a, :, b]
        return H.view(m, self.d, self.d)

    def _product(self, rows: torch.Tensor, share: Share, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        P, z = torch.softmax(self._scores(rows, x), -1), self._scores(rows, v)
        r = P * (z - (P * z).sum(-1, keepdim=True)) * (share if isinstance(share, float) else share[:, :, None])
        return torch.bmm(r.mT, rows).view(len(rows), self.d)

    def _hits(self, x: torch.Tensor, X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        return (self._outputs(x, X, Y).argmax(-1) == Y).double()

    def _outputs(self, x: torch.Tensor, X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        W = x.view(*x.shape[:-1], self.classes, self.p)
        return X @ W[..., :-1].mT + W[..., None, :, -1] if self.bias else X @ W.mT

    @property
    def spec(self) -> dict[str, Any]:
        dtype = str(self.dtype).removeprefix("torch.")
        if self._spec is not None:
            return {**self._spec, "dtype": dtype}
        numbers = np.array([self.l2, self.classes])
        given = fingerprint(self.data.flat.numpy(), self.data.flat_y.numpy(), self.sizes, self.weights.numpy(), numbers)
        return {"kind": "Softmax", "given": given, "n": self.n, "d": self.d, "dtype": dtype}
