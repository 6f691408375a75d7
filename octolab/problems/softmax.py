"""Multinomial logistic regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from octolab.problems.linear import Linear, Pair
from octolab.problems.problem import Batch, Clients, Layer, fingerprint


class Softmax(Linear):
    """f_i(W) = mean_j [logsumexp(W a_ij) - (W a_ij)_{y_ij}] + l2/2 |W|^2, W (classes, p), x = W flattened, d = classes p.

    features: n arrays (m_i, p); labels: n arrays (m_i,) of 0..classes-1. bias: append a column of ones.
    L_i = lambda_max(A_i'A_i)/(2 m_i) + l2, an upper bound (Böhning 1992); mu = l2.
    """

    curvature = 0.5
    residual_bound = 2.0

    def __init__(self, features: Sequence[Any], labels: Sequence[Any], classes: int | None = None, l2: float = 0.0, *,
                 bias: bool = True, weights: Any = None, x0: Any = None, test: Sequence[Pair] | None = None,
                 global_test: Pair | None = None, dtype: torch.dtype = torch.float64, name: str = "Softmax",
                 spec: dict | None = None):  # fmt: skip
        self.bias = bias
        super().__init__(features, labels, l2=l2, weights=weights, dtype=dtype, test=test, global_test=global_test,
                         name=name, spec=spec, extra=int(bias))  # fmt: skip
        top = max(int(np.max(y)) for y in self._targets) + 1
        self.classes = top if classes is None else int(classes)
        low = min(int(np.min(y)) for y in self._targets)
        if low < 0 or top > self.classes or self.classes < 2:
            raise ValueError(f"labels run from {low} to {top - 1}: softmax with {self.classes} classes needs 0..{self.classes - 1}.")
        self.d = self.classes * self.p
        self.has_hessian = self.d <= 2000
        self.layout = [Layer("weight", (self.classes, self.p), "head", 0, self.d)]
        self.y = torch.zeros(self.n, self.N, dtype=torch.int64)
        for i, y in enumerate(self._targets):
            self.y[i, : len(y)] = torch.from_numpy(y.astype(np.int64))
        self.x0 = torch.zeros(self.d, dtype=dtype) if x0 is None else torch.as_tensor(np.asarray(x0), dtype=dtype)
        self._given |= {"classes": classes, "bias": bias, "x0": x0}

    # -- clients' functions ------------------------------------------------------------------------------------------
    def _data(self, clients: Clients, batch: Batch | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rows (m, N, p), labels (m, N), share of each sample (m, N)."""
        if batch is None or batch.index is None:
            if clients is None:
                return self.rows, self.y, self.share
            return self.rows[clients], self.y[clients], self.share[clients]
        ids = (torch.arange(self.n) if clients is None else torch.arange(self.n)[clients])[:, None]
        if batch.mask is None:
            share = torch.full(batch.index.shape, 1 / batch.index.shape[1], dtype=self.dtype)
        else:
            share = batch.mask / batch.mask.sum(1, keepdim=True).clamp(min=1).to(self.dtype)
        return self.rows[ids, batch.index], self.y[ids, batch.index], share

    def _logits(self, rows: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        W = x.view(*x.shape[:-1], self.classes, self.p)
        return rows @ W.mT  # (m, N, C)

    def _residual(self, rows: torch.Tensor, y: torch.Tensor, share: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """(softmax - onehot) share, (m, N, C): the gradient in the scores."""
        r = torch.softmax(self._logits(rows, x), -1)
        r.scatter_add_(2, y[:, :, None], r.new_full((1, 1, 1), -1.0).expand(*y.shape, 1))
        return r.mul_(share[:, :, None])

    def grad(self, x: torch.Tensor, clients: Clients = None, batch: Batch | None = None) -> torch.Tensor:
        rows, y, share = self._data(clients, batch)
        m = len(rows)
        size = self._blocks(m) if batch is None else m
        out = torch.empty(m, self.classes, self.p, dtype=self.dtype)
        for a in range(0, m, size):
            part = slice(a, min(a + size, m))
            r = self._residual(rows[part], y[part], share[part], x if x.dim() == 1 else x[part])
            torch.bmm(r.mT, rows[part], out=out[part])
        flat = out.view(m, self.d)
        return flat.add_(x, alpha=self.l2) if self.l2 else flat

    def loss(self, x: torch.Tensor, clients: Clients = None, batch: Batch | None = None) -> torch.Tensor:
        rows, y, share = self._data(clients, batch)
        z = self._logits(rows, x)
        f = torch.logsumexp(z, -1) - z.gather(2, y[:, :, None])[:, :, 0]
        return (f * share).sum(1) + self.l2 / 2 * (x * x).sum(-1)

    def hessian(self, x: torch.Tensor, clients: Clients = None) -> torch.Tensor:
        if not self.has_hessian:
            return super().hessian(x, clients)
        rows, _, share = self._data(clients, None)
        P = torch.softmax(self._logits(rows, x), -1)
        m, C, p = len(rows), self.classes, self.p
        H = torch.zeros(m, C, p, C, p, dtype=self.dtype)
        for a in range(C):
            for b in range(a, C):
                c = P[:, :, a] * ((1.0 if a == b else 0.0) - P[:, :, b]) * share
                H[:, a, :, b] = torch.bmm((rows * c[:, :, None]).mT, rows)
                H[:, b, :, a] = H[:, a, :, b]
        H = H.view(m, self.d, self.d)
        H.diagonal(dim1=1, dim2=2).add_(self.l2)
        return H

    def hvp(self, x: torch.Tensor, v: torch.Tensor, clients: Clients = None) -> torch.Tensor:
        rows, _, share = self._data(clients, None)
        P, z = torch.softmax(self._logits(rows, x), -1), self._logits(rows, v)
        r = P * (z - (P * z).sum(-1, keepdim=True)) * share[:, :, None]
        return torch.bmm(r.mT, rows).reshape(len(rows), self.d) + self.l2 * v

    # -- the whole objective -----------------------------------------------------------------------------------------
    def evaluate(self, x: torch.Tensor) -> dict[str, float]:
        """Loss and gradient from the same scores, block by block."""
        w, size = self.weights.to(self.dtype), self._blocks(self.n)
        g, f = torch.zeros(self.classes, self.p, dtype=self.dtype), 0.0
        for a in range(0, self.n, size):
            part = slice(a, min(a + size, self.n))
            rows, y = self.rows[part], self.y[part]
            each = w[part, None] * self.share[part]
            z = self._logits(rows, x)
            top = torch.logsumexp(z, -1, keepdim=True)
            f += float(((top - z.gather(2, y[:, :, None]))[:, :, 0] * each).sum())
            r = (z - top).exp_()
            r.scatter_add_(2, y[:, :, None], r.new_full((1, 1, 1), -1.0).expand(*y.shape, 1))
            g.addmm_(r.mul_(each[:, :, None]).flatten(0, 1).T, rows.flatten(0, 1))
        flat = g.flatten() + self.l2 * x
        loss = f + self.l2 / 2 * float(x @ x)
        return {"loss": loss, "grad_norm_sq": float(flat @ flat), **self.test_metrics(x)}

    def _scores(self, features: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        rows = torch.cat([features, features.new_ones(len(features), 1)], 1) if self.bias else features
        return rows @ x.view(self.classes, self.p).T

    def _correct(self, scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return scores.argmax(1) == y

    def with_dtype(self, dtype: torch.dtype) -> Softmax:
        return Softmax(self._arrays, self._targets, dtype=dtype, **self._given)

    @property
    def spec(self) -> dict[str, Any]:
        dtype = str(self.dtype).removeprefix("torch.")
        if self._spec is not None:
            return {**self._spec, "dtype": dtype}
        given = fingerprint(*self._arrays, *self._targets, self.weights.numpy(), np.array([self.l2, self.classes]))
        return {"kind": "Softmax", "given": given, "n": self.n, "d": self.d, "dtype": dtype}

