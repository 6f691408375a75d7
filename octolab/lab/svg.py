"""Charts as inline SVG, without scripts: for saved notebooks, pages, files. The same grid as the live figure."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from octolab.experiment.curves import Line, thin, y_range
from octolab.lab.chart import Chart, Mark, of_lines
from octolab.lab.grid import place
from octolab.lab.style import PATTERNS, Style
from octolab.lab.ticks import exponent, log_ticks, number, ticks

WIDTH, ROW, TITLE, FOOT, LEFT, RIGHT = 460, 170, 44, 46, 58, 12
MOST = 400


def curves_svg(lines: Sequence[Line], x: str, y: str, title: str, width: int = 900, height: int = 380) -> str:
    """Curves of runs as one <svg>; x and y as in `curves.X_LABELS` and `y_label`."""
    style, names = Style().know(q.name for q in lines), [q.name for q in lines]
    row = height - TITLE - FOOT - _legend_height(names, width)
    return sheet([of_lines(lines, x, y, title)], style, names, wide=width, row=row)


def sheet(
    charts: Sequence[Chart],
    style: Style,
    names: Sequence[str],
    columns: int = 2,
    title: str = "",
    wide: int = WIDTH,
    row: int = ROW,
) -> str:
    """All charts as one <svg>, a legend on top. wide, row: a chart's width, and the height of its plot, in pixels."""
    columns = min(columns, max(1, len(charts)))
    cell = TITLE + row + FOOT
    spots, rows, _ = place(charts, columns, 1)
    width, head = wide * columns, _legend_height(names, wide * columns) + (22 if title else 0)
    height = head + rows * cell
    label = escape(title or ", ".join(c.title for c in charts), quote=True)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' role='img' "
        f"aria-label='{label}' style='max-width:100%;height:auto' font-family='sans-serif' font-size='11' fill='{style.ink}'>"
        f"<title>{label}</title><rect x='0' y='0' width='{width}' height='{height}' fill='{style.paper}'/>"
    ]
    if title:
        parts.append(f"<text x='8' y='18' font-size='14' font-weight='bold'>{escape(title)}</text>")
    parts += _legend(names, style, width, 22 if title else 0)
    row_of = _rows(spots)
    for i, (chart, (x0, _, _, _)) in enumerate(zip(charts, spots, strict=True)):
        x, y = (0 if x0 < 0.25 else wide), head + row_of[i] * cell
        drawn = _chart(chart, style, width if chart.tall else wide, row)
        parts.append(f"<g transform='translate({x},{y})'>{drawn}</g>")
    return "".join(parts) + "</svg>"


def _rows(spots: Sequence[tuple[float, ...]]) -> list[int]:
    tops = sorted({round(s[3], 6) for s in spots}, reverse=True)
    return [tops.index(round(s[3], 6)) for s in spots]


