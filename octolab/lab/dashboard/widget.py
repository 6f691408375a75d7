"""The dashboard as a widget: controls, one plotly figure, the device timeline; repainted by one thread of its own.

The painter reads the runs' records and touches nothing else. Whatever a browser says (a tab, an axis, a hidden run)
arrives in the main thread, so a lock guards the picture.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets

from octolab.experiment import curves
from octolab.experiment.progress import in_kernel
from octolab.experiment.run import Run
from octolab.lab.chart import Chart
from octolab.lab.dashboard.controls import Controls
from octolab.lab.dashboard.draw import Drawing
from octolab.lab.dashboard.figure import Figure
from octolab.lab.dashboard.notebook import Twin, expects_a_browser
from octolab.lab.dashboard.painter import Painter
from octolab.lab.dashboard.panels.comparison import COSTS, columns, table, target_of, written
from octolab.lab.dashboard.panels.registry import PANELS
from octolab.lab.dashboard.picture import TYPES, picture
from octolab.lab.dashboard.segments import at_work, segments
from octolab.lab.dashboard.static import StaticDashboard
from octolab.lab.display import again, close_tree
from octolab.lab.gantt import Gantt
from octolab.lab.grid import BOTTOM, GAP, ROW, TOP, place
from octolab.lab.style import Style

if TYPE_CHECKING:
    import plotly.graph_objects as go

LIVE_POINTS = 1000
"""Points of a trace while it is drawn again and again; a screen is not wider."""
NARROW = 760
"""Pixels of width below which charts stand in one column."""
FEW = ("round", "loss", "accuracy", "bits_up")
"""Columns of the table, beside the cost on the axis, that a narrow place shows; the rest on demand."""
WORDS_EVERY, ALERTS_EVERY = 0.5, 2.0
"""Seconds between two looks at the table, and at the alerts."""


class Dashboard(ipywidgets.VBox):
    """What runs record, live while they go on and after.

    runs: a Run, several, a Comparison, or name -> Run or list of Runs over seeds; None: nothing yet, see `show`.
    panels: names of the panels to offer (`Dashboard.known()`); None: all that the runs have something for. x: the common
    axis, one of "round", "bits_up", "bits_total", "time", "gradients". panel: the one on show. height: of the figure in
    pixels, as far as the charts stay readable; None: as high as they like.
    """

    def __init__(
        self,
        runs: Any = None,
        *,
        panels: Sequence[str] | None = None,
        x: str = "round",
        height: int | None = None,
        panel: str | None = None,
    ):
        self.content = StaticDashboard(None, panels=panels, x=x, panel=panel, most=LIVE_POINTS)
        self.error: Exception | None = None
        self._first = panel
        self._height, self.closed, self._said, self._warned = height, False, 0.0, 0.0
        self.twin = Twin(lambda: self._static().card(), lambda: self.content.view.over)
        self.controls = Controls(
            axes=[[k, v] for k, v in curves.X_LABELS.items()],
            cost_names=[[k, v] for k, v in COSTS.items()],
            card=self.twin.name,
        )
        self.slot = ipywidgets.VBox([])
        self.drawing: Drawing | None = None
        self.gantt: Gantt | None = None
        self.plotted = threading.Event()
        """Set when a browser has drawn the plot (it loads 5 MB first): what is sent before that is lost."""
        super().__init__([self.controls, self.slot])
        self.add_class("octo-dashboard")
        self.painter = Painter(self._paint_some, self._failed)
        self.controls.observe(
            self._chosen, ["panel", "x", "hidden", "lit", "focus", "target", "costs", "dark", "width"]
        )
        self.controls.on_msg(lambda _, content, __: self.receive(content))
        if expects_a_browser():
            self._make()
        self._sync()
        if runs is not None:
            self.show(runs)

    @staticmethod
    def known() -> list[str]:
        """The names of all panels there are."""
        return StaticDashboard.known()

    # -- from Python -------------------------------------------------------------------------------------------------
    def show(self, runs: Any) -> Dashboard:
        """Show other runs in the same figure: name -> Run or list of Runs over seeds. Colours of known names stay."""
        if self.closed:
            raise ValueError("This dashboard was closed: make a new one with ol.dashboard(runs).")
        with self.content.lock:
            self.content.show(runs)
            self.error, self.twin.final = None, False
            self.controls.put(hidden=[n for n in self.controls.hidden if n in self.content.runs], lit="", note="")
            self._said = self._warned = 0.0
        self.painter.start()
        return self

    @property
    def runs(self) -> dict[str, list[Run]]:
        return self.content.runs

    @property
    def x(self) -> str:
        return self.content.x

    @x.setter
    def x(self, value: str) -> None:
        self.controls.x = curves.choice("x", value, curves.X_LABELS)

    @property
    def panel(self) -> str:
        """The name of the panel on show."""
        return self.content.panel

    @panel.setter
    def panel(self, name: str) -> None:
        if name not in PANELS:
            raise ValueError(f"panel={name!r}: choose one of {', '.join(map(repr, self.content.panels))}.")
        self.controls.panel = name

    @property
    def alerts(self) -> list[Any]:
        return self.content.alerts

    @property
    def python(self) -> str:
        """The call that makes this dashboard."""
        return self.content.python

    def _static(self) -> StaticDashboard:
        """The same runs without widgets, for files and saved notebooks: the device timeline is a chart like the others."""
        content = StaticDashboard(None, panels=self.content.chosen, x=self.content.x, panel=self._first)
        content.style = Style(numbers=dict(self.content.style.numbers))  # always light: it may be read anywhere
        return content.show(self.content.runs)

    def sketch(self, runs: Any) -> str:
        """Other runs as this dashboard would show them, as one <svg>."""
        content = self._static()
        content.style = Style(numbers=dict(self.content.style.numbers), dark=self.content.style.dark)
        return content.show(runs).svg()

    def table(self, target: float | None = None) -> Any:
        """One row per run, a pandas table: see `StaticDashboard.table`."""
        return self.content.table(target)

    def figure(self, panel: str | None = None) -> go.Figure:
        """A panel as a plotly figure of its own."""
        return self._static().figure(panel)

    def export(self, path: str | os.PathLike, **options: Any) -> str:
        """Write what is shown as .csv, .parquet, .html, .svg, .png or .tex: see `octolab.lab.export`."""
        return self._static().export(path, **options)

    def paint(self) -> int:
        """One repaint, in the caller's thread. Returns how many points were set."""
        self._warned = 0.0
        return self._paint()

    def close(self) -> None:
        """End the painter thread, take the widget away and let go of the runs."""
        self.closed = True
        self.painter.stop()
        with self.content.lock:
            self.drawing = self.gantt = None
            self.content.clear()
        close_tree(self)

    # -- the picture -------------------------------------------------------------------------------------------------
    def _make(self) -> None:
        """The figure: its program is 5 MB, so it is made once, and only where somebody looks."""
        with self.content.lock:
            if self.drawing is not None or self.closed:
                return
            figure = Figure(self.content.lock)
            self.drawing = Drawing(figure, self.content.style)
            self.drawing.hovered = self.hover
            self.gantt = Gantt()
            self.gantt.layout.display = "none"
            self.gantt.ready = self.painter.start  # type: ignore[method-assign]
            self.content.view.canvas = True
            self.slot.children = [figure, self.gantt]
            self.controls.live = True

    def _unmake(self) -> None:
        """Take the figure away."""
        old, self.slot.children = self.slot.children, []
        self.drawing = self.gantt = None
        self.plotted.clear()
        for widget in old:
            close_tree(widget)

    def _paint_some(self) -> tuple[int, bool]:
        """What the painter calls: new points in the curves, and twice a second the texts."""
        with self.content.lock:
            view = self.content.view
            over = view.over  # before reading: what comes later is not lost
            news = view.read()
            points = self._draw() if news or over or not self._drawn else 0
            if over or time.monotonic() - self._said > WORDS_EVERY:
                self._speak()
        if over and not self.twin.final:
            self.twin.update()
        return points, over

    def _paint(self, words: bool = True) -> int:
        """What a choice calls: everything, now."""
        with self.content.lock:
            self.content.view.read()
            points = self._draw()
            if words:
                self._speak()
        return points

    @property
    def _drawn(self) -> bool:
        return self.drawing is None or self.drawing.drawn

    def _draw(self) -> int:
        if self.drawing is None or (in_kernel() and not self.plotted.is_set()):
            return 0
        view, panel = self.content.view, self.content.panel
        charts = PANELS[panel].charts(view) if view.groups else []
        points = self._follow(panel, charts)
        shown = [c for c in charts if c.key != "gantt"]
        self.drawing.columns = 1 if 0 < self.controls.width < NARROW else 2
        self.drawing.row = self._row(shown)
        self.drawing.hidden, self.drawing.lit = set(self.controls.hidden), self.controls.lit or None
        return points + self.drawing.draw(shown)

    def _row(self, charts: Sequence[Chart]) -> int:
        if self._height is None:
            return ROW
        _, rows, _ = place(charts, self.drawing.columns if self.drawing else 2, ROW)
        return max(150, (self._height - TOP - BOTTOM - (rows - 1) * GAP) // rows)

    def _follow(self, panel: str, charts: Sequence[Chart]) -> int:
        """The canvas with the devices' timeline, under the charts that have one."""
        feed = self.content.view.focused
        on = feed is not None and any(c.key == "gantt" for c in charts)
        if self.gantt is None:
            return 0
        display = None if on else "none"
        if self.gantt.layout.display != display:
            self.gantt.layout.display = display
        if not on or feed is None:
            return 0
        title = self.content.view.focus if len(self.content.view.groups) > 1 else ""
        fed = feed.run.federation
        return self.gantt.follow(segments(feed), fed.n, title, fed.now, None if feed.over else at_work(fed))

    # -- the words ---------------------------------------------------------------------------------------------------
    def _speak(self) -> None:
        """Tabs, table and alerts."""
        self._said = time.monotonic()
        content, view = self.content, self.content.view
        rows = table(view)
        heads = columns(view)
        used = [c for c in heads if any(row.get(c) is not None for row in rows)]
        self.controls.put(
            rows=[_row(row, used, rows, content) for row in rows],
            columns=[[c, heads[c]] for c in used],
            few=[c for c in used if c in FEW or c == f"{view.x}_to"],
        )
        if view.over or time.monotonic() - self._warned > ALERTS_EVERY:
            self._warn()
            self._warned = time.monotonic()
        self._sync()

    def _warn(self) -> None:
        content, view = self.content, self.content.view
        self.controls.put(
            alerts=[
                {
                    "run": name if len(view.groups) > 1 and not a.message.startswith(name) else "",
                    "level": a.level,
                    "message": a.message,
                    "advice": a.advice,
                }
                for name, found in content.alerts_by_run().items()
                for a in found
            ]
        )

    def _sync(self) -> None:
        """Bring the controls up to date."""
        content = self.content
        panel, offered = content.panel, content.panels
        target = target_of(content.view) if panel == "comparison" else None
        focusing = panel in ("time", "model") and len(content.view.groups) > 1
        which = "" if content.target is not None else ", the least that all runs reach"
        goal = "" if target is None else f"in use: {target:.5g}{which}"
        error = self.error
        note = "" if error is None else f"The picture stopped ({type(error).__name__}: {error}); the runs go on."
        self.controls.put(
            panels=[[name, PANELS[name].title] for name in offered] or [["overview", "Overview"]],
            panel=panel,
            x=content.x,
            linked=panel not in ("comparison", "clients"),
            focus=content.view.focus,
            focusing=focusing,
            comparing=panel == "comparison",
            target=content.target,
            costs=list(content.costs),
            goal=goal,
            python=content.python if content.view.groups else "",
            note=note,
        )

    # -- from the browser --------------------------------------------------------------------------------------------
    def _chosen(self, change: Any) -> None:
        """A trait of the controls has a new value, from a browser or from Python."""
        name, value = change["name"], change["new"]
        if self.closed:
            return
        with self.content.lock:
            if name == "lit":
                self._glance()
            elif self._take(name, value) and self.content.view.groups:
                self._paint(words=name not in ("hidden", "width"))

    def _take(self, name: str, value: Any) -> bool:
        """Pass a choice on to what is shown. True if it changes anything."""
        content, view = self.content, self.content.view
        if name == "target":
            value = float(value) if isinstance(value, (int, float)) else None
        elif name == "costs":
            value = tuple(value)
        allowed: dict[str, Any] = {"panel": PANELS, "x": curves.X_LABELS, "focus": view.groups}
        owners = {
            "panel": content,
            "x": content,
            "focus": view,
            "target": content,
            "costs": content,
            "dark": content.style,
        }
        owner = owners.get(name)
        if owner is None:
            return True  # hidden and width are read where they are drawn
        if value == getattr(owner, name) or value not in allowed.get(name, (value,)):
            return False
        setattr(owner, name, value)
        return True

    def _glance(self) -> None:
        """Only who stands out has changed."""
        if self.drawing is not None:
            self.drawing.look(set(self.controls.hidden), self.controls.lit or None)

    def hover(self, name: str) -> None:
        self.controls.lit = name

    def receive(self, content: Any) -> None:
        """A message of the browser: it has opened, or it has drawn the plot."""
        kind = content.get("kind") if isinstance(content, dict) else None
        if kind == "ready":
            with self.content.lock:
                again(self, self.controls, self.slot, *([] if self.gantt is None else [self.gantt.layout]))
            if self.drawing is None:
                self._make()
                self.painter.start()
        elif kind == "picture":
            self._send_picture(str(content.get("ending")), str(content.get("size")))
        elif kind == "plotted":
            self._arrived(content.get("traces", 0))

    def picture(self, ending: str = ".png", size: str = "screen") -> bytes:
        """Exactly what is seen (panel, axis, shown runs, light or dark) as the bytes of a .png, .svg or .pdf file.

        size: "screen", "slide" or "paper".
        """
        return picture(self, ending, size)

    def _send_picture(self, ending: str, size: str) -> None:
        """The picture to the browser, or the sentence that says why not."""
        try:
            data = self.picture(ending, size)
        except (ValueError, ImportError) as error:
            self.controls.send({"picture": "", "said": str(error)})
            return
        said = f"saved, {len(data) / 1000:,.0f} kB"
        name = f"octolab-{self.content.panel}-{size}{ending}"
        self.controls.send({"picture": name, "type": TYPES[ending], "said": said}, buffers=[data])

    def _arrived(self, traces: int) -> None:
        """A browser has drawn the plot as it knew it: with so many traces. Whatever came since is sent again."""
        with self.content.lock:
            if self.drawing is None or self.closed:
                return
            self.plotted.set()
            if self.drawing.drawn and traces != len(self.drawing.figure.data):  # it cannot be told which are wrong
                self._unmake()
                self._make()
            elif self.drawing.drawn:
                self.drawing.forget()
        self.painter.start()

    def _failed(self, error: Exception) -> None:
        self.error = error
        self._sync()

    # -- in a notebook -----------------------------------------------------------------------------------------------
    def _ipython_display_(self, **_: Any) -> None:
        self.twin.show(self)

    def _repr_html_(self) -> str:
        return self._static().card()

    def __repr__(self) -> str:
        return repr(self.content) if self.content.view.groups else "Dashboard, empty"


def _row(
    row: dict[str, Any], used: Sequence[str], rows: Sequence[dict[str, Any]], content: StaticDashboard
) -> dict[str, Any]:
    """A row as the table shows it: per column its text, a number to sort by, and whether it is the best of all."""
    cells = {}
    for column in used:
        value = row.get(column)
        number = float(value) if isinstance(value, (int, float)) else None
        others = [r[column] for r in rows if isinstance(r.get(column), (int, float))]
        ranked = column.endswith("_to") or column in ("loss", "accuracy")
        best = len(others) > 1 and ranked and number == (max(others) if column == "accuracy" else min(others))
        cells[column] = [written(column, value), number if number is None or number == number else None, best]
    name = row["name"]
    return {"name": name, "colour": content.style.colour(name), "dash": content.style.dash(name), "cells": cells}
