"""Linear models on clients' samples: what logistic and softmax regression share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cached_property, reduce
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from octolab import portable
from octolab.batches import Batch
from octolab.metrics import Scored
from octolab.problems.problem import Clients, Problem, make_weights
from octolab.problems.samples import Part, Samples, Share, check_samples
from octolab.problems.scoring import Pair, TestPart


def products(rows: np.ndarray, x: np.ndarray) -> np.ndarray:
    """rows (m, N, p) times x, (p,) or (m, p) -> (m, N). NumPy calls one gemv per client: faster than torch's bmm."""
    if portable.on():
        return portable.matmul(rows, x) if x.ndim == 1 else portable.matmul(rows, x[:, :, None])[:, :, 0]
    return np.matmul(rows, x) if x.ndim == 1 else np.matmul(rows, x[:, :, None])[:, :, 0]


def combination(c: np.ndarray, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """sum_j c_ij rows_ij: (m, N) and (m, N, p) -> (m, p), written into `out` where it is given."""
    if portable.on():
        return np.einsum("mn,mnp->mp", c, rows, out=out, optimize=False)
    if out is None:
        return np.matmul(c[:, None, :], rows)[:, 0]
    np.matmul(c[:, None, :], rows, out=out[:, None, :])
    return out


def times(rows: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`products` of tensors."""
    return torch.from_numpy(products(rows.numpy(), x.numpy()))


def combine(c: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """`combination` of tensors."""
    return torch.from_numpy(combination(c.numpy(), rows.numpy()))


class Linear(Problem):
    """The base of `Logistic` and `Softmax`: samples, a ridge, constants and test parts.

    A subclass says what one block of clients gives (`_gradient`, `_loss`, ...), from rows (k, N, p), labels
    (k, N) and shares; this class puts blocks, regulariser and weights together.
    """

    portable = True
    convex = True
    curvature = 0.25  # largest second derivative of the loss in the scores
    residual_bound = 1.0  # largest squared norm of the loss's derivative in the scores

    def __init__(
        self,
        features: Sequence[ArrayLike],
        labels: Sequence[ArrayLike],
        *,
        l2: float,
        weights: str | ArrayLike | None,
        dtype: torch.dtype,
        test: Sequence[Pair] | None,
        global_test: Pair | None,
        name: str,
        spec: dict[str, Any] | None,
        ones: bool = False,
        whole: bool = True,
    ):
        arrays, targets = check_samples(features, labels, whole)
        if not l2 >= 0:
            raise ValueError(f"l2={l2!r}: the ridge is a number >= 0.")
        self.data = Samples(arrays, targets, dtype, ones)
        self.n, self.p, self.sizes = self.data.n, self.data.p, self.data.sizes
        self.l2, self.dtype, self.name, self._spec = float(l2), dtype, name, spec
        self.weights = make_weights(weights, self.sizes)
        training = self.data.flat[:, : arrays[0].shape[1]], self.data.flat_y
        self._test = None if test is None else TestPart(test, dtype, training)
        if self._test is not None:
            self._test.check_clients(self.n)
        self._global_test = self._test if global_test is None else TestPart([global_test], dtype, training)

    @property
    def rows(self) -> torch.Tensor:
        """The samples: (n, N, p) where all clients are stacked in one group, else (R, p). A view."""
        return self.data.groups[0].rows if len(self.data.groups) == 1 else self.data.flat

    @cached_property
    def _pool(self) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        return self.data.pool(self.weights)

    # -- what a model adds -----------------------------------------------------------------------------------
    def _gradient(
        self,
        rows: torch.Tensor,
        y: torch.Tensor,
        share: Share,
        x: np.ndarray,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """(k, d): of sum_j share_ij loss_ij, written into `out` where it is given."""
        raise NotImplementedError

    def _loss(self, rows: torch.Tensor, y: torch.Tensor, share: Share, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def _both(
        self, rows: torch.Tensor, y: torch.Tensor, share: torch.Tensor, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and gradient from the same scores."""
        raise NotImplementedError

    def _hessian(self, rows: torch.Tensor, share: Share, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def _product(self, rows: torch.Tensor, share: Share, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """(k, d): Hessian of sum_j share_ij loss_ij times v."""
        raise NotImplementedError

    def _hits(self, x: torch.Tensor, X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        """1.0 where the answer is right: (N,) for x (d,), X (N, p); (k, N) for x (k, d), X (k, N, p)."""
        raise NotImplementedError

    def _penalty(self, x: torch.Tensor) -> torch.Tensor:
        return self.l2 / 2 * (x * x).sum(-1)

    def _with_penalty(self, g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """g (d,) or (m, d) with the regulariser's gradient at x added in place."""
        return g.add_(x, alpha=self.l2)

    def _penalty_curvature(self, x: torch.Tensor) -> torch.Tensor:
        """Second derivatives, per coordinate."""
        return torch.full_like(x, self.l2)

    # -- clients' functions ----------------------------------------------------------------------------------
    def _gather(
        self,
        clients: Clients,
        batch: Batch | None,
        shape: tuple[int, ...],
        compute: Callable[..., torch.Tensor],
        *points: torch.Tensor,
    ) -> torch.Tensor:
        """Rows (m, *shape) from the parts' results; points are (d,) or one row per client."""
        parts: list[Part] = self.data.parts(clients, batch)
        if len(parts) == 1 and parts[0].at is None:
            return compute(parts[0], *points)
        out = torch.empty(self.count(clients), *shape, dtype=self.dtype)
        for part in parts:
            out[part.at] = compute(part, *(q if q.dim() == 1 else q[part.at] for q in points))
        return out

    @np.errstate(over="ignore")  # a loss may saturate: 1/(1 + exp(800)) is 0
    def grad(self, x: torch.Tensor, clients: Clients = None, batch: Batch | None = None) -> torch.Tensor:
        parts, point = self.data.parts(clients, batch), x.numpy()
        if len(parts) == 1 and parts[0].at is None:
            _, rows, y, share = parts[0]
            out = self._gradient(rows, y, share, point)
        else:
            out = torch.empty(self.count(clients), self.d, dtype=self.dtype).numpy()
            for at, rows, y, share in parts:
                own = point if point.ndim == 1 else point[at]
                if isinstance(at, slice):
                    self._gradient(rows, y, share, own, out[at])
                else:
                    out[at] = self._gradient(rows, y, share, own)
        return self._with_penalty(torch.from_numpy(out), x)

    def loss(self, x: torch.Tensor, clients: Clients = None, batch: Batch | None = None) -> torch.Tensor:
        compute = lambda part, at: self._loss(part.rows, part.y, part.share, at)  # noqa: E731
        return self._gather(clients, batch, (), compute, x) + self._penalty(x)

    def hessian(self, x: torch.Tensor, clients: Clients = None) -> torch.Tensor:
        if not self.has_hessian:
            return super().hessian(x, clients)
        compute = lambda part, at: self._hessian(part.rows, part.share, at)  # noqa: E731
        H = self._gather(clients, None, (self.d, self.d), compute, x)
        H.diagonal(dim1=1, dim2=2).add_(self._penalty_curvature(x))
        return H

    def hvp(self, x: torch.Tensor, v: torch.Tensor, clients: Clients = None) -> torch.Tensor:
        compute = lambda part, at, to: self._product(part.rows, part.share, at, to)  # noqa: E731
        return self._gather(clients, None, (self.d,), compute, x, v) + self._penalty_curvature(x) * v

    # -- the whole objective ---------------------------------------------------------------------------------
    def value(self, x: ArrayLike | torch.Tensor) -> float:
        x = self.as_x(x)
        return sum(float(self._loss(*part, x)) for part in self._pool) + float(self._penalty(x))

    @np.errstate(over="ignore")
    def gradient(self, x: ArrayLike | torch.Tensor) -> torch.Tensor:
        x = self.as_x(x)
        parts = (torch.from_numpy(self._gradient(*part, x.numpy())[0]) for part in self._pool)
        return self._with_penalty(reduce(torch.add, parts), x)

    def evaluate(self, x: torch.Tensor) -> dict[str, float]:
        """Loss and gradient from the same scores, block by block."""
        f, g = float(self._penalty(x)), torch.zeros_like(x)
        for part in self._pool:
            loss, slope = self._both(*part, x)
            f, g = f + float(loss), g.add_(slope[0])
        g = self._with_penalty(g, x)
        return {"loss": f, "grad_norm_sq": float(g @ g), **self.test_metrics(x), **self.validation_metrics(x)}

    def held_out_loss(self, x: torch.Tensor, part: TestPart) -> float:
        y = part.Y.to(self.data.flat_y.dtype)[None]
        return float(self._loss(self._rows_of(part.X, part.Y)[None], y, 1 / len(part), x))

    def _rows_of(self, X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        """Held-out samples in the form in which training samples are kept."""
        return X if X.shape[1] == self.p else torch.cat([X, X.new_ones(len(X), 1)], 1)

    def test_metrics(self, x: torch.Tensor) -> dict[str, float]:
        return {} if self._global_test is None else self._global_test.accuracy(x, self._hits)

    def _outputs(self, x: torch.Tensor, X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        """Scores of test samples: (N,) or (N, C)."""
        raise NotImplementedError

    def test_scores(self, x: torch.Tensor, *, by_client: bool = False) -> Scored | None:
        part = self._test if by_client else self._global_test
        return None if part is None else part.scored(x, self._outputs)

    def client_accuracy(self, x: torch.Tensor, clients: Clients = None) -> np.ndarray | None:
        return None if self._test is None else self._test.by_client(x, self.ids(clients), self._hits)

    def as_module(self, x: torch.Tensor) -> nn.Linear:
        """The model x (d,) as a torch layer: it takes flat features (N, p) and gives the scores that this problem judges."""
        ones = bool(getattr(self, "bias", False))
        rows = x.detach().view(-1, self.p)
        layer = nn.utils.skip_init(nn.Linear, self.p - ones, len(rows), bias=ones, dtype=x.dtype)
        with torch.no_grad():
            layer.weight.copy_(rows[:, : self.p - ones])
            if ones:
                layer.bias.copy_(rows[:, -1])
        return layer

    # -- constants -------------------------------------------------------------------------------------------
    @property
    def extra_curvature(self) -> float:
        """Smoothness of the regulariser."""
        return self.l2

    @cached_property
    def L_i(self) -> np.ndarray:  # type: ignore[override]
        tops = np.array([_top(self.data.client(i)) / self.sizes[i] for i in range(self.n)])
        return self.curvature * tops + self.extra_curvature

    @cached_property
    def L(self) -> float:  # type: ignore[override]
        w = self.weights.numpy() / self.sizes
        if self.sizes.sum() < self.p:
            top = _top(np.concatenate([np.sqrt(w[i]) * self.data.client(i) for i in range(self.n)]))
        else:
            gram = np.zeros((self.p, self.p))
            for i in range(self.n):
                a = self.data.client(i)
                gram += w[i] * (a.T @ a)
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
        """A bound on the variance of a one-sample gradient at any x: max_i mean_j |a_ij|^2 (softmax: twice that)."""
        return max(float((self.data.client(i) ** 2).sum(1).mean()) for i in range(self.n)) * self.residual_bound

    @cached_property
    def x_star(self) -> torch.Tensor | None:  # type: ignore[override]
        """The minimiser, by damped Newton steps to rounding (conjugate gradients where d > 1500); needs l2 > 0."""
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
            H = torch.diag(curvature)
            for rows, _, each in self._pool:
                H += self._hessian(rows, each, x)[0]
            return torch.linalg.solve(H, g)
        from scipy.sparse.linalg import LinearOperator, cg

        def product(v: np.ndarray) -> np.ndarray:
            to = torch.from_numpy(v.copy())
            total = curvature * to
            for rows, _, each in self._pool:
                total = total + self._product(rows, each, x, to)[0]
            return total.numpy()

        operator = LinearOperator((self.d, self.d), matvec=product, dtype=np.float64)
        return torch.from_numpy(cg(operator, g.numpy(), rtol=1e-10, maxiter=500)[0])

    # -- the rest --------------------------------------------------------------------------------------------
    @property
    def chunk(self) -> int:
        size = self.d * self.dtype.itemsize
        return self.n if self.n * size <= 2**23 else max(16, 2**21 // size)

    def _twin(self) -> Self:
        """A copy that remembers nothing that was computed of its data."""
        twin = copy.copy(self)
        for key in [k for k in twin.__dict__ if isinstance(getattr(type(self), k, None), cached_property)]:
            del twin.__dict__[key]
        return twin

    def with_dtype(self, dtype: torch.dtype) -> Linear:
        """The same problem in another precision; its data are these data, rounded if it is the lower one."""
        twin = self._twin()
        twin.dtype, twin.data, twin.x0 = dtype, self.data.to(dtype), self.x0.to(dtype)
        twin._test = None if self._test is None else self._test.to(dtype)
        twin._global_test = None if self._global_test is None else self._global_test.to(dtype)
        twin.validation = None if self.validation is None else self.validation.to(dtype)
        return twin


def _top(a: np.ndarray) -> float:
    """Largest eigenvalue of a'a, from the smaller of the two Gram matrices."""
    gram = a.T @ a if a.shape[1] <= a.shape[0] else a @ a.T
    return float(np.linalg.eigvalsh(gram)[-1])
