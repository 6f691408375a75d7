"""A step is a transaction: if it raises, the world is as it was before it.

    with fed.transaction():
        state = method.step(fed, state)

Whoever changes the world while a transaction is open first notes how the change is taken back; an error or an interrupt
then takes back everything, the last change first. Only one thing can be too large for that: the memory of thousands of
clients, written chunk by chunk in place. If such a step breaks off, the federation says that it cannot be used any more.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch

from octolab.errors import HalfWritten

if TYPE_CHECKING:
    from octolab.federation.federation import Federation

LIMIT = 2**25
"""Bytes of clients' memory whose old values a step keeps at most."""


class Transaction:
    """What one step has changed so far.

    open: whether a step is under way. broken: why the federation cannot be used any more; None: it can.
    """

    __slots__ = ("_before", "_fed", "_lost", "_reserved", "_room", "_scripted", "_undo", "broken", "fresh", "open")

    def __init__(self, fed: Federation):
        self._fed = fed
        self._undo: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self._before: tuple[Any, ...] = ()
        self._scripted = fed.randomness.scripts()
        self._room = LIMIT
        self._lost = False
        self._reserved: set[tuple[str, int]] = set()
        self.fresh: set[str] = set()  # memory that this step itself has copied: rows of it need no second copy
        self.open = False
        self.broken: str | None = None

    def __enter__(self) -> Transaction:
        if self.broken is not None:
            self.check()
        fed = self._fed
        memory = fed.memory
        self._before = (
            fed.now,
            fed.counters.copy(),
            fed.started,
            fed._log.copy() if fed._log else None,
            memory.version,
            memory._store.copy(),
            memory._borrowed.copy(),
            fed.randomness.mark() if self._scripted else None,
        )
        self.open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open = False
        if kind is not None:
            self._take_back(error)
        self._before = ()
        if self._undo:
            self._undo.clear()
        if self._lost or self._reserved or self.fresh:
            self._room, self._lost = LIMIT, False
            self.fresh.clear()
            self._reserved.clear()

    def check(self) -> None:
        """Raise `HalfWritten` if an earlier step broke off and could not be taken back."""
        if self.broken is not None:
            raise HalfWritten(self.broken)

    def note(self, undo: Callable[..., Any], *arguments: Any) -> None:
        """`undo(*arguments)` will take back the change that comes next."""
        self._undo.append((undo, arguments))

    def keep_rows(self, name: str, store: torch.Tensor, rows: Any, size: int) -> None:
        """Note the values of `store[rows]`, the memory `name`, which are about to be overwritten.

        size: bytes that the whole call will overwrite, of which these rows are a chunk.
        """
        call = (name, self._fed.counters["calls"])
        if call not in self._reserved:
            self._reserved.add(call)
            self._room -= size
        if self._room < 0:
            self._lost = True
            self._undo.clear()
        if not self._lost:
            self.note(store.__setitem__, rows, store[rows].clone())

    def _take_back(self, error: BaseException | None) -> None:
        what = f"A step broke off ({type(error).__name__}: {error})"
        remedy = "Go on from the last run file, or begin anew."
        if self._lost:
            self.broken = (
                f"{what} while more than {LIMIT >> 20} MB of the clients' memory were being written, which cannot be "
                f"taken back: part of it is that of the step before. {remedy}"
            )
            return
        self.broken = f"{what}, and so did its being taken back. {remedy}"
        while self._undo:
            undo, arguments = self._undo[-1]
            undo(*arguments)  # twice is as good as once: an interrupt may come between the two lines
            self._undo.pop()
        fed = self._fed
        fed.now, fed.counters, fed.started, log, *memory, used = self._before
        fed._log = log or {}
        fed.memory.rewind(*memory)
        if self._scripted:
            fed.randomness.rewind(used)
        fed._last = ()
        if fed._jobs is not None:
            fed._jobs.requeue()
        self.broken = None
