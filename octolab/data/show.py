"""How a partition shows itself: as text, as static HTML, as a plotly figure."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from octolab.data.dataset import listed

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from octolab.data.partition import Partition

# Paul Tol's "muted" scheme, safe for colour-blind eyes, and its grey
MUTED = (
    *("#332288", "#88CCEE", "#44AA99", "#117733", "#999933"),
    *("#DDCC77", "#CC6677", "#882255", "#AA4499", "#DDDDDD"),
)
CIVIDIS = (
    "#00224E",
    "#35456C",
    "#666970",
    "#948E77",
    "#C8B866",
    "#FEE838",
)  # for more classes than MUTED has
LEVELS = "▁▂▃▄▅▆▇█"
MOST_ROWS, MOST_COLUMNS, MOST_BARS = 20, 40, 2000


def palette(n: int) -> list[str]:
    """n colours that colour-blind readers can tell apart (n <= 10), or n steps of the cividis scale."""
    if n <= len(MUTED):
        return list(MUTED[:n])
    anchors = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in CIVIDIS])
    at = np.linspace(0, len(anchors) - 1, n)
    rgb = np.stack([np.interp(at, np.arange(len(anchors)), anchors[:, c]) for c in range(3)], axis=1)
    return ["#" + "".join(f"{round(float(v)):02X}" for v in row) for row in rgb]


def title(p: Partition) -> str:
    """One line: the split, its clients, its samples."""
    split = p.spec["split"]
    fields = ", ".join(f"{k}={_short(v)}" for k, v in split.items() if k not in ("kind", "arguments"))
    return (
        f"{split['kind']}({fields}): {p.n:,} client{'s' if p.n != 1 else ''}, {int(p.sizes.sum()):,} samples "
        f"(train {int(p.train_sizes.sum()):,}, test {int(p.test_sizes.sum()):,}), seed {p.spec['seed']}"
    )


def text(p: Partition) -> str:
    """The partition as text: a line per client (20 at most), its sizes, a bar per class; then a summary."""
    counts = p.histogram()
    merged, per_column = _merge(counts)
    rows = _rows(p.n)
    width = max(6, *(len(_name(p, i)) for i in rows if i is not None))
    lines = [
        f"Partition {title(p)}",
        f"{'client':<{width}} {'train':>6} {'test':>5}  labels{_legend(p, per_column)}",
    ]
    for i in rows:
        if i is None:
            lines.append(f"{'...':<{width}}    ... {p.n - MOST_ROWS:,} more clients")
        else:
            bars = _bars(merged[i])
            lines.append(f"{_name(p, i):<{width}} {p.train_sizes[i]:>6,} {p.test_sizes[i]:>5,}  {bars}")
    lines += [f"{key}: {value}" for key, value in summary(p, counts)]
    return "\n".join(lines)


def summary(p: Partition, counts: np.ndarray) -> list[tuple[str, str]]:
    """What the rows cannot show of many clients: sizes, classes per client, notes."""
    sizes = p.sizes
    lines = [("samples per client", _spread(sizes))]
    if counts.shape[1] > 1:
        lines.append(("labels per client", f"{_spread((counts > 0).sum(axis=1))} of {counts.shape[1]}"))
    return lines + [("note", note) for note in p.notes]


def html(p: Partition) -> str:
    """The partition as static HTML, no scripts: a stacked bar per client (20 at most)."""
    counts = p.histogram()
    colours, names = palette(counts.shape[1]), _class_names(p)
    largest = max(1, int(counts.sum(axis=1).max()))
    left = "style='text-align:left'"
    body = []
    for i in _rows(p.n):
        if i is None:
            body.append(f"<tr><td colspan='4' {left}>... {p.n - MOST_ROWS:,} more clients</td></tr>")
            continue
        bar = "".join(
            f"<span title='{escape(names[c], quote=True)}: {counts[i, c]:,}' style='display:inline-block;"
            f"height:12px;width:{100 * counts[i, c] / largest:.2f}%;background:{colours[c]}'></span>"
            for c in np.flatnonzero(counts[i])
        )
        body.append(
            f"<tr><td {left}>{escape(_name(p, i))}</td><td>{p.train_sizes[i]:,}</td>"
            f"<td>{p.test_sizes[i]:,}</td><td style='text-align:left'>"
            f"<div style='width:320px;white-space:nowrap;font-size:0'>{bar}</div></td></tr>"
        )
    shown = range(min(len(names), 20))
    legend = " ".join(f"<span style='color:{colours[c]}'>&#9632;</span>&nbsp;{escape(names[c])}" for c in shown)
    more = f" ... ({len(names):,} in all)" if len(names) > 20 else ""
    head = f"<tr><th {left}>client</th><th>train</th><th>test</th><th {left}>labels</th></tr>"
    foot = "<br>".join(f"{escape(key)}: {escape(value)}" for key, value in summary(p, counts))
    return (
        f"<div class='octolab-partition'><b>{escape(title(p))}</b>"
        f"<table><thead>{head}</thead><tbody>{''.join(body)}</tbody></table>"
        f"<div>{legend}{more}</div><div>{foot}</div></div>"
    )


def figure(p: Partition, part: str = "all") -> go.Figure:
    """A plotly figure of stacked bars, clients x labels; of over 2,000 clients, evenly spaced ones."""
    try:
        import plotly.graph_objects as go
    except ImportError:
        raise ImportError(
            "partition.plot() draws with plotly, which is not installed. Install plotly, or print(partition)."
        ) from None
    counts = p.histogram(part)
    shown = np.arange(p.n) if p.n <= MOST_BARS else np.linspace(0, p.n - 1, MOST_BARS).round().astype(np.int64)
    labels = [_name(p, int(i)) for i in shown] if p.client_names else shown.tolist()
    colours, names = palette(counts.shape[1]), _class_names(p)
    fig = go.Figure(
        [go.Bar(name=names[c], x=labels, y=counts[shown, c], marker_color=colours[c]) for c in range(counts.shape[1])]
    )
    drawn = "" if len(shown) == p.n else f" ({len(shown):,} of {p.n:,} drawn)"
    unit = "characters" if p.codes.ndim > 1 else "samples"
    fig.update_layout(
        barmode="stack",
        title=title(p) + drawn,
        xaxis_title="client",
        yaxis_title=f"{unit} ({'train and test' if part == 'all' else part})",
        legend_title_text="label",
        bargap=0.15 if p.n <= 100 else 0,
        template="plotly_white",
    )
    fig.update_traces(marker_line_width=0)
    return fig


def _rows(n: int) -> list[int | None]:
    """The clients to show, None for the gap: all up to MOST_ROWS, else the first ones and the last three."""
    if n <= MOST_ROWS:
        return list(range(n))
    return [*range(MOST_ROWS - 3), None, *range(n - 3, n)]


def _merge(counts: np.ndarray) -> tuple[np.ndarray, int]:
    """Neighbouring classes added up so that at most MOST_COLUMNS columns remain, and how many go into one."""
    per_column = -(-counts.shape[1] // MOST_COLUMNS)
    starts = np.arange(0, counts.shape[1], per_column)
    return np.add.reduceat(counts, starts, axis=1), per_column


def _bars(row: np.ndarray) -> str:
    """One character per class: a dot for none, else a bar in eighths of the client's largest class."""
    top = max(1, int(row.max()))
    return "".join("·" if v == 0 else LEVELS[min(7, int(8 * v / top))] for v in row.tolist())


def _legend(p: Partition, per_column: int) -> str:
    if not p.classes:
        return " (none: the targets are numbers)"
    if per_column > 1:
        return f" ({len(p.classes)} of them, {per_column} to a column)"
    names = _class_names(p)
    return f" {''.join(names)}" if max(map(len, names)) == 1 else f", left to right: {listed(names, 12)}"


def _class_names(p: Partition) -> list[str]:
    if not p.classes:
        return ["samples"]
    return [repr(c) if isinstance(c, str) and not c.strip() else str(c) for c in p.classes]


def _name(p: Partition, i: int) -> str:
    return f"{i} {p.client_names[i]}"[:40] if p.client_names else str(i)


def _spread(values: np.ndarray) -> str:
    return f"least {int(values.min()):,}, median {np.median(values):,.0f}, most {int(values.max()):,}"


def _short(value: Any) -> str:
    if isinstance(value, dict) and "kind" in value:
        inner = ", ".join(f"{k}={_short(v)}" for k, v in value.items() if k != "kind")
        return f"{value['kind']}({inner})"
    return repr(value)
