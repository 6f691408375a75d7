"""Any torch module as a federated problem: all clients' models stacked, gradients by the fastest kernel that fits."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from octolab.arguments import expects, instance, number
from octolab.batches import Batch
from octolab.metrics import Scored
from octolab.problems.conduct import few, observe
from octolab.problems.facts import CLIENTS, FLOAT
from octolab.problems.identity import identity
from octolab.problems.kernel_choice import KernelChoice
from octolab.problems.kernels import Kernel, Loss, State
from octolab.problems.kernels.descent import Now, Schedule, descend
from octolab.problems.kernels.kernel import trained_parameters
from octolab.problems.modules import checked, dtype_of, named_layout, own_parameters, suited, together
from octolab.problems.problem import Clients, Problem, fingerprint, make_weights
from octolab.problems.scoring import Pair, TestPart
from octolab.problems.statistics import Memory, statistics
from octolab.problems.trained_module import trained

Share = float | torch.Tensor
BUNDLED = ("mlp", "cnn", "logistic", "linear")  # models that a spec rebuilds by name


class Pass(NamedTuple):
    """Clients of a cohort that are computed side by side: their places, their samples (k, B), their shares, and which
    samples are there (None: all).
    """

    rows: torch.Tensor
    samples: torch.Tensor
    share: Share
    there: torch.Tensor | None


class Network(Problem):
    """f_i(x) = mean_j loss(module_x(a_ij), y_ij) + l2/2 |x|^2, x = the parameters of the module that require a gradient,
    flattened in order.

    module: a torch.nn.Module (kept as a copy; its present weights are x0 unless x0 is given). Frozen parameters are
    stored once, and neither trained nor sent. Dropout is on in clients' training and off in evaluation; its masks depend
    on the seed, the client and the step alone. loss: "cross_entropy" (integer labels; text: one per position), "mse",
    a torch loss, or a function of (outputs, targets) that gives one number per sample, or the mean over the
    samples. With class weights or ignored targets, a client's mean is torch's: divided by what its samples count.

    features, labels: one array per client, (m_i, ...) each; or one array of each with offsets (n + 1,),
    client i holding the rows offsets[i] to offsets[i + 1]. weights: of the clients in f, None for 1/n each (as
    "uniform"), "examples" for m_i over all samples, or n numbers. test: pairs of arrays per client; global_test: one pair.

    batchnorm: what becomes of batch normalisation. "averaged" (the default, with a warning that names the others): the
    running statistics are sent with the model and averaged over a round's clients. "local" (FedBN, Li et al., ICLR 2021):
    each client keeps its statistics, scales and shifts. "frozen": the given statistics stay. "batch": no running
    statistics, every batch is normalised by its own, in evaluation too. buffers: the same for other buffers that a call
    changes: "averaged", "local" (each client keeps its own), or "server" (they stay as they were).

    dtype: None is the module's, float64 or float32. kernel: "auto", or a tier by name ("chain", "stacked", "batched",
    "loop") to compare them.
    """

    _kept: torch.Tensor | None = None  # (m, s) what a cohort keeps beside the model, while it trains
    constants_note = (
        "The constants L and mu of a network are unknown, so no theorem gives its step size. Start from "
        "0.1 (0.01 with momentum or sign steps) and tune, e.g. with ol.tune."
    )

    @expects(
        module=instance("a torch.nn.Module", nn.Module),
        features=CLIENTS,
        labels=CLIENTS,
        l2=number("the ridge", ge=0),
        dtype=FLOAT,
    )
    def __init__(
        self,
        module: nn.Module,
        loss: str | nn.Module | Callable[..., torch.Tensor] = "cross_entropy",
        features: Sequence[ArrayLike] = (),
        labels: Sequence[ArrayLike] = (),
        *,
        offsets: ArrayLike | None = None,
        l2: float = 0.0,
        weights: str | ArrayLike | None = None,
        x0: ArrayLike | Mapping[str, torch.Tensor] | nn.Module | None = None,
        test: Sequence[Pair] | None = None,
        global_test: Pair | None = None,
        dtype: torch.dtype | None = None,
        batchnorm: str | None = None,
        buffers: str = "averaged",
        kernel: str = "auto",
        name: str | None = None,
        spec: dict[str, Any] | None = None,
    ):
        if not l2 >= 0:
            raise ValueError(f"l2={l2!r}: the ridge is a number >= 0.")
        dtype = dtype or dtype_of(module)
        self.dtype, self.l2, self.name = dtype, float(l2), name or type(module).__name__
        self.loss_of, self._tier, self._spec = Loss(loss, dtype), kernel, spec
        self._policies = {"batchnorm": batchnorm, "buffers": buffers}
        self.module = checked(module, batchnorm).to(dtype)
        self.layout = named_layout(self.module)
        self.d = self.layout[-1].stop
        X, self.Y, self.sizes = together(features, labels, offsets)
        self.X = suited(self.module, X, dtype)
        self.n, self.first = len(self.sizes), torch.from_numpy(np.cumsum(self.sizes) - self.sizes)
        self.weights = make_weights(weights, self.sizes)
        self.x0 = nn.utils.parameters_to_vector(trained_parameters(self.module).values()).detach().clone()
        if x0 is not None:
            self.x0 = self.check_x0(x0)
        kind, training = dtype if self.X.is_floating_point() else None, (self.X, self.Y)
        self._test = None if test is None else TestPart(test, kind, training)
        if self._test is not None:
            self._test.check_clients(self.n)
        self._global_test = self._test if global_test is None else TestPart([global_test], kind, training)
        self._study(batchnorm, buffers)

    def _study(self, batchnorm: str | None, buffers: str) -> None:
        """Find out how module, loss and data fit, so that what does not is said before any work is done."""
        self.conduct = observe(self.module, self.X, own_parameters(self.module, batchnorm))
        self.statistics = statistics(self.module, self.conduct, buffers, batchnorm, self.dtype)
        try:
            self._fit_loss()
            self._mass = self.loss_of.mass(self.Y) if self.loss_of.weighs else None
            self._choose()
        except (RuntimeError, IndexError, TypeError) as error:
            raise ValueError(
                f"{self.name} cannot take these data: one input has shape {tuple(self.X.shape[1:])} and its label "
                f"{tuple(self.Y.shape[1:])} ({self.Y.dtype}). torch says: {error}"
            ) from error
        self._check_mass()

    def _fit_loss(self) -> None:
        """Let the loss see outputs and targets once; targets take the shape and dtype that it reads."""
        loop = KernelChoice.trial(self.module, self.loss_of, self.conduct, tuple(self.X.shape[1:]))
        views, kept = loop.views(self.x0), None if self.statistics is None else self.statistics.now
        some = torch.cat([few(torch.arange(len(self.X))), *_extremes(self.Y), *_codes(self.X)]).unique()
        outputs = loop.outputs(views, self.X[some][None], kept)[0]
        self.Y = self.loss_of.fit(outputs, self.Y)
        wanted = self.loss_of.settle(outputs, self.Y[some])
        if wanted is not None:
            self.Y = self.Y.to(wanted)
        for part in {id(p): p for p in (self._test, self._global_test) if p is not None}.values():
            for row in _codes(part.X):
                loop.outputs(views, part.X[row][None], kept)  # words that the module does not know
            part.Y = self.loss_of.fit(outputs, part.Y).to(self.Y.dtype)
        self.loss_of(outputs, self.Y[some])

    def _check_mass(self) -> None:
        if self._mass is None:
            return
        held = torch.stack([part.sum() for part in self._mass.split(self.sizes.tolist())])
        if bool((held <= 0).any()):
            raise ValueError(
                f"Client {int((held <= 0).nonzero()[0])}: all its labels are ignored or have class weight 0, so it has no "
                "mean loss. Leave it out."
            )

    def _choose(self) -> None:
        kept = None if self.statistics is None else self.statistics.now
        self.kernels = KernelChoice(
            self.module, self.loss_of, self.conduct, (self.X, self.Y), self.x0, kept, self._tier
        )

    def kernel_for(self, m: int, samples: int = 1) -> Kernel:
        """The kernel that serves m clients at once, each with so many samples a step."""
        return self.kernels.of(m, samples)

    # -- what clients have beside the model ------------------------------------------------------------------
    @property
    def random(self) -> bool:  # type: ignore[override]
        """Whether training is another function than evaluation, so that clients' passes need seeds."""
        return self.conduct.differs or self.conduct.random or self.conduct.always

    def at(self, memory: Memory) -> Network:
        """This problem with the statistics that clients and server have now, from the clients' memory."""
        if self.statistics is None:
            return self
        twin = copy.copy(self)
        twin.statistics = self.statistics.after(memory, self.weights)
        return twin

    def begun(self, x0: object) -> Network:
        """ValueError where a module or state_dict brings other frozen tensors than this problem's."""
        if not isinstance(x0, (Mapping, nn.Module)):
            return self
        held = dict(x0.state_dict() if isinstance(x0, nn.Module) else x0)
        beside = [*self.conduct.moving, *self.conduct.local]
        same = self.module.state_dict()
        for name in sorted(held.keys() - {*beside, *(q.name for q in self.layout)}):
            if name not in same or not (name.endswith("num_batches_tracked") or _equal(held[name], same[name])):
                has = "does not train, with other values" if name in same else "has not"
                raise ValueError(f"x0 holds {name!r}, which {self.name} {has}: make the problem with that module.")
        if self.statistics is None or not all(name in held for name in beside):
            return self
        twin = copy.copy(self)
        twin.statistics = self.statistics.beginning(
            torch.cat([held[n].detach().reshape(-1).to(self.dtype) for n in beside])
        )
        return twin

    def keeping(self, kept: torch.Tensor) -> Network:
        """This problem for a cohort that keeps `kept` (m, s) beside the model: its training moves it, in place."""
        twin = copy.copy(self)
        twin._kept = kept
        return twin

    def _calm(self, ids: torch.Tensor | None = None, rows: torch.Tensor | None = None) -> State | None:
        """Evaluation of one model, or of these clients' (ids; rows: their places in the cohort), with what they keep."""
        held = self.statistics
        if held is None:
            return None
        if self._kept is not None and rows is not None:
            return State(training=False, kept=self._kept[rows])
        own = ids is not None and held.personal and held.rows is not None
        return State(training=False, kept=held.rows[ids] if own and held.rows is not None else held.now)

    def _targets(self, index: torch.Tensor) -> torch.Tensor:
        """Labels (k, B, ...) of the samples index (k, B)."""
        return self.Y.index_select(0, index.reshape(-1)).view(*index.shape, *self.Y.shape[1:])

    @property
    def _most(self) -> int:
        """Samples of a full-batch pass: bounds the activations' memory."""
        if self.kernels.single.name == "chain":
            return 4096
        return max(16, 1024 // max(1, self.Y[0].numel()))

    # -- which samples ---------------------------------------------------------------------------------------
    def _passes(self, ids: torch.Tensor) -> Iterator[Pass]:
        """Full batches, clients of like size together; of equal size where padding would enter a batch's statistics."""
        held, slack = self.sizes[ids.numpy()], 2 if self.conduct.steady else 1
        order = np.argsort(-held, kind="stable") if self.same_size is None else np.arange(len(held))
        at = 0
        while at < len(order):
            B = int(held[order[at]])
            stop = min(len(order), at + max(1, self._most // B))
            while held[order[stop - 1]] * slack < B:  # not more than twice the smallest
                stop -= 1
            rows = torch.from_numpy(order[at:stop])
            index, sizes = (
                torch.arange(B).expand(stop - at, B),
                torch.from_numpy(held[order[at:stop]])[:, None],
            )
            first = self.first[ids[rows]][:, None]
            if held[order[stop - 1]] == B:
                yield Pass(rows, first + index, self._share(first + index, None, 1 / B), None)
            else:
                inside = index < sizes
                index = first + index * inside
                share = self._share(index, inside, inside / sizes.to(self.dtype))
                yield Pass(rows, index, share, inside)
            at = stop

    def _share(self, index: torch.Tensor, there: torch.Tensor | None, even: Share) -> Share:
        """The weights of samples in their clients' means: `even`, unless the loss counts them differently."""
        if self._mass is None:
            return even
        counts = self._mass[index] if there is None else self._mass[index] * there
        return counts / counts.sum(-1, keepdim=True).clamp(min=1e-30)

    def _selected(self, clients: Clients, batch: Batch | None) -> Iterator[Pass]:
        ids = self.ids(clients)
        if batch is None or batch.index is None:
            yield from self._passes(ids)
            return
        index, mask = batch.index, batch.mask
        if index.shape[1] == 0:  # nobody's samples: one each, of no weight
            index, mask = index.new_zeros(len(ids), 1), torch.zeros(len(ids), 1, dtype=torch.bool)
        index = index + self.first[ids][:, None]
        share: Share = 1 / index.shape[1]
        if mask is not None:
            share = mask / mask.sum(1, keepdim=True).clamp(min=1).to(self.dtype)
        yield Pass(torch.arange(len(ids)), index, self._share(index, mask, share), mask)

    # -- clients' functions ----------------------------------------------------------------------------------
    def grad(
        self,
        x: torch.Tensor,
        clients: Clients = None,
        batch: Batch | None = None,
    ) -> torch.Tensor:
        """Gradients (m, d): in training mode where `batch` holds seeds, or of a cohort that keeps something beside the
        model (`keeping`), else in evaluation mode.
        """
        x, out, ids = x.detach(), torch.empty(self.count(clients), self.d, dtype=self.dtype), self.ids(clients)
        seeds, kept = None if batch is None else batch.seeds, self._kept
        for rows, index, share, there in self._selected(clients, batch):
            whole = _whole(rows, len(out))
            part = out if whole else torch.empty(len(rows), self.d, dtype=self.dtype)
            kernel = self.kernels.of(len(rows), index.shape[-1], there is None)
            views = kernel.views(x if x.dim() == 1 else x[rows])
            state = self._calm(ids[rows])
            if seeds is not None or kept is not None:
                own = None if kept is None else kept[rows]
                state = State(True, None if seeds is None else seeds[rows], own, there=there)
            pieces, _ = kernel.pieces(views, kernel.take(self.X, index), self._targets(index), share, state)
            kernel.add(pieces, kernel.views(part), 1.0, overwrite=True)
            if not whole:
                out[rows] = part
            if kept is not None and state is not None and state.kept is not None:
                kept[rows] = state.kept
        return out.add_(x, alpha=self.l2) if self.l2 else out

    def loss(self, x: torch.Tensor, clients: Clients = None, batch: Batch | None = None) -> torch.Tensor:
        x, out, ids = x.detach(), torch.empty(self.count(clients), dtype=self.dtype), self.ids(clients)
        for rows, index, share, there in self._selected(clients, batch):
            kernel = self.kernels.single
            if there is not None and self.conduct.mixes_always:
                raise ValueError("batchnorm='batch' needs batches of one size for all clients, to give their losses.")
            views, state = kernel.views(x if x.dim() == 1 else x[rows]), self._calm(ids[rows], rows)
            each = kernel.losses(
                views, kernel.take(self.X, index), self._targets(index), None if state is None else state.kept
            )
            out[rows] = (each * share).sum(1)
        return out + self.l2 / 2 * (x * x).sum(-1) if self.l2 else out

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
        """As `Problem.local_sgd`, in the same mode as `grad`."""
        ids, kept = self.ids(clients), self._kept
        start = x.detach().expand(len(ids), -1)
        if batch is not None and batch.index is not None and batch.index.shape[2] == 0:
            return start.clone()  # nobody has samples, so nobody moves
        rate = lr.to(self.dtype).view(-1, 1) if isinstance(lr, torch.Tensor) and lr.dim() else float(lr)
        out = torch.empty(len(ids), self.d, dtype=self.dtype)
        for rows, index, share, there in self._groups(ids, batch, steps):
            kernel = self.kernels.of(len(rows), index.shape[-1], there is None)
            counts = None if self._mass is None or index.dim() < 3 else self._mass[index]
            schedule = Schedule(index, there, self.dtype, counts) if index.dim() == 3 else None
            order = schedule.order if schedule is not None else None if stop is None else _longest_first(stop[rows])
            if order is not None:
                rows = rows[order]
            if schedule is None and stop is not None:
                index, there = index[order], None if there is None else there[order]
                share = share if isinstance(share, float) else share[order]
            whole = _whole(rows, len(ids))
            at = slice(None) if whole else rows
            beside = self._beside(batch, at, kept)
            now = self._steps(kernel, schedule, Pass(rows, index, share, there), None if stop is None else stop[at])
            y = descend(
                kernel,
                start[at],
                now if beside is None else functools.partial(beside.at, now),
                steps,
                lr=rate if isinstance(rate, float) else rate[at],
                momentum=momentum,
                prox=prox,
                l2=self.l2,
                correction=None if correction is None else correction[at],
            )
            if kept is not None and beside is not None and beside.kept is not None:
                kept[at] = beside.kept
            if whole:
                return y
            out[at] = y
        return out

    @staticmethod
    def _beside(batch: Batch | None, at: Any, kept: torch.Tensor | None) -> _Beside | None:
        seeds = None if batch is None or batch.seeds is None else batch.seeds[:, at]
        if seeds is None and kept is None:
            return None
        return _Beside(seeds, None if kept is None else kept[at])

    def _groups(self, ids: torch.Tensor, batch: Batch | None, steps: int) -> list[Pass]:
        """Who trains side by side: with index (k, B) and shares, or with index and mask (steps, k, B)."""
        if batch is None or batch.index is None:
            return list(self._passes(ids))
        rows, index, mask = torch.arange(len(ids)), batch.index[:steps] + self.first[ids][:, None], batch.mask
        if not self.kernels.of(len(ids), index.shape[-1], mask is None).alone:
            return [Pass(rows, index, 0.0, mask)]
        cut = [slice(k, k + 1) for k in range(len(ids))]
        return [Pass(rows[c], index[:, c], 0.0, None if mask is None else mask[:, c]) for c in cut]

    def _steps(
        self, kernel: Kernel, schedule: Schedule | None, group: Pass, stop: torch.Tensor | None
    ) -> Callable[[int], Now]:
        """now(t) for `descend`: drawn minibatches, or the same full batch at every step until a client's stop."""
        take = lambda i: (kernel.take(self.X, i), self._targets(i))  # noqa: E731
        if schedule is not None and self.Y.dim() > 1:
            return lambda t: schedule.at(t, *take(schedule.rows[t]))
        if schedule is not None:  # one number per sample: the labels of all steps at once
            rows = schedule.rows
            labels = [y[: len(r)] for r, y in zip(rows, self._targets(schedule.index), strict=True)]
            return lambda t: schedule.at(t, kernel.take(self.X, rows[t]), labels[t])
        _, index, share, there = group
        kept = {len(index): Now(len(index), *take(index), share, None, there), 0: Now(0, index, index, share, None)}

        def now(t: int) -> Now:  # the first k clients, those who still train
            k = len(index) if stop is None else int((stop > t).sum())
            if k not in kept:
                kept.clear()
                cut = share if isinstance(share, float) else share[:k]
                kept[k] = Now(k, *take(index[:k]), cut, None, None if there is None else there[:k])
            return kept[k]

        return now

    # -- the whole objective ---------------------------------------------------------------------------------
    def _pooled(self, x: torch.Tensor, want_gradient: bool) -> tuple[float, torch.Tensor | None]:
        """f(x) and its gradient in one pass over all samples, as if one client held them with weights w_i/N_i."""
        if self.conduct.mixes_always:  # a batch's own statistics: a client's batch is all it has
            g = self.weights.to(self.dtype) @ self.grad(x) if want_gradient else None
            return float(self.weights @ self.loss(x).double()), g
        kernel, x, state = self.kernels.single, x.detach(), self._calm()
        share = self._pooled_share
        g, views, f = torch.zeros(1, self.d, dtype=self.dtype), kernel.views(x[None]), 0.0
        for a in range(0, len(self.X), self._most):
            index = torch.arange(a, min(a + self._most, len(self.X)))[None]
            xb, yb, each = kernel.take(self.X, index), self._targets(index), share[index]
            if want_gradient:
                pieces, outputs = kernel.pieces(views, xb, yb, each.to(self.dtype), state)
                kernel.add(pieces, kernel.views(g), 1.0)
            else:
                outputs = kernel.outputs(views, xb, None if state is None else state.kept)
            f += float((self.loss_of(outputs, yb, 2).double() * each).sum())
        if self.l2:
            f, g = f + self.l2 / 2 * float(x @ x), g.add_(x, alpha=self.l2)
        return f, g[0] if want_gradient else None

    @property
    def _pooled_share(self) -> torch.Tensor:
        """(N,) float64: the weight of each sample in f."""
        held = torch.from_numpy(self.sizes)
        if self._mass is None:
            return (self.weights / held).repeat_interleave(held)
        mass = self._mass.double()
        each = torch.stack([part.sum() for part in mass.split(self.sizes.tolist())])
        return (self.weights / each).repeat_interleave(held) * mass

    def value(self, x: Any) -> float:
        return self._pooled(self.as_x(x), False)[0]

    def gradient(self, x: Any) -> torch.Tensor:
        g = self._pooled(self.as_x(x), True)[1]
        assert g is not None
        return g

    def evaluate(self, x: torch.Tensor) -> dict[str, float]:
        f, g = self._pooled(x, True)
        assert g is not None
        return {"loss": f, "grad_norm_sq": float(g @ g), **self.test_metrics(x), **self.validation_metrics(x)}

    # -- tests -----------------------------------------------------------------------------------------------
    def outputs(self, x: torch.Tensor, X: torch.Tensor) -> torch.Tensor:
        """What models give for inputs, in evaluation mode: (N, ...) of x (d,) for X (N, ...); (k, N, ...) of x (k, d) for
        X (k, N, ...), or (k, d + s) with what each client keeps behind its model.
        """
        if x.dim() == 1:
            return self.outputs(x[None], X[None])[0]
        state, kept = self._calm(), x[:, self.d :]
        shown = kept if kept.shape[1] else None if state is None else state.kept
        kernel, (k, N) = self.kernels.single, X.shape[:2]
        views, flat, wide, parts = kernel.views(x[:, : self.d]), X.flatten(0, 1), max(1, self._most // k), []
        for a in range(0, N, wide):
            index = N * torch.arange(k)[:, None] + torch.arange(a, min(a + wide, N))
            parts.append(kernel.outputs(views, kernel.take(flat, index), shown))
        return torch.cat(parts, 1)

    def as_module(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> nn.Module:
        """The user's module with the weights x (d,). kept: (s,) statistics that belong to it; None: the server's."""
        return trained(self, x.detach(), kept)

    def _hits(self, x: torch.Tensor, X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        """Share of right answers for each sample: 0 or 1; for text, over its positions. (N,), or (k, N) for x (k, d)."""
        outputs, lead = self.outputs(x, X), 1 if x.dim() == 1 else 2
        targets = self.loss_of.fit(outputs.flatten(0, lead - 1), Y.flatten(0, lead - 1))
        return self.loss_of.hits(outputs, targets.view(*Y.shape[:lead], *targets.shape[1:]), lead)

    def test_scores(self, x: torch.Tensor, *, by_client: bool = False) -> Scored | None:
        part = self._test if by_client else self._global_test
        said = None if part is None else part.scored(x, lambda x, X, Y: self.outputs(x.detach(), X))
        if said is None or self.loss_of.family != "signs":
            return said
        if said.labels.shape[1:] == said.scores.shape[1:] == (1,):
            said = said._replace(labels=said.labels[:, 0], scores=said.scores[:, 0])
        if bool((said.labels == said.labels.round()).all()):
            said = said._replace(labels=said.labels.astype(np.int64))
        if self.loss_of.threshold == 0:
            return said
        with np.errstate(divide="ignore"):  # probabilities, of which metrics want the scores
            return said._replace(scores=np.log(said.scores) - np.log1p(-said.scores))

    def test_metrics(self, x: torch.Tensor) -> dict[str, float]:
        part = self._global_test
        if part is None or not len(part):
            return {}
        if self.loss_of.judges:
            return part.accuracy(x, self._hits)
        if self.loss_of.family == "values":
            return part.errors(x, lambda x, X, Y: self.outputs(x, X))
        return {"test_loss": self.held_out_loss(x, part)}

    def held_out_loss(self, x: torch.Tensor, part: TestPart) -> float:
        outputs = self.outputs(x, part.X)
        targets = self.loss_of.fit(outputs, part.Y).to(self.Y.dtype)
        each = self.loss_of(outputs, targets).double()
        mass = self.loss_of.mass(targets).double() if self.loss_of.weighs else torch.ones_like(each)
        return float((each * mass).sum() / mass.sum())

    def client_accuracy(self, x: torch.Tensor, clients: Clients = None) -> np.ndarray | None:
        if self._test is None or not self.loss_of.judges:
            return None
        x, ids = x.detach(), self.ids(clients)
        own = self._calm(ids)
        if (
            own is not None and own.kept is not None and own.kept.dim() == 2
        ):  # each client's own statistics judge with it
            x = torch.cat([x.expand(len(ids), -1), own.kept], 1)
        return self._test.by_client(x, ids, self._hits)

    # -- the rest --------------------------------------------------------------------------------------------
    @property
    def chunk(self) -> int:
        """Stacked weights of about 4 MB (2 MB where activations are kept too); some clients in any case, where calls of torch
        are to be shared.
        """
        fast = self.kernels.fast
        budget = 2**22 if fast is not None and fast.name == "chain" else 2**21
        fit = max(1, budget // (self.d * self.dtype.itemsize))
        return min(self.n, fit if fast is not None else max(fit, 32))

    def mislabelled(self, clients: Sequence[int]) -> Network:
        if not self.loss_of.judges:
            return super().mislabelled(clients)  # type: ignore[return-value]
        twin, top = copy.copy(self), int(self.Y.max())
        twin.Y = self.Y.clone()
        for client in clients:
            first = int(self.first[client])
            own = slice(first, first + int(self.sizes[client]))
            given = self.Y[own]
            twin.Y[own] = torch.where(given < 0, given, top - given)  # negative: ignored
        twin._mass = twin.loss_of.mass(twin.Y) if twin.loss_of.weighs else None
        return twin

    def with_dtype(self, dtype: torch.dtype) -> Network:
        twin = copy.copy(self)
        twin.dtype, twin.module, twin.x0 = dtype, copy.deepcopy(self.module).to(dtype), self.x0.to(dtype)
        if self.X.is_floating_point():
            twin.X = self.X.to(dtype)
            twin._test = None if self._test is None else self._test.to(dtype)
            same = self._global_test is self._test
            twin.validation = None if self.validation is None else self.validation.to(dtype)
            twin._global_test = twin._test if same or self._global_test is None else self._global_test.to(dtype)
        if self.Y.is_floating_point():
            twin.Y = self.Y.to(dtype)
        twin.loss_of = Loss(self.loss_of.given, dtype)
        twin._study(**self._policies)  # type: ignore[arg-type]
        return twin

    @property
    def spec(self) -> dict[str, Any]:
        dtype = str(self.dtype).removeprefix("torch.")
        if self._spec is not None:
            bundled = self._spec.get("model") in (*BUNDLED, None)
            own = {} if bundled and self.loss_of.named else {"network": self.identity}
            return {**self._spec, **own, "dtype": dtype}
        given = fingerprint(self.X.numpy(), self.Y.numpy(), self.sizes, self.weights.numpy())
        return {
            "kind": "Network",
            "given": given,
            "module": self.name,
            "network": self.identity,
            "n": self.n,
            "d": self.d,
            "dtype": dtype,
        }

    @functools.cached_property
    def identity(self) -> str:
        """Of the module's architecture (not its first weights), the loss, the ridge and the policies."""
        started = {*trained_parameters(self.module), *self.conduct.moving, *self.conduct.local}
        layers = identity(self.module, frozenset(started))
        return identity([layers, self.loss_of.identity, self.l2, self._policies])


class _Beside:
    """Seeds (steps, k) and what clients keep (k, s) while they train side by side."""

    def __init__(self, seeds: torch.Tensor | None, kept: torch.Tensor | None):
        self.seeds, self.kept = seeds, None if kept is None else kept.clone()

    def at(self, now: Callable[[int], Now], t: int) -> Now:
        step = now(t)
        seeds = None if self.seeds is None else self.seeds[t, : step.k]
        kept = None if self.kept is None else self.kept[: step.k]
        return step.beside(State(True, seeds, kept, there=step.there))


def _extremes(values: torch.Tensor) -> list[torch.Tensor]:
    """Rows (1,) with the least and the largest sum, so that a loss or module is tried on different ones."""
    if not len(values):
        return []
    sums = values.flatten(1).double().sum(1) if values.dim() > 1 else values.double()
    return [sums.argmin()[None], sums.argmax()[None]]


def _codes(inputs: torch.Tensor) -> list[torch.Tensor]:
    """Rows (1,) with the least and the largest whole number; none where inputs are real."""
    if inputs.is_floating_point() or not inputs.numel():
        return []
    flat = inputs.flatten(1) if inputs.dim() > 1 else inputs[:, None]
    return [flat.amin(1).argmin()[None], flat.amax(1).argmax()[None]]


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.to(b.dtype), b)


def _whole(rows: torch.Tensor, m: int) -> bool:
    """Whether these rows are all m clients in their order: then nothing need be gathered or put back."""
    return len(rows) == m and bool((rows[1:] > rows[:-1]).all())


def _longest_first(steps: torch.Tensor) -> torch.Tensor:
    """The order of clients by how many local steps they take, (m,)."""
    return steps.argsort(descending=True, stable=True)
