"""How a client function is evaluated: the cohort in stacked chunks, in fixed order, on one or more threads.

Chunks are sized to cache and memory by the problem. The cut depends on the cohort and not on the threads, and results
are put together in chunk order, so the number of threads never changes a result.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch

from octolab import portable
from octolab.errors import MethodMistake
from octolab.federation.buffers import Buffers
from octolab.federation.cohort import Cohort
from octolab.federation.memory import Memory, Rows
from octolab.payloads import Dense, Payload, Scalars
from octolab.randomness import JOB

if TYPE_CHECKING:
    from octolab.federation.federation import Federation
    from octolab.federation.jobs import Job

MANY = 50  # clients from which a second thread pays


@dataclass(frozen=True)
class Each:
    """A different value for each client of the cohort: `fed.call(fn, Each(values), to=cohort)`, values (m, ...)."""

    values: torch.Tensor


def stacked(result: Any, m: int) -> Payload:
    """What a client function returned, as the stacked payload of m clients."""
    if isinstance(result, Payload):
        return result
    if isinstance(result, torch.Tensor) and result.shape[:1] == (m,):
        return Scalars(result) if result.dim() == 1 else Dense(result)
    given = tuple(result.shape) if isinstance(result, torch.Tensor) else type(result).__name__
    raise MethodMistake(
        f"A client function returns a payload or a tensor with one row per client ({m}, ...); got {given}. "
        f"The cohort's gradients are such rows:  return cohort.grad(x)"
    )


@dataclass
class Result:
    """What a cohort did: payloads, staged memory, and the work and bits of each client."""

    payloads: list[Payload | None]
    is_tuple: bool
    gradients: Any
    samples: Any
    staged: list[tuple[dict[str, torch.Tensor], Rows, slice]]
    bits: Any = None
    paper_bits: Any = None
    absent: np.ndarray | None = field(default=None)  # (m,) who really did not answer; their rows mean nothing
    unsent: np.ndarray | None = field(default=None)  # (m,) whose reply was never sent, and is not charged
    seconds: np.ndarray | None = field(default=None)  # (m,) virtual seconds of the upload

    def settle(self, memory: Memory, replied: np.ndarray | None) -> None:
        """The call's end: what clients staged counts for those who replied, (m,) bool (None: everybody)."""
        m = self.staged[-1][2].stop if self.staged else 0  # chunks are in order
        for staged, rows, part in self.staged:
            memory.commit(staged, rows, None if replied is None else replied[part], m)


def _rows(ids: np.ndarray) -> Rows:
    """Consecutive clients are a slice (a view, no copy), others an index."""
    if len(ids) and ids[-1] - ids[0] == len(ids) - 1 and (len(ids) < 3 or bool((ids[1:] - ids[:-1] == 1).all())):
        return slice(int(ids[0]), int(ids[-1]) + 1)
    return torch.from_numpy(ids)


def _worker(exact: bool) -> None:
    """A thread of the pool: one intra-op thread, no autograd (both are per thread); portably, if its maker computes so."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    if exact:
        portable.portable().__enter__()


@runtime_checkable
class Evaluates(Protocol):
    """What evaluates client functions for a federation: here (`Executor`), or on other machines."""

    def run(self, fed: Federation, fn: Callable[..., Any], ids: np.ndarray, down: tuple, event: int) -> Result:
        """A call: what the clients `ids` (m,) reply to `fn(cohort, *down)`, and the work it took them."""
        ...

    def job(self, fed: Federation, job: Job) -> tuple[Payload, float, float]:
        """One client's job: its payload, and the gradients and samples it took."""
        ...


