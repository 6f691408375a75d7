"""Runs, comparisons and repetitions as static HTML cards: a chart as inline SVG, and the last numbers. No scripts."""

from __future__ import annotations

import sys
import weakref
from html import escape
from typing import TYPE_CHECKING

from octolab.experiment.curves import line
from octolab.experiment.summary import facts, resolved
from octolab.lab.svg import curves_svg
from octolab.lab.values import card, parameters, spec_of

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
        chart = picture(curves_svg([curve], "round", "loss", run.problem.name, height=300))
    error = "" if run.error is None else f"<p style='color:#D55E00'>{escape(str(run.error))}</p>"
    head = f"<b>{escape(repr(run.given))}</b> on {escape(run.problem.name)}, seed {run.settings.seed}"
    return card(
        f"<div>{head}</div>{chart}<div style='display:flex;flex-wrap:wrap;gap:0 1.5em'>{body}</div>{error}"
        f"<details><summary>Values and spec</summary>{parameters(resolved(run))}{_spec(run)}</details>",
        "run",
    )


def picture(svg: str) -> str:
    """A chart as wide as its cell; on a narrow page it scrolls before its words get too small."""
    return f"<div class='octo-picture'>{svg}</div>"


def _spec(run: Run) -> str:
    try:
        return spec_of(run.spec)
    except (ValueError, NotImplementedError) as error:  # a part of it is the user's own
        return f"<small>{escape(str(error))}</small>"


def comparison_card(comparison: Comparison) -> str:
    """A comparison as static HTML: its chart and its table."""
    if was_drawn(comparison):
        return "<small>see above</small>"
    grid = comparison.formatted().to_html(border=0, escape=True)
    said = "".join(f"<p><small>{escape(text)}</small></p>" for text in comparison.remarks)
    return card(f"{picture(comparison.svg())}<div class='octo-grid'>{grid}</div>{said}", "comparison")


def repetition_card(repetition: Repetition) -> str:
    """A repetition as static HTML: the median over the seeds with its band, and its text."""
    run = repetition.runs[0]
    chart = curves_svg([line(run.name, repetition.runs, "round", "loss")], "round", "loss", run.problem.name)
    return card(f"{picture(chart)}<pre>{escape(repr(repetition))}</pre>", "repetition")
