"""Runs, comparisons and repetitions as static HTML cards: a chart as inline SVG, and the last numbers. No scripts."""

from __future__ import annotations

import sys
import weakref
from html import escape
from typing import TYPE_CHECKING

from octolab.experiment.curves import line
from octolab.experiment.summary import facts
from octolab.lab.svg import curves_svg

if TYPE_CHECKING:
    from octolab.experiment.compare import Comparison, Repetition
    from octolab.experiment.run import Run

_drawn: weakref.WeakKeyDictionary[object, int] = weakref.WeakKeyDictionary()  # thing -> the cell that shows it


def _cell() -> int:
    """The number of the notebook cell that runs; 0 outside notebooks."""
    if "IPython" not in sys.modules:
        return 0
    from IPython import get_ipython

    return int(getattr(get_ipython(), "execution_count", None) or 0)


def drawn(thing: object) -> None:
    """Say that a live display has just shown `thing`: as the value of the same cell it is not drawn again."""
    _drawn[thing] = _cell()


def was_drawn(thing: object) -> bool:
    """Whether the cell that runs shows `thing` already."""
    return _drawn.get(thing) == _cell()


def run_card(run: Run) -> str:
    """A run as static HTML: a curve (inline SVG) and the last numbers."""
    if was_drawn(run):
        return f"<small>{escape(run.name)}: see above</small>"
    body = "".join(f"<span><b>{escape(word)}</b> {escape(value)}</span> " for word, value in facts(run))
    chart = ""
    if "loss" in run.recorder.sparse:
        curve = line(run.name, [run], "round", "loss")
        chart = curves_svg([curve], "round", "loss", run.problem.name, height=280)
    error = "" if run.error is None else f"<p style='color:#D55E00'>{escape(str(run.error))}</p>"
    head = f"<b>{escape(repr(run.given))}</b> on {escape(run.problem.name)}, seed {run.settings.seed}"
    return (
        f"<div class='octolab-run' style='max-width:60em'><div>{head}</div>{chart}"
        f"<div style='display:flex;flex-wrap:wrap;gap:0 1.5em'>{body}</div>{error}</div>"
    )


def comparison_card(comparison: Comparison) -> str:
    """A comparison as static HTML: its chart and its table."""
    if was_drawn(comparison):
        return "<small>see above</small>"
    grid = comparison.formatted().to_html(border=0, escape=True)
    return f"<div class='octolab-comparison'>{comparison.svg()}{grid}</div>"


def repetition_card(repetition: Repetition) -> str:
    """A repetition as static HTML: the median over the seeds with its band, and its text."""
    run = repetition.runs[0]
    chart = curves_svg([line(run.name, repetition.runs, "round", "loss")], "round", "loss", run.problem.name)
    return f"<div>{chart}<pre>{escape(repr(repetition))}</pre></div>"
