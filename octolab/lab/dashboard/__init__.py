"""The dashboard: what runs record, drawn while they go on and after. `Dashboard` is the widget, `Board` the same without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from octolab.lab.dashboard.board import Board
from octolab.lab.dashboard.panels import PANELS, Panel, panel

if TYPE_CHECKING:
    from octolab.lab.dashboard.widget import Dashboard


def dashboard(
    runs: Any,
    *,
    panels: Sequence[str] | None = None,
    x: str = "round",
    panel: str | None = None,
    height: int | None = None,
) -> Dashboard | Board:
    """Everything that runs record, on one screen, live and after.

    runs: a Run, a list of Runs, a Comparison, or name -> Run or list of Runs over seeds. panels: which to offer, of
    `Board.known()`. x: "round", "bits_up", "bits_total", "time" or "gradients". panel: the one to show first. height: of
    the charts, in pixels.

    In a notebook a `Dashboard`, which repaints itself until its runs are done. Elsewhere a `Board`: `.figure()`,
    `.table()`, `.alerts`, `.svg()`, and as HTML a static card.
    """
    from octolab.experiment.progress import in_kernel

    if in_kernel():
        try:
            from octolab.lab.dashboard.widget import Dashboard
        except ImportError:
            pass  # without the extra `lab` a notebook shows the static card
        else:
            return Dashboard(runs, panels=panels, x=x, panel=panel, height=height)
    return Board(runs, panels=panels, x=x, panel=panel)


def __getattr__(name: str) -> Any:
    if name == "Dashboard":
        from octolab.lab.dashboard.widget import Dashboard

        return Dashboard
    raise AttributeError(f"octolab.lab.dashboard has no {name!r}.")


__all__ = ["PANELS", "Board", "Dashboard", "Panel", "dashboard", "panel"]
