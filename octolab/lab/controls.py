"""The front end's one widget class: views in plain HTML (`controls.js`), each drawn from a dict and answering by messages.

    view = View("form", {"groups": [...]}, on_message)      # on_message(content) is called with what a person did

`row(knob)` is a knob as a form shows it. Native inputs: labelled, for the keyboard, light; no widget per knob.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anywidget
import traitlets

from octolab.lab import theme
from octolab.lab.explorer.knobs import Knob, kind_name, span
from octolab.methods import Theory


class View(anywidget.AnyWidget):
    """A view of `controls.js`: form, transport, disclosure, code, exports, html or catalogue."""

    _esm = (theme.HERE / "controls.js").read_text(encoding="utf-8")
    _css = theme.css()
    view = traitlets.Unicode().tag(sync=True)
    state = traitlets.Dict().tag(sync=True)

    def __init__(self, view: str, state: dict[str, Any], on_message: Callable[[dict[str, Any]], Any] | None = None):
        super().__init__(view=view, state=state)
        if on_message is not None:
            self.on_msg(lambda _, content, __: on_message(content))

    def update(self, **changes: Any) -> None:
        """Draw again with some of the state changed; nothing is sent if it is the same."""
        self.state = {**self.state, **changes}


def number(value: Any) -> str:
    """A number as a person would type it."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    text = f"{value:.6g}"
    return (
        repr(value)
        if float(text) != value
        else text
        if isinstance(value, int) or "." in text or "e" in text
        else f"{text}.0"
    )


def row(knob: Knob, **more: Any) -> dict[str, Any]:
    """A knob for the view "form". more: error, entered, note, locked, slider, resolved, label, choices."""
    value: Any = number(knob.value)
    if knob.kind == "kind":
        value = kind_name(knob.value)
    elif knob.kind == "switch":
        value = bool(knob.value)
    elif knob.kind == "choice":
        value = str(knob.value)
    elif knob.kind == "list":
        value = ", ".join(map(str, knob.value)) if knob.value is not None else ""
    out: dict[str, Any] = {
        "path": knob.path, "label": knob.label.replace("_", " "), "doc": knob.doc, "kind": knob.kind, "value": value,
        "theory": knob.theory,
        "optional": knob.optional, "none": knob.none, "inner": bool(knob.parent), "choices": choices(knob), "slider": None,
        "multiplier": number(knob.value.multiplier) if isinstance(knob.value, Theory) else None,
        "error": "", "entered": None, "note": "", "locked": "", "resolved": None,
    }  # fmt: skip
    if knob.kind == "fixed":
        out |= {"locked": "set in Python", "value": repr(knob.value)}
    if (bounds := span(knob)) is not None and not knob.theory and not knob.optional:
        low, high = bounds
        wide = low > 0 and high / low > 50
        out["slider"] = {"low": low, "high": high, "log": wide, "whole": knob.kind == "whole"}
    return out | more


def choices(knob: Knob) -> list[dict[str, str]]:
    """The entries of a list, with the words for "none" that the knob's own line of documentation gives."""
    found = []
    for option in knob.choices if knob.kind in ("choice", "kind") else ():
        label = (knob.none or "none") if option in (None, "none") else str(option)
        found.append({"value": str(option), "label": label, "hint": ""})
    return found
