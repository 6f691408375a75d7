"""A table of worst cases as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from octolab.experiment.worst_case import WorstCase


def figure(case: WorstCase) -> Any:
    """Rows: method and rule; columns: heterogeneity and attack; the value in every cell. Colour-blind safe."""
    import plotly.graph_objects as go

    table = case.table
    rows = [" · ".join(filter(None, map(str, key))) for key in table.index]
    columns = [" · ".join(filter(None, map(str, key))) for key in table.columns]
    drawn = go.Heatmap(
        z=table.to_numpy(),
        x=columns,
        y=rows,
        colorscale="Cividis",
        texttemplate="%{z:.3g}",
        colorbar={"title": case.metric},
    )
    title = f"{case.metric}: every rule against every attack"
    return go.Figure(drawn, {"template": "plotly_white", "title": title, "yaxis": {"autorange": "reversed"}})
