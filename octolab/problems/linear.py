"""Linear models on clients' samples: what logistic and softmax regression share.

All samples lie once in one tensor `flat` (R, p), client after client. Clients of like size are padded to the same number
of rows (zero rows of weight zero), so that a group of them is a stacked view (k, N, p); with equal sizes there is one
group and no padding. A full pass goes through blocks of about 4 MB, so that scores and gradient read the data once.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch

from octolab.problems.problem import Batch, Clients, Problem, make_weights
from octolab.problems.scoring import Pair, TestPart

BLOCK = 2**22  # bytes of data that one pass should touch at a time


def times(rows: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """rows (m, N, p) times x, (p,) or (m, p) -> (m, N). NumPy calls one gemv per client: faster than torch's bmm."""
    if x.dim() == 1:
        return torch.from_numpy(np.matmul(rows.numpy(), x.numpy()))
    return torch.from_numpy(np.matmul(rows.numpy(), x.numpy()[:, :, None]))[:, :, 0]


def combine(c: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """sum_j c_ij rows_ij: (m, N) and (m, N, p) -> (m, p)."""
    return torch.from_numpy(np.matmul(c.numpy()[:, None, :], rows.numpy()))[:, 0]


class Part(NamedTuple):
    """Some of a cohort's clients: their places in it (None: all), rows (k, N, p), labels (k, N), weight of each sample."""

    at: Any
    rows: torch.Tensor
    y: torch.Tensor
    share: Any  # (k, N), or one number if all samples count alike


class Group(NamedTuple):
    """Clients padded to the same number of rows; the same fields as `Part`, and who they are."""

    clients: np.ndarray
    rows: torch.Tensor
    y: torch.Tensor
    share: Any


class Linear(Problem):
    """The base of `Logistic` and `Softmax`: samples, a ridge, constants and test parts."""

    convex = True
    curvature = 0.25  # largest second derivative of the loss in the scores
    residual_bound = 1.0  # largest squared norm of the loss's derivative in the scores

    def __init__(
        self,
        features: Sequence[Any],
        labels: Sequence[Any],
        *,
        l2: float,
        weights: Any,
        dtype: torch.dtype,
        test: Sequence[Pair] | None,
        global_test: Pair | None,
        name: str,
        spec: dict[str, Any] | None,
        ones: bool = False,
    ):
        arrays, targets = _checked(features, labels)
        if not l2 >= 0:
            raise ValueError(f"l2={l2!r}: the ridge is a number >= 0.")
        self.n, self.p, self.l2, self.dtype, self.name = len(arrays), arrays[0].shape[1] + ones, float(l2), dtype, name
        self.sizes = np.array([len(a) for a in arrays], dtype=np.int64)
        self.weights = make_weights(weights, self.sizes)
        self._spec = spec
        self._place()
        self.flat = torch.zeros(self.held, self.p, dtype=dtype)
        self.flat_y = torch.zeros(self.held, dtype=torch.int64)
        for first, a, y in zip(self.first.tolist(), arrays, targets, strict=True):
            self.flat[first : first + len(a), : a.shape[1]] = torch.from_numpy(np.ascontiguousarray(a))
            self.flat_y[first : first + len(a)] = torch.from_numpy(y)
            if ones:
                self.flat[first : first + len(a), -1] = 1
        self._test = None if test is None else TestPart(test, dtype)
        self._global_test = self._test if global_test is None else TestPart([global_test], dtype)

    def _place(self) -> None:
        """Group clients so that padding at most doubles the rows; `first` is each client's first row in `flat`."""
        most = int(self.sizes.max())
        if self.n * most <= 2 * self.sizes.sum():
            self._members = [(np.arange(self.n), most)]
        else:
            order, self._members, at = np.argsort(-self.sizes, kind="stable"), [], 0
            while at < self.n:
                rows = int(self.sizes[order[at]])
                stop = at + int((self.sizes[order[at:]] * 2 >= rows).sum())
                self._members.append((order[at:stop], rows))
                at = stop
        first, self.held = np.empty(self.n, dtype=np.int64), 0
        for clients, rows in self._members:
            first[clients] = self.held + rows * np.arange(len(clients))
            self.held += rows * len(clients)
        self.first = torch.from_numpy(first)
        self.group_of, self.slot = np.empty(self.n, dtype=np.int64), np.empty(self.n, dtype=np.int64)
        for g, (clients, _) in enumerate(self._members):
            self.group_of[clients], self.slot[clients] = g, np.arange(len(clients))

    @cached_property
    def groups(self) -> list[Group]:
        groups, at = [], 0
        for clients, rows in self._members:
            stop, sizes = at + rows * len(clients), self.sizes[clients, None]
            if (sizes == rows).all():
                share: Any = 1 / rows
            else:
                share = torch.from_numpy((np.arange(rows) < sizes) / sizes).to(self.dtype)
            data, y = self.flat[at:stop].view(len(clients), rows, self.p), self.flat_y[at:stop].view(len(clients), rows)
            groups.append(Group(clients, data, y, share))
            at = stop
        return groups

    @property
    def rows(self) -> torch.Tensor:
        """The samples: (n, N, p), a view, where clients are stacked in one group; else (R, p)."""
        return self.groups[0].rows if len(self.groups) == 1 else self.flat

    # -- which samples -----------------------------------------------------------------------------------------------
    def _parts(self, clients: Clients, batch: Batch | None) -> list[Part]:
        """The samples that a pass over `clients` reads, cut into blocks."""
        if batch is not None and batch.index is not None:
            return [self._drawn(clients, batch)]
        if len(self.groups) == 1:
            _, rows, y, share = self.groups[0]
            if clients is not None:
                rows, y = rows[clients], y[clients]
                share = share if isinstance(share, float) else share[clients]
            whole = Part(None, rows, y, share)
            size = max(1, BLOCK // (rows.shape[1] * self.p * self.dtype.itemsize))
            return [whole] if len(rows) <= size else _cut(whole, np.arange(len(rows)), size)
        ids = np.arange(self.n)[clients.numpy() if isinstance(clients, torch.Tensor) else clients or slice(None)]
        parts = []
        for g, group in enumerate(self.groups):
            at = np.flatnonzero(self.group_of[ids] == g)
            if len(at):
                slots = torch.from_numpy(self.slot[ids[at]])
                share = group.share if isinstance(group.share, float) else group.share[slots]
                size = max(1, BLOCK // (group.rows.shape[1] * self.p * self.dtype.itemsize))
                parts += _cut(Part(None, group.rows[slots], group.y[slots], share), at, size)
        return parts

    def _drawn(self, clients: Clients, batch: Batch) -> Part:
        first = self.first if clients is None else self.first[clients]
        assert batch.index is not None
        index = (batch.index + first[:, None]).reshape(-1)
        shape, y = batch.index.shape, self.flat_y.index_select(0, index)
        share: Any = 1 / shape[1]
        if batch.mask is not None:
            share = batch.mask / batch.mask.sum(1, keepdim=True).clamp(min=1).to(self.dtype)
        return Part(None, self.flat.index_select(0, index).view(*shape, self.p), y.view(shape), share)

    @cached_property
    def _each(self) -> torch.Tensor:
        """(R,) float64: the weight w_i/N_i of each row of `flat` in f; 0 on padding."""
        each = torch.zeros(self.held, dtype=torch.float64)
        for first, size, w in zip(self.first.tolist(), self.sizes.tolist(), self.weights.tolist(), strict=True):
            each[first : first + size] = w / size
        return each

    @cached_property
    def _pool(self) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """All samples as one client's, in blocks: rows (1, R', p), labels (1, R'), weights (1, R')."""
        size, each = max(1, BLOCK // (self.p * self.dtype.itemsize)), self._each.to(self.dtype)
        cuts = [slice(a, a + size) for a in range(0, self.held, size)]
        return [(self.flat[None, c], self.flat_y[None, c], each[None, c]) for c in cuts]

    # -- what a model adds -------------------------------------------------------------------------------------------
    def _gradient(self, rows: torch.Tensor, y: torch.Tensor, share: Any, x: torch.Tensor) -> torch.Tensor:
        """(k, d): of sum_j share_ij loss_ij."""
        raise NotImplementedError

    def _loss(self, rows: torch.Tensor, y: torch.Tensor, share: Any, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def _both(self, rows: torch.Tensor, y: torch.Tensor, share: torch.Tensor, x: torch.Tensor) -> tuple[Any, Any]:
        """Loss and gradient from the same scores."""
        raise NotImplementedError

    def _hessian(self, rows: torch.Tensor, share: Any, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def _product(self, rows: torch.Tensor, share: Any, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """(k, d): Hessian of sum_j share_ij loss_ij times v."""
        raise NotImplementedError

    def _penalty(self, x: torch.Tensor) -> torch.Tensor:
        return self.l2 / 2 * (x * x).sum(-1)

    def _penalty_slope(self, x: torch.Tensor) -> torch.Tensor:
        return self.l2 * x

    def _penalty_curvature(self, x: torch.Tensor) -> torch.Tensor:
        """Second derivatives, per coordinate."""
        return torch.full_like(x, self.l2)

    # -- clients' functions ------------------------------------------------------------------------------------------
    def _gather(self, parts: list[Part], m: int, shape: tuple[int, ...], compute: Any, *points: torch.Tensor) -> torch.Tensor:
        """Rows (m, *shape) from the parts' results; points are (d,) or one row per client."""
        if len(parts) == 1 and parts[0].at is None:
            return compute(parts[0], *points)
        out = torch.empty(m, *shape, dtype=self.dtype)
        for part in parts:
            out[part.at] = compute(part, *(q if q.dim() == 1 else q[part.at] for q in points))
        return out

    def grad(self, x: torch.Tensor, clients: Clients = None, batch: Batch | None = None) -> torch.Tensor:
        parts = self._parts(clients, batch)
        compute = lambda part, at: self._gradient(part.rows, part.y, part.share, at)  # noqa: E731
        return self._gather(parts, self.count(clients), (self.d,), compute, x).add_(self._penalty_slope(x))

    def loss(self, x: torch.Tensor, clients: Clients = None, batch: Batch | None = None) -> torch.Tensor:
        parts = self._parts(clients, batch)
        compute = lambda part, at: self._loss(part.rows, part.y, part.share, at)  # noqa: E731
        return self._gather(parts, self.count(clients), (), compute, x) + self._penalty(x)

    def hessian(self, x: torch.Tensor, clients: Clients = None) -> torch.Tensor:
        if not self.has_hessian:
            return super().hessian(x, clients)
        compute = lambda part, at: self._hessian(part.rows, part.share, at)  # noqa: E731
        H = self._gather(self._parts(clients, None), self.count(clients), (self.d, self.d), compute, x)
        H.diagonal(dim1=1, dim2=2).add_(self._penalty_curvature(x))
        return H

    def hvp(self, x: torch.Tensor, v: torch.Tensor, clients: Clients = None) -> torch.Tensor:
        compute = lambda part, at, to: self._product(part.rows, part.share, at, to)  # noqa: E731
        Hv = self._gather(self._parts(clients, None), self.count(clients), (self.d,), compute, x, v)
        return Hv + self._penalty_curvature(x) * v

    # -- the whole objective -----------------------------------------------------------------------------------------
    def value(self, x: Any) -> float:
        x = self.as_x(x)
        return sum(float(self._loss(*part, x)) for part in self._pool) + float(self._penalty(x))

    def gradient(self, x: Any) -> torch.Tensor:
        x = self.as_x(x)
        g = self._penalty_slope(x)
        for part in self._pool:
            g = g + self._gradient(*part, x)[0]
        return g

    def evaluate(self, x: torch.Tensor) -> dict[str, float]:
        """Loss and gradient from the same scores, block by block."""
        f, g = float(self._penalty(x)), self._penalty_slope(x)
        for part in self._pool:
            loss, slope = self._both(*part, x)
            f, g = f + float(loss), g + slope[0]
        return {"loss": f, "grad_norm_sq": float(g @ g), **self.test_metrics(x)}

    # -- constants ---------------------------------------------------------------------------------------------------
    def _client(self, i: int) -> np.ndarray:
        """Client i's samples (N_i, p) in float64."""
        first = int(self.first[i])
        return self.flat[first : first + int(self.sizes[i])].double().numpy()

    @cached_property
    def _tops(self) -> np.ndarray:
        """(n,) largest eigenvalue of A_i'A_i/N_i, from the smaller of the two Gram matrices."""
        return np.array([_top(self._client(i)) / self.sizes[i] for i in range(self.n)])

    @property
    def extra_curvature(self) -> float:
        """Smoothness of the regulariser."""
        return self.l2

    @cached_property
    def L_i(self) -> np.ndarray:  # type: ignore[override]
        return self.curvature * self._tops + self.extra_curvature

    @cached_property
    def L(self) -> float:  # type: ignore[override]
        if self.held < self.p:
            top = _top(self.flat.double().numpy() * self._each.sqrt().numpy()[:, None])
        else:
            gram = np.zeros((self.p, self.p))
            for i, w in enumerate(self.weights.tolist()):
                a = self._client(i)
                gram += (w / len(a)) * (a.T @ a)
            top = np.linalg.eigvalsh(gram)[-1]
        return float(self.curvature * top + self.extra_curvature)

    @property
    def mu(self) -> float | None:  # type: ignore[override]
        return self.l2

    @property
    def mu_i(self) -> np.ndarray | None:  # type: ignore[override]
        return None if self.mu is None else np.full(self.n, self.mu)

    @cached_property
    def sigma_sq(self) -> float:  # type: ignore[override]
        """A bound on the variance of a one-sample gradient at any x: max_i mean_j |a_ij|^2 (times 2 for softmax)."""
        return max(float((self._client(i) ** 2).sum(1).mean()) for i in range(self.n)) * self.residual_bound

    @cached_property
    def x_star(self) -> torch.Tensor | None:  # type: ignore[override]
        """The minimiser by damped Newton steps (conjugate gradients where d > 1500) to rounding; needs l2 > 0."""
        if not self.strongly_convex:
            return None
        if self.dtype != torch.float64:
            exact = self.with_dtype(torch.float64).x_star
            return None if exact is None else exact.to(self.dtype)
        x = torch.zeros(self.d, dtype=torch.float64)
        for _ in range(100):
            g = self.gradient(x)
            if float(g.norm()) < 1e-15:
                break
            v = -self._newton(x, g)
            s, f, slope = 1.0, self.value(x), float(g @ v)
            while s > 1e-6 and self.value(x + s * v) > f + s * slope / 4 + 1e-14 * abs(f):
                s /= 2
            x = x + s * v
            if float(v.norm()) < 1e-15 * max(1.0, float(x.norm())):
                break
        return x

    def _newton(self, x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        curvature = self._penalty_curvature(x)
        if self.d <= 1500:
            H = torch.zeros(self.d, self.d, dtype=self.dtype)
            for rows, _, each in self._pool:
                H += self._hessian(rows, each, x)[0]
            return torch.linalg.solve(H + torch.diag(curvature), g)
        from scipy.sparse.linalg import LinearOperator, cg

        def product(v: np.ndarray) -> np.ndarray:
            to = torch.from_numpy(v.copy())
            return sum((self._product(rows, each, x, to)[0] for rows, _, each in self._pool), curvature * to).numpy()

        solution = cg(LinearOperator((self.d, self.d), matvec=product), g.numpy(), rtol=1e-10, maxiter=500)[0]
        return torch.from_numpy(solution)

    # -- tests and the rest ------------------------------------------------------------------------------------------
    def _hits(self, x: torch.Tensor, X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        """1.0 where the answer is right, (N,)."""
        raise NotImplementedError

    def test_metrics(self, x: torch.Tensor) -> dict[str, float]:
        return {} if self._global_test is None else self._global_test.accuracy(x, self._hits)

    def client_metrics(self, x: torch.Tensor, clients: Clients = None) -> dict[str, np.ndarray]:
        """Training loss (m,) and accuracy (m,) on each client's own test part (NaN if empty). x: (d,) or personal (m, d)."""
        metrics = {"loss": self.loss(x, clients).double().numpy()}
        if self._test is not None:
            ids = torch.arange(self.n) if clients is None else torch.arange(self.n)[clients]
            metrics["accuracy"] = self._test.by_client(x, ids, self._hits)
        return metrics

    @property
    def chunk(self) -> int:
        size = self.d * self.dtype.itemsize
        return self.n if self.n * size <= 2**23 else max(16, 2**21 // size)

    def with_dtype(self, dtype: torch.dtype) -> Linear:
        """The same problem in another precision; its data are these data, rounded if it is the lower one."""
        twin = copy.copy(self)
        for key in [k for k in twin.__dict__ if isinstance(getattr(type(self), k, None), cached_property)]:
            del twin.__dict__[key]
        twin.dtype, twin.flat, twin.x0 = dtype, self.flat.to(dtype), self.x0.to(dtype)
        twin._test = None if self._test is None else self._test.to(dtype)
        twin._global_test = None if self._global_test is None else self._global_test.to(dtype)
        return twin


def _checked(features: Sequence[Any], labels: Sequence[Any]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    if len(features) == 0 or len(features) != len(labels):
        raise ValueError(f"features has {len(features)} clients and labels {len(labels)}: give one array per client each.")
    arrays, targets = [np.asarray(a) for a in features], [np.asarray(y) for y in labels]
    p = arrays[0].shape[1] if arrays[0].ndim == 2 else "p"
    for i, (a, y) in enumerate(zip(arrays, targets, strict=True)):
        if a.ndim != 2 or a.shape[1] != p or y.shape != a.shape[:1]:
            raise ValueError(f"Client {i}: features {a.shape} and labels {y.shape} do not fit; give (m_i, {p}) and (m_i,).")
        if len(a) == 0:
            raise ValueError(f"Client {i} has no samples: leave it out, or use a split that gives every client some.")
        if a.dtype.kind not in "fiub" or not np.isfinite(a).all():
            raise ValueError(f"Client {i}: the features hold inf, nan or what is no number. Clean the data first.")
        if y.dtype.kind not in "fiub" or not (y == np.round(y.astype(np.float64))).all():
            raise ValueError(f"Client {i}: labels are {np.unique(y)[:5].tolist()}; classes are whole numbers.")
        targets[i] = y.astype(np.int64)
    return arrays, targets


def _cut(part: Part, at: np.ndarray, size: int) -> list[Part]:
    """Blocks of `size` clients; at: their places in the cohort."""
    consecutive, parts = bool((np.diff(at) == 1).all()), []
    for a in range(0, len(at), size):
        b = min(a + size, len(at))
        place = slice(int(at[a]), int(at[b - 1]) + 1) if consecutive else torch.from_numpy(at[a:b])
        share = part.share if isinstance(part.share, float) else part.share[a:b]
        parts.append(Part(place, part.rows[a:b], part.y[a:b], share))
    return parts


def _top(a: np.ndarray) -> float:
    """Largest eigenvalue of a'a."""
    gram = a.T @ a if a.shape[1] <= a.shape[0] else a @ a.T
    return float(np.linalg.eigvalsh(gram)[-1])
