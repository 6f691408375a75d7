"""A run in the background: a worker thread steps, buttons only set events, and everything stops at a round's end."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from octolab.arguments import expects, function, number
from octolab.errors import OctolabError, RunBusy
from octolab.experiment.threads import started
from octolab.experiment.turns import Turns

if TYPE_CHECKING:
    from octolab.experiment.settings import Settings

Progress = Callable[[Any], object]
"""Called with the run after every round, in the thread that steps."""


class Background(ABC):
    """What steps and can be paused, resumed, stopped and waited for. A subclass says how it goes on: `_go_on`.

    One thread steps at a time: the worker of `launch`, or a caller inside `stepping`.
    """

    settings: Settings
    round: int
    status: str
    error: Exception | None

    def __init__(self) -> None:
        self.turns = Turns()
        self._go, self._halt, self._done = threading.Event(), threading.Event(), threading.Event()
        self._go.set()
        self._steps = threading.Lock()  # held by whoever steps
        self._thread: threading.Thread | None = None

    @abstractmethod
    def _go_on(self, progress: Progress | None) -> None:
        """Step until the plan is done or a stop is asked for."""

    # -- who steps ---------------------------------------------------------------------------------------------------
    @contextmanager
    def stepping(self) -> Iterator[None]:
        """The caller's thread steps now; RunBusy if another one does. What ends in an error is failed, and done."""
        if not self._steps.acquire(blocking=False):
            raise RunBusy(
                f"The run is at work in another thread (round {self.round}): wait for it with run.result(), or end it "
                f"with run.stop() and run.join() first."
            )
        self._halt.clear()  # a run that was stopped goes on
        self._done.clear()
        try:
            with self._failing():
                yield
        finally:
            self._steps.release()
            self._done.set()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            kept = isinstance(error, Exception)
            self.error = error if isinstance(error, Exception) else OctolabError(repr(error))
            self.status = "failed" if kept else "stopped"
            raise

    @expects(progress=function("a function of the run"))
    def launch(self, progress: Progress | None = None) -> Self:
        """Start stepping in a worker thread and return at once; `progress(run)` is called there after every round.

        A second call while it runs changes nothing.
        """
        if not self._steps.acquire(blocking=False):
            return self
        self._halt.clear()  # here, not in the worker: a stop that comes before the worker's first step counts
        self._done.clear()
        self._go.set()
        self._thread = threading.Thread(target=self._work, args=(progress,), daemon=True, name="octolab-run")
        self._thread.start()
        started.add(self)
        return self

    def _work(self, progress: Progress | None) -> None:
        try:
            with self._failing():
                self._go_on(progress)
        except BaseException:
            self.status = "failed"  # kept in `error`, and raised by `result`
        finally:
            self._steps.release()
            self._done.set()

    # -- events ------------------------------------------------------------------------------------------------------
    def pause(self) -> Self:
        """Stand still at the next round's end."""
        self._go.clear()
        return self

    def resume(self) -> Self:
        """Go on after `pause`."""
        self._go.set()
        return self

    def stop(self) -> Self:
        """End at the next round's end; what there is stays, and `launch` or `finish` would go on."""
        self._halt.set()
        self._go.set()
        if self.status == "new" and not self._steps.locked():
            self._done.set()  # nothing has begun
        return self

    @property
    def paused(self) -> bool:
        """Whether `pause` was asked for last."""
        return not self._go.is_set()

    @property
    def stopping(self) -> bool:
        """Whether the end at the next round's end was asked for."""
        return self._halt.is_set()

    # -- waiting -----------------------------------------------------------------------------------------------------
    @property
    def alive(self) -> bool:
        """Whether its worker thread is at work."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._done.is_set()

    @property
    def moving(self) -> bool:
        """Whether a thread steps it now, and it does not stand still."""
        return self._steps.locked() and not self.paused

    @expects(timeout=number("seconds", ge=0))
    def join(self, timeout: float | None = None) -> None:
        """Wait until the worker thread is gone, whatever became of the run."""
        if self._thread is not None and self.alive:
            self._thread.join(timeout)

    @expects(timeout=number("seconds", ge=0))
    def result(self, timeout: float | None = None) -> Self:
        """Wait for the end; an unexpected error of the worker is raised here."""
        if not self._done.wait(timeout):
            raise TimeoutError(
                f"The run is at round {self.round} of {self.settings.rounds} after {timeout} s of waiting."
            )
        if self.status == "failed" and self.error is not None:
            raise self.error
        return self

    async def wait(self) -> Self:
        """`await run.wait()` in a notebook: buttons stay alive meanwhile."""
        while not self._done.is_set():
            await asyncio.sleep(0.02)
        return self.result()
