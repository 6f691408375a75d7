"""Where charts stand: row by row in a grid, tall ones in a row of their own."""

from __future__ import annotations

from collections.abc import Sequence

from octolab.lab.chart import Chart

ROW, GAP, TOP, BOTTOM = 210, 104, 58, 52
"""Pixels: a chart's height, the room between two rows, above the first and below the last."""
BETWEEN = 0.09
"""The room between two columns, as a share of the width."""


def place(charts: Sequence[Chart], columns: int, row: int) -> tuple[list[tuple[float, float, float, float]], int, int]:
    """Where each chart goes: (x0, x1, y0, y1) in shares of the plot, the number of rows, and the height in pixels.

    A tall chart has a row of its own.
    """
    columns = min(columns, max(1, len(charts)))
    spots: list[tuple[int, int, int]] = []
    r = c = 0
    for chart in charts:
        if chart.tall:
            r, c = r + (c > 0), 0
            spots.append((r, 0, columns))
            r += 1
            continue
        spots.append((r, c, 1))
        c += 1
        if c == columns:
            r, c = r + 1, 0
    rows = r + (c > 0) or 1
    inner = rows * row + (rows - 1) * GAP
    wide = (1 - BETWEEN * (columns - 1)) / columns
    cells = []
    for r, c, span in spots:
        top = 1 - r * (row + GAP) / inner
        x0 = c * (wide + BETWEEN)
        cells.append((x0, x0 + wide * span + BETWEEN * (span - 1), top - row / inner, top))
    return [tuple(max(0.0, min(1.0, v)) for v in cell) for cell in cells], rows, inner + TOP + BOTTOM  # type: ignore[misc]
