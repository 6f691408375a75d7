"""Early stopping, and the best model so far: both are recomputed from the history, so that a resumed run does alike."""

from __future__ import annotations

import math
import os

import torch

from octolab.arguments import expects, number, path, text, whole
from octolab.experiment.callbacks.callback import STOP, View
from octolab.rooms import nearest


class _Best:
    """The best value of a column so far, by the way that is better for it."""

    def __init__(self, metric: str, least_gain: float = 0.0):
        self.metric, self.least_gain = metric, least_gain
        self.value, self.since, self.seen = math.nan, 0, 0

    def replay(self, run: View) -> None:
        """See all of the history, from its start."""
        self.value, self.since, self.seen = math.nan, 0, 0
        self.see(run)

    def see(self, run: View) -> bool:
        """See what is new. True if the newest value is the best one."""
        values: list[float] = run.snapshot().newest(self.metric)
        if not values and run.round >= 0:
            raise ValueError(
                f"The run evaluates no {self.metric!r}.{nearest(self.metric, run.last)} It has {', '.join(run.last)}."
            )
        more, best = run.greater_is_better(self.metric), False
        for value in values[self.seen :]:
            gain = value - self.value if more else self.value - value
            best = math.isfinite(value) and (math.isnan(self.value) or gain > self.least_gain)
            self.value, self.since = (value, 0) if best else (self.value, self.since + 1)
        self.seen = len(values)
        return best


class EarlyStopping:
    """Stop when `metric` has not become better for `patience` evaluations. least_gain: what counts as better.

    ol.EarlyStopping("accuracy", patience=20): more is better for accuracy and the like, less for loss and errors.
    """

    @expects(metric=text("a column of the history"), patience=whole(1), least_gain=number(ge=0))
    def __init__(self, metric: str = "loss", patience: int = 20, least_gain: float = 0.0):
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
            raise ValueError(f"EarlyStopping(patience={patience!r}): give a whole number of evaluations >= 1.")
        if not isinstance(metric, str):
            raise ValueError(f"EarlyStopping(metric={metric!r}): give a column's name, such as 'accuracy'.")
        if not least_gain >= 0:
            raise ValueError(f"EarlyStopping(least_gain={least_gain!r}): give a number >= 0.")
        self.metric, self.patience, self._best = metric, patience, _Best(metric, least_gain)

    def __repr__(self) -> str:
        return f"EarlyStopping({self.metric!r}, patience={self.patience})"

    def on_start(self, run: View) -> str | None:
        self._best.replay(run)
        return STOP if self._best.since >= self.patience else None

    def on_evaluate(self, run: View) -> str | None:
        self._best.see(run)
        return STOP if self._best.since >= self.patience else None


class KeepBest:
    """Keep the model of the best evaluation: `x` (d,), `value`, `round`; with a path also as a run file, `ol.load_run(path)`.

    A resumed run with a path writes only what is better than anything in its history.
    """

    @expects(metric=text("a column of the history"), path=path("the path of a run file"))
    def __init__(self, metric: str = "loss", path: str | os.PathLike[str] | None = None):
        self.metric, self.path = metric, path
        self.x: torch.Tensor | None = None
        self.round = -1
        self._best = _Best(metric)

    @property
    def value(self) -> float:
        """The best value so far; NaN before the first."""
        return self._best.value

    def on_start(self, run: View) -> None:
        self._best.replay(run)

    def on_evaluate(self, run: View) -> None:
        if self._best.see(run):
            self.x, self.round = run.x, run.round
            if self.path is not None:
                run.save(self.path)


__all__ = ["EarlyStopping", "KeepBest"]
