"""Trust: what privacy was spent for what, who was suspected, and how well each group is served.

An omniscient view: a real server has neither the truth about attackers nor, under secure aggregation, single replies.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from octolab.lab.chart import Chart, Mark
from octolab.lab.dashboard.feed import Feed
from octolab.lab.dashboard.panels.registry import panel
from octolab.lab.dashboard.view import View
from octolab.trust.accounting import Guarantee, composed
from octolab.trust.fairness import groups

POINTS = 6  # of an epsilon's curve: each is a computation of its own
OMNISCIENT = "omniscient view: no server knows the truth"


def claim(feed: Feed) -> Guarantee | None:
    """What a run that is over may claim, where it may claim anything."""
    run = feed.run
    if not feed.over or run.state is None:
        return None
    found = run.method.guarantee(run.problem, run.state, 0.1 / run.federation.n)
    return found if found is not None and found.holds and found.steps else None


def concerned(view: View) -> bool:
    private = any(getattr(f.run.method, "noise_multiplier", 0) > 0 for f in view.feeds)
    return private or view.has("flagged") or any(f.run.problem.groups is not None for f in view.feeds)


@panel("trust", "Trust", concerned, place=65)
def trust(view: View) -> list[Chart]:
    charts = [spent(view), price(view), suspects(view), by_group(view)]
    found = [c for c in charts if not c.empty]
    return found or [replace(charts[0], note="shown once a private run is over")]


def spent(view: View) -> Chart:
    """Epsilon over rounds."""
    marks, words = [], ""
    for name in view.groups:
        feed = view.newest(name)
        found = claim(feed) if feed else None
        if found is None or feed is None:
            continue
        steps = np.unique(np.linspace(1, found.steps, POINTS).round().astype(int))
        epsilons = [composed([replace(found, steps=int(s))], found.delta) for s in steps]
        marks.append(Mark(name, steps * feed.run.round / found.steps, np.array(epsilons)))
        words = f"delta = {found.delta:g}, {found.adjacency}, {found.sampling} sampling, {found.accountant.upper()}"
    return Chart("epsilon", "Privacy spent", "round", "epsilon", marks, words)


def price(view: View) -> Chart:
    """What each run's epsilon bought: its last loss."""
    marks = []
    for name in view.groups:
        feed = view.newest(name)
        found = claim(feed) if feed else None
        if found is not None and feed is not None:
            marks.append(Mark(name, np.array([found.epsilon or 0.0]), np.array([feed.run.last["loss"]]), kind="points"))
    return Chart("price", "Loss against epsilon", "epsilon", "loss", marks, "down and to the left is better")


def suspects(view: View) -> Chart:
    """Replies that were flagged in a round, and those of them that really came from attackers."""
    marks = [*view.curves("flagged", part="flagged"), *view.curves("caught", part="rightly", dash="dot")]
    return Chart(
        "suspects", "Flagged replies, and rightly so", view.x_label, "replies a round", marks, OMNISCIENT, linked=True
    )


def by_group(view: View) -> Chart:
    """Each group's loss, groups in the order of their losses; those of fewer than five samples are hidden."""
    marks, words = [], ""
    for name in view.groups:
        feed = view.newest(name)
        if feed is None or not feed.over or feed.run.problem.groups is None:
            continue
        table = groups(feed.run).dropna().sort_values("loss")
        marks.append(Mark(name, np.arange(1.0, len(table) + 1), table["loss"].to_numpy()))
        words = f"from {table['group'].iloc[0]} to {table['group'].iloc[-1]}"
    return Chart("groups", "Loss by group", "groups, the best served first", "loss", marks, words)
