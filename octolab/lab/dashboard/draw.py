"""Charts as one plotly figure: laid out in a grid, repainted by setting only the arrays that changed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from octolab.experiment.curves import Line, y_range
from octolab.lab.chart import Chart, Mark
from octolab.lab.grid import BOTTOM, ROW, TOP, place
from octolab.lab.style import FONT, Style, faint, stroke
from octolab.lab.ticks import ticks

LEFT, RIGHT = 62, 14
NARROW: dict[str, Any] = {"tickmode": "linear", "dtick": "D2", "exponentformat": "none", "minorloglabels": "complete"}
"""A logarithmic axis of a few decades near 1 is written out: 2, 1, 0.5, 0.2. Others carry powers of ten."""
WIDE: dict[str, Any] = {"tickmode": "auto", "dtick": None, "exponentformat": "power", "minorloglabels": "none"}


class Drawing:
    """Keeps a figure (a go.Figure or a FigureWidget) the picture of some charts."""

    def __init__(self, figure: Any, style: Style, columns: int = 2, legend: bool = False, row: int = ROW):
        self.figure, self.style, self.columns, self.legend, self.row = figure, style, columns, legend, row
        self.hidden: set[str] = set()
        self.lit: str | None = None
        self.hovered: Callable[[str], None] | None = None
        """Called with a run's name when the mouse is over its curve, and with "" when it leaves (FigureWidget only)."""
        self._shape: Any = None
        self._marks: list[Mark] = []
        self._axes: dict[int, Any] = {}
        self._notes: list[str] = []
        self._looks: list[Any] = []

    def draw(self, charts: Sequence[Chart]) -> int:
        """Make the figure show the charts. Returns how many points were set."""
        shape = (
            tuple(c.shape for c in charts),
            self.style.dark,
            tuple(self.style.numbers.items()),
            self.columns,
            self.row,
        )
        marks = [m for c in charts for m in c.marks]
        if shape == self._shape:
            points = self._repaint(charts, marks)
        else:
            points = self._rebuild(charts, marks)
            self._shape = shape
        self._marks = marks
        return points

    # -- from nothing ------------------------------------------------------------------------------------------------
    def _rebuild(self, charts: Sequence[Chart], marks: list[Mark]) -> int:
        fig = self.figure
        cells, _, _ = place(charts, self.columns, self.row)
        traces = [self._trace(m, i, cells[i]) for i, c in enumerate(charts) for m in c.marks]
        seen: set[str] = set()
        for trace, mark in zip(traces, marks, strict=True):
            trace["showlegend"] = (
                self.legend and bool(mark.run) and mark.run not in seen and mark.kind in ("line", "bars")
            )
            seen |= {mark.run} if trace["showlegend"] else set()
        layout = self._layout(charts)
        stale = [k for k in fig.layout.to_plotly_json() if k.startswith(("xaxis", "yaxis")) and k not in layout]
        fig.data = ()
        fig.update_layout({**layout, **dict.fromkeys(stale)}, overwrite=True)
        fig.add_traces([_KINDS[t.pop("type")](**t) for t in traces])
        self._axes, self._notes = {i: _axis(c) for i, c in enumerate(charts)}, [c.note for c in charts]
        self._looks = [self._look(m) for m in marks]
        if self.hovered is not None:
            for trace, mark in zip(fig.data, marks, strict=True):
                if mark.run:
                    trace.on_hover(self._over)
                    trace.on_unhover(self._out)
        return sum(np.size(m.y) for m in marks)

    def _trace(self, mark: Mark, i: int, cell: tuple[float, float, float, float]) -> dict[str, Any]:
        """One mark as plotly's trace, with its type under "type"."""
        name = f"{mark.run}, {mark.part}" if mark.run and mark.part else mark.run or mark.part
        visible, opacity = self._look(mark)
        hover = _HOVER["text" if len(mark.text) else mark.kind]
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "legendgroup": mark.run or None,
            "xaxis": f"x{i + 1 if i else ''}",
            "yaxis": f"y{i + 1 if i else ''}",
            "visible": visible,
            "opacity": opacity,
            "meta": [mark.run, mark.part, i],
            "hovertemplate": f"<b>{_escape(name)}</b><br>{hover}<extra></extra>",
            **_arrays(mark),
        }
        colour = self.style.colour(mark)
        if mark.kind == "band":
            trace |= {"line": {"width": 0}, "fill": "toself", "fillcolor": faint(colour, 0.18), "hoverinfo": "skip"}
            del trace["hovertemplate"]
        elif mark.kind == "bars":
            trace |= {"type": "bar", "marker": {"color": colour}}
            del trace["mode"]
        elif mark.kind == "heat":
            _, x1, y0, y1 = cell
            bar = {"thickness": 9, "outlinewidth": 0, "x": x1, "xpad": 3, "y": (y0 + y1) / 2, "len": y1 - y0, "ypad": 0}
            trace |= {"type": "heatmap", "colorscale": "Cividis", "colorbar": bar}
            for key in ("mode", "legendgroup", "opacity"):
                del trace[key]
        elif mark.kind in ("points", "labels"):
            edge = {"width": 1, "color": self.style.ink}
            trace |= {"mode": "markers", "marker": {"color": colour, "size": 8, "line": edge}}
            if mark.kind == "labels":
                text = {"textposition": "top center", "textfont": {"size": 11, "color": colour}}
                trace |= {"mode": "markers+text", "cliponaxis": False, **text}
        else:
            trace |= {"line": stroke(self.style, mark), "connectgaps": False}
        return trace

    def _layout(self, charts: Sequence[Chart]) -> dict[str, Any]:
        cells, _, height = place(charts, self.columns, self.row)
        style = self.style
        layout: dict[str, Any] = {
            "template": "none",
            "height": height,
            "autosize": True,
            "margin": {
                "l": LEFT,
                "r": RIGHT + 34 * any(m.kind == "heat" for c in charts for m in c.marks),
                "t": TOP,
                "b": BOTTOM,
            },
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": FONT, "size": 12, "color": style.ink},
            "showlegend": self.legend,
            "legend": {"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0, "font": {"size": 12}},
            "hovermode": "closest",
            "hoverlabel": {"font": {"family": FONT, "size": 12}},
            "barmode": "group",
            "bargap": 0.25,
            "annotations": [],
            "dragmode": "zoom",
        }
        if self.legend:
            layout["margin"]["t"] = TOP + 30
        first_linked: str | None = None
        for i, (chart, (x0, x1, y0, y1)) in enumerate(zip(charts, cells, strict=True)):
            number = str(i + 1) if i else ""
            x, y = self._x_axis(chart, number, (x0, x1)), self._y_axis(chart, number, (y0, y1))
            if chart.linked:
                if first_linked is None:
                    first_linked = f"x{number}"
                else:
                    x["matches"] = first_linked
            layout[f"xaxis{number}"], layout[f"yaxis{number}"] = x, y
            layout["annotations"] += self._title(chart, x0, y1)
        return layout

    def _x_axis(self, chart: Chart, number: str, domain: tuple[float, float]) -> dict[str, Any]:
        return {
            "domain": domain,
            "anchor": f"y{number}",
            "title": {"text": chart.x, "standoff": 6, "font": {"size": 11, "color": self.style.grey}},
            "gridcolor": self.style.grid,
            "linecolor": self.style.axis,
            "showline": True,
            "zeroline": False,
            "exponentformat": "SI",
            "tickfont": {"size": 11},
            "ticks": "outside",
            "ticklen": 4,
            "tickcolor": self.style.axis,
            "automargin": False,
            "rangemode": "tozero" if any(m.kind == "labels" for m in chart.marks) else "normal",
            "nticks": 7,
        }

    def _y_axis(self, chart: Chart, number: str, domain: tuple[float, float]) -> dict[str, Any]:
        kind, limits, scale = _axis(chart)
        heat = any(m.kind == "heat" for m in chart.marks)
        axis: dict[str, Any] = {
            "domain": domain,
            "anchor": f"x{number}",
            "title": {"text": chart.y, "standoff": 4, "font": {"size": 11, "color": self.style.grey}},
            "gridcolor": self.style.grid,
            "linecolor": self.style.axis,
            "zeroline": False,
            "exponentformat": "power" if chart.log_y else "SI",
            "tickfont": {"size": 11},
            "tickformat": ".0%" if chart.percent else "",
            "automargin": heat,
            "nticks": 6,
        }
        if heat:
            axis["type"] = "category"
        else:
            axis["type"] = kind
            if limits is not None:
                axis["range"] = limits
            elif not chart.clip and not chart.log_y:
                axis["rangemode"] = "tozero"
            if chart.log_y:
                axis |= scale
        return axis

    def _title(self, chart: Chart, x: float, y: float) -> list[dict[str, Any]]:
        common = {"xref": "paper", "yref": "paper", "x": x, "y": y, "xanchor": "left", "yanchor": "bottom", "showarrow": False,
                  "align": "left"}  # fmt: skip
        title = {**common, "text": f"<b>{_escape(chart.title)}</b>", "font": {"size": 13}, "yshift": 20, "xshift": -4}
        note = {
            **common,
            "text": _escape(chart.note),
            "font": {"size": 11, "color": self.style.grey},
            "yshift": 4,
            "xshift": -4,
        }
        return [title, note]

    # -- only what changed -------------------------------------------------------------------------------------------
    def _repaint(self, charts: Sequence[Chart], marks: list[Mark]) -> int:
        fig, points = self.figure, 0
        changed = [k for k, (new, old) in enumerate(zip(marks, self._marks, strict=True)) if not _same(new, old)]
        looks = [self._look(m) for m in marks]
        axes = {i: _axis(c) for i, c in enumerate(charts)}
        notes = [c.note for c in charts]
        stale = [i for i, note in enumerate(notes) if note != self._notes[i]]  # asking plotly takes longer than drawing
        if not changed and looks == self._looks and axes == self._axes and not stale:
            return 0
        with fig.batch_update():
            for k in changed:
                fig.data[k].update(_arrays(marks[k]), overwrite=True)
                points += np.size(marks[k].y)
            self._set_looks(looks)
            for i, axis in axes.items():
                if axis != self._axes[i]:
                    _set_axis(fig.layout[f"yaxis{i + 1 if i else ''}"], *axis)
            for i in stale:
                fig.layout.annotations[2 * i + 1].text = _escape(notes[i])
        self._axes, self._notes = axes, notes
        return points

    def look(self, hidden: set[str], lit: str | None) -> None:
        """Show or hide runs, and let one stand out."""
        self.hidden, self.lit = hidden, lit
        looks = [self._look(m) for m in self._marks]
        with self.figure.batch_update():
            self._set_looks(looks)

    def _set_looks(self, looks: list[tuple[bool, float]]) -> None:
        for k, look in enumerate(looks):
            if look != self._looks[k]:
                trace = self.figure.data[k]
                trace.visible = look[0]
                if trace.type != "heatmap":
                    trace.opacity = look[1]
        self._looks = looks

    def _over(self, trace: Any, points: Any, _: Any) -> None:
        if points.point_inds and self.hovered is not None:
            self.hovered(trace.meta[0])

    def _out(self, _: Any, points: Any, __: Any) -> None:
        if points.point_inds and self.hovered is not None:
            self.hovered("")

    @property
    def drawn(self) -> bool:
        return self._shape is not None

    def forget(self) -> None:
        """Draw everything anew the next time."""
        self._shape = None

    def _look(self, mark: Mark) -> tuple[bool, float]:
        """Visible, opacity."""
        return mark.run not in self.hidden, 1.0 if self.lit in (None, mark.run) or not mark.run else 0.2


_HOVER = dict.fromkeys(("line", "points", "labels", "spans", "band"), "%{x:,.5~g}, %{y:.5~g}")
_HOVER |= {"text": "%{text}<br>%{x:,.5~g}, %{y:.5~g}", "bars": "%{x}: %{y:.5~g}", "heat": "%{x}, %{y}<br>%{z:.3f}"}
_KINDS = {"scatter": go.Scatter, "bar": go.Bar, "heatmap": go.Heatmap}


def _arrays(mark: Mark) -> dict[str, Any]:
    """The numbers of a trace."""
    if mark.kind == "band" and mark.low is not None and mark.high is not None:
        low, high = np.asarray(mark.low), np.asarray(mark.high)
        keep = np.isfinite(low) & np.isfinite(high)
        x = np.asarray(mark.x)[keep]
        return {"x": np.concatenate([x, x[::-1]]), "y": np.concatenate([high[keep], low[keep][::-1]])}
    if mark.kind == "heat":
        return {"x": mark.x, "y": list(mark.y), "z": mark.z}
    found: dict[str, Any] = {"x": mark.x, "y": mark.y}
    if len(mark.text):
        found["text"] = list(mark.text)
    return found


def _same(new: Mark, old: Mark) -> bool:
    if new is old:
        return True
    pairs = ((new.x, old.x), (new.y, old.y), (new.low, old.low), (new.z, old.z))
    same = all(a is b or (a is not None and b is not None and np.array_equal(a, b)) for a, b in pairs)
    return same and list(new.text) == list(old.text)


def _scale(low: float, high: float) -> dict[str, Any]:
    """How a logarithmic axis between two values is labelled: within one decade by even steps, else see NARROW and WIDE."""
    if high < 6 * low:
        return {**NARROW, "tickmode": "array", "dtick": None, "tickvals": ticks(low, high)}
    return NARROW if high < 1000 * low and low > 1e-4 and high < 1e6 else WIDE


def _axis(chart: Chart) -> tuple[str, list[float] | None, dict[str, Any]]:
    """The y axis's type, its range where a curve would explode out of the picture, and how it is labelled."""
    kind, scale = "log" if chart.log_y else "linear", WIDE
    if chart.percent and all(m.kind in ("line", "points", "band") for m in chart.marks) and chart.key == "latency":
        return kind, [0.0, 1.02], WIDE
    if any(m.kind == "spans" for m in chart.marks):
        top = max((float(np.nanmax(m.y)) for m in chart.marks if np.size(m.y)), default=0.0)
        return kind, [-1.0, top + 1.0], WIDE
    lines = [Line(m.run, np.asarray(m.x), np.asarray(m.y, dtype=float)) for m in chart.marks if m.kind == "line"]
    limits = y_range(lines, chart.log_y)
    if limits is None:
        return kind, None, scale
    if not chart.clip:
        limits = limits[0], max(limits[1], *(float(np.nanmax(q.y)) for q in lines if np.isfinite(q.y).any()))
    scale = _scale(*limits) if chart.log_y else WIDE
    top = max((float(np.nanmax(q.y)) for q in lines if np.isfinite(q.y).any()), default=0.0)
    if top <= limits[1] or not chart.clip:
        return kind, None, scale
    return kind, [math.log10(max(v, 1e-300)) for v in limits] if chart.log_y else [float(v) for v in limits], scale


def _set_axis(axis: Any, kind: str, limits: list[float] | None, scale: dict[str, Any]) -> None:
    if axis.type != kind and axis.type != "category":
        axis.type = kind
    if kind == "log":
        axis.update(scale)
    if limits is not None:
        axis.range = limits


def _escape(text: str) -> str:
    """Plotly reads a little HTML in its texts."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def figure(charts: Sequence[Chart], style: Style, columns: int = 2) -> go.Figure:
    """A static plotly figure with a legend that is linked across charts."""
    fig = go.Figure()
    Drawing(fig, style, columns, legend=True).draw(charts)
    return fig
