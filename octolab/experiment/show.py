"""How runs show themselves: as text, as a static HTML card with an inline SVG chart (no scripts), as a plotly figure.

A `Line` is what is drawn, whoever draws it: one method's curve, with a band over seeds if there are several.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from octolab.experiment.run import Run

# Okabe and Ito's colour-blind safe colours, the strongest on white first; dashes tell lines apart without colour
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000", "#F0E442")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SVG_DASHES = {"solid": "", "dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3", "longdash": "12 4", "longdashdot": "12 3 2 3"}
MOST_POINTS = 2000

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


@dataclass(frozen=True, eq=False)
class Line:
    """One curve: x and y (T,), and low and high (T,) where there are several seeds."""

    name: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


# -- what is drawn ---------------------------------------------------------------------------------------------------
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
            raise ValueError(f"y='suboptimality': f* of {run.problem.name} is not known. Use y='loss' or y='grad_norm_sq'.")
        return np.asarray(columns["loss"], dtype=float) - run.problem.f_star
    if y not in columns:
        known = [name for name in ("loss", "grad_norm_sq", "accuracy") if name in columns]
        raise ValueError(f"y={y!r}: this run recorded no {y}; it has {', '.join(known) or 'no evaluations yet'}.")
    return np.asarray(columns[y], dtype=float)


def thin(length: int, most: int = MOST_POINTS) -> np.ndarray:
    """At most `most` row numbers of `length`, evenly spaced, the first and the last among them."""
    if length <= most:
        return np.arange(length)
    return np.linspace(0, length - 1, most).round().astype(np.int64)


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
    """Whether the story of `y` is exponential: always for a distance to the optimum, for a loss if it spans a lot."""
    if y in ("suboptimality", "grad_norm_sq"):
        return True
    values = np.concatenate([q.y for q in lines]) if lines else np.zeros(0)
    values = values[np.isfinite(values)]
    return y == "loss" and len(values) > 0 and bool(values.min() > 0) and bool(values.max() > 20 * values.min())


def y_range(lines: Sequence[Line], log: bool) -> tuple[float, float] | None:
    """Least and greatest value to show: curves that explode leave the picture at the top instead of flattening the rest."""
    ys = [np.concatenate([v for v in (q.y, q.low, q.high) if v is not None]) for q in lines]
    ys = [v[np.isfinite(v) & ((v > 0) | (not log))] for v in ys]
    ys = [v for v in ys if len(v)]
    if not ys:
        return None
    low, high = min(float(v.min()) for v in ys), max(float(v.max()) for v in ys)
    start = max(float(v[0]) for v in ys)
    if log:
        return low, min(high, start * 100)
    least = min(low, start)
    return least, min(high, start + 2 * max(start - least, abs(start), 1e-12))


# -- inline SVG ------------------------------------------------------------------------------------------------------
def svg_chart(
    series: Sequence[Line],
    x_label: str,
    y_label: str,
    log_y: bool = False,
    title: str = "",
    width: int = 720,
    height: int = 340,
) -> str:
    """A line chart as one <svg> element: no script, no style sheet, readable without either. All text is escaped."""
    left, right, top, bottom = 74, 16, 30 + 18 * ((len(series) + 2) // 3), 46
    box = (left, top, width - right, height - bottom)
    xs = np.concatenate([q.x[np.isfinite(q.x)] for q in series] or [np.zeros(0)])
    x_max = float(xs.max()) if len(xs) and xs.max() > 0 else 1.0
    low, high = y_range(series, log_y) or ((0.1, 1.0) if log_y else (0.0, 1.0))
    if low == high:
        low, high = (low / 2, high * 2) if log_y else (low - 0.5, high + 0.5)
    ticks = _log_ticks(low, high) if log_y else _ticks(low, high)
    scale = (lambda v: np.log10(v)) if log_y else (lambda v: v)
    bottom_value, top_value = float(scale(low)), float(scale(high))

    def px(x: np.ndarray | float) -> Any:
        return box[0] + (box[2] - box[0]) * np.asarray(x) / x_max

    def py(y: np.ndarray | float) -> Any:
        with np.errstate(divide="ignore", invalid="ignore"):
            v = scale(np.asarray(y, dtype=float))
        return np.clip(box[3] - (box[3] - box[1]) * (v - bottom_value) / (top_value - bottom_value), -1e4, 1e4)

    parts = [_frame(box, width, height, title, x_label, y_label)]
    for value in ticks:
        at = float(py(value))
        parts.append(f"<line x1='{left}' y1='{at:.1f}' x2='{width - right}' y2='{at:.1f}' stroke='#ddd'/>")
        parts.append(f"<text x='{left - 6}' y='{at + 4:.1f}' text-anchor='end'>{_number(value, log_y)}</text>")
    for value in _ticks(0.0, x_max):
        at = float(px(value))
        parts.append(f"<line x1='{at:.1f}' y1='{box[3]}' x2='{at:.1f}' y2='{box[3] + 4}' stroke='#555'/>")
        parts.append(f"<text x='{at:.1f}' y='{box[3] + 17}' text-anchor='middle'>{_number(value)}</text>")
    clip = f"octolab-{left}-{top}-{width}-{height}"  # the same name always means the same rectangle
    size = f"x='{box[0]}' y='{box[1]}' width='{box[2] - box[0]}' height='{box[3] - box[1]}'"
    parts.append(f"<clipPath id='{clip}'><rect {size}/></clipPath><g clip-path='url(#{clip})'>")
    parts += [_curve(q, i, px, py) for i, q in enumerate(series)]
    parts.append("</g>")
    parts += [_legend(q.name, i, left, width) for i, q in enumerate(series)]
    return "".join(parts) + "</svg>"


def _frame(box: tuple[int, ...], width: int, height: int, title: str, x_label: str, y_label: str) -> str:
    middle, centre = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    label = escape(title or f"{y_label} against {x_label}", quote=True)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' "
        f"style='max-width:100%;height:auto;background:white' font-family='sans-serif' font-size='12' fill='#333' "
        f"role='img' aria-label='{label}'><title>{label}</title><rect width='{width}' height='{height}' fill='white'/>"
        f"<text x='{box[0]}' y='17' font-size='14' font-weight='bold'>{escape(title)}</text>"
        f"<text x='{middle:.0f}' y='{height - 8}' text-anchor='middle'>{escape(x_label)}</text>"
        f"<text x='15' y='{centre:.0f}' text-anchor='middle' transform='rotate(-90 15 {centre:.0f})'>{escape(y_label)}</text>"
        f"<path d='M{box[0]} {box[1]}V{box[3]}H{box[2]}' fill='none' stroke='#555'/>"
    )


def _curve(q: Line, i: int, px: Any, py: Any) -> str:
    colour, out = COLOURS[i % len(COLOURS)], ""
    keep = thin(len(q.x), 400)
    if q.low is not None and q.high is not None and len(keep):
        edge = [*zip(px(q.x[keep]), py(q.high[keep]), strict=True)]
        edge += [*zip(px(q.x[keep][::-1]), py(q.low[keep][::-1]), strict=True)]
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in edge if math.isfinite(a) and math.isfinite(b))
        out += f"<polygon points='{points}' fill='{colour}' fill-opacity='0.15'/>"
    pairs = [(a, b) for a, b in zip(px(q.x[keep]), py(q.y[keep]), strict=True) if math.isfinite(a) and math.isfinite(b)]
    if len(pairs) == 1:
        return out + f"<circle cx='{pairs[0][0]:.1f}' cy='{pairs[0][1]:.1f}' r='3' fill='{colour}'/>"
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in pairs)
    return out + f"<polyline points='{points}' {_stroke(i)}/>"


def _stroke(i: int) -> str:
    dash = SVG_DASHES[DASHES[i % len(DASHES)]]
    return f"fill='none' stroke='{COLOURS[i % len(COLOURS)]}' stroke-width='2'" + (f" stroke-dasharray='{dash}'" if dash else "")


def _legend(name: str, i: int, left: int, width: int) -> str:
    x, y = left + (i % 3) * (width - left) / 3, 34 + 18 * (i // 3)
    short = name if len(name) <= 30 else name[:29] + "…"
    return (
        f"<line x1='{x:.0f}' y1='{y - 4}' x2='{x + 26:.0f}' y2='{y - 4}' {_stroke(i)}/>"
        f"<text x='{x + 32:.0f}' y='{y}'>{escape(short)}</text>"
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers in [low, high], about five."""
    if not high > low:
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(m for m in (1, 2, 2.5, 5, 10) if (high - low) / (step * m) <= 6)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first < 1:
        return _ticks(low, high)
    return [10.0**k for k in range(first, last + 1, max(1, -(-(last - first) // 6)))]


def _number(value: float, power: bool = False) -> str:
    if value == 0:
        return "0"
    exponent = math.log10(abs(value))
    if power and abs(exponent - round(exponent)) < 1e-9 and not 0.001 <= abs(value) <= 1000:
        return f"10<tspan dy='-5' font-size='9'>{round(exponent)}</tspan>"
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


# -- text and card ---------------------------------------------------------------------------------------------------
def bits(amount: float) -> str:
    """Bits in human units: 1234567 is '1.23 Mbit'."""
    for size, unit in ((1e12, "Tbit"), (1e9, "Gbit"), (1e6, "Mbit"), (1e3, "kbit")):
        if abs(amount) >= size:
            return f"{amount / size:.3g} {unit}"
    return f"{amount:.0f} bit"


def status(run: Run) -> str:
    """What became of a run: its status, or 'diverging' if it ended with gradients a hundred times those it began with."""
    where, what = run.recorder.sparse.get("grad_norm_sq", ([], []))
    if run.status in ("finished", "stopped") and len(what) > 1 and not what[-1] <= 100 * max(what[0], 1e-12):
        return "diverging"
    return "paused" if run.status == "running" and run.paused else run.status


def facts(run: Run) -> list[tuple[str, str]]:
    """The last numbers of a run, in words and human units."""
    from octolab.experiment.run import FOREVER

    with run._lock:
        last = run.recorder.last
    rounds = "" if run.settings.rounds >= FOREVER else f" of {run.settings.rounds:,}"
    out = [("status", status(run)), ("round", f"{max(run.round, 0):,}{rounds}" if last else f"not started{rounds}")]
    if not last:
        return out
    for name, word, form in (("loss", "loss", ".6g"), ("grad_norm_sq", "|∇f|²", ".3g"), ("accuracy", "accuracy", ".1%")):
        if name in last:
            out.append((word, format(last[name], form)))
    out += [("up", f"{bits(last['bits_up'])} per client"), ("down", f"{bits(last['bits_down'])} per client")]
    return [*out, ("virtual time", f"{last['time']:,.4g} s")]


def text(run: Run) -> str:
    """A run in three or four lines; works before it starts and after it diverged."""
    found = dict(facts(run))
    lines = [f"{run.given!r} on {run.problem.name} ({run.problem.n} clients, d={run.problem.d:,}), seed {run.settings.seed}"]
    lines.append(f"  {found.pop('status')}, round {found.pop('round')}")
    values = [f"{word} {found.pop(word)}" for word in ("loss", "|∇f|²", "accuracy") if word in found]
    if values:
        lines.append("  " + ", ".join(values))
    if found:
        lines.append("  " + ", ".join(f"{word} {value}" for word, value in found.items()))
    if run.error is not None:
        lines.append(f"  {run.error}")
    return "\n".join(lines)


_drawn: weakref.WeakSet = weakref.WeakSet()  # what a live display has just shown: not drawn again by the cell's value


def drawn(thing: Any) -> None:
    """Say that `thing` has just been shown in this cell; its next HTML is one line."""
    _drawn.add(thing)


def was_drawn(thing: Any) -> bool:
    """Whether the cell shows `thing` already; asked once, then forgotten."""
    if thing not in _drawn:
        return False
    _drawn.discard(thing)
    return True


def card(run: Run) -> str:
    """A run as static HTML: a curve (inline SVG) and the last numbers. Right after a live chart: the text alone."""
    if was_drawn(run):
        return f"<pre>{escape(text(run))}</pre>"
    body = "".join(f"<span><b>{escape(word)}</b> {escape(value)}</span> " for word, value in facts(run))
    chart = ""
    if "loss" in run.recorder.sparse:
        curve = line(run.name, [run], "round", "loss")
        chart = svg_chart([curve], X_LABELS["round"], Y_LABELS["loss"], is_log("loss", [curve]), run.problem.name, height=280)
    error = "" if run.error is None else f"<p style='color:#D55E00'>{escape(str(run.error))}</p>"
    head = f"<b>{escape(repr(run.given))}</b> on {escape(run.problem.name)}, seed {run.settings.seed}"
    return (
        f"<div class='octolab-run' style='max-width:60em'><div>{head}</div>{chart}"
        f"<div style='display:flex;flex-wrap:wrap;gap:0 1.5em'>{body}</div>{error}</div>"
    )


# -- plotly ----------------------------------------------------------------------------------------------------------
SWITCH = ("round", "bits_up", "time")
PANELS = ("loss", "grad_norm_sq")


def figure(runs: Sequence[Run] | dict[str, Sequence[Run]]) -> go.Figure:
    """A plotly figure with two panels, loss and squared gradient norm, and buttons for the x axis: rounds, bits up, time.

    The buttons need no kernel: every curve is there once per axis, and a button shows one set. A trace's `meta` says
    what it draws: [number of the run, x, y].
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    named = dict(runs) if isinstance(runs, dict) else {q: [r] for q, r in zip(_names(runs), runs, strict=True)}
    fig = make_subplots(rows=1, cols=2, subplot_titles=[Y_LABELS[y] for y in PANELS], horizontal_spacing=0.1)
    for x in SWITCH:
        for i, (name, group) in enumerate(named.items()):
            for column, y in enumerate(PANELS, 1):
                q = line(name, group, x, y) if any(y in r.recorder.sparse for r in group) else Line(name, np.zeros(0), np.zeros(0))
                trace = go.Scatter(
                    x=q.x, y=q.y, name=name, mode="lines", line=stroke(i), legendgroup=name, showlegend=column == 1,
                    visible=x == SWITCH[0], meta=[i, x, y],
                )  # fmt: skip
                fig.add_trace(trace, row=1, col=column)
    shown = [[t.meta[1] == x for t in fig.data] for x in SWITCH]
    titles = {x: {"xaxis.title.text": X_LABELS[x], "xaxis2.title.text": X_LABELS[x]} for x in SWITCH}
    buttons = [
        {"label": x.replace("_", " "), "method": "update", "args": [{"visible": visible}, titles[x]]}
        for x, visible in zip(SWITCH, shown, strict=True)
    ]
    menu = {"type": "buttons", "direction": "right", "buttons": buttons, "x": 1, "xanchor": "right", "y": 1.28}
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
