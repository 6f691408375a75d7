"""The dashboard's panels. A panel is a function from a `View` to charts; being registered is being there.

@panel("privacy", "Privacy", lambda view: view.has("epsilon"))
def privacy(view: View) -> list[Chart]:
    return [Chart("epsilon", "Privacy spent", view.x_label, "ε", view.curves("epsilon"), linked=True)]
"""

from importlib import import_module

from octolab.lab.dashboard.panels.registry import PANELS, Panel, panel

for _page in (
    "overview",
    "comparison",
    "convergence",
    "communication",
    "clock",
    "clients",
    "model",
    "diagnostics",
    "trust",
):
    import_module(f"{__name__}.{_page}")

__all__ = ["PANELS", "Panel", "panel"]
