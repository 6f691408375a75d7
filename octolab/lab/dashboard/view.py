"""The runs on show, as panels see them: feeds by name, the x axis, and the curves made of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from octolab.experiment import curves, statistics
from octolab.experiment.record import COUNTED
from octolab.experiment.run import Run
from octolab.experiment.seeds import identical
from octolab.lab.chart import Mark
from octolab.lab.dashboard.feed import MOST, Feed

Columns = Callable[[np.ndarray], np.ndarray]
"""From rows (t, len(COUNTED) + 1) to values (t,)."""


class View:
    """name -> feeds (one per seed). x: the common axis. focus: the run whose details are shown."""

    def __init__(self, runs: Mapping[str, Sequence[Run]], x: str = "round", most: int = MOST):
        self.groups = {name: [Feed(run, most) for run in group] for name, group in runs.items()}
        self.x, self.focus = curves.choice("x", x, curves.X_LABELS), next(iter(runs), "")
        self.canvas = False
        """Whether the device timeline has a canvas of its own."""
        self.target: float | None = None
        self.costs = ("bits_up", "time")
        self.band, self.centre = "minmax", "mean"
        self._lines: dict[Any, tuple[int, list[Mark]]] = {}

    def along(self, x: str) -> View:
        """The same runs against another axis."""
        twin = object.__new__(View)
        twin.__dict__.update(self.__dict__, x=x)
        return twin

    def read(self) -> bool:
        """Take what the runs recorded since the last look. True if there was anything."""
        return any([feed.read() for group in self.groups.values() for feed in group])

    @property
    def feeds(self) -> list[Feed]:
        return [feed for group in self.groups.values() for feed in group]

    @property
    def over(self) -> bool:
        return all(feed.over for feed in self.feeds)

    @property
    def x_label(self) -> str:
        return curves.X_LABELS[self.x]

    def newest(self, name: str) -> Feed | None:
        """The seed of a run that is at work, or the last that has begun."""
        group = self.groups.get(name, [])
        return next((f for f in reversed(group) if f.counted.length), group[0] if group else None)

    @property
    def focused(self) -> Feed | None:
        return self.newest(self.focus)

    def has(self, name: str) -> bool:
        """Whether some run records the column."""
        return any(name in feed.sparse for feed in self.feeds)

    def at(self, rows: np.ndarray, x: str | None = None) -> np.ndarray:
        """(t,) the x axis of some rows."""
        x = self.x if x is None else x
        if x == "bits_total":
            return rows[:, COUNTED.index("bits_up")] + rows[:, COUNTED.index("bits_down")]
        return rows[:, COUNTED.index(x)]

    # -- curves ------------------------------------------------------------------------------------------------------
    def curves(
        self,
        column: str,
        of: Columns | None = None,
        *,
        what: str | None = None,
        only: str | None = None,
        part: str = "",
        **style: Any,
    ) -> list[Mark]:
        """One curve per run that records `column` (median over seeds, a band around it).

        column: a logged or evaluated one, or "counted". of: from its rows to values. what: names the curve, where `of`
        makes it another than the column. only: of this run alone.
        """
        marks = []
        for name, group in self.groups.items():
            if only not in (None, name) or not (column == "counted" or any(column in f.sparse for f in group)):
                continue
            key, stamp = (name, what or column, part, self.x, self.band), sum(f.version for f in group)
            kept = self._lines.get(key)
            if kept is None or kept[0] != stamp:
                rows = [f.counted.rows if column == "counted" else f.values(column) for f in group]
                self._lines[key] = kept = (stamp, self._curve(name, rows, of or last, part, style))
            marks += kept[1]
        return marks

    def _curve(
        self, name: str, rows: Sequence[np.ndarray], of: Columns, part: str, style: dict[str, Any]
    ) -> list[Mark]:
        full = [r for r in rows if len(r)]
        if len(rows) == 1 or not full or self.identical(name):
            x, y = (self.at(full[0]), of(full[0])) if full else (np.zeros(0), np.zeros(0))
            return [Mark(name, x, y, part=part, **style)]
        x, y, low, high = middle([r[:, 0] for r in full], [self.at(r) for r in full], [of(r) for r in full], self.band)
        band = Mark(name, x, y, "band", part=f"{part} all seeds".strip(), low=low, high=high)
        return [band, Mark(name, x, y, part=part, **style)]

    def identical(self, name: str) -> bool:
        """Whether all seeds of a run gave the same: that is no band."""
        return identical([feed.run for feed in self.groups[name]])

    def predicted(self, marks: Sequence[Mark]) -> list[Mark]:
        """The theorems' rates, as thin dotted lines from each curve's first point."""
        out = []
        for mark in marks:
            feed = self.newest(mark.run)
            if mark.kind != "line" or feed is None or feed.rate is None or not len(mark.x):
                continue
            rows = feed.counted.rows
            first = next((v for v in np.asarray(mark.y) if np.isfinite(v) and v > 0), None)
            if first is None:
                continue
            drop = np.log(feed.rate) * rows[:, 0]
            keep = drop > np.log(1e-300 / first) if first > 1e-300 else drop > -1
            y = first * np.exp(drop[keep])
            low = np.nanmin(np.where(mark.y > 0, mark.y, np.inf))
            inside = y >= low / 10  # the axis belongs to what was measured
            part = f"theory: × {feed.rate:.4g} per step"
            out.append(Mark(mark.run, self.at(rows[keep])[inside], y[inside], part=part, dash="dot", width=1.2))
        return out


def last(rows: np.ndarray) -> np.ndarray:
    """A column's own values."""
    return rows[:, -1]


def counted(name: str) -> Columns:
    """Rows to one of the counted columns."""
    at = COUNTED.index(name)
    return lambda rows: rows[:, at]


def middle(
    rounds: Sequence[np.ndarray], xs: Sequence[np.ndarray], ys: Sequence[np.ndarray], band: str = "minmax"
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Several seeds as one: mean x, and the middle, low and high of y, (T,) each, at the rounds they share.

    Where one seed was thinned more than another, its coarser rounds count; where one ended, the others go on.
    """
    if all(len(r) < 4 or np.ptp(np.diff(r[:-1])) == 0 for r in rounds):
        coarsest = max(rounds, key=lambda r: (r[1] - r[0]) if len(r) > 2 else 0)
        longest = max(rounds, key=lambda r: r[-1])
        grid = np.union1d(coarsest, longest[longest > coarsest[-1]])
    else:
        grid = np.unique(np.concatenate(rounds))
    X, Y = np.full((len(xs), len(grid)), np.nan), np.full((len(xs), len(grid)), np.nan)
    for i, (r, x, y) in enumerate(zip(rounds, xs, ys, strict=True)):
        at = np.searchsorted(r, grid)
        there = (at < len(r)) & (r[np.minimum(at, len(r) - 1)] == grid)
        X[i, there], Y[i, there] = x[at[there]], y[at[there]]
    seen = np.isfinite(Y).any(axis=0)
    X, Y = X[:, seen], Y[:, seen]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(X, 0), *statistics.middle(Y, band)