class Executor:
    """Evaluates client functions here, in stacked passes. Anything that `Evaluates` may take its place.

    mode: "auto" (chunks as the problem advises), "stacked" (one pass), "loop" (one by one), or a chunk size."""

    def __init__(self, mode: str | int = "auto", threads: int | None = None):
        valid = mode in ("auto", "stacked", "loop") or (
            isinstance(mode, int) and not isinstance(mode, bool) and mode > 0
        )
        if not valid:
            raise ValueError(f"executor={mode!r}: choose 'auto', 'stacked', 'loop', or a number of clients per pass.")
        self.mode = mode
        self.threads = threads or min(os.cpu_count() or 1, 8)
        self._pool: ThreadPoolExecutor | None = None
        self._buffers = Buffers()

    def chunk(self, fed: Federation, m: int) -> int:
        if self.mode == "stacked":
            return m
        if self.mode == "loop":
            return 1
        return self.mode if isinstance(self.mode, int) else fed.problem.chunk

    def run(self, fed: Federation, fn: Callable[..., Any], ids: np.ndarray, down: tuple, event: int) -> Result:
        m = len(ids)
        if m == 0:
            return Result([None], False, 0.0, 0.0, [])
        size = self.chunk(fed, m)
        if size >= m:
            rows = fed.all_rows if ids is fed.everybody else _rows(ids)
            cohort = Cohort(fed.problem, fed.memory, fed.randomness, ids, rows, event)
            return self._alone(cohort, fn(cohort, *self._received(down, slice(0, m))), m)
        if self.mode == "auto" and m >= MANY:  # near a multiple of 4 chunks, so that few threads share them evenly
            size = -(-m // (4 * max(1, round(m / (4 * size)))))
        parts = [slice(a, min(a + size, m)) for a in range(0, m, size)]
        gathered = _Gathered(m, self._buffers)

        def one(part: slice) -> tuple[Cohort, Any, slice]:
            cohort, returned, part = self._pass(fed, fn, ids, down, event, part, m)
            if fed.reliable:  # every reply will arrive: write memory chunk by chunk, nothing is held twice
                fed.memory.commit(cohort.memory._staged, cohort.rows, None, m)
                cohort.memory._staged.clear()
            return cohort, gathered.take(returned, part), part

        in_order = fed.randomness.scripts()  # scripts are handed out in order of use
        if self.threads > 1 and m >= MANY and self.mode == "auto" and not in_order:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.threads, "octolab", _worker, (portable.on(),))
            return self._join(_all_done([self._pool.submit(one, part) for part in parts]), gathered)
        return self._join([one(p) for p in parts], gathered)

    def job(self, fed: Federation, job: Job) -> tuple[Payload, float, float]:
        """One client's job: its payload, and the gradients and samples it took."""
        client = job.client
        row = slice(client, client + 1)
        cohort = Cohort(fed.problem, fed.memory, fed.randomness, np.array([client]), row, job.number, JOB)
        payload = stacked(job.fn(cohort, *job.down), 1)
        fed.memory.commit(cohort.memory._staged, row, None)
        return payload, float(np.sum(cohort.gradients)), float(np.sum(cohort.samples))

    @staticmethod
    def _received(down: tuple, part: slice) -> list[Any]:
        return [item.values[part] if isinstance(item, Each) else item for item in down]

    @staticmethod
    def _alone(cohort: Cohort, returned: Any, m: int) -> Result:
        """The result of a single pass."""
        is_tuple = isinstance(returned, tuple)
        parts = returned if is_tuple else (returned,)
        payloads = [None if part is None else stacked(part, m) for part in parts]
        staged = cohort.memory._staged
        result = Result(
            payloads, is_tuple, cohort.gradients, cohort.samples, [(staged, cohort.rows, slice(0, m))] if staged else []
        )
        return priced(result)

    def _pass(
        self, fed: Federation, fn: Callable[..., Any], ids: np.ndarray, down: tuple, event: int, part: slice, m: int
    ) -> tuple[Cohort, Any, slice]:
        chunk = ids[part]
        slots = np.arange(part.start, part.stop)
        cohort = Cohort(fed.problem, fed.memory, fed.randomness, chunk, _rows(chunk), event, slots=slots, cohort_size=m)
        return cohort, fn(cohort, *self._received(down, part)), part

    @staticmethod
    def _join(passes: list[tuple[Cohort, Any, slice]], gathered: _Gathered) -> Result:
        first, m = passes[0][1], gathered.m
        is_tuple = isinstance(first, tuple)
        payloads: list[Payload | None] = []
        for k in range(len(first) if is_tuple else 1):
            payloads.append(gathered.joined(k, [r[k] if is_tuple else r for _, r, _ in passes]))
        result = Result(
            payloads,
            is_tuple,
            _gather([(c.gradients, p) for c, _, p in passes], m),
            _gather([(c.samples, p) for c, _, p in passes], m),
            [(c.memory._staged, c.rows, p) for c, _, p in passes if c.memory._staged],
        )
        return priced(result)


