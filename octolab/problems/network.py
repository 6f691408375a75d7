"""Any torch module as a federated problem: all clients' models stacked, gradients by the fastest kernel that
fits.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from octolab.batches import Batch
from octolab.metrics import Scored
from octolab.problems.kernels import TIERS, Kernel, Loss, choose
from octolab.problems.kernels.descent import Now, Schedule, descend
from octolab.problems.modules import checked, named_layout, products, together
from octolab.problems.problem import Clients, Problem, fingerprint, make_weights
from octolab.problems.scoring import Pair, TestPart, check_range

MANY = 8  # clients from which vmap can beat a loop, and below how many
PARAMETERS, PRODUCTS = 2**14, 2**18  # parameters and multiplications a step per parameter tensor (measured)


class Network(Problem):
    """f_i(x) = mean_j loss(module_x(a_ij), y_ij) + l2/2 |x|^2, x = all parameters of the module, flattened in
    order.

    module: a torch.nn.Module (kept as a copy; its present weights are x0 unless x0 is given; dropout is
    switched off, as in `module.eval()`). loss: "cross_entropy" (integer labels; text: one per position), "mse",
    a torch loss, or a function of (outputs, targets) that gives one number per sample, or the mean over the
    samples. features, labels: one array per client, (m_i, ...) each; or one array of each with offsets (n + 1,),
    client i holding the rows offsets[i] to offsets[i + 1]. test: pairs of arrays per client; global_test: one
    pair. kernel: "auto", or a tier by name ("chain", "stacked", "vmap", "loop") to compare them.
    """

    constants_note = (
        "The constants L and mu of a network are unknown, so no theorem gives its step size. Start from "
        "0.1 (0.01 with momentum or sign steps) and tune, e.g. with ol.tune."
    )

    def __init__(
        self,
        module: nn.Module,
        loss: Any = "cross_entropy",
        features: Sequence[Any] = (),
        labels: Sequence[Any] = (),
        *,
        offsets: Any = None,
        l2: float = 0.0,
        weights: Any = None,
        x0: Any = None,
        test: Sequence[Pair] | None = None,
        global_test: Pair | None = None,
        dtype: torch.dtype = torch.float32,
        kernel: str = "auto",
        name: str | None = None,
        spec: dict[str, Any] | None = None,
    ):
        if not l2 >= 0:
            raise ValueError(f"l2={l2!r}: the ridge is a number >= 0.")
        self.dtype, self.l2, self.name = dtype, float(l2), name or type(module).__name__
        self.loss_of, self._tier, self._spec = Loss(loss), kernel, spec
        self.module = checked(module).to(dtype)
        self.layout = named_layout(self.module)
        self.d = self.layout[-1].stop
        whole = any(isinstance(part, nn.Embedding) for part in self.module.modules())
        self._kind = None if whole else dtype  # of inputs: None keeps whole numbers
        self.X, self.Y, self.sizes = together(features, labels, self._kind, offsets)
        self.n, self.first = len(self.sizes), torch.from_numpy(np.cumsum(self.sizes) - self.sizes)
        if not self.loss_of.classifies and self.Y.is_floating_point():
            self.Y = self.Y.to(dtype)
        self.weights = make_weights(weights, self.sizes)
        self.x0 = nn.utils.parameters_to_vector(self.module.parameters()).detach().clone()
        if x0 is not None:
            self.x0 = self.check_x0(x0)
        training = self.X, self.Y
        self._test = None if test is None else TestPart(test, self._kind, training)
        self._global_test = self._test if global_test is None else TestPart([global_test], self._kind, training)
        self._kernels()
        self._try()

    def _kernels(self) -> None:
        sample = tuple(self.X.shape[1:])
        self._kernel = choose(self.module, self.loss_of, sample, self._tier)
        self._any = (
            TIERS["vmap"](self.module, self.loss_of, sample),
            TIERS["loop"](self.module, self.loss_of, sample),
        )
        self.__dict__.pop("_vmap_works", None)

    def _try(self) -> None:
        """One sample through the module, so that what does not fit is said before any work is done."""
        one, kernel = torch.zeros(1, 1, dtype=torch.int64), self._pooling
        try:
            scores = kernel.outputs(kernel.views(self.x0), kernel.take(self.X, one))
            if self.loss_of.classifies and scores.dim() > 1:
                self._check_labels(scores.shape[-1])
            some = torch.linspace(0, len(self.X) - 1, min(len(self.X), 8)).long()[None]
            scores = kernel.outputs(kernel.views(self.x0), kernel.take(self.X, some))
            self.loss_of.settle(scores[0], self._targets(some)[0])
            self.loss_of(scores, self._targets(some), 2)
        except (RuntimeError, IndexError, TypeError) as error:
            raise ValueError(
                f"{self.name} cannot take these data: one input has shape {tuple(self.X.shape[1:])} and its "
                "label "
                f"{tuple(self.Y.shape[1:])} ({self.Y.dtype}). torch says: {error}"
            ) from error
        now = getattr(kernel, "own", self.module)  # the copy that was called
        moved = [k for k, b in self.module.named_buffers() if not torch.equal(b, now.get_buffer(k))]
        if moved:
            raise ValueError(
                f"{self.name} changes its buffer {moved[0]!r} when it is called; what is no parameter is not trained "
                "nor averaged. Make it constant, or a parameter."
            )

    def _check_labels(self, classes: int) -> None:
        check_range(self.Y, classes, "labels")
        for part in (self._test, self._global_test):
            if part is not None:
                part.check_labels(classes)

    def kernel_for(self, m: int, samples: int = 1) -> Kernel:
        """The kernel that serves m clients at once, each with so many samples a step."""
        if self._kernel is not None:
            return self._kernel
        return self._any[0] if m >= MANY and self._light(samples) and self._vmap_works else self._any[1]

    def _light(self, samples: int) -> bool:
        """Whether a client's step is so light that calling torch costs more than computing: then vmap pays."""
        tensors = len(self.layout)
        return self.d <= tensors * PARAMETERS and samples * self._products <= tensors * PRODUCTS

    @cached_property
    def _products(self) -> int:
        """Multiplications that one sample takes, forwards."""
        one = torch.zeros(1, 1, dtype=torch.int64)
        return products(self.module, self._pooling.take(self.X, one)[0])

    @cached_property
    def _vmap_works(self) -> bool:
        """Whether vmap takes this module: two clients are tried, once."""
        kernel, two = self._any[0], torch.zeros(2, 1, dtype=torch.int64)
        try:
            kernel.pieces(kernel.views(self.x0.expand(2, -1)), kernel.take(self.X, two), self._targets(two), 1.0)
        except RuntimeError:
            return False
        return True

    def _targets(self, index: torch.Tensor) -> torch.Tensor:
        """Labels (k, B, ...) of the samples index (k, B)."""
        return self.Y.index_select(0, index.reshape(-1)).view(*index.shape, *self.Y.shape[1:])

    @property
    def _most(self) -> int:
        """Samples of a full-batch pass: bounds the activations' memory."""
        if self._kernel is not None and self._kernel.name == "chain":
            return 4096
        return max(16, 1024 // max(1, self.Y[0].numel()))

    # -- which samples ---------------------------------------------------------------------------------------
    def _passes(self, ids: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor, Any]]:
        """Full batches: (rows of the cohort, index (k, B) of their samples, share), clients of like size
        together.
        """
        held = self.sizes[ids.numpy()]
        order = np.argsort(-held, kind="stable") if self.same_size is None else np.arange(len(held))
        at = 0
        while at < len(order):
            B = int(held[order[at]])
            stop = min(len(order), at + max(1, self._most // B))
            while held[order[stop - 1]] * 2 < B:  # not more than twice the smallest
                stop -= 1
            rows = torch.from_numpy(order[at:stop])
            index, sizes = (
                torch.arange(B).expand(stop - at, B),
                torch.from_numpy(held[order[at:stop]])[:, None],
            )
            first = self.first[ids[rows]][:, None]
            if held[order[stop - 1]] == B:
                yield rows, first + index, 1 / B
            else:
                inside = index < sizes
                yield rows, first + index * inside, inside / sizes.to(self.dtype)
            at = stop

    def _selected(self, clients: Clients, batch: Batch | None) -> Iterator[tuple[torch.Tensor, torch.Tensor, Any]]:
        ids = self.ids(clients)
        if batch is None or batch.index is None:
            yield from self._passes(ids)
            return
        index, mask = batch.index, batch.mask
        if index.shape[1] == 0:  # nobody's samples: one each, of no weight
            index, mask = index.new_zeros(len(ids), 1), torch.zeros(len(ids), 1, dtype=torch.bool)
        share: Any = 1 / index.shape[1]
        if mask is not None:
            share = mask / mask.sum(1, keepdim=True).clamp(min=1).to(self.dtype)
        yield torch.arange(len(ids)), index + self.first[ids][:, None], share

    # -- clients' functions ----------------------------------------------------------------------------------
    def grad(self, x: torch.Tensor, clients: Clients = None, batch: Batch | None = None) -> torch.Tensor:
        x, out = x.detach(), torch.empty(self.count(clients), self.d, dtype=self.dtype)
        for rows, index, share in self._selected(clients, batch):
            whole = _whole(rows, len(out))
            part = out if whole else torch.empty(len(rows), self.d, dtype=self.dtype)
            kernel = self.kernel_for(len(rows), index.shape[-1])
            views = kernel.views(x if x.dim() == 1 else x[rows])
            pieces, _ = kernel.pieces(views, kernel.take(self.X, index), self._targets(index), share)
            kernel.add(pieces, kernel.views(part), 1.0, overwrite=True)
            if not whole:
                out[rows] = part
        return out.add_(x, alpha=self.l2) if self.l2 else out

    def loss(self, x: torch.Tensor, clients: Clients = None, batch: Batch | None = None) -> torch.Tensor:
        x, out, kernel = x.detach(), torch.empty(self.count(clients), dtype=self.dtype), self._pooling
        for rows, index, share in self._selected(clients, batch):
            views = kernel.views(x if x.dim() == 1 else x[rows])
            each = kernel.losses(views, kernel.take(self.X, index), self._targets(index))
            out[rows] = (each * share).sum(1)
        return out + self.l2 / 2 * (x * x).sum(-1)

    @property
    def _pooling(self) -> Kernel:
        """The kernel for one model, or for scores alone."""
        return self._kernel or self._any[1]

    def local_sgd(
        self,
        x: torch.Tensor,
        clients: Clients,
        *,
        lr: float | torch.Tensor,
        steps: int,
        batch: Any = None,
        stop: torch.Tensor | None = None,
        momentum: float = 0.0,
        prox: float = 0.0,
        correction: torch.Tensor | None = None,
    ) -> torch.Tensor:
        ids = self.ids(clients)
        start = x.detach().expand(len(ids), -1)
        if batch is not None and batch.index is not None and batch.index.shape[2] == 0:
            return start.clone()  # nobody has samples, so nobody moves
        rate = lr.to(self.dtype).view(-1, 1) if isinstance(lr, torch.Tensor) and lr.dim() else float(lr)
        out = torch.empty(len(ids), self.d, dtype=self.dtype)
        for rows, index, extra in self._groups(ids, batch, steps):
            kernel = self.kernel_for(len(rows), index.shape[-1])
            schedule = Schedule(index, extra, self.dtype) if index.dim() == 3 else None
            order = schedule.order if schedule is not None else None if stop is None else _longest_first(stop[rows])
            if order is not None:
                rows = rows[order]
            if schedule is None and stop is not None:
                index, extra = index[order], extra if isinstance(extra, float) else extra[order]
            whole = _whole(rows, len(ids))
            at = slice(None) if whole else rows
            y = descend(
                kernel,
                start[at],
                self._steps(kernel, schedule, index, extra, None if stop is None else stop[at]),
                steps,
                lr=rate if isinstance(rate, float) else rate[at],
                momentum=momentum,
                prox=prox,
                l2=self.l2,
                correction=None if correction is None else correction[at],
            )
            if whole:
                return y
            out[at] = y
        return out

    def _groups(self, ids: torch.Tensor, batch: Batch | None, steps: int) -> Any:
        """Who trains side by side: (rows, index (k, B), share), or (rows, index (steps, k, B), mask)."""
        if batch is None or batch.index is None:
            return list(self._passes(ids))
        rows, index, mask = torch.arange(len(ids)), batch.index[:steps] + self.first[ids][:, None], batch.mask
        if not self.kernel_for(len(ids), index.shape[-1]).alone:
            return [(rows, index, mask)]
        cut = [slice(k, k + 1) for k in range(len(ids))]
        return [(rows[c], index[:, c], None if mask is None else mask[:, c]) for c in cut]

    def _steps(self, kernel: Kernel, schedule: Schedule | None, index: torch.Tensor, share: Any, stop: Any) -> Any:
        """now(t) for `descend`: drawn minibatches, or the same full batch at every step until a client's stop."""
        take = lambda i: (kernel.take(self.X, i), self._targets(i))  # noqa: E731
        if schedule is not None and self.Y.dim() > 1:
            return lambda t: schedule.at(t, *take(schedule.rows[t]))
        if schedule is not None:  # one number per sample: the labels of all steps at once
            rows = schedule.rows
            labels = [y[: len(r)] for r, y in zip(rows, self._targets(schedule.index), strict=True)]
            return lambda t: schedule.at(t, kernel.take(self.X, rows[t]), labels[t])
        kept = {len(index): Now(len(index), *take(index), share, None), 0: Now(0, index, index, share, None)}

        def now(t: int) -> Now:  # the first k clients, those who still train
            k = len(index) if stop is None else int((stop > t).sum())
            if k not in kept:
                kept.clear()
                kept[k] = Now(k, *take(index[:k]), share if isinstance(share, float) else share[:k], None)
            return kept[k]

        return now

    # -- the whole objective ---------------------------------------------------------------------------------
    def _pooled(self, x: torch.Tensor, want_gradient: bool) -> tuple[float, torch.Tensor | None]:
        """f(x) and its gradient in one pass over all samples, as if one client held them with weights
        w_i/N_i.
        """
        kernel, x = self._pooling, x.detach()
        share = (self.weights / torch.from_numpy(self.sizes)).repeat_interleave(torch.from_numpy(self.sizes))
        g, views, f = torch.zeros(1, self.d, dtype=self.dtype), kernel.views(x[None]), 0.0
        for a in range(0, len(self.X), self._most):
            index = torch.arange(a, min(a + self._most, len(self.X)))[None]
            xb, yb, each = kernel.take(self.X, index), self._targets(index), share[index]
            if want_gradient:
                pieces, outputs = kernel.pieces(views, xb, yb, each.to(self.dtype))
                kernel.add(pieces, kernel.views(g), 1.0)
            else:
                outputs = kernel.outputs(views, xb)
            f += float((self.loss_of(outputs, yb, 2).double() * each).sum())
        f += self.l2 / 2 * float(x @ x)
        return f, g[0].add_(x, alpha=self.l2) if want_gradient else None

    def value(self, x: Any) -> float:
        return self._pooled(self.as_x(x), False)[0]

    def gradient(self, x: Any) -> torch.Tensor:
        g = self._pooled(self.as_x(x), True)[1]
        assert g is not None
        return g

    def evaluate(self, x: torch.Tensor) -> dict[str, float]:
        f, g = self._pooled(x, True)
        assert g is not None
        return {"loss": f, "grad_norm_sq": float(g @ g), **self.test_metrics(x)}

    # -- tests -----------------------------------------------------------------------------------------------
    def _hits(self, x: torch.Tensor, X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        """Share of right answers for each sample: 0 or 1; for text, over its positions. (N,), or (k, N) for x (k, d)."""
        if x.dim() == 1:
            return self._hits(x[None], X[None], Y[None])[0]
        kernel, hits, (k, N) = self._pooling, [], Y.shape[:2]
        views, flat, wide = kernel.views(x), X.flatten(0, 1), max(1, self._most // k)
        for a in range(0, N, wide):
            index = N * torch.arange(k)[:, None] + torch.arange(a, min(a + wide, N))
            right = kernel.outputs(views, kernel.take(flat, index)).argmax(-1) == Y[:, a : a + wide]
            hits.append(right.double().flatten(2).mean(2) if right.dim() > 2 else right.double())
        return torch.cat(hits, 1)

    def _outputs(self, x: torch.Tensor, X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        """(N, ...) what the module says of X (N, ...)."""
        kernel, wide = self._pooling, self._most
        views, said = kernel.views(x.detach()[None]), []
        for a in range(0, len(X), wide):
            index = torch.arange(a, min(a + wide, len(X)))[None]
            said.append(kernel.outputs(views, kernel.take(X, index))[0])
        return torch.cat(said)

    def test_scores(self, x: torch.Tensor, *, by_client: bool = False) -> Scored | None:
        part = self._test if by_client else self._global_test
        return None if part is None else part.scored(x, self._outputs)

    def test_metrics(self, x: torch.Tensor) -> dict[str, float]:
        if self._global_test is None or not self.loss_of.classifies:
            return {}
        return self._global_test.accuracy(x, self._hits)

    def client_accuracy(self, x: torch.Tensor, clients: Clients = None) -> np.ndarray | None:
        if self._test is None or not self.loss_of.classifies:
            return None
        return self._test.by_client(x.detach(), self.ids(clients), self._hits)

    # -- the rest --------------------------------------------------------------------------------------------
    @property
    def chunk(self) -> int:
        """Stacked weights of about 4 MB (2 MB where activations are kept too); more for vmap, which wants
        many clients.
        """
        budget = 2**22 if self._kernel is not None and self._kernel.name == "chain" else 2**21
        fit = max(1, budget // (self.d * self.dtype.itemsize))
        return min(self.n, fit if self._kernel is not None else max(fit, 4 * MANY))

    def with_dtype(self, dtype: torch.dtype) -> Network:
        twin = copy.copy(self)
        twin.dtype, twin.module, twin.x0 = dtype, copy.deepcopy(self.module).to(dtype), self.x0.to(dtype)
        if self._kind is not None:
            twin._kind, twin.X = dtype, self.X.to(dtype)
            twin._test = None if self._test is None else self._test.to(dtype)
            twin._global_test = None if self._global_test is None else self._global_test.to(dtype)
        if self.Y.is_floating_point():
            twin.Y = self.Y.to(dtype)
        twin._kernels()
        return twin

    @property
    def spec(self) -> dict[str, Any]:
        dtype = str(self.dtype).removeprefix("torch.")
        if self._spec is not None:
            return {**self._spec, "dtype": dtype}
        given = fingerprint(self.X.numpy(), self.Y.numpy(), self.sizes, self.weights.numpy(), self.x0.numpy())
        return {
            "kind": "Network",
            "given": given,
            "module": self.name,
            "n": self.n,
            "d": self.d,
            "dtype": dtype,
        }


def _whole(rows: torch.Tensor, m: int) -> bool:
    """Whether these rows are all m clients in their order: then nothing need be gathered or put back."""
    return len(rows) == m and bool((rows[1:] > rows[:-1]).all())


def _longest_first(steps: torch.Tensor) -> torch.Tensor:
    """The order of clients by how many local steps they take, (m,)."""
    return steps.argsort(descending=True, stable=True)
