"""The four charts to see first: how well, how expensive in bits, how expensive in time, and what else matters here."""

from __future__ import annotations

from octolab.lab.chart import Chart
from octolab.lab.dashboard.panels import clock, communication, convergence, diagnostics
from octolab.lab.dashboard.panels.registry import panel
from octolab.lab.dashboard.view import View


@panel("overview", "Overview", place=0)
def overview(view: View) -> list[Chart]:
    charts = [convergence.objective(view)]
    charts.append(convergence.accuracy(view) if view.has("accuracy") else convergence.gradient(view))
    charts += convergence.personal(view)[:1]
    other = "bits_up" if view.x != "bits_up" else "round"
    charts.append(convergence.against(view, other))
    if len(charts) < 4 and view.has("delay"):
        charts.append(clock.staleness(view))
    own = [name for name in diagnostics.names(view) if name != "delay"]
    if len(charts) < 4 and own:
        charts.append(diagnostics.column(view, own[0]))
    if len(charts) < 4 and any(f.timed for f in view.feeds) and view.x != "time":
        charts.append(convergence.against(view, "time"))
    if len(charts) < 4:
        charts.append(communication.uplink(view))
    return charts[:4]
