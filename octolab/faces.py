"""Faces: how things show themselves beyond plain text (HTML, figures, files), handed down from the laboratory.

A run, a comparison or a partition must not import what draws it. It asks here for a face by its name, such as
"run.html"; `octolab` has said in which module each face is, and that module loads at first use.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

_PLACES: dict[str, str] = {}  # name -> "module:function"


def offer(name: str, place: str) -> None:
    """Say where the face `name` is: "package.module:function". A later offer replaces an earlier one."""
    _PLACES[name] = place


def face(name: str) -> Callable[..., Any]:
    """The function that draws: it takes the thing itself, then its own options.

    Raises ValueError for a name that nobody offered, ImportError where the extra that draws is not installed.
    """
    if name not in _PLACES:
        raise ValueError(f"There is no face {name!r}; there are {', '.join(names()) or 'none'}.")
    module, function = _PLACES[name].split(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


class Shown:
    """What shows itself as a card in a notebook: its present values, and the text that makes it."""

    def _repr_html_(self) -> str:
        return str(face("value.html")(self))


def names() -> list[str]:
    """The faces that there are."""
    return sorted(_PLACES)
