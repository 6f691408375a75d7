"""Charts as pictures for papers, slides and files: PNG, SVG and PDF, drawn by matplotlib in the dashboard's colours.

The same charts give the same bytes: no date, no random names, and the fonts that matplotlib brings along.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from octolab.experiment.curves import Line, line, y_range
from octolab.lab.chart import Chart, Mark, of_lines
from octolab.lab.grid import place
from octolab.lab.style import PATTERNS, Style
from octolab.lab.ticks import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from octolab.experiment.run import Run


@dataclass(frozen=True)
class Size:
    """How large one chart of a picture is: width and height in inches, letters in points."""

    width: float
    height: float
    letters: float


SIZES = {"screen": Size(4.8, 2.9, 9), "slide": Size(6.4, 4.3, 14), "paper": Size(3.4, 2.3, 7.5)}
"""`paper` is a column of a two-column paper."""
ENDINGS = (".png", ".svg", ".pdf")
_RC: dict[Any, Any] = {
    "svg.hashsalt": "octolab",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "axes.unicode_minus": True,
}


# -- from runs ---------------------------------------------------------------------------------------------------------
def plot(lines: Sequence[Line], x: str, y: str, title: str = "", ax: Axes | None = None) -> Axes:
    """Draw curves of runs into `ax` (None: a new figure), with a legend where there are several; returns the axes.

    ImportError, in words, without matplotlib.
    """
    if ax is None:
        _matplotlib()
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    style = Style().know(q.name for q in lines)
    draw(ax, of_lines(lines, x, y, title), style)
    if len(lines) > 1:
        ax.legend(frameon=False)
    return ax


def run_plot(run: Run, ax: Axes | None = None, x: str = "bits_up", y: str = "loss") -> Axes:
    """A run's curve: see `plot`."""
    return plot([line(run.name, [run], x, y)], x, y, run.problem.name, ax)


# -- figures -----------------------------------------------------------------------------------------------------------
def figure(
    charts: Sequence[Chart], style: Style, names: Sequence[str], title: str = "", size: str = "screen", columns: int = 2
) -> Figure:
    """Charts as one matplotlib figure, a legend of the runs on top. size: "screen", "slide" or "paper"."""
    if size not in SIZES:
        raise ValueError(f"size={size!r}: choose one of {', '.join(map(repr, SIZES))}.")
    _matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    one, columns = SIZES[size], min(1 if size == "paper" else columns, max(1, len(charts)))
    cells, rows, _ = place(charts, columns, 1)
    with matplotlib.rc_context({**_RC, "font.size": one.letters}):
        made = Figure(
            figsize=(one.width * columns, one.height * rows + 0.5), layout="constrained", facecolor=style.paper
        )
        spots = made.add_gridspec(rows, columns)
        tops = sorted({round(c[3], 6) for c in cells}, reverse=True)
        for chart, (x0, x1, _, top) in zip(charts, cells, strict=True):
            row, first = tops.index(round(top, 6)), round(x0 * columns)
            last = columns if x1 - x0 > 0.9 else first + 1
            draw(made.add_subplot(spots[row, first:last]), chart, style, one.letters)
        _head(made, style, names, title, columns)
    return made


def written(made: Figure, ending: str, scale: float = 2.0, note: str | None = None) -> bytes:
    """A figure as the bytes of a file. ending: ".png", ".svg" or ".pdf"; scale: of a PNG, in pixels per point of 1/96 inch;
    note: a text for the file's metadata.
    """
    import matplotlib

    kind = ending.removeprefix(".")
    metadata: dict[str, str | None] = {
        "png": {"Software": None, "Description": note},
        "svg": {"Date": None, "Creator": "octolab", "Description": note},
        "pdf": {"CreationDate": None, "Creator": "octolab", "Producer": None, "Subject": note},
    }[kind]  # type: ignore[assignment]
    out = io.BytesIO()
    with matplotlib.rc_context(_RC):
        made.savefig(out, format=kind, dpi=96 * scale, facecolor=made.get_facecolor(), metadata=metadata)
    return out.getvalue()


def _matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError(
            "Pictures are drawn by matplotlib, which is not installed: pip install 'octolab[lab]'. "
            "An .html or .csv file needs nothing."
        ) from None


def _head(made: Figure, style: Style, names: Sequence[str], title: str, columns: int) -> None:
    """The title and the legend of the runs, above the charts."""
    from matplotlib.lines import Line2D

    shown = names if len(names) > 1 else ()
    lines = [Line2D([], [], color=style.colour(n), linestyle=dashes(style.dash(n)), linewidth=2) for n in shown]
    legend = made.legend(
        lines,
        [_plain(n) for n in shown],
        loc="outside upper left",
        ncols=2 * columns,
        frameon=False,
        labelcolor=style.ink,
        title=_plain(title),
        alignment="left",
    )
    legend.get_title().set(color=style.ink, fontweight="bold")


# -- one chart ---------------------------------------------------------------------------------------------------------
def draw(ax: Axes, chart: Chart, style: Style, letters: float = 10) -> None:
    """A chart into matplotlib's axes: titles, scales, grid, marks. letters: their size, in points."""
    ax.set_facecolor(style.paper)
    small = 0.85 * letters
    ax.set_title(
        _plain(chart.title), loc="left", color=style.ink, fontweight="bold", fontsize=letters, pad=1.9 * letters
    )
    ax.annotate(
        _plain(chart.note),
        (0, 1),
        (0, 0.6 * letters),
        "axes fraction",
        "offset points",
        color=style.grey,
        fontsize=small,
    )
    ax.set_xlabel(_plain(chart.x), color=style.grey, fontsize=letters)
    bars = [m for m in chart.marks if m.kind == "bars"]
    for mark in chart.marks:
        if mark.kind == "bars":
            _bars(ax, mark, style, bars.index(mark), len(bars))
        else:
            _DRAW[mark.kind](ax, mark, style)
    _scales(ax, chart)
    ax.tick_params(which="both", colors=style.grey, labelcolor=style.ink, labelsize=small)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(style.grey)
    if not any(m.kind in ("heat", "spans") for m in chart.marks):
        ax.grid(axis="y", color=style.ink, alpha=0.1, linewidth=0.8)


