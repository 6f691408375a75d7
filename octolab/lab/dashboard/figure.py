"""The plotly figure of a dashboard, which shows itself as it is now to every page that opens, not as it began."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any

from octolab.lab.plotly_widget import FigureWidget

LEFT_OUT = ["select2d", "lasso2d", "autoScale2d"]


class Figure(FigureWidget):
    """A FigureWidget inside other widgets. guard: held while its state is taken.

    plotly gives a new page the figure that was displayed, and later changes as messages; inside a box it is never
    displayed itself, so a page that opens late (Voila, a reload) would begin with nothing. Here whoever asks for the
    whole state gets the present one.
    """

    def __init__(self, guard: AbstractContextManager | None = None):
        clear = "rgba(0,0,0,0)"
        super().__init__(layout={"autosize": True, "height": 300, "paper_bgcolor": clear, "plot_bgcolor": clear})
        self._guard = guard or nullcontext()
        self._config = {
            "displaylogo": False,
            "responsive": True,
            "plotlyServerURL": "",
            "modeBarButtonsToRemove": LEFT_OUT,
        }

    def plotly_relayout(self, relayout_data: dict[str, Any], **kwargs: Any) -> None:
        """A browser may zoom and pan; the size of its window is nobody else's size."""
        if "source_view_id" in kwargs:
            relayout_data = {k: v for k, v in relayout_data.items() if k not in ("width", "height", "autosize")}
        if relayout_data:
            super().plotly_relayout(relayout_data, **kwargs)

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> Any:
        if key is None and hasattr(self, "_guard"):
            with self._guard:
                now = {"_widget_layout": deepcopy(self._layout_obj._props), "_widget_data": deepcopy(self._data)}
                self._trait_values.update(
                    now
                )  # without a message: pages that know the figure have had each change already
                return super().get_state(key, drop_defaults)
        return super().get_state(key, drop_defaults)
