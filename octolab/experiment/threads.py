"""Threads, signals and the end of the process: how a run has the machine for itself, and gives it back."""

from __future__ import annotations

import atexit
import signal
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from types import FrameType
from typing import TYPE_CHECKING

import torch
from threadpoolctl import ThreadpoolController

from octolab.portable import portable

if TYPE_CHECKING:
    from octolab.experiment.background import Background

started: weakref.WeakSet[Background] = weakref.WeakSet()
"""Runs with a worker thread."""


@atexit.register
def _stop_all() -> None:
    """A process that ends while runs go on stops them first: a thread inside torch would abort the interpreter."""
    for run in list(started):
        run.stop()
    for run in list(started):
        run.join(timeout=10)


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def one_thread(exact: bool = False) -> Iterator[None]:
    """One thread inside an operation (threads work over chunks instead, in fixed order), no autograd; both restored.

    exact: portably, see `octolab.portable`.
    """
    before = torch.get_num_threads()
    if before != 1:
        torch.set_num_threads(1)
    try:
        with torch.no_grad(), _libraries().limit(limits=1, user_api="blas"), portable() if exact else nullcontext():
            yield
    finally:
        if before != 1:
            torch.set_num_threads(before)


@contextmanager
def interruptible(run: Background) -> Iterator[None]:
    """The first Ctrl-C stops at the round's end, a second one at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def halt(signum: int, frame: FrameType | None) -> None:
        if run.stopping:
            raise KeyboardInterrupt
        run.stop()

    before = signal.signal(signal.SIGINT, halt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
