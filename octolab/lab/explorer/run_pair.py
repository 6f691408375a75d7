"""What one press of Run starts: the method and its baseline, each in a worker thread; buttons only set events.

    pair = RunPair(state); pair.start(); pair.pause(); pair.step(); pair.resume(); pair.stop()

A round's end is the only place where anything stops. Building the problem happens in a thread, too, so that a slow
one keeps no button from working. No widget here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from octolab.experiment.run import Run
from octolab.lab.explorer import baseline
from octolab.lab.explorer.state import ExplorerState


class Worker:
    """One run in its thread. `allow(k)`: go on for k rounds and stand still; `allow(None)`: until the end."""

    def __init__(self, run: Run):
        self.run = run
        self._left: int | None = None
        self._stopped = False
        self._lock = threading.Lock()

    def allow(self, rounds: int | None) -> None:
        with self._lock:
            if self._stopped:
                return
            self._left = rounds
            self.run.resume()
            if not self.run.done:
                self.run.launch(self._after)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            self.run.stop()

    def _after(self, run: Run) -> None:
        with self._lock:
            if self._left is not None and not self._stopped:  # a pause would take the stop back
                self._left -= 1
                if self._left <= 0:
                    run.pause()

    def join(self, timeout: float = 10) -> None:
        self.run.join(timeout)


class RunPair:
    """Everything behind one press. `on_start(pair)` is called, in the pair's thread, when the runs exist.

    phase: preparing, running, paused, done, failed. error: the sentence, if it failed. main: the method's run.
    """

    def __init__(
        self, state: ExplorerState, on_start: Callable[[RunPair], Any] | None = None, beside: Worker | None = None
    ):
        self.state, self._on_start, self._ready = state, on_start, beside
        self.main: Run | None = None
        self.beside: Run | None = None if beside is None else beside.run
        self.error: str | None = None
        self._workers: list[Worker] = []
        self._allowed: int | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._prepare, daemon=True, name="octolab-lab")

    # -- events ------------------------------------------------------------------------------------------------------
    def start(self, rounds: int | None = None) -> RunPair:
        """Start both runs; rounds: stand still after so many."""
        self._allowed = rounds
        self._thread.start()
        return self

    def pause(self) -> None:
        with self._lock:
            self._allowed = 0
            for worker in self._workers:
                worker.run.pause()

    def resume(self) -> None:
        self._allow(None)

    def step(self, rounds: int = 1) -> None:
        """One more round each, then stand still."""
        self._allow(rounds)

    def _allow(self, rounds: int | None) -> None:
        with self._lock:
            self._allowed = rounds
            for worker in self._workers:
                worker.allow(rounds)

    def stop(self) -> None:
        """End at the round's end; what there is stays."""
        with self._lock:
            self._closed = True
            for worker in self._workers:
                worker.stop()

    def join(self, timeout: float = 10) -> None:
        """Wait until no thread of this pair is alive."""
        if self._thread.is_alive():
            self._thread.join(timeout)
        for worker in self._workers:
            worker.join(timeout)

    # -- what it is doing --------------------------------------------------------------------------------------------
    @property
    def phase(self) -> str:
        if self.error is not None or (self.main is not None and self.main.status == "failed"):
            return "failed"
        if self.main is None:
            return "done" if self._closed else "preparing"
        if self.main.done:
            return "done"
        return "paused" if self.main.paused else "running"

    @property
    def active(self) -> bool:
        """Whether anything may still move: also a baseline that is behind."""
        return self.phase in ("preparing", "running", "paused") or any(not w.run.done for w in self._workers)

    @property
    def runs(self) -> dict[str, list[Run]]:
        """name -> run, the method first: what a dashboard shows."""
        out = {} if self.main is None else {self.main.name: [self.main]}
        if self.beside is not None:
            out[baseline.label(self.beside)] = [self.beside]
        return out

    def _prepare(self) -> None:
        try:
            main = self.state.prepare()
            beside = self._ready
            if beside is None and (run := self.state.beside()) is not None:
                beside = Worker(run)
        except Exception as error:  # whatever it is: it belongs on the screen, not in a thread's traceback
            self.error = str(error) or repr(error)
            if self._on_start is not None:
                self._on_start(self)
            return
        with self._lock:
            self.main, self.beside = main, None if beside is None else beside.run
            self._workers = [Worker(main)] + ([] if beside is None else [beside])
            if self._closed:
                for worker in self._workers:
                    worker.stop()
            elif self._allowed == 0:  # paused while it was being prepared
                main.pause()
            else:
                for worker in self._workers:
                    worker.allow(self._allowed)
        if self._on_start is not None:
            self._on_start(self)
