"""A dashboard's picture: exactly what is seen (panel, axis, shown runs, light or dark) as the bytes of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from octolab.lab.dashboard.static import StaticDashboard
from octolab.lab.pictures import ENDINGS, SIZES, figure, written
from octolab.lab.style import Style

if TYPE_CHECKING:
    from octolab.lab.dashboard.widget import Dashboard

TYPES = {".png": "image/png", ".svg": "image/svg+xml", ".pdf": "application/pdf"}


def seen(dashboard: Dashboard) -> StaticDashboard:
    """What a dashboard shows now, without widgets: runs that are hidden are left out, colours stay."""
    content, hidden = dashboard.content, set(dashboard.controls.hidden)
    shown = StaticDashboard(None, panels=content.chosen, x=content.x, panel=content.panel)
    shown.style = Style(numbers=dict(content.style.numbers), dark=content.style.dark)
    shown.view.target, shown.view.costs, shown.view.focus = content.target, content.costs, content.view.focus
    runs = {name: group for name, group in content.runs.items() if name not in hidden}
    if not runs:
        raise ValueError("There is no curve to draw: run something, or show a run that is hidden.")
    return shown.show(runs)  # type: ignore[no-any-return]


def picture(dashboard: Dashboard, ending: str = ".png", size: str = "screen") -> bytes:
    """The bytes of a picture. ending: ".png", ".svg" or ".pdf"; size: "screen", "slide" or "paper"."""
    if ending not in ENDINGS:
        raise ValueError(f"ending={ending!r}: choose one of {', '.join(map(repr, ENDINGS))}.")
    if size not in SIZES:
        raise ValueError(f"size={size!r}: choose one of {', '.join(map(repr, SIZES))}.")
    shown = seen(dashboard)
    charts = [chart for chart in shown.charts() if not chart.empty]
    return written(figure(charts, shown.style, list(shown.runs), shown.title, size), ending)


__all__ = ["TYPES", "picture", "seen"]
