"""Turns: a run's state belongs to one at a time, to a step, or between two steps to whoever saves or copies it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from octolab.errors import RunBusy


class Turns:
    """`begin` and `end` around each step; `with between():` waits for the step under way and keeps the next one waiting."""

    def __init__(self) -> None:
        self._state = threading.Lock()
        self._guests, self._left = 0, threading.Condition()
        self._owner: int | None = None  # the thread whose turn it is
        self._stepping = False

    def begin(self) -> None:
        """A step's turn, once all who wait between two steps have had theirs."""
        if self._guests:  # a plain lock would let the next step in first, for ever
            with self._left:
                self._left.wait_for(lambda: not self._guests)
        self._state.acquire()
        self._owner, self._stepping = threading.get_ident(), True

    def end(self) -> None:
        self._owner, self._stepping = None, False
        self._state.release()

    @contextmanager
    def between(self) -> Iterator[None]:
        """Between two steps. RunBusy if the caller is the step itself, which would wait for its own end."""
        if self._owner == threading.get_ident():
            if self._stepping:
                raise RunBusy(
                    "A step of this run asks for the run's state, which is whole only between two steps: save or fork it "
                    "in a callback, or after the round."
                )
            yield  # within another `between` of the same thread
            return
        with self._left:
            self._guests += 1
        try:
            with self._state:
                self._owner = threading.get_ident()
                try:
                    yield
                finally:
                    self._owner = None
        finally:
            with self._left:
                self._guests -= 1
                self._left.notify_all()
