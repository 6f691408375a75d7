"""The model: how long its gradient, its weights and its steps are, layer by layer; what a classifier answers."""

from __future__ import annotations

import numpy as np

from octolab.experiment.curves import thin
from octolab.lab.chart import Chart, Mark
from octolab.lab.dashboard.panels import answers
from octolab.lab.dashboard.panels.clients import look
from octolab.lab.dashboard.panels.registry import panel
from octolab.lab.dashboard.view import View

MOST_COLUMNS = 120


@panel("model", "Model", place=50)
def model(view: View) -> list[Chart]:
    for feed in view.feeds:
        look(feed)
    gradient = view.curves(
        "grad_norm_sq", lambda r: np.sqrt(np.where(r[:, -1] > 0, r[:, -1], np.nan)), what="gradient norm"
    )
    charts = [
        Chart("gradient", "Gradient norm |∇f(x)|", view.x_label, "", gradient, log_y=True, linked=True, clip=True)
    ]
    charts += [lengths(view, "weights"), lengths(view, "updates")]
    layered = view.focused is not None and len(view.focused.run.observer.layers) > 1
    if layered:
        charts += [by_layer(view, "weights"), by_layer(view, "updates"), over_time(view)]
    charts += answers.charts(view)
    return [c for c in charts if not c.empty]


def lengths(view: View, which: str) -> Chart:
    """|x| of the whole model, or how far one round moves it."""
    marks, first = [], 0.0
    for name in view.groups:
        feed = view.newest(name)
        if feed is None:
            continue
        rounds, weights, updates = feed.run.observer.norms()
        values = np.sqrt((np.square(weights if which == "weights" else updates)).sum(1))
        seen = np.isfinite(values) & (values > 0)
        marks.append(Mark(name, rounds[seen], values[seen]))
        first = max(first, rounds[0] if len(rounds) else 0.0)
    since = " (since a dashboard was opened)" if first > 0 else ""
    if which == "weights":
        return Chart("weight norm", "Weight norm |x|", "round", "", marks, f"at evaluations{since}")
    note = f"how far x moved since the last evaluation{since}"
    return Chart("update norm", "Update norm per round", "round", "", marks, note, log_y=True)


def by_layer(view: View, which: str) -> Chart:
    """Bars: every layer's norm now, per run."""
    marks = []
    for name in view.groups:
        feed = view.newest(name)
        if feed is None or feed.run.observer.layers != view.focused.run.observer.layers:  # type: ignore[union-attr]
            continue
        _, weights, updates = feed.run.observer.norms()
        table = weights if which == "weights" else updates
        if len(table) and np.isfinite(table[-1]).any():
            marks.append(Mark(name, feed.run.observer.layers, table[-1], "bars"))
    if which == "weights":
        return Chart("weights by layer", "Weight norm by layer, now", "", "", marks)
    return Chart("updates by layer", "Update norm by layer, now", "", "", marks, "per round", log_y=True)


def over_time(view: View) -> Chart:
    """Heat map: each layer's update against its weights, over rounds, of the focused run."""
    feed = view.focused
    assert feed is not None
    rounds, weights, updates = feed.run.observer.norms()
    if len(rounds) < 3:
        return Chart("heat", "Relative update by layer", "round", "", [])
    keep = 1 + thin(len(rounds) - 1, MOST_COLUMNS)
    with np.errstate(all="ignore"):
        ratio = np.log10(updates[keep] / weights[keep])
    ratio[~np.isfinite(ratio)] = np.nan
    mark = Mark("", rounds[keep], list(feed.run.observer.layers), "heat", z=ratio.T, part="log10 of |Δx| / |x|")
    note = f"{view.focus}: log10 |Δx_l| / |x_l| per round"
    return Chart("heat", "Relative update by layer", "round", "", [mark], note)