def _all_done(chunks: list[Future]) -> list[Any]:
    """The results. If one failed, or an interrupt came, those under way are waited for: afterwards nobody writes."""
    try:
        return [chunk.result() for chunk in chunks]
    except BaseException:
        for chunk in chunks:
            chunk.cancel()
        wait(chunks)
        raise


class _Gathered:
    """What chunks returned, moved at once out of their temporaries into buffers for the whole cohort.

    The original lies among the chunk's temporaries, and would keep the next chunk from using the same memory: with
    10,000 clients that fragmentation cost up to 800 MB.
    """

    def __init__(self, m: int, pool: Buffers):
        self.m, self._pool = m, pool
        self._buffers: dict[tuple, torch.Tensor] = {}  # (m, ...) by position in the reply, and field
        self._kinds: dict[tuple, type] = {}
        self._uneven: set[int] = set()  # positions with something that no buffer holds
        self._lock = threading.Lock()

    def take(self, returned: Any, part: slice) -> Any:
        if isinstance(returned, tuple):
            return tuple(self._one(k, item, part) for k, item in enumerate(returned))
        return self._one(0, returned, part)

    def _one(self, k: int, returned: Any, part: slice) -> Payload | None:
        if returned is None:
            return None
        return self._moved((k,), stacked(returned, part.stop - part.start), part)  # type: ignore[no-any-return]

    def joined(self, k: int, column: list[Any]) -> Payload | None:
        """The k-th part of the whole cohort's reply: the buffers themselves, where they hold all of it."""
        if column[0] is None:
            return None
        if k in self._uneven:
            return type(column[0]).cat(column)  # type: ignore[no-any-return]
        return self._whole((k,), column[0])  # type: ignore[no-any-return]

    def _whole(self, at: tuple, value: Any) -> Any:
        if isinstance(value, Payload):
            return replace(value, **{f: self._whole((*at, f), getattr(value, f)) for f in value.row_fields})
        if isinstance(value, tuple):
            return tuple(self._whole((*at, k), v) for k, v in enumerate(value))
        return None if value is None else self._buffers[at]

    def _moved(self, at: tuple, value: Any, part: slice) -> Any:
        if self._kinds.setdefault(at, type(value)) is not type(value):
            self._uneven.add(at[0])
        if isinstance(value, Payload) and value.row_fields:
            return replace(value, **{f: self._moved((*at, f), getattr(value, f), part) for f in value.row_fields})
        if isinstance(value, Payload):
            self._uneven.add(at[0])
            return type(value).cat([value])
        if isinstance(value, tuple):
            return tuple(self._moved((*at, k), v, part) for k, v in enumerate(value))
        if value is None:
            return None
        with self._lock:
            buffer = self._buffers.get(at)
            if buffer is None:
                buffer = self._buffers[at] = self._pool.empty((self.m, *value.shape[1:]), value.dtype)
        place = buffer[part]
        if place.shape != value.shape or place.dtype != value.dtype:  # chunks of different widths, or no row per client
            self._uneven.add(at[0])
            return value.clone()
        return place.copy_(value)


def priced(result: Result) -> Result:
    """Add up the bits of all parts of the reply: one number if the same for all clients, else (m,)."""
    for payload in result.payloads:
        if payload is not None:
            bits, paper = payload.cost
            result.bits, result.paper_bits = _plus(result.bits, bits), _plus(result.paper_bits, paper)
    return result


def _plus(total: Any, cost: int | torch.Tensor) -> Any:
    own = cost if isinstance(cost, int) else cost.numpy()
    return own if total is None else total + own


def _gather(values: list[tuple[Any, slice]], m: int) -> Any:
    """One number if it is the same for all, else (m,)."""
    if len(values) == 1:
        return values[0][0]
    if all(not isinstance(v, np.ndarray) for v, _ in values) and len({v for v, _ in values}) == 1:
        return values[0][0]
    out = np.empty(m)
    for value, part in values:
        out[part] = value
    return out
