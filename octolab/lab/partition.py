"""A partition as static HTML and as a plotly figure: a stacked bar per client, a colour per class."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from octolab.data.summary import MOST_ROWS, class_names, client_name, rows_shown, summary, title

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
MOST_BARS = 2000


def palette(n: int) -> list[str]:
    """n colours that colour-blind readers can tell apart (n <= 10), or n steps of the cividis scale."""
    if n <= len(MUTED):
        return list(MUTED[:n])
    anchors = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in CIVIDIS])
    at = np.linspace(0, len(anchors) - 1, n)
    rgb = np.stack([np.interp(at, np.arange(len(anchors)), anchors[:, c]) for c in range(3)], axis=1)
    return ["#" + "".join(f"{round(float(v)):02X}" for v in row) for row in rgb]


def html(p: Partition) -> str:
    """The partition as static HTML, no scripts: a stacked bar per client (20 at most)."""
    counts = p.histogram()
    colours, names = palette(counts.shape[1]), class_names(p)
    largest = max(1, int(counts.sum(axis=1).max()))
    left = "style='text-align:left'"
    body = []
    for i in rows_shown(p.n):
        if i is None:
            body.append(f"<tr><td colspan='4' {left}>... {p.n - MOST_ROWS:,} more clients</td></tr>")
            continue
        bar = "".join(
            f"<span title='{escape(names[c], quote=True)}: {counts[i, c]:,}' style='display:inline-block;"
            f"height:12px;width:{100 * counts[i, c] / largest:.2f}%;background:{colours[c]}'></span>"
            for c in np.flatnonzero(counts[i])
        )
        body.append(
            f"<tr><td {left}>{escape(client_name(p, i))}</td><td>{p.train_sizes[i]:,}</td>"
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
            "partition.figure() draws with plotly, which is not installed. Install plotly, or print(partition)."
        ) from None
    counts = p.histogram(part)
    shown = np.arange(p.n) if p.n <= MOST_BARS else np.linspace(0, p.n - 1, MOST_BARS).round().astype(np.int64)
    labels = [client_name(p, int(i)) for i in shown] if p.client_names else shown.tolist()
    colours, names = palette(counts.shape[1]), class_names(p)
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
