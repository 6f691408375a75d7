"""Binary logistic regression, with a ridge or the non-convex regulariser of the EF21 papers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import softplus

from octolab.problems.linear import Linear, Pair, combine, times
from octolab.problems.problem import Batch, Clients, fingerprint, flat_layout


class Logistic(Linear):
    """f_i(x) = mean_j log(1 + exp(-y_ij a_ij'x)) + l2/2 |x|^2 + nonconvex * sum_k x_k^2/(1 + x_k^2).

    features: n arrays (m_i, d); labels: n arrays (m_i,) of -1 and +1. weights: None (1/n each), "examples" or n numbers.
    L_i = lambda_max(A_i'A_i)/(4 m_i) + l2 + 2 nonconvex; mu = l2 (unknown with the non-convex regulariser).
    """

    def __init__(self, features: Sequence[Any], labels: Sequence[Any], l2: float = 0.0, *, nonconvex: float = 0.0,
                 weights: Any = None, x0: Any = None, test: Sequence[Pair] | None = None, global_test: Pair | None = None,
                 dtype: torch.dtype = torch.float64, name: str = "Logistic", spec: dict | None = None):  # fmt: skip
        super().__init__(features, labels, l2=l2, weights=weights, dtype=dtype, test=test, global_test=global_test,
                         name=name, spec=spec)  # fmt: skip
        for i, y in enumerate(self._targets):
            if not np.isin(y, (-1, 1)).all():
                raise ValueError(f"Client {i}: labels are {np.unique(y)[:5].tolist()}; logistic regression needs -1 and +1.")
        if not nonconvex >= 0:
            raise ValueError(f"nonconvex={nonconvex!r}: the regulariser's weight is a number >= 0.")
        self.nonconvex, self.d = float(nonconvex), self.p
        self.convex = nonconvex == 0
        self.has_hessian = self.d <= 2000
        self.layout = flat_layout(self.d)
        for i, y in enumerate(self._targets):
            self.rows[i, : len(y)] *= torch.from_numpy(y.astype(np.float64)[:, None]).to(dtype)  # y_ij a_ij
        self.x0 = torch.zeros(self.d, dtype=dtype) if x0 is None else torch.as_tensor(np.asarray(x0), dtype=dtype)
        self._given |= {"nonconvex": nonconvex, "x0": x0}

    # -- clients' functions ------------------------------------------------------------------------------------------
    def _data(self, clients: Clients, batch: Batch | None) -> tuple[torch.Tensor, Any]:
        """Signed rows (m, N, d) and the share of each sample (m, N), or one number if all are alike."""
        if batch is None or batch.index is None:
            rows = self.rows if clients is None else self.rows[clients]
            if self.same_size is not None:
                return rows, 1 / self.same_size
            return rows, self.share if clients is None else self.share[clients]
        ids = torch.arange(self.n) if clients is None else torch.arange(self.n)[clients]
        rows = self.rows[ids[:, None], batch.index]
        if batch.mask is None:
            return rows, 1 / batch.index.shape[1]
        return rows, batch.mask / batch.mask.sum(1, keepdim=True).clamp(min=1).to(self.dtype)

    def _margins(self, rows: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return times(rows, x)

    def _regulariser(self, x: torch.Tensor) -> torch.Tensor:
        g = self.l2 * x
        return g + self.nonconvex * 2 * x / (1 + x * x) ** 2 if self.nonconvex else g

    def _penalty(self, x: torch.Tensor) -> torch.Tensor:
        f = self.l2 / 2 * (x * x).sum(-1)
        return f + self.nonconvex * (x * x / (1 + x * x)).sum(-1) if self.nonconvex else f

    def grad(self, x: torch.Tensor, clients: Clients = None, batch: Batch | None = None) -> torch.Tensor:
        rows, share = self._data(clients, batch)
        m = len(rows)
        size = self._blocks(m) if batch is None else m
        if size >= m:
            return self._block_grad(rows, share, x).add_(self._regulariser(x))
        out = torch.empty(m, self.d, dtype=self.dtype)
        for a in range(0, m, size):
            part = slice(a, min(a + size, m))
            out[part] = self._block_grad(rows[part], share if isinstance(share, float) else share[part],
                                         x if x.dim() == 1 else x[part])  # fmt: skip
        return out.add_(self._regulariser(x))

    def _block_grad(self, rows: torch.Tensor, share: Any, x: torch.Tensor) -> torch.Tensor:
        c = torch.sigmoid(self._margins(rows, x).neg_()).mul_(-share if isinstance(share, float) else share.neg())
        return combine(c, rows)

    def loss(self, x: torch.Tensor, clients: Clients = None, batch: Batch | None = None) -> torch.Tensor:
        rows, share = self._data(clients, batch)
        return (softplus(-self._margins(rows, x)) * share).sum(1) + self._penalty(x)

    def hessian(self, x: torch.Tensor, clients: Clients = None) -> torch.Tensor:
        if not self.has_hessian:
            return super().hessian(x, clients)
        rows, share = self._data(clients, None)
        s = torch.sigmoid(self._margins(rows, x))
        H = torch.bmm((rows * (s * (1 - s) * share)[:, :, None]).transpose(1, 2), rows)
        H.diagonal(dim1=1, dim2=2).add_(self._curvature(x))
        return H

    def _curvature(self, x: torch.Tensor) -> torch.Tensor:
        """The regulariser's second derivatives, per coordinate."""
        c = torch.full_like(x, self.l2)
        return c + self.nonconvex * (2 - 6 * x * x) / (1 + x * x) ** 3 if self.nonconvex else c

    def hvp(self, x: torch.Tensor, v: torch.Tensor, clients: Clients = None) -> torch.Tensor:
        rows, share = self._data(clients, None)
        s = torch.sigmoid(self._margins(rows, x))
        return combine(self._margins(rows, v) * s * (1 - s) * share, rows) + self._curvature(x) * v

    # -- the whole objective -----------------------------------------------------------------------------------------
    def evaluate(self, x: torch.Tensor) -> dict[str, float]:
        """Loss and gradient from the same margins, block by block."""
        rows, share = self._data(None, None)
        w, size = self.weights.to(self.dtype), self._blocks(self.n)
        g, f = torch.zeros(self.d, dtype=self.dtype), 0.0
        for a in range(0, self.n, size):
            part = slice(a, min(a + size, self.n))
            z = self._margins(rows[part], x).neg_()
            each = w[part, None] * (share if isinstance(share, float) else share[part])
            f += float((softplus(z) * each).sum())
            g.addmv_(rows[part].flatten(0, 1).T, (torch.sigmoid(z) * each).neg_().flatten())
        g += self._regulariser(x)
        return {"loss": f + float(self._penalty(x)), "grad_norm_sq": float(g @ g), **self.test_metrics(x)}

    # -- constants ---------------------------------------------------------------------------------------------------
    @property
    def extra_curvature(self) -> float:
        return self.l2 + 2 * self.nonconvex

    @property
    def mu(self) -> float | None:  # type: ignore[override]
        return None if self.nonconvex else self.l2

    def _scores(self, features: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return features @ x

    def _correct(self, scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (scores > 0) == (y > 0)

    def with_dtype(self, dtype: torch.dtype) -> Logistic:
        return Logistic(self._arrays, self._targets, dtype=dtype, **self._given)

    @property
    def spec(self) -> dict[str, Any]:
        dtype = str(self.dtype).removeprefix("torch.")
        if self._spec is not None:
            return {**self._spec, "dtype": dtype}
        given = fingerprint(*self._arrays, *self._targets, self.weights.numpy(), np.array([self.l2, self.nonconvex]))
        return {"kind": "Logistic", "given": given, "n": self.n, "d": self.d, "dtype": dtype}
