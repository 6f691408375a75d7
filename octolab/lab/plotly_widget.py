"""plotly's FigureWidget, imported in a third of the time.

plotly asks whether nbformat is there; nbformat loads jsonschema, and that compiles 38 grammars for a check of addresses
that nobody here asks for (rfc3987_syntax: 2 to 4 seconds, before the first chart). Meanwhile a stand-in takes its place,
and fetches the real thing if it is ever called.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pandas  # noqa: F401  # plotly looks into a pandas that another thread may have imported by half: have it whole

SLOW = "rfc3987_syntax"


class Later(ModuleType):
    """A module whose functions are found when they are called."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(importlib.import_module(self.__name__), name)(*args, **kwargs)

        return call


@contextmanager
def later(name: str) -> Iterator[None]:
    """Until the end of the block an import of `name` gives a stand-in."""
    if name in sys.modules or importlib.util.find_spec(name) is None:
        yield
        return
    stand_in = sys.modules[name] = Later(name)
    try:
        yield
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


with later(SLOW):
    import plotly.graph_objects as go

    FigureWidget = go.FigureWidget

__all__ = ["FigureWidget", "go", "later"]
