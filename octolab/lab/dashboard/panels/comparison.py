"""Several runs side by side: the objective against rounds, bits and seconds, and what a target costs each of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from octolab.experiment import summary
from octolab.experiment.compare import first_at
from octolab.experiment.statistics import CENTRES, ends
from octolab.lab.chart import Chart, Mark
from octolab.lab.dashboard.feed import Feed
from octolab.lab.dashboard.panels.convergence import against
from octolab.lab.dashboard.panels.registry import panel
from octolab.lab.dashboard.view import View

COSTS = {
    "round": "rounds",
    "bits_up": "bits up, per client",
    "bits_total": "bits up and down, per client",
    "time": "virtual seconds",
    "gradients": "gradient evaluations, per client",
}
AXES = ("round", "bits_up", "time")


@panel("comparison", "Compare", lambda view: len(view.groups) > 1, place=5)
def comparison(view: View) -> list[Chart]:
    return [*(against(view, x) for x in AXES), pareto(view)]


def target_of(view: View) -> float | None:
    """The target set, or else the least loss that every run which has begun (and not diverged) reaches."""
    if view.target is not None:
        return view.target
    least = []
    for feed in view.feeds:
        losses = feed.values("loss")[:, -1]
        losses = losses[np.isfinite(losses)]
        if len(losses) > 1 and feed.run.status != "diverged" and losses.min() < losses[0]:
            least.append(float(losses.min()))
    return max(least, default=None)


def to_target(view: View, name: str, target: float | None) -> dict[str, float]:
    """What the target costs a run, by cost (mean over seeds); empty if a seed has not reached it."""
    if target is None:
        return {}
    found = [_first(feed, target) for feed in view.groups[name]]
    if not found or any(f is None for f in found):
        return {}
    return {cost: float(np.mean([f[cost] for f in found if f])) for cost in COSTS}


def _first(feed: Feed, target: float) -> dict[str, float] | None:
    """Where a run's loss first is at the target: exact once the run is over, else among the points kept."""
    rows = feed.values("loss")
    hits = np.flatnonzero(rows[:, -1] <= target)
    if not len(hits):
        return None
    at = rows[hits[0]]
    if feed.over and feed.sparse["loss"].stride > 1 and (exact := first_at(feed.run, target)):
        at = feed.run.recorder.rows[int(exact["round"])] if len(feed.run.recorder.rows) > exact["round"] else at
    number, time, up, down = at[:4]
    return {"round": number, "bits_up": up, "bits_total": up + down, "time": time, "gradients": at[6]}


def front(points: dict[str, tuple[float, float]]) -> list[str]:
    """The names that no other beats in both costs, by the first cost."""
    kept = [n for n, (a, b) in points.items()
            if not any(c <= a and d <= b and (c, d) != (a, b) for c, d in points.values())]  # fmt: skip
    return sorted(kept, key=lambda n: points[n])


def pareto(view: View) -> Chart:
    """What the target costs each run in two currencies; the grey line joins those that no other beats in both."""
    first, second = view.costs
    target = target_of(view)
    points = {}
    for name in view.groups:
        cost = to_target(view, name, target)
        if cost:
            points[name] = (cost[first], cost[second])
    best = front(points)
    steps: list[tuple[float, float]] = []
    for name in best:
        a, b = points[name]
        steps += ([(a, steps[-1][1])] if steps else []) + [(a, b)]
    x, y = (np.array(v, dtype=float) for v in (zip(*steps, strict=True) if steps else ((), ())))
    marks = [Mark("", x, y, part="Pareto front", dash="solid", width=1.5)]
    for name in view.groups:
        at = points.get(name)
        xy = ([at[0]], [at[1]]) if at else ([], [])
        marks.append(Mark(name, np.array(xy[0]), np.array(xy[1]), "labels", text=[name] if at else []))
    goal = "no target reached yet" if target is None else f"to loss {target:.4g}; grey: no other is better in both"
    return Chart("pareto", "Pareto front", COSTS[first], COSTS[second], marks, goal)


# -- the table ---------------------------------------------------------------------------------------------------------
COLUMNS = {
    "status": "status",
    "round": "rounds",
    "loss": "loss",
    "accuracy": "accuracy",
    "bits_up": "bits up",
    "bits_total": "bits in all",
    "time": "virtual time",
    "round_to": "rounds to target",
    "bits_up_to": "bits to target",
    "time_to": "seconds to target",
}


def columns(view: View) -> dict[str, str]:
    """`COLUMNS`, and after accuracy the metrics that were asked for."""
    out: dict[str, str] = {}
    for name, head in COLUMNS.items():
        out[name] = head
        if name == "accuracy":
            out |= {m: m.replace("_", " ") for f in view.feeds for m in f.measured if m != "accuracy"}
    return out


def table(view: View) -> list[dict[str, Any]]:
    """One row per run: name, seeds, and a value (number, text or None) per entry of `columns`."""
    target = target_of(view) if len(view.groups) > 1 or view.target is not None else None
    return [_row(view, name, target) for name in view.groups]


def _row(view: View, name: str, target: float | None) -> dict[str, Any]:
    group = [f for f in view.groups[name] if f.counted.length] or view.groups[name]
    newest = [f.counted.rows[-1] if f.counted.length else None for f in group]
    row: dict[str, Any] = {"name": name, "seeds": len(view.groups[name]), "status": _status(view.groups[name])}

    def mean(at: int) -> float | None:
        values = [e[at] for e in newest if e is not None]
        return float(np.mean(values)) if values else None

    row["round"] = mean(0)
    for metric in dict.fromkeys(("loss", "accuracy", *(m for f in group for m in f.measured))):
        values = np.array([f.values(metric)[-1, -1] for f in group if len(f.values(metric))])
        row[metric] = CENTRES[view.centre](values) if len(values) else None
        if len(values) > 1 and not view.identical(name):
            row[f"{metric}_band"] = (view.band, *ends(values, view.band))
    up, down = mean(2), mean(3)
    row |= {"bits_up": up, "bits_total": None if up is None or down is None else up + down, "time": mean(1)}
    reached = to_target(view, name, target)
    for cost in ("round", "bits_up", "time"):
        row[f"{cost}_to"] = reached.get(cost)
    return row


def _status(group: list[Feed]) -> str:
    found = [summary.status(f.run) for f in group]
    if len(set(found)) == 1:
        return found[0]
    return ", ".join(f"{found.count(s)} {s}" for s in dict.fromkeys(found))


def with_band(column: str, row: dict[str, Any]) -> str:
    """A table's value in human units, and its band over the seeds where it has one."""
    text, (kind, low, high) = written(column, row.get(column)), row.get(f"{column}_band", ("", 0.0, 0.0))
    if not kind:
        return text
    if kind == "sd":
        return f"{text} ± {written(column, (high - low) / 2)}"
    return f"{text} [{written(column, low)}, {written(column, high)}]"


def written(column: str, value: Any) -> str:
    """A table's value in human units."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, str):
        return value
    if column.startswith("bits"):
        return summary.bits(value)
    if column.startswith("time"):
        return f"{value:,.0f} s" if value >= 1000 else f"{value:.4g} s"
    if column == "accuracy":
        return f"{value:.1%}"
    return f"{value:,.0f}" if column.startswith("round") else f"{value:.5g}"
