"""How runs show themselves: as text, as a static HTML card (inline SVG, no scripts), as a plotly figure.

A `Line` is what is drawn, whoever draws it: one method's curve, with a band over seeds if there are several.
"""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from octolab.experiment.svg import COLOURS, DASHES, MOST_POINTS, Line, svg_chart, thin, y_range

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from octolab.experiment.run import Run

X_LABELS = {
    "round": "round",
    "bits_up": "bits sent up, per client",
    "bits_total": "bits up and down, per client",
    "time": "virtual time (seconds)",
    "gradients": "gradient evaluations, per client",
}
Y_LABELS = {
    "loss": "loss f(x)",
    "suboptimality": "suboptimality f(x) - f*",
    "grad_norm_sq": "squared gradient norm |∇f(x)|²",
    "accuracy": "test accuracy",
}


# -- what is drawn --------------------------------------------------------------
def choice(kind: str, value: str, allowed: dict[str, str]) -> str:
    """`value` if it names an axis; else a ValueError that lists those that exist."""
    if value not in allowed:
        raise ValueError(f"{kind}={value!r}: choose one of {', '.join(map(repr, allowed))}.")
    return value


def x_values(columns: Any, x: str) -> np.ndarray:
    """(T,) the horizontal axis `x` from a history (a table, or a dict of columns)."""
    if x == "bits_total":
        return np.asarray(columns["bits_up"], dtype=float) + np.asarray(columns["bits_down"], dtype=float)
    return np.asarray(columns[choice("x", x, X_LABELS)], dtype=float)


def y_values(run: Run, columns: Any, y: str) -> np.ndarray:
    """(T,) the vertical axis `y`; NaN in rounds without an evaluation."""
    if choice("y", y, Y_LABELS) == "suboptimality":
        if run.problem.f_star is None:
            raise ValueError(
                f"y='suboptimality': f* of {run.problem.name} is not known. Use y='loss' or y='grad_norm_sq'."
            )
        return np.asarray(columns["loss"], dtype=float) - run.problem.f_star
    if y not in columns:
        known = [name for name in ("loss", "grad_norm_sq", "accuracy") if name in columns]
        raise ValueError(f"y={y!r}: this run recorded no {y}; it has {', '.join(known) or 'no evaluations yet'}.")
    return np.asarray(columns[y], dtype=float)


def line(name: str, runs: Sequence[Run], x: str, y: str, most: int = MOST_POINTS) -> Line:
    """One curve of runs that differ by the seed: the median, and a band from the least to the greatest.

    Rounds are matched by their number; where one seed ended earlier, the others go on without it.
    """
    tables = [run.history for run in runs]
    tables = [t for t in tables if len(t)]
    if not tables:
        return Line(name, np.zeros(0), np.zeros(0))
    length = max(len(t) for t in tables)
    xs, ys = np.full((len(tables), length), np.nan), np.full((len(tables), length), np.nan)
    for i, (run, table) in enumerate(zip(runs, tables, strict=False)):
        xs[i, : len(table)], ys[i, : len(table)] = x_values(table, x), y_values(run, table, y)
    seen = np.isfinite(ys).any(axis=0)
    xs, ys = xs[:, seen], ys[:, seen]
    keep = thin(xs.shape[1], most)
    xs, ys = xs[:, keep], np.where(np.isfinite(ys), ys, np.nan)[:, keep]
    if len(tables) == 1:
        return Line(name, xs[0], ys[0])
    return Line(name, np.nanmean(xs, 0), np.nanmedian(ys, 0), np.nanmin(ys, 0), np.nanmax(ys, 0))


def is_log(y: str, lines: Sequence[Line]) -> bool:
    """Whether the story of `y` is exponential: a distance to the optimum always, a loss if it spans a lot."""
    if y in ("suboptimality", "grad_norm_sq"):
        return True
    values = np.concatenate([q.y for q in lines]) if lines else np.zeros(0)
    values = values[np.isfinite(values)]
    return y == "loss" and len(values) > 0 and bool(values.min() > 0) and bool(values.max() > 20 * values.min())


# -- text and card --------------------------------------------------------------
def bits(amount: float) -> str:
    """Bits in human units: 1234567 is '1.23 Mbit'."""
    for size, unit in ((1e12, "Tbit"), (1e9, "Gbit"), (1e6, "Mbit"), (1e3, "kbit")):
        if abs(amount) >= size:
            return f"{amount / size:.3g} {unit}"
    return f"{amount:.0f} bit"


