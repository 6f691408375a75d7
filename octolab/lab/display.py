"""Putting a widget into a notebook, with a static twin for whoever opens it without a kernel.

The twin hides itself while the widget is alive beside it. A cell that runs again closes what it had made before, so
that no thread is left behind.
"""

from __future__ import annotations

import os
import weakref
from typing import Any

import ipywidgets

_cells: weakref.WeakKeyDictionary[Any, tuple[str, int]] = (
    weakref.WeakKeyDictionary()
)  # widget -> its cell and that cell's run


def cell() -> tuple[str, int] | None:
    """The cell that runs now and the number of its execution; None outside notebooks that say it."""
    from IPython import get_ipython

    shell: Any = get_ipython()
    if shell is None:
        return None
    header = getattr(shell, "parent_header", None) or {}
    name = (header.get("metadata") or {}).get("cellId")
    return None if name is None else (str(name), int(shell.execution_count))


def in_voila() -> bool:
    """Whether the notebook is run to be served as a page: the page comes when all cells are done."""
    return "VOILA_BASE_URL" in os.environ or "VOILA_REQUEST_URL" in os.environ


def again(*widgets: Any) -> None:
    """Send what the widgets hold once more: a page that was loading when it changed may have missed it."""
    for widget in widgets:
        widget.send_state([key for key in widget.keys if key == "_dom_classes" or not key.startswith("_")])


def close_tree(widget: Any) -> None:
    """Close a widget with all that it holds: children, layouts and styles stay registered for ever otherwise."""
    for child in getattr(widget, "children", ()):
        child.close() if type(child).close is not ipywidgets.Widget.close else close_tree(child)
    for part in ("layout", "style"):
        held = getattr(widget, part, None)
        if isinstance(held, ipywidgets.Widget):
            held.close()
    if hasattr(widget, "children"):
        widget.children = ()
    ipywidgets.Widget.close(widget)


def put(widget: Any) -> None:
    """Display the widget; what an earlier run of the same cell had made is closed."""
    from IPython.display import display

    here = cell()
    if here is not None:
        for other, (name, number) in list(_cells.items()):
            if name == here[0] and number != here[1] and other is not widget:
                del _cells[other]
                other.close()
        _cells.setdefault(widget, here)  # the cell that made it, wherever else it is shown
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    display({"text/plain": repr(widget), "application/vnd.jupyter.widget-view+json": view}, raw=True)


def show(widget: Any) -> Any:
    """Display the widget and its static twin; the twin's handle, whose `update(HTML(...))` changes what stays."""
    from IPython.display import HTML, display

    put(widget)
    return display(HTML(widget._repr_html_()), display_id=True)
