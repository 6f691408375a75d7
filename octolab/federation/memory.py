"""What clients remember between calls, and the rule that makes it safe: only a reply that arrives counts.

The store keeps one tensor (n, *shape) per name, all clients stacked. A client function reads and writes through
`cohort.memory`: reads give copies, writes are staged, and they count only for the clients whose reply arrived. A device
that drops out keeps its old memory, so server and client never disagree.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from octolab.federation.transaction import Transaction

Rows = slice | torch.Tensor


class Memory:
    """All clients' memory by name: `memory.g` or `memory["g"]`, shape (n, *shape). Absent clients keep theirs."""

    n: int
    version: int
    _store: dict[str, torch.Tensor]
    _borrowed: set[str]  # names whose tensor somebody else may hold too: copied before rows of it are written
    _lock: threading.Lock
    _step: Transaction | None

    def __init__(self, n: int, step: Transaction | None = None):
        object.__setattr__(self, "n", n)
        object.__setattr__(self, "version", 0)
        object.__setattr__(self, "_lock", threading.Lock())
        object.__setattr__(self, "_step", step)
        object.__setattr__(self, "_store", {})
        object.__setattr__(self, "_borrowed", set())

    def __getitem__(self, name: str) -> torch.Tensor:
        try:
            return self._store[name]
        except KeyError:
            known = ", ".join(self._store) or "nothing yet"
            raise KeyError(f"The clients' memory holds no {name!r}; it holds {known}.") from None

    def __setitem__(self, name: str, value: torch.Tensor) -> None:
        if value.shape[:1] != (self.n,):
            raise ValueError(
                f"memory[{name!r}] needs one row per client, shape ({self.n}, ...); got {tuple(value.shape)}."
            )
        self._store[name] = value
        self._borrowed.add(name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def __setattr__(self, name: str, value: torch.Tensor) -> None:
        self[name] = value

    def __contains__(self, name: object) -> bool:
        return name in self._store

    def __iter__(self) -> Iterator[str]:
        return iter(self._store)

    @property
    def missing(self) -> frozenset[int]:
        """Clients whose rows could not be had when they were last read, where the memory lies elsewhere."""
        return frozenset()

    def items(self) -> Any:
        return self._store.items()

    def __repr__(self) -> str:
        inside = ", ".join(f"{k}: {tuple(v.shape)}" for k, v in self._store.items())
        return f"Memory of {self.n} clients ({inside or 'empty'})"

    def commit(
        self, staged: dict[str, torch.Tensor], rows: Rows, replied: np.ndarray | None, m: int | None = None
    ) -> None:
        """Write back what the rows staged; `replied` (m,) says whose reply arrived (None: everybody's).

        m: size of the whole cohort, where these rows are a chunk of it.
        """
        if replied is not None and not replied.any():
            return  # nobody: nothing has changed
        object.__setattr__(self, "version", self.version + 1)
        whole = isinstance(rows, slice) and rows.stop - rows.start == self.n
        step = self._step if self._step is not None and self._step.open else None
        for name, value in staged.items():
            if whole and replied is None:
                self._store[name] = value.clone() if value.stride() and value.stride()[0] == 0 else value
                self._borrowed.add(name)
                continue
            with self._lock:
                old = self._store.get(name)
                if step is not None and (old is None or name in self._borrowed):
                    step.fresh.add(name)
                if old is None:
                    self._store[name] = torch.zeros(self.n, *value.shape[1:], dtype=value.dtype)
                elif name in self._borrowed:
                    self._store[name] = old.clone()
                self._borrowed.discard(name)
            store = self._store[name]
            where, new = rows, value
            if replied is not None:
                kept = torch.from_numpy(replied)
                where = (torch.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows)[kept]
                new = value[kept]
            if step is not None and name not in step.fresh:
                step.keep_rows(name, store, where, (m or len(value)) * store[0].nbytes)
            store[where] = new

    # -- a step that is taken back -----------------------------------------------------------------------------------
    def rewind(self, version: int, store: dict[str, torch.Tensor], borrowed: set[str]) -> None:
        """The same tensors again. (Rows that were written in place, the transaction itself has kept.)"""
        for name, value in {"version": version, "_store": store, "_borrowed": borrowed}.items():
            object.__setattr__(self, name, value)


class CohortMemory:
    """The cohort's rows of the memory: `cohort.memory.g` (m, *shape). Reads copy, writes are staged."""

    __slots__ = ("_memory", "_rows", "_size", "_staged")
    _memory: Memory
    _rows: Rows
    _size: int
    _staged: dict[str, torch.Tensor]

    def __init__(self, memory: Memory, rows: Rows, size: int):
        object.__setattr__(self, "_memory", memory)
        object.__setattr__(self, "_rows", rows)
        object.__setattr__(self, "_size", size)
        object.__setattr__(self, "_staged", {})

    def __getattr__(self, name: str) -> Any:
        if name in self._staged:
            return self._staged[name]
        everybody, rows = self._memory._store.get(name), self._rows
        if everybody is None:
            raise AttributeError(
                f"The clients' memory holds no {name!r} yet: write cohort.memory.{name} first, in a function that "
                f"init calls on every client."
            )
        if isinstance(rows, slice):
            return everybody.clone() if self._size == len(everybody) else everybody[rows].clone()
        return everybody[rows]

    def __setattr__(self, name: str, value: Any) -> None:
        if not isinstance(value, torch.Tensor):
            value = value.dense() if hasattr(value, "dense") else torch.as_tensor(value)
        if value.shape[:1] != (self._size,):
            raise ValueError(
                f"cohort.memory.{name} needs one row per client, shape ({self._size}, ...); got {tuple(value.shape)}."
            )
        self._staged[name] = value

    def __contains__(self, name: object) -> bool:
        return name in self._staged or name in self._memory

    def __iter__(self) -> Iterator[str]:
        return iter({**self._memory._store, **self._staged})
