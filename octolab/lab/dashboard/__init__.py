"""The dashboard: what runs record, drawn live and after. `Dashboard` is the widget, `StaticDashboard` the same without."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from octolab.arguments import expects, sequence, text, whole
from octolab.lab.dashboard.panels import PANELS, Panel, panel
from octolab.lab.dashboard.static import StaticDashboard

if TYPE_CHECKING:
    from octolab.lab.dashboard.widget import Dashboard


@expects(height=whole(1), panels=sequence("names of panels", text()))
def dashboard(
    runs: Any,
    *,
    panels: Sequence[str] | None = None,
    x: str = "round",
    panel: str | None = None,
    height: int | None = None,
) -> Dashboard | StaticDashboard:
    """Everything that runs record, on one screen, live and after.

    runs: a Run, a list of Runs, a Comparison, or name -> Run or list of Runs over seeds. panels: which to offer, those
    in `PANELS`. x: "round", "bits_up", "bits_total", "time" or "gradients". panel: the one to show first. height: of the
    charts, in pixels.

    In a notebook a `Dashboard`, which repaints itself until its runs are done. Elsewhere a `StaticDashboard`: `.figure()`,
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
    return StaticDashboard(runs, panels=panels, x=x, panel=panel)


def __getattr__(name: str) -> Any:
    if name == "Dashboard":
        from octolab.lab.dashboard.widget import Dashboard

        return Dashboard
    if name == "Board":
        warnings.warn("octolab.lab.dashboard.Board is now StaticDashboard.", DeprecationWarning, stacklevel=2)
        return StaticDashboard
    raise AttributeError(f"octolab.lab.dashboard has no {name!r}.")


__all__ = ["PANELS", "Dashboard", "Panel", "StaticDashboard", "dashboard", "panel"]
