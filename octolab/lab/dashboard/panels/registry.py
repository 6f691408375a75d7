"""Which panels there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from octolab.lab.chart import Chart
from octolab.lab.dashboard.view import View

Charts = Callable[[View], list[Chart]]


@dataclass(frozen=True)
class Panel:
    """name: for `panels=[...]`; title: on its tab; applies: whether the runs record what it shows (cheap)."""

    name: str
    title: str
    charts: Charts
    applies: Callable[[View], bool]
    place: float


PANELS: dict[str, Panel] = {}


def panel(
    name: str, title: str, applies: Callable[[View], bool] = lambda view: True, place: float = 50
) -> Callable[[Charts], Charts]:
    """Register a panel: `@panel("privacy", "Privacy", lambda view: view.has("epsilon"))`. place: tabs are in this order."""

    def register(charts: Charts) -> Charts:
        PANELS[name] = Panel(name, title, charts, applies, place)
        for key in sorted(PANELS, key=lambda k: PANELS[k].place):
            PANELS[key] = PANELS.pop(key)
        return charts

    return register
