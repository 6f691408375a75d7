"""What an explorer shows that does not move: the card at a glance, the page's source, the static picture that stays."""

from __future__ import annotations

import inspect
from html import escape
from typing import Any

from octolab.experiment import curves
from octolab.experiment.run import Run
from octolab.lab.explorer.state import ExplorerState
from octolab.lab.latex import pretty
from octolab.lab.svg import curves_svg
from octolab.methods.card import Card


def glance(card: Card) -> str:
    """The card in a few lines: name, what it is, whose it is, when to use it and when not."""
    e = escape
    tags = "".join(f"<span class='octo-tag'>{e(t)}</span> " for t in (card.family, *card.tags))
    parts = [
        ("Solves", card.solves, ""),
        ("Use it for", card.use, "octo-use"),
        ("Not for", card.avoid, "octo-avoid"),
        ("Assumes", card.assumes, ""),
    ]
    facts = "".join(
        f"<div class='octo-fact {style}'><b>{word}</b><span>{e(pretty(text))}</span></div>"
        for word, text, style in parts
        if text
    )
    return (
        f"<div class='octo-title-line'><h2>{e(card.name)}</h2><span class='octo-summary'>{e(pretty(card.summary))}</span></div>"
        f"<div class='octo-cite'>{cite(card)} {tags}</div><div class='octo-facts'>{facts}</div>"
    )


def cite(card: Card) -> str:
    e = escape
    title = f"<i>{e(card.title)}</i>"
    if card.link:
        title = f"<a href='{card.link}' target='_blank' rel='noopener'>{title}</a>"
    where = f" {e(card.venue.rstrip('.'))}." if card.venue else ""
    return f"{e(card.authors)}. {title}.{where}"


def source_of(state: ExplorerState) -> str:
    """The method's page as it stands in its file."""
    try:
        module = inspect.getmodule(type(state.method))
        return inspect.getsource(module or type(state.method))
    except (OSError, TypeError):
        return f"# The source of {type(state.method).__name__} is not in a file."


def picture(runs: dict[str, list[Run]], y: str = "loss") -> str:
    """The runs so far as one inline SVG; empty if nothing has been evaluated."""
    lines = [
        curves.line(name, group, "round", y)
        for name, group in runs.items()
        if any(y in r.recorder.sparse for r in group)
    ]
    lines = [q for q in lines if len(q.x)]
    if not lines:
        return ""
    run: Any = next(iter(runs.values()))[0]
    return curves_svg(lines, "round", y, run.problem.name)


def still(state: ExplorerState, runs: dict[str, list[Run]]) -> str:
    """What stays where no widget can live: card, curves and the call that does the same."""
    code = f"<pre class='octo-code'>{escape(state.python)}</pre>"
    return f"{glance(state.method.card)}{picture(runs)}{code}"