def _legend_height(names: Sequence[str], width: int) -> int:
    return 0 if len(names) < 2 else 8 + 18 * -(-len(names) // max(1, width // 230))


def _legend(names: Sequence[str], style: Style, width: int, top: int) -> list[str]:
    per_row, parts = max(1, width // 230), []
    for k, name in enumerate(names if len(names) > 1 else ()):
        x, y = 10 + (k % per_row) * 230, top + 18 + 18 * (k // per_row)
        short = name if len(name) <= 28 else name[:27] + "…"
        look = _look(style.colour(name), style.dash(name), 2)
        parts.append(f"<line x1='{x}' y1='{y - 4}' x2='{x + 26}' y2='{y - 4}' {look}/>")
        parts.append(f"<text x='{x + 32}' y='{y}'>{escape(short)}</text>")
    return parts


class _Scale:
    """From values to pixels."""

    def __init__(self, low: float, high: float, start: float, stop: float, log: bool = False):
        self.log, self.low, self.high = log, low, high
        a, b = (math.log10(low), math.log10(high)) if log else (low, high)
        self._a, self._slope, self._start = a, (stop - start) / ((b - a) or 1.0), start

    def __call__(self, values: Any) -> np.ndarray:
        v = np.asarray(values, dtype=float)
        with np.errstate(all="ignore"):
            v = np.log10(v) if self.log else v
            return np.clip(self._start + (v - self._a) * self._slope, -1e4, 1e4)


def _chart(chart: Chart, style: Style, width: int, row: int) -> str:
    box = (LEFT, TITLE, width - RIGHT, TITLE + row)
    parts = [
        f"<text x='{LEFT - 4}' y='18' font-size='13' font-weight='bold'>{escape(chart.title)}</text>",
        f"<text x='{LEFT - 4}' y='34' fill='{style.grey}'>{escape(chart.note)}</text>",
    ]
    heat = next((m for m in chart.marks if m.kind == "heat"), None)
    if heat is not None:
        return "".join(parts) + _heat(heat, chart, style, box)
    labels = next((list(m.x) for m in chart.marks if m.kind == "bars" and len(m.x) and isinstance(m.x[0], str)), None)
    sx = _x_scale(chart, labels, box)
    sy = _y_scale(chart, box)
    parts += _y_grid(sy, chart, style, box) + _x_grid(sx, chart, style, box, labels)
    parts.append(f"<path d='M{box[0]} {box[1]}V{box[3]}H{box[2]}' fill='none' stroke='{style.grey}'/>")
    bars = [m for m in chart.marks if m.kind == "bars"]
    drawn = "".join(
        _bars(m, bars.index(m), len(bars), labels, style, sx, sy) if m.kind == "bars" else _mark(m, style, sx, sy)
        for m in chart.marks
    )
    clip = f"octolab-{zlib.crc32(f'{box}{drawn}'.encode()):08x}"  # of its own: one in a hidden chart clips nothing
    rect = f"<rect x='{box[0]}' y='{box[1]}' width='{box[2] - box[0]}' height='{row}'/>"
    return f"{''.join(parts)}<clipPath id='{clip}'>{rect}</clipPath><g clip-path='url(#{clip})'>{drawn}</g>"


def _x_scale(chart: Chart, labels: list[str] | None, box: tuple[int, ...]) -> _Scale:
    if labels is not None:
        return _Scale(-0.6, len(labels) - 0.4, box[0], box[2])
    xs = np.concatenate([np.asarray(m.x, dtype=float) for m in chart.marks] or [np.zeros(0)])
    xs = xs[np.isfinite(xs)]
    low, high = (float(xs.min()), float(xs.max())) if len(xs) else (0.0, 1.0)
    if any(m.kind == "bars" for m in chart.marks):
        low, high = low - 1, high + 1
    elif 0 <= low < 0.3 * high:
        low = 0.0
    return _Scale(low, high if high > low else low + 1, box[0], box[2])


def _y_scale(chart: Chart, box: tuple[int, ...]) -> _Scale:
    lines = [
        Line(m.run, np.zeros(0), np.asarray(m.y, dtype=float), m.low, m.high)
        for m in chart.marks
        if m.kind not in ("heat", "spans")
    ]
    spans = [m for m in chart.marks if m.kind == "spans"]
    if spans:
        return _Scale(-1, 1 + max(float(np.nanmax(m.y)) for m in spans), box[3], box[1])
    if chart.clip:
        low, high = y_range(lines, chart.log_y) or (0.1, 1.0)
    else:
        ys = np.concatenate([v for q in lines for v in (q.y, q.low, q.high) if v is not None] or [np.zeros(0)])
        ys = ys[np.isfinite(ys) & ((ys > 0) | (not chart.log_y))]
        low, high = (float(ys.min()), float(ys.max())) if len(ys) else (0.1, 1.0)
        low = min(low, 0.0) if not chart.log_y else low / 2 if any(m.kind == "bars" for m in chart.marks) else low
    if low == high:
        low, high = (low / 2, high * 2) if chart.log_y else (low - 0.5 * (low != 0), high + 0.5 * (abs(high) or 1))
    room = 0.0 if chart.log_y else 0.05 * (high - low)
    return _Scale(low, high + room, box[3], box[1], chart.log_y)


def _y_grid(sy: _Scale, chart: Chart, style: Style, box: tuple[int, ...]) -> list[str]:
    if any(m.kind == "spans" for m in chart.marks):
        return []
    parts = []
    for value in log_ticks(sy.low, sy.high) if sy.log else ticks(sy.low, sy.high):
        at = float(sy(value))
        text = f"{value:.0%}" if chart.percent else _power(value) if sy.log else number(value)
        parts.append(
            f"<line x1='{box[0]}' y1='{at:.1f}' x2='{box[2]}' y2='{at:.1f}' stroke='{'#444' if style.dark else '#e4e4e4'}'/>"
        )
        parts.append(f"<text x='{box[0] - 6}' y='{at + 4:.1f}' text-anchor='end'>{text}</text>")
    return parts


def _power(value: float) -> str:
    k = exponent(value)
    return number(value) if k is None else f"10<tspan dy='-5' font-size='9'>{k}</tspan>"


def _x_grid(sx: _Scale, chart: Chart, style: Style, box: tuple[int, ...], labels: list[str] | None) -> list[str]:
    parts = []
    marks = [*enumerate(labels)] if labels is not None else [(v, number(v)) for v in ticks(sx.low, sx.high)]
    for value, text in marks:
        at = float(sx(value))
        short = escape(text if len(text) < 40 and labels is None else text[: max(6, 72 // max(1, len(marks)))])
        parts.append(f"<line x1='{at:.1f}' y1='{box[3]}' x2='{at:.1f}' y2='{box[3] + 4}' stroke='{style.grey}'/>")
        parts.append(
            f"<text x='{at:.1f}' y='{box[3] + 16}' text-anchor='middle'>{text if labels is None else short}</text>"
        )
    middle = (box[0] + box[2]) / 2
    parts.append(
        f"<text x='{middle:.0f}' y='{box[3] + 31}' text-anchor='middle' fill='{style.grey}'>{escape(chart.x)}</text>"
    )
    return parts


def _mark(m: Mark, style: Style, sx: _Scale, sy: _Scale) -> str:
    colour = style.colour(m)
    if m.kind == "band" and m.low is not None and m.high is not None:
        keep = thin(len(m.x), MOST)
        edge = [*zip(sx(m.x[keep]), sy(m.high[keep]), strict=True)]
        edge += [*zip(sx(m.x[keep][::-1]), sy(m.low[keep][::-1]), strict=True)]
        return f"<polygon points='{_points(edge)}' fill='{colour}' fill-opacity='0.15'/>"
    if m.kind in ("points", "labels"):
        keep = thin(len(m.x), MOST)
        radius = 5 if m.kind == "labels" else 4 if len(m.text) else 2
        words = ""
        if m.kind == "labels":
            words = "".join(
                f"<text x='{a:.1f}' y='{b - 9:.1f}' text-anchor='middle' fill='{colour}'>{escape(str(t))}</text>"
                for a, b, t in zip(sx(m.x), sy(m.y), m.text, strict=True)
                if math.isfinite(a) and math.isfinite(b)
            )
        return words + "".join(
            f"<circle cx='{a:.1f}' cy='{b:.1f}' r='{radius}' fill='{colour}'/>"
            for a, b in zip(sx(np.asarray(m.x)[keep]), sy(np.asarray(m.y)[keep]), strict=True)
            if math.isfinite(a) and math.isfinite(b)
        )
    if m.kind == "spans":
        x, y = sx(m.x), sy(m.y)
        d = "".join(f"M{a:.1f} {v:.1f}H{max(b, a + 0.4):.1f}" for a, b, v in zip(x[::3], x[1::3], y[::3], strict=True))
        return f"<path d='{d}' fill='none' stroke='{colour}' stroke-width='3.4'/>"
    keep = thin(len(m.x), MOST)
    pairs = [*zip(sx(np.asarray(m.x)[keep]), sy(np.asarray(m.y, dtype=float)[keep]), strict=True)]
    pairs = [p for p in pairs if math.isfinite(p[0]) and math.isfinite(p[1])]
    if len(pairs) == 1:
        return f"<circle cx='{pairs[0][0]:.1f}' cy='{pairs[0][1]:.1f}' r='3' fill='{colour}'/>"
    return _line(pairs, colour, style.dash(m), m.width or 2)


def _bars(m: Mark, k: int, of: int, labels: list[str] | None, style: Style, sx: _Scale, sy: _Scale) -> str:
    places = np.arange(len(m.x)) if labels is not None else np.asarray(m.x, dtype=float)
    gap = float(np.diff(places).min()) if len(places) > 1 else 1.0
    wide, floor = 0.8 * gap / of, float(sy(sy.low if sy.log else 0.0))
    out = ""
    for at, value in zip(places, np.asarray(m.y, dtype=float), strict=True):
        a, b = float(sx(at - 0.4 * gap + k * wide)), float(sx(at - 0.4 * gap + (k + 1) * wide))
        top = float(sy(value))
        if math.isfinite(top):
            size = f"width='{b - a:.1f}' height='{max(0.0, floor - top):.1f}'"
            out += f"<rect x='{a:.1f}' y='{top:.1f}' {size} fill='{style.colour(m)}'/>"
    return out


def _heat(m: Mark, chart: Chart, style: Style, box: tuple[int, ...]) -> str:
    z = np.asarray(m.z, dtype=float)[:, -60:]
    low, high = (float(np.nanmin(z)), float(np.nanmax(z))) if np.isfinite(z).any() else (0.0, 1.0)
    left = box[0] + 6 * max(len(str(v)) for v in m.y) - 30
    wide, tall = (box[2] - left) / z.shape[1], (box[3] - box[1]) / len(m.y)
    out = ""
    for r, name in enumerate(m.y):
        y = box[3] - (r + 1) * tall
        out += f"<text x='{left - 6}' y='{y + tall / 2 + 4:.1f}' text-anchor='end'>{escape(str(name))}</text>"
        for c, value in enumerate(z[r]):
            if math.isfinite(value):
                colour = _cividis((value - low) / ((high - low) or 1.0))
                size = f"width='{wide + 0.3:.1f}' height='{tall:.1f}'"
                out += f"<rect x='{left + c * wide:.1f}' y='{y:.1f}' {size} fill='{colour}'/>"
    middle = (left + box[2]) / 2
    text = f"{chart.x}; from {low:.1f} (dark) to {high:.1f} (yellow)"
    return (
        out + f"<text x='{middle:.0f}' y='{box[3] + 18}' text-anchor='middle' fill='{style.grey}'>{escape(text)}</text>"
    )


_CIVIDIS = ((0, 32, 81), (60, 77, 110), (127, 124, 117), (187, 175, 113), (253, 234, 69))


def _cividis(share: float) -> str:
    at = min(max(share, 0.0), 1.0) * (len(_CIVIDIS) - 1)
    k = min(int(at), len(_CIVIDIS) - 2)
    mix = [round(a + (b - a) * (at - k)) for a, b in zip(_CIVIDIS[k], _CIVIDIS[k + 1], strict=True)]
    return "#" + "".join(f"{v:02x}" for v in mix)


def _line(pairs: Sequence[tuple[float, float]], colour: str, dash: str, width: float) -> str:
    return f"<polyline points='{_points(pairs)}' fill='none' {_look(colour, dash, width)}/>"


def _look(colour: str, dash: str, width: float) -> str:
    pattern = " ".join(f"{v:g}" for v in PATTERNS.get(dash, ()))
    return f"stroke='{colour}' stroke-width='{width:g}'" + (f" stroke-dasharray='{pattern}'" if pattern else "")


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in pairs if math.isfinite(a) and math.isfinite(b))
