"""How the clients fare: who has which loss, how the worst tenth does, who took part how often.

Per-client losses are measured in the run's own thread, at evaluations, while somebody looks; see `Observer`.
"""

from __future__ import annotations

import numpy as np

from octolab.experiment.alerts import per_client
from octolab.lab.chart import Chart, Mark
from octolab.lab.dashboard.feed import Feed
from octolab.lab.dashboard.panels.communication import sorted_curve
from octolab.lab.dashboard.panels.registry import panel
from octolab.lab.dashboard.view import View

WORST = 0.1
EDGE = 100 * (1 - WORST)


@panel("clients", "Clients", lambda view: any(f.run.problem.n > 1 for f in view.feeds), place=40)
def clients(view: View) -> list[Chart]:
    for feed in view.feeds:
        look(feed)
    names: list[str] = []
    for feed in view.feeds:
        names += [n for c in feed.run.observer.clients[-1:] for n in c.values if n not in names]
    charts = [distribution(view, n) for n in names]
    charts += [c for c in (worst(view, names), participation(view), work(view)) if not c.empty]
    return charts


def look(feed: Feed) -> None:
    """Have the newest per-client metrics measured: by the run while it is at work, here once it is over."""
    run = feed.run
    if not feed.over:
        run.observer.ask()
    elif (
        run.round >= 0
        and run.status != "diverged"
        and (not run.observer.clients or run.observer.clients[-1].round != run.round)
    ):
        run.observer.measure(run, run.x)


def distribution(view: View, metric: str) -> Chart:
    """Clients from the best to the worst; the worst tenth is to the right of the line."""
    worse_is_high = "accuracy" not in metric
    marks: list[Mark] = []
    words = []
    for name in view.groups:
        feed = view.newest(name)
        held = feed.run.observer.clients[-1:] if feed else []
        if not held or metric not in held[0].values:
            continue
        values = held[0].values[metric]
        mark = sorted_curve(name, values if worse_is_high else -values)
        y = np.asarray(mark.y) if worse_is_high else -np.asarray(mark.y)
        marks.append(Mark(name, mark.x, y))
        if len(y):
            words.append(_form(float(np.mean(y[mark.x >= EDGE]) if (mark.x >= EDGE).any() else y[-1]), metric))
    if marks and any(len(m.x) for m in marks):
        ys = np.concatenate([np.asarray(m.y) for m in marks])
        edge = np.array([float(np.nanmin(ys)), float(np.nanmax(ys))])
        marks.append(Mark("", np.full(2, EDGE), edge, part="worst 10 %", dash="dash", width=1.2))
    note = "worst 10 % right of the dashed line" + (f", on average {words[0]}" if len(words) == 1 else "")
    title = f"Clients by {metric.replace('_', ' ')}"
    return Chart(f"by {metric}", title, "% of the clients, best first", "", marks, note, percent="accuracy" in metric)


def worst(view: View, names: list[str]) -> Chart:
    """Mean over the worst tenth (solid) and over all clients (dotted), over rounds, since somebody looked."""
    metric = "accuracy" if "accuracy" in names else names[0] if names else ""
    marks = []
    for name in view.groups:
        feed = view.newest(name)
        held = [c for c in feed.run.observer.clients if metric in c.values] if feed else []
        if len(held) < 3:
            continue
        rounds = np.array([c.round for c in held], dtype=float)
        sign = -1.0 if "accuracy" in metric else 1.0
        tails = [sign * worst_mean(sign * c.values[metric]) for c in held]
        means = [float(np.nanmean(c.values[metric])) for c in held]
        marks.append(Mark(name, rounds, np.array(tails), part="worst 10 %"))
        marks.append(Mark(name, rounds, np.array(means), part="all clients", dash="dot", width=1.5))
    return Chart(
        "worst",
        f"Worst 10 % of the clients: {metric}",
        "round",
        "",
        marks,
        "dotted: all clients",
        percent="accuracy" in metric,
    )


def worst_mean(values: np.ndarray) -> float:
    """The mean over the highest tenth (at least one) of values (n,)."""
    ordered = np.sort(values[np.isfinite(values)])
    return float(ordered[-max(1, round(WORST * len(ordered))) :].mean()) if len(ordered) else float("nan")


def participation(view: View) -> Chart:
    """How often each client answered, from the rarest to the most frequent."""
    return _ledger(view, "replies", "Participation: answers by client", "clients in order of how often they answered")


def work(view: View) -> Chart:
    return _ledger(view, "gradients", "Work: gradient evaluations by client", "clients in order of what they computed")


def _ledger(view: View, column: str, title: str, note: str) -> Chart:
    marks = []
    for name in view.groups:
        feed = view.newest(name)
        counts = per_client(feed.run, column) if feed else None
        if counts is not None and counts.any():
            marks.append(sorted_curve(name, counts))
    if marks and all(np.ptp(np.asarray(m.y)) == 0 for m in marks):
        note = "the same for everybody"
    return Chart(column, title, "% of the clients", "", marks, note)


def _form(value: float, metric: str) -> str:
    return f"{value:.1%}" if "accuracy" in metric else f"{value:.4g}"
