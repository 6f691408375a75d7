"""A run: a method on a problem, step by step, recorded, interruptible at any moment and resumable bit for bit."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import warnings
from collections.abc import Callable
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from octolab.errors import AssumptionWarning, ClientAway, NonFinite, NoReplies, NothingUnderWay, OctolabError
from octolab.experiment.observer import Observer
from octolab.experiment.personal import personal_columns
from octolab.experiment.record import Recorder
from octolab.experiment.settings import FOREVER, Settings, Until, writable
from octolab.experiment.threads import interruptible, one_thread, started
from octolab.faces import face
from octolab.federation import Federation, Randomness
from octolab.methods import Method, get

if TYPE_CHECKING:
    from octolab.experiment.alerts import Alert


class Run:
    """One run. `history` is a table, `state` the server's state, `federation` the world with ledger and memory.

    Steps happen in the caller's thread (`finish`, `advance`) or in a worker (`launch`); both stop at a round's end.
    """

    def __init__(self, method: Method | str, problem: Any, settings: Settings, randomness: Randomness | None = None):
        given = method if isinstance(method, Method) else get(method)()
        dtype = None if settings.dtype is None else getattr(torch, settings.dtype)
        self.problem = problem if dtype in (None, problem.dtype) else problem.with_dtype(dtype)
        self.given, self.settings, self._every = given, settings, settings.every
        self.method = given.resolve(self.problem)
        if settings.checkpoint is not None:
            writable(settings.checkpoint)
        self.federation = Federation(
            self.problem,
            fleet=settings.fleet,
            randomness=Randomness(settings.seed) if randomness is None else randomness,
            x0=self.problem.check_x0(settings.x0),
            deadline=settings.deadline,
            attack=settings.attack,
            executor=settings.executor,
            threads=settings.threads,
        )
        if "full participation" in self.method.needs and not self.federation.fleet.lossless:
            warnings.warn(
                f"{type(self.method).__name__} counts on everybody taking part, and this fleet's devices drop out: its "
                f"theorem does not cover that.",
                AssumptionWarning,
                stacklevel=3,
            )
        self.state: Any = None
        self.round = -1  # nothing done yet; 0 after init
        self.error: Exception | None = None
        self.status = "new"  # new, running, paused, stopped, finished, diverged, stalled
        self.recorder = Recorder(keep=settings.keep == "x")
        self.observer = Observer(self.problem)
        self._go, self._halt, self._done = threading.Event(), threading.Event(), threading.Event()
        self._go.set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.name = given.card.name or type(given).__name__
        self.world = None if settings.on is None else _join(self)  # where client functions run, if not here

    # -- what there is to see ----------------------------------------------------------------------------------------
    @property
    def history(self) -> Any:
        """pandas table, one row per step: round, time, bits_up, bits_down, ..., loss, grad_norm_sq (see `Recorder`)."""
        with self._lock:
            return self.recorder.table()

    @property
    def iterates(self) -> torch.Tensor:
        """(T+1, d): the server model after init and after every step. Needs keep='x'."""
        if self.settings.keep != "x":
            raise ValueError("This run kept no iterates: run again with keep='x'.")
        return torch.stack(self.recorder.iterates)

    @property
    def x(self) -> torch.Tensor:
        """(d,) the server model now."""
        return self.method.model(self.state)

    @property
    def spec(self) -> dict[str, Any]:
        """A small JSON description that reproduces this run: `octolab.run(**)` of it, see `octolab.from_spec`."""
        from octolab.experiment.spec import describe

        return describe(self)

    @property
    def alerts(self) -> list[Alert]:
        """What a careful eye would notice now, each with a recommendation: see `octolab.experiment.alerts`."""
        from octolab.experiment.alerts import alerts

        return alerts(self)

    def metrics(self) -> dict[str, float]:
        """The objective at the current model: loss, grad_norm_sq and, where there are test data, accuracy."""
        return self.problem.evaluate(self.x)

    def client_metrics(self, personal: bool = False) -> dict[str, np.ndarray]:
        """Per-client metrics, arrays (n,): training loss, and accuracy on each client's own test part.

        Of the server model, or, with personal=True, of each client's own model.
        """
        if not personal:
            return self.problem.client_metrics(self.x)
        own = self.method.personal(self.federation, self.state)
        if own is None:
            raise ValueError(
                f"{type(self.method).__name__} makes no personal models: leave out personal=True, or use a method that "
                f"does, such as Ditto or Scafflix."
            )
        return self.problem.client_metrics(own)

    def __repr__(self) -> str:
        from octolab.experiment.summary import text

        return text(self)

    def _repr_html_(self) -> str:
        return str(face("run.html")(self))

    # -- stepping ----------------------------------------------------------------------------------------------------
    def advance(self, rounds: int = 1) -> Run:
        """Take some steps now, in this thread (more than `rounds` if the run is already past its plan)."""
        with one_thread():
            for _ in range(rounds):
                if not self._advance():
                    break
        return self

    def finish(self, progress: Callable[[Run], Any] | None = None) -> Run:
        """Step until the plan is done, an error or an interrupt; an interrupt stops at the round's end."""
        if threading.current_thread() is not self._thread:
            self._halt.clear()  # a run that was stopped goes on
        self.status = "running"
        self._halt.clear()
        with one_thread(), interruptible(self), closing(self.world) if self.world else nullcontext():
            while self._more():
                if not self._advance():
                    break
                if progress is not None:
                    progress(self)
            if self.status == "running":
                self.status = "stopped" if self._halt.is_set() and self._left() else "finished"
            if self.settings.checkpoint is not None and (self.world is None or self.world.savable):
                self.save(self.settings.checkpoint)
        self._done.set()
        return self

    def _left(self) -> bool:
        if self.round < 0:
            return True
        if self.round >= self.settings.rounds:
            return False
        return self.settings.until is None or not self.settings.until.reached(self.recorder.last)

    def _more(self) -> bool:
        self._go.wait()
        return self.status == "running" and not self._halt.is_set() and self._left()

    def _advance(self) -> bool:
        """One step (the first is init). False: the run cannot go on."""
        if self.world is not None and self.world.remote:
            return self.world.advance()
        fed, marker = self.federation, self.federation.memory.version
        try:
            if self.round < 0:
                self.state = self.method.init(fed)
                fed.started = True
            else:
                self.state = self._step(fed)
        except NothingUnderWay as error:
            return self._end("stalled", error)
        except NoReplies as error:
            if fed.memory.version != marker:
                return self._end("stalled", error)
            fed.log(skipped=True)  # nobody answered: the round is void, time has passed
        x = self.x
        if not math.isfinite(float(x.sum())) and not bool(torch.isfinite(x).all()):
            return self._end("diverged", fed.blame(self.round + 1, getattr(self.method, "lr", None)))
        self.round += 1
        self._record(x)
        every = self.settings.checkpoint_every
        due = every is not None and self.round % every == 0 and self.settings.checkpoint is not None
        if due and (self.world is None or self.world.savable):
            self.save(str(self.settings.checkpoint))
        return True

    def _step(self, fed: Federation) -> Any:
        """The method's step; taken again, without the job, while a job's client is away (a dead node, say)."""
        while True:
            try:
                return self.method.step(fed, self.state)
            except ClientAway as error:
                fed.jobs.put_off(error)

    def _record(self, x: torch.Tensor) -> None:
        row: dict[str, float] = {}
        if self.round % self._every == 0 or self.round >= self.settings.rounds:
            row = self.problem.evaluate(x) | personal_columns(self, x)
        with self._lock:
            self.recorder.add(self.round, self.federation, row, x)
        if row:
            self.observer.see(self, x)

    def _end(self, status: str, error: Exception) -> bool:
        self.status, self.error = status, error
        if threading.current_thread() is threading.main_thread():  # a worker's error is kept, and read by whoever asks
            warnings.warn(str(error), RuntimeWarning, stacklevel=6)
        return False

    # -- in the background -------------------------------------------------------------------------------------------
    def launch(self, progress: Callable[[Run], Any] | None = None) -> Run:
        """Start stepping in a worker thread and return at once; `progress(run)` is called there after every round.

        A second call while it runs changes nothing.
        """
        if self.alive:
            return self
        self._done.clear()
        self._go.set()
        self._thread = threading.Thread(target=self._work, args=(progress,), daemon=True, name="octolab-run")
        self._thread.start()
        started.add(self)
        return self

    @property
    def alive(self) -> bool:
        """Whether its worker thread is at work."""
        return self._thread is not None and self._thread.is_alive()

    def _work(self, progress: Callable[[Run], Any] | None) -> None:
        try:
            self.finish(progress)
        except BaseException as error:
            self.error, self.status = error if isinstance(error, Exception) else OctolabError(repr(error)), "failed"
        finally:
            self._done.set()

    def pause(self) -> Run:
        """Stand still at the next round's end."""
        self._go.clear()
        return self

    def resume(self) -> Run:
        self._go.set()
        return self

    def stop(self) -> Run:
        """End at the next round's end; what there is stays, and `launch` or `finish` would go on."""
        self._halt.set()
        self._go.set()
        if self.status == "new" and not self.alive:
            self._done.set()  # nothing has begun
        return self

    def join(self, timeout: float | None = None) -> None:
        """Wait until the worker thread is gone, whatever became of the run."""
        if self._thread is not None and self.alive:
            self._thread.join(timeout)

    @property
    def paused(self) -> bool:
        return not self._go.is_set()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def result(self, timeout: float | None = None) -> Run:
        """Wait for the end; an unexpected error of the worker is raised here."""
        if not self._done.wait(timeout):
            raise TimeoutError(
                f"The run is at round {self.round} of {self.settings.rounds} after {timeout} s of waiting."
            )
        if self.status == "failed" and self.error is not None:
            raise self.error
        return self

    async def wait(self) -> Run:
        """`await run.wait()` in a notebook: buttons stay alive meanwhile."""
        while not self._done.is_set():
            await asyncio.sleep(0.02)
        return self.result()

    # -- files -------------------------------------------------------------------------------------------------------
    def save(self, path: str | os.PathLike) -> str:
        """Write everything needed to go on bit for bit (safetensors with a JSON header, atomically)."""
        from octolab.experiment.checkpoint import save

        return save(self, path)

    def export_flower_app(self, folder: str | os.PathLike, *, replace: bool = False) -> str:
        """Write this run as a Flower app that `flwr run` starts as it is: see `octolab.flower.export`."""
        from octolab.flower import export

        return str(export(self, folder, replace=replace))

    def fork(self, **changes: Any) -> Run:
        """A copy at this point that goes its own way; `changes` are settings or hyperparameters, e.g. lr=0.1."""
        from octolab.experiment.checkpoint import fork

        return fork(self, changes)

    def export(self, path: str | os.PathLike, **options: Any) -> str:
        """Write this run as .csv, .parquet, .html (one page, offline), .svg, .png or .tex; see `octolab.lab.export`."""
        return str(face("run.export")(self, path, **options))

    def figure(self) -> Any:
        """A plotly figure: loss and squared gradient norm, with buttons for the x axis."""
        return face("run.figure")([self])

    def dashboard(self, **options: Any) -> Any:
        """`octolab.dashboard(run)`: everything this run records, live and after; static outside a notebook."""
        return face("run.dashboard")(self, **options)


def _join(run: Run) -> Any:
    from octolab.flower.world import world_named

    return world_named(run.settings.on).join(run)


__all__ = ["FOREVER", "NonFinite", "Run", "Settings", "Until"]
