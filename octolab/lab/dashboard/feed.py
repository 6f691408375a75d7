"""What a dashboard reads of a run: columns that grow, thinned as they grow.

A long run is read once: each look takes the rows that are new and worth keeping, copies them under the run's lock and
never goes back. At most `MOST` points of a column are kept: every `stride`-th one (a power of two, so that several
seeds keep the same rounds) and, last, the newest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from octolab.experiment.record import COUNTED
from octolab.experiment.run import Run

MOST = 2000
EVALUATED = ("loss", "grad_norm_sq", "accuracy")
WORLD = ("dropped", "skipped")
"""Logged by the federation, not by the method; the panel of time shows them."""
NEWEST = 5000
"""Values that a histogram of a logged column shows."""
AFFORDABLE = 1_000_000
"""Numbers of data up to which f* is computed for a chart, if the problem has not done so itself."""

Row = tuple[float, ...]


class Thinned:
    """At most `most` rows of a growing list, evenly strided, the newest last."""

    def __init__(self, width: int, most: int = MOST):
        self.width, self.most, self.stride, self.length = width, most, 1, 0
        self._held = np.empty((most + 1, width))  # the kept rows, then the newest if it is none of them
        self._kept = self._shown = 0
        self._rows: np.ndarray | None = None

    def grow(self, length: int, row: Callable[[int], Row]) -> bool:
        """Take what is new in a list of `length`, whose k-th row is `row(k)`. True if there was anything."""
        if length == self.length:
            return False
        if length < self.length:  # a run that was put back
            self._kept, self.stride = 0, 1
        while -(-length // self.stride) > self.most:
            coarser = self._held[: self._kept : 2].copy()
            self._kept, self.stride = len(coarser), 2 * self.stride
            self._held[: self._kept] = coarser
        fresh = [row(k) for k in range(self._kept * self.stride, length, self.stride)]
        if fresh:
            self._held[self._kept : self._kept + len(fresh)] = fresh
            self._kept += len(fresh)
        self._shown = self._kept
        if (length - 1) % self.stride:
            self._held[self._kept] = row(length - 1)
            self._shown += 1
        self.length, self._rows = length, None
        return True

    @property
    def rows(self) -> np.ndarray:
        """(t, width): what is kept."""
        if self._rows is None:
            self._rows = self._held[: self._shown].copy()
        return self._rows


class Share:
    """Turns a column of yes and no into the share of yes so far."""

    def __init__(self) -> None:
        self.at, self.yes = 0, 0

    def at_least(self, what: Sequence[Any], k: int) -> float:
        """The share among the first k + 1 values; k never goes back, except by the newest value."""
        if k + 1 < self.at:
            self.at, self.yes = 0, 0
        self.yes += sum(map(bool, what[self.at : k + 1]))
        self.at = k + 1
        return self.yes / (k + 1)


class Feed:
    """One run's record, thinned. `columns` name -> (t, len(COUNTED) + 1): the counted values and the column's own."""

    def __init__(self, run: Run, most: int = MOST):
        self.run, self.most, self.version = run, most, 0
        run.observer.watch()
        self.counted = Thinned(len(COUNTED), most)
        self.sparse: dict[str, Thinned] = {}
        self._shares: dict[str, Share] = {}

    def read(self) -> bool:
        """Take what is new. True if there was anything."""
        rows, length, columns = self.run.snapshot()
        news = self.counted.grow(length, rows.__getitem__)
        for name, (where, what, count) in columns.items():
            column = self._column(name, what)
            if column is not None:
                news |= column.grow(count, self._reader(name, rows, where, what))
        self.version += news
        return news

    def _column(self, name: str, what: Sequence[Any]) -> Thinned | None:
        """The column of this name; None where its values are not numbers."""
        if name not in self.sparse:
            first = what[0] if what else None
            if not _is_number(first):
                return None
            self.sparse[name] = Thinned(len(COUNTED) + 1, self.most)
            if isinstance(first, (bool, np.bool_)):
                self._shares[name] = Share()
        return self.sparse[name]

    def _reader(self, name: str, rows: list[Row], where: list[int], what: list[Any]) -> Callable[[int], Row]:
        share = self._shares.get(name)
        if share is not None:
            return lambda k: (*rows[where[k]], share.at_least(what, k))
        return lambda k: (*rows[where[k]], _number(what[k]))

    def values(self, name: str) -> np.ndarray:
        """(t, len(COUNTED) + 1) of a logged or evaluated column; empty if it is not there."""
        column = self.sparse.get(name)
        return np.zeros((0, len(COUNTED) + 1)) if column is None or not column.length else column.rows

    def is_share(self, name: str) -> bool:
        """Whether the column holds yes and no, and is shown as the share of yes so far."""
        return name in self._shares

    @property
    def logged(self) -> list[str]:
        """Names of the method's own diagnostics."""
        known = (*EVALUATED, *WORLD, *self.measured)
        return [n for n in self.sparse if n not in known and not n.startswith(("personal_", "client_"))]

    @property
    def measured(self) -> list[str]:
        """Names of the metrics that were asked for, over all test samples or per client."""
        return [] if self.run.measure is None else [m.name for m in self.run.measure.metrics]

    def newest(self, name: str, most: int = NEWEST) -> np.ndarray:
        """The newest values of a column, unthinned."""
        what = self.run.snapshot().newest(name, most)
        try:
            return np.array(what, dtype=float)
        except (TypeError, ValueError, RuntimeError):
            return np.array([_number(v) for v in what], dtype=float)

    @cached_property
    def f_star(self) -> float | None:
        """The least value of the objective, where it is known or cheap to find."""
        problem = self.run.problem
        known = "f_star" in vars(problem) or "x_star" in vars(problem)
        if not problem.strongly_convex or not (known or int(problem.sizes.sum()) * problem.d <= AFFORDABLE):
            return None
        return problem.f_star

    @cached_property
    def rate(self) -> float | None:
        """The theorem's factor per step, if it promises one."""
        try:
            rate = self.run.method.proved_rate(self.run.problem)
        except Exception:  # a theorem that does not speak about this problem is no reason to draw nothing
            return None
        return float(rate) if rate is not None and 0 < rate < 1 else None

    @property
    def timed(self) -> bool:
        """Whether the devices' time has a story of its own: they differ, or wait for links."""
        return len(self.run.federation.timeline) > 0

    @property
    def over(self) -> bool:
        """Whether nothing more comes, as things stand."""
        run = self.run
        return not run.alive and run.status not in ("new", "running")


def _is_number(value: Any) -> bool:
    if value is None or isinstance(value, (str, bytes)):
        return False
    try:
        float(value)
    except (TypeError, ValueError, RuntimeError):
        return False
    return True


def _number(value: Any) -> float:
    return float(value) if _is_number(value) else float("nan")
