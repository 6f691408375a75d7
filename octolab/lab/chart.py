"""What a panel says: charts made of marks, as data. Who draws them (plotly, inline SVG) is another matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from octolab.experiment.curves import X_LABELS, Line, is_log, y_label


@dataclass(frozen=True, eq=False)
class Mark:
    """One thing in a chart. x, y: (T,) numbers, or x: labels of bars.

    kind: "line"; "band", from `low` to `high`; "points"; "labels", points with their text beside them; "bars"; "spans",
    lines that NaN breaks, drawn thick; "heat", with z (len(y), len(x)). run: whose it is, which gives colour and dash; "":
    nobody's, in grey. part: what of it, for the hover and for telling marks of one run apart. dash, colour, width: only
    where the run's own would mislead.
    """

    run: str
    x: Any
    y: Any
    kind: str = "line"
    part: str = ""
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    z: np.ndarray | None = None
    text: Sequence[str] = ()
    dash: str | None = None
    colour: str | None = None
    width: float | None = None


@dataclass(frozen=True, eq=False)
class Chart:
    """A chart: its title says what it shows, `note` (one line) how to read it. linked: x is the common x axis."""

    key: str
    title: str
    x: str
    y: str
    marks: list[Mark] = field(default_factory=list)
    note: str = ""
    log_y: bool = False
    percent: bool = False
    linked: bool = False
    tall: bool = False
    clip: bool = False
    """What explodes leaves the picture instead of flattening the rest."""

    @property
    def shape(self) -> tuple[Any, ...]:
        """What must stay the same for a repaint to be new numbers only."""
        return (self.key, self.x, tuple((m.run, m.part, m.kind) for m in self.marks))

    @property
    def empty(self) -> bool:
        return not any(np.size(m.y) for m in self.marks)


def of_lines(lines: Sequence[Line], x: str, y: str, note: str = "") -> Chart:
    """Curves of runs as a chart, with their bands over seeds; x and y as in `curves.X_LABELS` and `y_label`."""
    marks = []
    for q in lines:
        if q.low is not None and q.high is not None:
            marks.append(Mark(q.name, q.x, q.y, "band", part="all seeds", low=q.low, high=q.high))
        marks.append(Mark(q.name, q.x, q.y))
    log, percent = is_log(y, lines), y == "accuracy"
    title = y_label(y)[:1].upper() + y_label(y)[1:]
    return Chart(y, title, X_LABELS[x], "", marks, note, log_y=log, percent=percent, clip=not percent)
