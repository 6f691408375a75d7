"""Tune both, or neither: the same grid of steps for the method and its baseline, on the same budget."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import Any

from octolab.errors import OctolabError
from octolab.experiment.launch import prepare
from octolab.experiment.run import Run
from octolab.experiment.tuning import grid_for, quiet, rank
from octolab.lab.explorer import baseline
from octolab.lab.explorer.state import ExplorerState
from octolab.methods import Method, Theory


class Tuning:
    """Tries every step of the grid on both, in a thread. `then(best)` is called with path -> value if it was not stopped.

    The grid: `multiples` of each theory step where the constants are known, else step sizes. The best has the least final
    loss; diverged runs never win.
    """

    def __init__(
        self,
        state: ExplorerState,
        then: Callable[[dict[str, Any]], Any],
        multiples: Sequence[float] | None = None,
    ):
        self.state, self._then, self._multiples = state, then, multiples
        self.done, self.total, self.error = 0, 0, ""
        self._halt = threading.Event()
        self._now: Run | None = None
        self._thread = threading.Thread(target=self._work, daemon=True, name="octolab-lab")

    def start(self) -> Tuning:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._halt.set()

    def join(self, timeout: float = 10) -> None:
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    @property
    def active(self) -> bool:
        return self._thread.is_alive()

    @property
    def said(self) -> str:
        return f"tuning both over the same grid: {self.done} of {self.total} tried"

    def _work(self) -> None:
        try:
            best = self.best()
        except (OctolabError, ValueError) as error:
            self.error = str(error)
            return
        if not self._halt.is_set():
            self._then(best)

    def best(self) -> dict[str, Any]:
        """Try them all in this thread; path -> the best value. A knob that is locked is left as it is."""
        state, beside = self.state, baseline.choose(self.state)
        sides = {"method.lr": state.method} | ({} if beside is None else {"run.baseline_lr": beside})
        both = {path: method for path, method in sides.items() if not state.is_locked(path) and hasattr(method, "lr")}
        grid = grid_for(list(both.values()), state.problem, None)
        if self._multiples is not None and isinstance(grid[0], Theory):
            grid = grid_for(list(both.values()), state.problem, self._multiples)
        self.total = len(grid) * len(both)
        return {path: self._search(method, grid, path == "run.baseline_lr") for path, method in both.items()}

    def _search(self, method: Method, grid: list[Any], beside: bool) -> Any:
        settings = self.state.arguments() | ({"rounds": baseline.rounds(self.state, method)} if beside else {})
        tried = []
        for value in grid:
            if self._halt.is_set():
                break
            with quiet():
                run = prepare(dataclasses.replace(method, lr=value), self.state.problem, **settings)  # type: ignore[call-arg]
                run.finish(progress=self._look)
            tried.append((rank(run), value))
            self.done += 1
        return min(tried, key=lambda pair: pair[0])[1] if tried else grid[0]

    def _look(self, run: Run) -> None:
        if self._halt.is_set():
            run.stop()
