"""Runs and comparisons as plotly figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from octolab.experiment.curves import MOST_POINTS, X_LABELS, Line, distinct, is_log, line, thin, y_label, y_range
from octolab.lab.style import COLOURS, DASHES

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from octolab.experiment.run import Run

SWITCH = ("round", "bits_up", "time")
PANELS = ("loss", "grad_norm_sq")


def figure(runs: Sequence[Run] | dict[str, Sequence[Run]]) -> go.Figure:
    """A plotly figure: loss and squared gradient norm, with buttons for the x axis (rounds, bits up, time).

    The buttons need no kernel: every curve is there once per axis, and a button shows one set. A trace's
    `meta` says what it draws: [number of the run, x, y].
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    named = dict(runs) if isinstance(runs, dict) else {q: [r] for q, r in zip(_names(runs), runs, strict=True)}
    fig = make_subplots(rows=1, cols=2, subplot_titles=[y_label(y) for y in PANELS], horizontal_spacing=0.1)
    for x in SWITCH:
        for i, (name, group) in enumerate(named.items()):
            for column, y in enumerate(PANELS, 1):
                q = (
                    line(name, group, x, y)
                    if any(y in r.recorder.sparse for r in group)
                    else Line(name, np.zeros(0), np.zeros(0))
                )
                trace = go.Scatter(
                    x=q.x,
                    y=q.y,
                    name=name,
                    mode="lines",
                    line=stroke(i),
                    legendgroup=name,
                    showlegend=column == 1,
                    visible=x == SWITCH[0],
                    meta=[i, x, y],
                )
                fig.add_trace(trace, row=1, col=column)
    shown = [[t.meta[1] == x for t in fig.data] for x in SWITCH]
    titles = {x: {"xaxis.title.text": X_LABELS[x], "xaxis2.title.text": X_LABELS[x]} for x in SWITCH}
    buttons = [
        {"label": x.replace("_", " "), "method": "update", "args": [{"visible": visible}, titles[x]]}
        for x, visible in zip(SWITCH, shown, strict=True)
    ]
    menu = {
        "type": "buttons",
        "direction": "right",
        "buttons": buttons,
        "x": 1,
        "xanchor": "right",
        "y": 1.28,
    }
    fig.update_layout(template="plotly_white", height=380, updatemenus=[menu], margin={"t": 90, "b": 50})
    fig.update_xaxes(title_text=X_LABELS["round"])
    for axis, y in zip(("yaxis", "yaxis2"), PANELS, strict=True):
        lines = [Line(t.name, np.asarray(t.x), np.asarray(t.y)) for t in fig.data if t.meta[2] == y]
        set_y_axis(fig.layout[axis], lines, y)
    return fig


def stroke(i: int) -> dict[str, Any]:
    """Colour, dash and width of the i-th method's line."""
    return {"color": COLOURS[i % len(COLOURS)], "dash": DASHES[i % len(DASHES)], "width": 2}


def set_y_axis(axis: Any, lines: Sequence[Line], y: str) -> None:
    """Log scale where the story is exponential; a range only where a curve would explode out of it."""
    log = is_log(y, lines)
    kind = "log" if log else "linear"
    if axis.type != kind:
        axis.type = kind
    limits = y_range(lines, log)
    top = max((float(np.nanmax(q.y)) for q in lines if np.isfinite(q.y).any()), default=0.0)
    if limits is not None and top > limits[1]:
        axis.range = [math.log10(v) for v in limits] if log else list(limits)


def _names(runs: Sequence[Run]) -> list[str]:
    return distinct([run.name for run in runs], [repr(run.given) for run in runs])


def curves_figure(lines: Sequence[Line], x: str, y: str, title: str) -> go.Figure:
    """A plotly figure of curves: one colour and dash each, a band from least to greatest where there are seeds."""
    import plotly.graph_objects as go

    fig = go.Figure()
    for i, q in enumerate(lines):
        if q.low is not None and q.high is not None:
            keep = thin(len(q.x), MOST_POINTS // 2)  # there and back again
            edge = np.concatenate([q.high[keep], q.low[keep][::-1]])
            fig.add_scatter(
                x=np.concatenate([q.x[keep], q.x[keep][::-1]]),
                y=edge,
                name=f"{q.name}, all seeds",
                mode="none",
                fill="toself",
                fillcolor=COLOURS[i % len(COLOURS)],
                opacity=0.2,
                legendgroup=q.name,
                showlegend=False,
                hoverinfo="skip",
            )
        fig.add_scatter(x=q.x, y=q.y, name=q.name, mode="lines", line=stroke(i), legendgroup=q.name)
    fig.update_layout(template="plotly_white", title=title, height=420)
    fig.update_xaxes(title_text=X_LABELS[x])
    fig.update_yaxes(title_text=y_label(y))
    set_y_axis(fig.layout.yaxis, lines, y)
    if y == "accuracy":
        fig.update_yaxes(tickformat=".0%")
    return fig
