"""What the method itself says of each step: every numeric column of `fed.log`, one chart each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from octolab.lab.chart import Chart
from octolab.lab.dashboard.panels.clock import smooth
from octolab.lab.dashboard.panels.registry import panel
from octolab.lab.dashboard.view import View

MOST_CHARTS = 8


def names(view: View) -> list[str]:
    """All logged columns, in the order in which they appeared."""
    found: list[str] = []
    for feed in view.feeds:
        found += [n for n in feed.logged if n not in found]
    return found


@panel("diagnostics", "Method", lambda view: bool(names(view)), place=60)
def diagnostics(view: View) -> list[Chart]:
    logged = names(view)
    charts = [column(view, name) for name in logged[:MOST_CHARTS]]
    if len(logged) > MOST_CHARTS and charts:
        rest = ", ".join(logged[MOST_CHARTS:])
        charts[-1] = replace(charts[-1], note=f"also logged: {rest} (see run.history)")
    return charts


def column(view: View, name: str) -> Chart:
    """The column against the x axis; where it jumps about, its moving average."""
    share = any(f.is_share(name) for f in view.feeds)
    rough = not share and any(_rough(f.values(name)[:, -1]) for f in view.feeds)
    marks = view.curves(name, lambda r: smooth(r[:, -1]), what=f"{name} smooth") if rough else view.curves(name)
    values = np.concatenate([np.asarray(m.y, dtype=float) for m in marks] or [np.zeros(0)])
    values = values[np.isfinite(values)]
    log = len(values) > 0 and values.min() > 0 and values.max() > 1000 * values.min()
    title = name.replace("_", " ")
    note = "share of the steps so far" if share else "moving average" if rough else "logged by the method"
    return Chart(f"log {name}", title, view.x_label, "", marks, note, log_y=bool(log), percent=share, linked=True)


def _rough(values: np.ndarray) -> bool:
    """Whether a column of many values jumps about more than it moves."""
    values = values[np.isfinite(values)]
    return len(values) > 300 and float(np.std(np.diff(values))) > 0.5 * float(np.std(values)) > 0
