"""What it costs to talk: bits up and down, against sending everything, and how evenly the clients carry it."""

from __future__ import annotations

from typing import Any

import numpy as np

from octolab.experiment.alerts import per_client
from octolab.experiment.curves import thin
from octolab.experiment.record import COUNTED
from octolab.lab.chart import Chart, Mark
from octolab.lab.dashboard.feed import MOST
from octolab.lab.dashboard.panels.registry import panel
from octolab.lab.dashboard.view import Columns, View, counted

UP, DOWN, BROADCAST, PAPER = (COUNTED.index(c) for c in ("bits_up", "bits_down", "bits_broadcast", "paper_bits_up"))


@panel("communication", "Communication", place=20)
def communication(view: View) -> list[Chart]:
    charts = [uplink(view), downlink(view), per_round(view), totals(view)]
    return charts + [c for c in (spread(view),) if not c.empty]


def uplink(view: View) -> Chart:
    linked = view.x != "bits_up"  # nothing is drawn against itself
    view = view if linked else view.along("round")
    wire = view.curves("counted", counted("bits_up"), what="up")
    if all(_same(f.counted.rows, UP, PAPER) for f in view.feeds):
        return Chart("up", "Bits sent up, per client", view.x_label, "", wire, "in total", linked=linked)
    paper = view.curves(
        "counted", counted("paper_bits_up"), what="paper", part="as papers count", dash="dot", width=1.5
    )
    differs = {name for name, group in view.groups.items() if not _same(group[0].counted.rows, UP, PAPER)}
    paper = [m for m in _no_bands(paper) if m.run in differs]
    note = "in total, as sent; dotted: indices free, as papers count"
    return Chart("up", "Bits sent up, per client", view.x_label, "", wire + paper, note, linked=linked)


def downlink(view: View) -> Chart:
    marks = view.curves("counted", counted("bits_down"), what="down")
    partly = any(
        len(f.counted.rows) and 0 < f.counted.rows[-1, BROADCAST] < f.counted.rows[-1, DOWN] for f in view.feeds
    )
    note = "in total"
    if partly:
        share = view.curves(
            "counted", counted("bits_broadcast"), what="broadcast", part="broadcast", dash="dot", width=1.5
        )
        marks, note = marks + _no_bands(share), "in total; dotted: the part that is broadcast to all"
    return Chart("down", "Bits received, per client", view.x_label, "", marks, note, linked=True)


def per_round(view: View) -> Chart:
    """Uplink per step as a share of 32 d bits, what a dense vector from everybody costs."""
    marks: list[Mark] = []
    for name, group in view.groups.items():
        dense = 32.0 * group[0].run.problem.d
        marks += view.curves("counted", _rate(UP, dense), what="ratio to dense", only=name)
    marks = _no_bands(marks)
    ends = [m.x for m in marks if len(m.x)]
    if ends:
        span = np.array([min(x[0] for x in ends), max(x[-1] for x in ends)])
        marks = [*marks, Mark("", span, np.ones(2), part="dense: 32 bits per weight", dash="dash", width=1.2)]
    values = np.concatenate([np.asarray(m.y)[np.isfinite(m.y) & (np.asarray(m.y) > 0)] for m in marks] or [np.ones(1)])
    log = len(values) > 0 and values.max() > 20 * values.min()
    return Chart(
        "ratio",
        "Uplink per step, against dense",
        view.x_label,
        "",
        marks,
        "1 = every client sends all its weights; dashed",
        log_y=bool(log),
        linked=True,
    )


def totals(view: View) -> Chart:
    """Bars per run: up as sent, up as papers count, down, each per client."""
    kinds = (("up", UP), ("up, indices free", PAPER), ("down", DOWN))
    marks = []
    for name in view.groups:
        feed = view.newest(name)
        rows = None if feed is None else feed.counted.rows
        ends = rows[-1] if rows is not None and len(rows) else np.zeros(len(COUNTED))
        marks.append(Mark(name, [k for k, _ in kinds], np.array([ends[c] for _, c in kinds]), "bars"))
    return Chart("totals", "Bits so far, per client", "", "", marks, "wire and paper conventions side by side")


def spread(view: View) -> Chart:
    """Every client's uplink, from the one that sent least to the one that sent most."""
    marks = []
    for name in view.groups:
        feed = view.newest(name)
        bits = None if feed is None else per_client(feed.run, "up")
        if bits is not None and len(bits) > 1:
            marks.append(sorted_curve(name, bits))
    flat = all(np.ptp(np.asarray(m.y)) == 0 for m in marks)
    note = "everybody sent the same" if flat else "clients in order of what they sent"
    return Chart("spread", "Bits up by client", "% of the clients", "", marks, note)


def sorted_curve(name: str, values: np.ndarray, **style: Any) -> Mark:
    """Values (n,) in ascending order against the per cent of clients, at most 2,000 points."""
    ordered = np.sort(values[np.isfinite(values)])
    keep = thin(len(ordered), MOST)
    x = 100 * (np.arange(len(ordered)) + 0.5) / max(1, len(ordered))
    return Mark(name, x[keep], ordered[keep], **style)


def _rate(column: int, unit: float) -> Columns:
    """Per step, between the rows kept, in units."""

    def rate(rows: np.ndarray) -> np.ndarray:
        steps = np.diff(rows[:, 0])
        with np.errstate(all="ignore"):
            found = np.diff(rows[:, column]) / steps / unit
        return np.concatenate([[np.nan], found]) if len(rows) else np.zeros(0)

    return rate


def _no_bands(marks: list[Mark]) -> list[Mark]:
    return [m for m in marks if m.kind != "band"]


def _same(rows: np.ndarray, a: int, b: int) -> bool:
    return not len(rows) or rows[-1, a] == rows[-1, b]
