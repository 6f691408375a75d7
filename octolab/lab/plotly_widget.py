"""plotly's FigureWidget, whose import takes seconds: plotly asks for nbformat, and its schemas compile 38 grammars.

A notebook's kernel fetches this module in a thread as soon as the laboratory is loaded (see `early`), so that a first
chart seldom waits for it.
"""

from __future__ import annotations

import pandas  # noqa: F401  # plotly looks into a pandas that another thread may have imported by half: have it whole
import plotly.graph_objects as go


class FigureWidget(go.FigureWidget):
    """plotly's widget with its program as text: plotly's own holds a watched file, and that keeps every figure for ever."""

    _esm = str(go.FigureWidget._esm)


__all__ = ["FigureWidget"]
