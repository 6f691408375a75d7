"""The dashboard's controls: tabs, axis, the table of runs that is also the legend, alerts. One small widget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

HERE = Path(__file__).parent


class Controls(anywidget.AnyWidget):
    """What is chosen (`panel`, `x`, `focus`, `target`, `costs`, `hidden`, `lit`) goes both ways; the rest is shown.

    rows: one per run, {name, colour, dash, cells: {column: [text, number]}}. A browser says `ready`, `dark` and `width`.
    """

    _esm = (HERE / "controls.js").read_text(encoding="utf-8")
    _css = (HERE / "controls.css").read_text(encoding="utf-8")

    panels: traitlets.List = traitlets.List().tag(sync=True)  # [name, title]
    panel = traitlets.Unicode("overview").tag(sync=True)
    axes: traitlets.List = traitlets.List().tag(sync=True)  # [name, label]
    x = traitlets.Unicode("round").tag(sync=True)
    linked = traitlets.Bool(True).tag(sync=True)  # whether the panel listens to the x axis
    focus = traitlets.Unicode("").tag(sync=True)
    focusing = traitlets.Bool(False).tag(sync=True)  # whether the panel shows one run's details
    columns: traitlets.List = traitlets.List().tag(sync=True)  # [name, title]
    few: traitlets.List = traitlets.List().tag(sync=True)  # names of the columns that a narrow place shows
    rows: traitlets.List = traitlets.List().tag(sync=True)
    alerts: traitlets.List = traitlets.List().tag(sync=True)  # {run, level, message, advice}
    hidden = traitlets.List(traitlets.Unicode()).tag(sync=True)
    lit = traitlets.Unicode("").tag(sync=True)
    costs = traitlets.List(traitlets.Unicode()).tag(sync=True)
    cost_names: traitlets.List = traitlets.List().tag(sync=True)
    comparing = traitlets.Bool(False).tag(sync=True)
    target = traitlets.Any(None, allow_none=True).tag(sync=True)  # the loss asked for, or None
    goal = traitlets.Unicode("").tag(sync=True)  # the target in use, in words
    python = traitlets.Unicode("").tag(sync=True)
    note = traitlets.Unicode("").tag(sync=True)
    live = traitlets.Bool(False).tag(sync=True)  # the figure is there: the static card hides
    card = traitlets.Unicode("").tag(sync=True)
    dark = traitlets.Bool(False).tag(sync=True)
    width = traitlets.Int(0).tag(sync=True)

    def put(self, **values: Any) -> None:
        """Set what changed, in one message."""
        changed = {k: v for k, v in values.items() if getattr(self, k) != v}
        if changed:
            with self.hold_sync():
                for name, value in changed.items():
                    setattr(self, name, value)
