"""Callbacks: what listens to a run, and may ask it to stop.

A callback is any object with some of `on_start(run)`, `on_round(run)`, `on_evaluate(run)`, `on_end(run)`; each gets a
`View` of the run. `on_round` comes once per round, never for round 0; `on_evaluate` where the objective was evaluated,
round 0 too. Returning "stop" ends the run at this round. They run in the thread that steps, between two rounds.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from octolab.arguments import RUN, expect, expects, sequence
from octolab.experiment.record import COUNTED

if TYPE_CHECKING:
    import torch

    from octolab.experiment.record import Snapshot
    from octolab.experiment.run import Run

STOP = "stop"
SLOW = 0.5
"""Share of a run's time in one callback that is worth a word, once it has taken `SLOW_SECONDS`."""
SLOW_SECONDS = 5.0
HOOKS = ("on_start", "on_round", "on_evaluate", "on_end")

log = logging.getLogger("octolab")


class Callback(Protocol):
    """Some of on_start, on_round, on_evaluate, on_end, each taking a `View` and returning None or "stop"."""


SEEN = (
    *(
        "name",
        "status",
        "round",
        "settings",
        "method",
        "given",
        "problem",
        "spec",
        "provenance",
        "history",
        "last",
        "alerts",
    ),
    *("guarantee", "metrics", "client_metrics", "greater_is_better", "save", "snapshot", "stop_reason"),
)
"""What a callback sees of a run, beside x and row."""


class View:
    """A run to be looked at: nothing of it can be set, and its model is a copy."""

    __slots__ = ("_run",)

    @expects(run=RUN)
    def __init__(self, run: Run):
        object.__setattr__(self, "_run", run)

    def __getattr__(self, name: str) -> Any:
        if name in SEEN:
            return getattr(self._run, name)
        raise AttributeError(f"A callback's view of a run has no {name!r}; it has x, row, {', '.join(SEEN)}.")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"A callback looks at a run and sets nothing of it ({name!r}); it may return 'stop'.")

    def __dir__(self) -> list[str]:
        return [*SEEN, "row", "x"]

    @property
    def x(self) -> torch.Tensor:
        """(d,) the server model now, a copy."""
        return self._run.x.clone()

    @property
    def row(self) -> dict[str, Any]:
        """The newest row: counted values, and what was evaluated or logged in this very round."""
        return row_at(self._run.snapshot(), -1)


def row_at(now: Snapshot, at: int) -> dict[str, Any]:
    """Row `at` of a record (-1: the newest), with the columns that have a value there."""
    from bisect import bisect_left

    at = at + now.length if at < 0 else at
    row: dict[str, Any] = dict(zip(COUNTED, now.rows[at], strict=True))
    for name, column in now.columns.items():
        place = bisect_left(column.rows, at, 0, column.length)
        if place < column.length and column.rows[place] == at:
            row[name] = column.values[place]
    return row


class Callbacks:
    """Several callbacks as one: each error is said once and never ends the run; what stops it is named."""

    def __init__(self, run: Run, callbacks: Sequence[Callback], clock: Callable[[], float] = time.monotonic):
        self._view, self._clock = View(run), clock
        expect("", "callbacks", callbacks, sequence(f"a list of objects that have some of {', '.join(HOOKS)}"))
        self._callbacks, self._out = callbacks, set[int]()  # by place: those whose start failed
        for c in callbacks:
            if isinstance(c, type) or not any(callable(getattr(c, hook, None)) for hook in HOOKS):
                raise ValueError(
                    f"callbacks: {c!r} has none of {', '.join(HOOKS)}: give objects that have some of them."
                )
        self._said: set[tuple[str, str]] = set()
        self._spent: dict[str, float] = {}
        self._begun = clock()
        self.stopped: list[str] = []  # who asked for the end, in words

    def start(self) -> bool:
        """Before the first step of `finish` or `launch`. True: a callback asks for the end."""
        self._begun, self._spent, self.stopped, self._out = self._clock(), {}, [], set()
        return self._call("on_start")

    def round(self, number: int, evaluated: bool) -> bool:
        """After a round's row is there. True: a callback asks for the end."""
        stop = number > 0 and self._call("on_round")
        return (evaluated and self._call("on_evaluate")) or stop

    def end(self) -> None:
        """After the last step, whatever became of the run."""
        self._call("on_end")

    def _call(self, hook: str) -> bool:
        stop = False
        for place, callback in enumerate(self._callbacks):
            function = getattr(callback, hook, None)
            if function is None or place in self._out:
                continue
            name, before = type(callback).__name__, self._clock()
            try:
                answer = function(self._view)
            except Exception as error:  # a listener's mistake is no reason to lose a run
                if hook == "on_start":
                    self._out.add(place)
                self._say(
                    name, hook, f"{name}.{hook} failed ({type(error).__name__}: {error}); the run goes on without it."
                )
                continue
            finally:
                self._time(name, before)
            if answer == STOP:
                stop = True
                self.stopped.append(f"{name} in round {self._view.round}")
        return stop

    def _time(self, name: str, before: float) -> None:
        now = self._clock()
        spent = self._spent[name] = self._spent.get(name, 0.0) + now - before
        if spent > SLOW_SECONDS and spent > SLOW * (now - self._begun):
            share = f"{spent / (now - self._begun):.0%}"
            self._say(
                name, "slow", f"The callback {name} takes {share} of the run's time: have it do less, or less often."
            )

    def _say(self, name: str, kind: str, text: str) -> None:
        if (name, kind) not in self._said:
            self._said.add((name, kind))
            log.warning(text)
            warnings.warn(text, RuntimeWarning, stacklevel=2)