def status(run: Run) -> str:
    """What became of a run: its status, or 'diverging' if its last gradient is over ten times its first
    one.
    """
    _, what = run.recorder.sparse.get("grad_norm_sq", ([], []))
    if run.status in ("finished", "stopped") and len(what) > 1 and not what[-1] <= 100 * max(what[0], 1e-12):
        return "diverging"
    return "paused" if run.status == "running" and run.paused else run.status


def facts(run: Run) -> list[tuple[str, str]]:
    """The last numbers of a run, in words and human units."""
    from octolab.experiment.run import FOREVER

    with run._lock:
        last = run.recorder.last
    rounds = "" if run.settings.rounds >= FOREVER else f" of {run.settings.rounds:,}"
    out = [
        ("status", status(run)),
        ("round", f"{max(run.round, 0):,}{rounds}" if last else f"not started{rounds}"),
    ]
    if not last:
        return out
    for name, word, form in (
        ("loss", "loss", ".6g"),
        ("grad_norm_sq", "|∇f|²", ".3g"),
        ("accuracy", "accuracy", ".1%"),
    ):
        if name in last:
            out.append((word, format(last[name], form)))
    out += [("up", f"{bits(last['bits_up'])} per client"), ("down", f"{bits(last['bits_down'])} per client")]
    return [*out, ("virtual time", f"{last['time']:,.4g} s")]


def text(run: Run) -> str:
    """A run in three or four lines; works before it starts and after it diverged."""
    found = dict(facts(run))
    lines = [
        f"{run.given!r} on {run.problem.name} ({run.problem.n} clients, d={run.problem.d:,}), seed {run.settings.seed}"
    ]
    lines.append(f"  {found.pop('status')}, round {found.pop('round')}")
    values = [f"{word} {found.pop(word)}" for word in ("loss", "|∇f|²", "accuracy") if word in found]
    if values:
        lines.append("  " + ", ".join(values))
    if found:
        lines.append("  " + ", ".join(f"{word} {value}" for word, value in found.items()))
    if run.error is not None:
        lines.append(f"  {run.error}")
    return "\n".join(lines)


_drawn: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()  # thing -> the cell that shows it


def _cell() -> int:
    """The number of the notebook cell that runs; 0 outside notebooks."""
    if "IPython" not in sys.modules:
        return 0
    from IPython import get_ipython

    return int(getattr(get_ipython(), "execution_count", None) or 0)


def drawn(thing: Any) -> None:
    """Say that a live display has just shown `thing`: as the value of the same cell it is not drawn again."""
    _drawn[thing] = _cell()


def was_drawn(thing: Any) -> bool:
    """Whether the cell that runs shows `thing` already."""
    return _drawn.get(thing) == _cell()


def card(run: Run) -> str:
    """A run as static HTML: a curve (inline SVG) and the last numbers."""
    if was_drawn(run):
        return f"<small>{escape(run.name)}: see above</small>"
    body = "".join(f"<span><b>{escape(word)}</b> {escape(value)}</span> " for word, value in facts(run))
    chart = ""
    if "loss" in run.recorder.sparse:
        curve = line(run.name, [run], "round", "loss")
        chart = svg_chart(
            [curve],
            X_LABELS["round"],
            Y_LABELS["loss"],
            is_log("loss", [curve]),
            run.problem.name,
            height=280,
        )
    error = "" if run.error is None else f"<p style='color:#D55E00'>{escape(str(run.error))}</p>"
    head = f"<b>{escape(repr(run.given))}</b> on {escape(run.problem.name)}, seed {run.settings.seed}"
    return (
        f"<div class='octolab-run' style='max-width:60em'><div>{head}</div>{chart}"
        f"<div style='display:flex;flex-wrap:wrap;gap:0 1.5em'>{body}</div>{error}</div>"
    )


# -- plotly --------------------------------------------------------------
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
    fig = make_subplots(rows=1, cols=2, subplot_titles=[Y_LABELS[y] for y in PANELS], horizontal_spacing=0.1)
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


def distinct(names: Sequence[str], longer: Sequence[str]) -> list[str]:
    """Names that differ: where two agree, the longer form; where that agrees too, a number."""
    out = [n if list(names).count(n) == 1 else b for n, b in zip(names, longer, strict=True)]
    return [n if out.count(n) == 1 else f"{n} #{out[:i].count(n) + 1}" for i, n in enumerate(out)]
