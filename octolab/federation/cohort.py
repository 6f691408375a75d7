"""What a client function sees: a cohort of m clients at once, batch-first. One real device is m = 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from octolab.batches import Batch
from octolab.federation.memory import CohortMemory, Memory, Rows
from octolab.randomness import CALL, JOB, Draws, Randomness

if TYPE_CHECKING:
    from octolab.layers import Layer
    from octolab.local import LocalOptimizer
    from octolab.problems import Problem

__all__ = ["Cohort"]


class Cohort(Draws):
    """m clients: their data, their memory, their randomness.

    ids: (m,) client numbers. m, n, d: cohort, federation, model. memory: see `CohortMemory`.
    All vectors are (m, d); a model x is (d,) shared or (m, d), one per client.
    """

    def __init__(
        self,
        problem: Problem,
        memory: Memory,
        source: Randomness,
        ids: np.ndarray,
        rows: Rows,
        event: int,
        kind: int = CALL,
        slots: np.ndarray | None = None,
        cohort_size: int | None = None,
    ):
        super().__init__(source, ids, event, kind, slots, cohort_size)
        self.problem, self.ids, self.rows = problem, ids, rows
        self.n, self.d = problem.n, problem.d
        self.memory: Any = CohortMemory(memory, rows, self.m)
        self.gradients: Any = 0  # work done so far, per client: one number, or (m,)
        self.samples: Any = 0

    def __repr__(self) -> str:
        return f"Cohort of {self.m} of {self.n} clients, d={self.d}"

    # -- the clients' objective --------------------------------------------------------------------------------------
    @property
    def written(self) -> dict[str, torch.Tensor]:
        """What this call has written into the clients' memory so far, by name: it counts once the reply has arrived."""
        return self.memory._staged

    def grad(self, x: torch.Tensor, batch: Batch | None = None, gradients: Any = None) -> torch.Tensor:
        """Gradients (m, d) of f_i at x, over all data or over a batch of `cohort.batch`.

        gradients: how many gradients of work this stands for, (m,); None: one.
        """
        self._work(1, batch)
        if gradients is not None:
            self.gradients = self.gradients - 1 + np.asarray(gradients)
        if self.problem.random:
            batch = self._seeded(batch)
        if self.problem.statistics is None:
            return self.problem.grad(x, self.rows, batch)
        return self._trained(lambda problem: problem.grad(x, self.rows, batch))

    def _seeded(self, batch: Batch | None, steps: int | None = None) -> Batch | None:
        """The batch with seeds (m,), or (steps, m), of what is random inside a module: a function of client and event."""
        if not self.problem.random or (batch is not None and batch.seeds is not None):
            return batch
        drawn = (self._uniform(steps or 1, "forward", self._next("forward")) * 2**53).long()
        seeds = drawn[:, 0] if steps is None else drawn.T
        return Batch(None, None, None, seeds) if batch is None else batch._replace(seeds=seeds)

    def _trained(self, work: Callable[[Problem], torch.Tensor]) -> torch.Tensor:
        """The outcome of training; what the clients keep beside the model (running statistics, say) is remembered."""
        kept = self._kept
        if kept is None or self.problem.statistics is None:
            return work(self.problem)
        result = work(self.problem.keeping(kept))
        self.memory.statistics = self.problem.statistics.remembered(kept, self._kind == JOB)
        return result

    @property
    def _kept(self) -> torch.Tensor | None:
        """(m, s) what the clients keep beside the model; None: nothing."""
        if self.problem.statistics is None:
            return None
        if "statistics" in self.memory._staged:  # this call has trained before
            return self.memory.statistics[:, :-1].clone()
        held = self.memory.statistics if "statistics" in self.memory else None
        return self.problem.statistics.start(self.m, held)

    def loss(self, x: torch.Tensor, batch: Batch | None = None) -> torch.Tensor:
        """Losses f_i(x), (m,). Charged as work like a gradient."""
        self._work(1, batch)
        kept = self._kept
        return (self.problem if kept is None else self.problem.keeping(kept)).loss(x, self.rows, batch)

    def hessian(self, x: torch.Tensor) -> torch.Tensor:
        """Hessians (m, d, d). Charged as d gradients."""
        self._work(self.d, None)
        return self.problem.hessian(x, self.rows)

    def hvp(self, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Hessian-vector products (m, d). Charged as one gradient."""
        self._work(1, None)
        return self.problem.hvp(x, v, self.rows)

    def prox(self, x: torch.Tensor, mu: float | torch.Tensor, tilt: torch.Tensor | None = None) -> torch.Tensor:
        """Exact argmin_y f_i(y) - <tilt_i, y> + (mu/2)|y - x|^2, (m, d), by Newton steps; mu = 0: the own optimum.

        Each Newton step is charged as a gradient and a Hessian (d gradients). See `Problem.prox`.
        """
        y, taken = self.problem.prox(x, self.rows, mu, tilt)
        self._work((self.d + 1) * taken.numpy(), None)
        return y

    def batch(self, size: int | torch.Tensor | None) -> Batch | None:
        """A minibatch of `size` samples per client, without replacement (None: all data, the exact gradient).

        size: one number, or (m,) a size for each client.

        Use one batch at two points: `b = cohort.batch(8); cohort.grad(x, b) - cohort.grad(y, b)`.
        """
        if size is None:
            return None
        given = self.scripted_batch()
        if given is not None:
            return self._seeded(self.problem.as_batch(given))
        return self._seeded(self.problem.draw_batch(size, self.rows, self))

    def local_sgd(
        self,
        x: torch.Tensor,
        *,
        lr: float | torch.Tensor,
        steps: int | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        stop: torch.Tensor | None = None,
        momentum: float = 0.0,
        prox: float = 0.0,
        correction: torch.Tensor | None = None,
        optimizer: LocalOptimizer | None = None,
    ) -> torch.Tensor:
        """Train locally from x; returns the models (m, d).

            v = 0; repeat: v = momentum v + (g_i(y) + correction_i);  y = y - lr (v + prox (y - x))

        `steps`: the same number for all, batches from a shuffled stream that wraps. `epochs`: every client passes over
        its own data, reshuffled each time, the last short batch kept, so that clients with more data take more steps
        (`cohort.local_steps(...)` tells how many). batch_size None: full batches, an epoch is one step.
        `stop`: (m,) whole numbers, after how many of these steps each client rests (partial work, own numbers of local
        steps): the batches are those of the whole plan, so that they do not depend on who else is in the cohort.
        """
        count, batch = self.schedule(steps, epochs, batch_size)
        samples = batch is not None and not callable(batch)
        if stop is not None:
            stop = self._rests(stop)
            if samples:
                batch, stop = batch.until(stop), None
                count = len(batch.index)
        if samples:
            taken = count if batch.mask is None else batch.mask.any(2).sum(0).numpy()
            self.gradients = self.gradients + taken
            self.samples = self.samples + (
                count * batch.index.shape[2] if batch.mask is None else batch.mask.sum((0, 2)).numpy()
            )
        else:
            self._work(count if stop is None else stop.clamp(max=count).numpy(), None)
        batch = batch if callable(batch) else self._seeded(batch, count)
        plan: dict[str, Any] = {
            "lr": lr, "steps": count, "batch": batch, "stop": stop, "prox": prox, "correction": correction,
        }  # fmt: skip
        if optimizer is None or optimizer.momentum_alone is not None:
            momentum = momentum if optimizer is None else float(optimizer.momentum_alone or 0.0)
            return self._trained(lambda problem: problem.local_sgd(x, self.rows, momentum=momentum, **plan))
        kept = [name for name in self.memory if name.startswith("local_")] if optimizer.keeps else []
        remembered = {name.removeprefix("local_"): getattr(self.memory, name) for name in kept}
        state: dict[str, torch.Tensor] = {}

        def train(problem: Problem) -> torch.Tensor:
            y, now = optimizer.train(problem, x, self.rows, remembered=remembered, **plan)
            state.update(now)
            return y

        y = self._trained(train)
        if optimizer.keeps:
            for name, value in state.items():
                setattr(self.memory, f"local_{name}", value)
        return y

    def local_steps(
        self, steps: int | None, epochs: int | None, batch_size: int | None, stop: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(m,) how many steps `local_sgd` with the same arguments takes at each client."""
        if steps is not None:
            plan = torch.full((self.m,), steps)
        else:
            per_epoch = 1 if batch_size is None else np.ceil(self.sizes / batch_size)
            plan = torch.as_tensor(np.broadcast_to((epochs or 1) * per_epoch, (self.m,)).astype(np.int64))
        return plan if stop is None else torch.minimum(plan, self._rests(stop))

    def _rests(self, stop: Any) -> torch.Tensor:
        """`stop` (m,) as whole numbers >= 0."""
        given = torch.as_tensor(stop)
        if given.shape != (self.m,) or given.is_floating_point() or bool((given < 0).any()):
            raise ValueError(
                f"stop={stop!r}: give {self.m} whole numbers >= 0, one for each client of the cohort: after how many "
                f"local steps it rests."
            )
        return given

    def schedule(self, steps: int | None, epochs: int | None, size: int | None) -> tuple[int, Any]:
        """How many local steps, and what they use: None (all data), a `Batch` (steps, m, b), or a function that draws one.

        What `local_sgd` trains on; for pages that take the steps themselves.
        """
        epochs = 1 if steps is None and epochs is None else epochs
        if size is None:
            return int(steps if steps is not None else epochs or 1), None
        count = steps if steps is not None else (epochs or 1) * math.ceil(int(self.sizes.max()) / size)
        if self.problem.noise is not None:  # no samples to pass over: fresh noise in every step
            return count, lambda t: self.batch(size)
        given = self._scripted_schedule(count)
        if given is not None:
            return count, given
        return count, self._shuffled(count, size, steps, epochs or 1)

    def _shuffled(self, count: int, size: int, steps: int | None, epochs: int) -> Any:
        """Batches (count, m, size) cut from reshuffled passes. Widths follow from the problem, not from the cohort."""
        draw, held, everybody = self._next("epoch"), self.problem.same_size, self.problem.sizes
        if held is not None:
            passes = epochs if steps is None else max(1, math.ceil(steps * size / held))
            keys = self._uniform(passes * held, "epoch", draw).numpy().reshape(self.m, passes, held)
            orders = torch.from_numpy(keys.argsort(axis=2, kind="stable"))
            return Batch(*_cut(orders, count, size, wrap=steps is not None), noise=None)
        most = int(everybody.max())
        reserved = epochs * most if steps is None else steps * size + most
        index = torch.zeros(count, self.m, size, dtype=torch.int64)
        mask = torch.zeros(count, self.m, size, dtype=torch.bool)
        for row, (client, own) in enumerate(zip(self._clients.tolist(), self.sizes.tolist(), strict=True)):
            passes = epochs if steps is None else max(1, math.ceil(steps * size / own))
            u = self.source.uniform("epoch", [client], self._event, passes * own, draw, self._kind, reserved)
            stream = u.view(1, passes, own).argsort(dim=2, stable=True)
            filled, taken = _cut(stream, count, size, wrap=steps is not None)
            index[:, row] = filled[:, 0]
            mask[:, row] = True if taken is None else taken[:, 0]
        return Batch(index, mask, noise=None)

    def _scripted_schedule(self, count: int) -> Any:
        """Scripted batches serve local training too: one entry per local step."""
        first = self.scripted_batch()
        if first is None:
            return None
        entries = [first] + [self.scripted_batch() or [] for _ in range(count - 1)]
        width = max(len(rows) for entry in entries for rows in entry)
        index = torch.zeros(count, self.m, width, dtype=torch.int64)
        mask = torch.zeros(count, self.m, width, dtype=torch.bool)
        for t, entry in enumerate(entries):
            for row, numbers in enumerate(entry):
                index[t, row, : len(numbers)] = torch.from_numpy(numbers)
                mask[t, row, : len(numbers)] = True
        return Batch(index=index, mask=None if bool(mask.all()) else mask, noise=None)

    def _work(self, gradients: Any, batch: Batch | None) -> None:
        self.gradients = self.gradients + gradients
        if batch is None or batch.index is None:
            self.samples = self.samples + gradients * self._held
        elif batch.mask is None:
            self.samples = self.samples + gradients * batch.index.shape[-1]
        else:
            self.samples = self.samples + gradients * batch.mask.sum(-1).numpy()

    @property
    def _held(self) -> Any:
        same = self.problem.same_size
        return self.sizes if same is None else same

    # -- what else a client knows ------------------------------------------------------------------------------------
    @property
    def sizes(self) -> np.ndarray:
        """(m,) samples of each client."""
        return self.problem.sizes[self.ids]

    @property
    def weights(self) -> torch.Tensor:
        """(m,) weights w_i of the objective."""
        return self.problem.weights[self.rows]

    def own(self, values: Any) -> torch.Tensor:
        """The cohort's rows (m, ...) of what was configured per client, e.g. individual step sizes (n,)."""
        return torch.as_tensor(np.asarray(values))[self.rows]

    def zeros(self, *shape: int) -> torch.Tensor:
        """(m, d) zeros in the simulation's dtype, or (m, *shape)."""
        return torch.zeros(self.m, *(shape or (self.d,)), dtype=self.problem.dtype)

    def layers(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Named views of a flat model (d,) or (m, d), without a copy."""
        return self.problem.layers(x)

    @property
    def layout(self) -> list[Layer]:
        return self.problem.layout


def _cut(orders: torch.Tensor, count: int, size: int, wrap: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Cut shuffled passes (m, passes, held) into `count` batches: index (count, m, size) and a mask if ragged."""
    m, passes, held = orders.shape
    if wrap or held % size == 0:
        stream = orders.reshape(m, passes * held)[:, : count * size]
        taken = stream.shape[1] // size
        index = torch.zeros(count, m, size, dtype=torch.int64)
        index[:taken] = stream[:, : taken * size].reshape(m, taken, size).transpose(0, 1)
        if taken == count:
            return index, None
        mask = torch.zeros(count, m, size, dtype=torch.bool)
        mask[:taken] = True
        return index, mask
    per = math.ceil(held / size)
    padded = torch.zeros(m, passes, per * size, dtype=torch.int64)
    padded[:, :, :held] = orders
    keep = torch.zeros(m, passes, per * size, dtype=torch.bool)
    keep[:, :, :held] = True
    index = torch.zeros(count, m, size, dtype=torch.int64)
    mask = torch.zeros(count, m, size, dtype=torch.bool)
    taken = passes * per
    index[:taken] = padded.reshape(m, taken, size).transpose(0, 1)
    mask[:taken] = keep.reshape(m, taken, size).transpose(0, 1)
    return index, mask
