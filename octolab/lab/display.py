"""Putting a widget into a notebook, with a static twin for whoever opens it without a kernel.

The twin hides itself while the widget is alive beside it. A cell that runs again closes what it had made before, so
that no thread is left behind.
"""

from __future__ import annotations

import weakref
from typing import Any

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
