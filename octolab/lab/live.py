"""The live chart of a running cell: one FigureWidget, repainted by its own thread, in the end a static card.

The cell is busy meanwhile; updates are painted all the same. The painter reads a run's record under the run's
lock and touches nothing else, so that the numbers cannot depend on it. It starts after a second: short runs
draw once, at the end. What stays in the notebook is static (inline SVG), so saved notebooks stay small and
show something.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from octolab.experiment import curves
from octolab.experiment.callbacks import View
from octolab.experiment.record import COUNTED
from octolab.experiment.run import Run
from octolab.lab import cards, figures

HERTZ = 8
PATIENCE = 1.0
"""Seconds before the widget is made: its program is 5 MB."""


class Live:
    """Draws `runs` (name -> one run per seed) until `close`; then `result`'s own HTML stays in the cell."""

    def __init__(self, runs: Mapping[str, Sequence[Run]], result: Any):
        self.runs, self.result = {name: list(group) for name, group in runs.items()}, result
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="octolab-painter")
        self.figure: Any = None
        self._seen: dict[int, int] = {}
        self.error: Exception | None = None

    def open(self) -> Live:
        from IPython.display import HTML, display

        import_widgets()
        self._handle = display(HTML(f"<i>{escape(', '.join(self.runs))} ...</i>"), display_id=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop painting and leave a static picture."""
        from IPython.display import HTML

        self._end.set()
        self._thread.join(timeout=10)
        if self.error is not None:
            what = f"{type(self.error).__name__}: {self.error}"
            warnings.warn(f"The live chart stopped ({what}); the run went on.", RuntimeWarning, stacklevel=4)
        self._handle.update(HTML(self.result._repr_html_()))
        cards.drawn(self.result)
        if self.figure is not None:
            self.figure.close()

    def _work(self) -> None:
        try:
            if self._end.wait(PATIENCE):
                return
            self._make()
            while not self._end.wait(1 / HERTZ):
                self.paint()
        except Exception as error:  # a chart must never end a run
            self.error = error

    def _make(self) -> None:
        import ipywidgets

        from octolab.lab.plotly_widget import FigureWidget

        self.figure = FigureWidget(figures.figure({name: group[:1] for name, group in self.runs.items()}))
        self._handle.update(ipywidgets.VBox([self.figure]))

    def paint(self) -> None:
        """Copy what is new into the figure, of a method's newest seed: whole arrays of at most 2,000 points."""
        fresh = {}
        for i, group in enumerate(self.runs.values()):
            run = next((r for r in reversed(group) if r.round >= 0), group[0])
            key = (id(run), len(run.recorder.rows))
            if self._seen.get(i) != key:
                self._seen[i] = key  # type: ignore[assignment]
                fresh[i] = columns(run)
        if not fresh:
            return
        with self.figure.batch_update():
            for trace in self.figure.data:
                i, x, y = trace.meta
                if i in fresh and y in fresh[i]:
                    at, values = fresh[i][y]
                    trace.x, trace.y = at[x], values
            for axis, y in zip(("yaxis", "yaxis2"), figures.PANELS, strict=True):
                lines = [
                    curves.Line(t.name, np.asarray(t.x), np.asarray(t.y)) for t in self.figure.data if t.meta[2] == y
                ]
                figures.set_y_axis(self.figure.layout[axis], lines, y)


class LiveChart:
    """The live chart as a callback; `ol.run` registers one in a notebook, others take `callbacks=[ol.callbacks.LiveChart()]`.

    runs, result: several runs in one chart, which goes on until `close`; None: the run that it hears of, until its end.
    """

    def __init__(self, runs: Mapping[str, Sequence[Run]] | None = None, result: Any = None):
        import_widgets()
        self._runs, self._result, self._live = runs, result, None if runs is None else Live(runs, result)
        self._open = False

    def on_start(self, run: View) -> None:
        if self._runs is None:
            self.close()
            self._live = Live({run.name: [run._run]}, run._run)
        if self._live is not None and not self._open:
            self._live.open()
            self._open = True

    def on_end(self, run: View) -> None:
        if self._runs is None:
            self.close()

    def close(self) -> None:
        """Stop painting; a static picture stays."""
        if self._live is not None and self._open:
            self._open = False
            self._live.close()


def columns(run: Run) -> dict[str, tuple[dict[str, np.ndarray], np.ndarray]]:
    """What the panels need: y -> (x name -> (T,), values (T,)), T <= 2,000."""
    out, now = {}, run.snapshot()
    for y in figures.PANELS:
        where, what, length = now.columns.get(y, ([], [], 0))
        keep = curves.thin(length)
        picked = np.array([now.rows[where[k]] for k in keep], dtype=float).reshape(len(keep), len(COUNTED))
        at = {x: picked[:, COUNTED.index(x)] for x in figures.SWITCH}
        out[y] = (at, np.array([what[k] for k in keep], dtype=float))
    return out


def import_widgets() -> None:
    """Raise ImportError, early and in the caller's thread, where a live chart is not possible."""
    import anywidget  # noqa: F401
    import ipywidgets  # noqa: F401
    import plotly.graph_objects  # noqa: F401
