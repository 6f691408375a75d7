"""Line charts as inline SVG: no scripts, no network, readable wherever a notebook or a page is shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from octolab.experiment.curves import Line, thin, y_range
from octolab.lab.palette import COLOURS, DASHES

SVG_DASHES = {
    "solid": "",
    "dash": "7 4",
    "dot": "2 3",
    "dashdot": "7 3 2 3",
    "longdash": "12 4",
    "longdashdot": "12 3 2 3",
}


def svg_chart(
    series: Sequence[Line],
    x_label: str,
    y_label: str,
    log_y: bool = False,
    title: str = "",
    width: int = 720,
    height: int = 340,
) -> str:
    """A line chart as one <svg> element, without script or style sheet. All text is escaped."""
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
        with np.errstate(all="ignore"):
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
    size = f"width='{width}' height='{height}'"
    label = escape(title or f"{y_label} against {x_label}", quote=True)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' {size} role='img' "
        f"style='max-width:100%;height:auto' font-family='sans-serif' font-size='12' fill='#333' "
        f"aria-label='{label}'><title>{label}</title><rect {size} fill='white'/>"
        f"<text x='{box[0]}' y='17' font-size='14' font-weight='bold'>{escape(title)}</text>"
        f"<text x='{middle:.0f}' y='{height - 8}' text-anchor='middle'>{escape(x_label)}</text>"
        f"<text x='15' y='{centre:.0f}' text-anchor='middle' transform='rotate(-90 15 {centre:.0f})'>"
        f"{escape(y_label)}</text>"
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
    return f"fill='none' stroke='{COLOURS[i % len(COLOURS)]}' stroke-width='2'" + (
        f" stroke-dasharray='{dash}'" if dash else ""
    )


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