def _scales(ax: Axes, chart: Chart) -> None:
    from matplotlib.ticker import FuncFormatter, PercentFormatter

    kinds = {m.kind for m in chart.marks}
    if "heat" in kinds:
        return
    if not any(isinstance(m.x, list) for m in chart.marks):
        ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: number(v)))
    if chart.log_y:
        ax.set_yscale("log", nonpositive="mask")
        _log_ticks(ax, chart)
    elif chart.percent:
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    else:
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: number(v)))
    if "spans" in kinds:
        ax.set_yticks([])
    elif (limits := _limits(chart)) is not None:
        low, high = limits
        room = 0.04 * (high - low)
        ax.set_ylim((low / 1.2, high * 1.2) if chart.log_y else (low - room, high + room))


def _limits(chart: Chart) -> tuple[float, float] | None:
    """What the vertical axis shows where exploding curves leave the picture; None: everything."""
    lines = [Line(m.run, np.zeros(0), np.asarray(m.y, dtype=float), m.low, m.high) for m in chart.marks]
    limits = y_range(lines, chart.log_y) if chart.clip else None
    return limits if limits is not None and limits[1] > limits[0] else None


def _log_ticks(ax: Axes, chart: Chart) -> None:
    """Within two decades 0.2, 0.5, 1 are written out; beyond, powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    limits = _limits(chart)
    if limits is not None and limits[1] < 100 * limits[0]:
        ax.yaxis.set_major_locator(
            LogLocator(subs=(1.0, 2.0, 5.0) if limits[1] > 4 * limits[0] else tuple(range(1, 10)))
        )
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: number(v)))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _plain(text: str) -> str:
    """A text as it is: matplotlib would read what stands between two dollars as maths."""
    return text.replace("$", r"\$")


def dashes(name: str) -> Literal["solid"] | tuple[float, tuple[float, ...]]:
    """A dash's name as matplotlib takes it."""
    pattern = PATTERNS.get(name, ())
    return (0.0, tuple(v / 2 for v in pattern)) if pattern else "solid"


def _line(ax: Axes, m: Mark, style: Style) -> None:
    x, y = np.asarray(m.x, dtype=float), np.asarray(m.y, dtype=float)
    seen = np.isfinite(x) & np.isfinite(y)
    (drawn,) = ax.plot(x[seen], y[seen], color=style.colour(m), label=_plain(m.run or m.part))
    if seen.sum() == 1:
        drawn.set(marker="o", markersize=5, linestyle="none")
    else:
        drawn.set(linestyle=dashes(style.dash(m)), linewidth=m.width or 1.8)


def _band(ax: Axes, m: Mark, style: Style) -> None:
    if m.low is not None and m.high is not None:
        ax.fill_between(m.x, m.low, m.high, color=style.colour(m), alpha=0.18, linewidth=0)


def _points(ax: Axes, m: Mark, style: Style) -> None:
    ax.scatter(m.x, m.y, s=9 if not len(m.text) else 26, color=style.colour(m), label=_plain(m.run or m.part), zorder=3)
    if m.kind == "labels":
        for x, y, words in zip(m.x, m.y, m.text, strict=True):
            if np.isfinite(x) and np.isfinite(y):
                ax.annotate(
                    _plain(str(words)),
                    (x, y),
                    xytext=(0, 6),
                    textcoords="offset points",
                    ha="center",
                    color=style.colour(m),
                )


def _spans(ax: Axes, m: Mark, style: Style) -> None:
    ax.hlines(m.y[::3], m.x[::3], m.x[1::3], color=style.colour(m), linewidth=2.6)


def _heat(ax: Axes, m: Mark, style: Style) -> None:
    z = np.asarray(m.z, dtype=float)
    shown = ax.imshow(z, aspect="auto", origin="lower", cmap="cividis", interpolation="nearest")
    ax.set_yticks(range(len(m.y)), [str(v) for v in m.y])
    places = np.linspace(0, z.shape[1] - 1, min(5, z.shape[1])).round().astype(int)
    ax.set_xticks(places, [number(float(m.x[k])) for k in places])
    ax.figure.colorbar(shown, ax=ax).ax.tick_params(labelcolor=style.ink, colors=style.grey)


def _bars(ax: Axes, m: Mark, style: Style, k: int, of: int) -> None:
    labels = isinstance(m.x, list) or (len(m.x) > 0 and isinstance(m.x[0], str))
    places = np.arange(len(m.x)) if labels else np.asarray(m.x, dtype=float)
    gap = float(np.diff(places).min()) if len(places) > 1 else 1.0
    wide = 0.8 * gap / of
    ax.bar(places - 0.4 * gap + (k + 0.5) * wide, m.y, wide, color=style.colour(m), label=_plain(m.run or m.part))
    if labels:
        ax.set_xticks(places, [str(v)[:18] for v in m.x], rotation=0 if len(places) < 6 else 30)


_DRAW: dict[str, Callable[[Axes, Mark, Style], None]] = {
    "line": _line, "band": _band, "points": _points, "labels": _points, "spans": _spans, "heat": _heat,
}  # fmt: skip

__all__ = ["ENDINGS", "SIZES", "Size", "draw", "figure", "plot", "run_plot", "written"]
