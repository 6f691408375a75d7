"""Things as cards in a notebook: present values, those the user set marked, and the text that makes them, to copy.

No scripts run by themselves. Colours follow the notebook's theme; charts, which are drawn for white paper, are recoloured
where it is dark.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from typing import NamedTuple

from octolab.data import Dataset
from octolab.lab.style import COLOURS, DARK_COLOURS, Style
from octolab.methods import Method
from octolab.notation import to_python
from octolab.params import Value, values
from octolab.problems import Problem

SHEET = """.octo-value{color:var(--jp-content-font-color1,var(--vscode-editor-foreground,inherit))}
.octo-value table{border-collapse:collapse;margin:.4em 0;background:none;color:inherit}
.octo-value td,.octo-value th{text-align:left;vertical-align:top;padding:2px 10px 2px 0;border:0;background:none;color:inherit}
.octo-value tr.octo-set td:first-child{font-weight:600;border-left:3px solid var(--jp-brand-color1,#0b62a4);padding-left:7px}
.octo-value tr:not(.octo-set) td:first-child{border-left:3px solid transparent;padding-left:7px}
.octo-value small,.octo-value td.octo-doc{opacity:.75}
.octo-value code.octo-python{user-select:all;white-space:pre-wrap;overflow-wrap:anywhere}
.octo-value .octo-picture,.octo-value .octo-grid{overflow-x:auto}
.octo-value .octo-picture svg{width:100%;min-width:620px;height:auto;display:block}
.octo-value button{font:inherit;font-size:12px;margin-left:.6em;cursor:pointer}
"""
DARK = ':is([data-jp-theme-light="false"],.vscode-dark,html[theme="dark"])'
COPY = "navigator.clipboard.writeText(this.previousElementSibling.textContent);this.textContent='Copied'"


@cache
def sheet() -> str:
    """The cards' style sheet: the charts' colours on white become those of a dark page."""
    light, dark = Style(), Style(dark=True)
    pairs = dict(zip(COLOURS, DARK_COLOURS, strict=True))
    pairs |= {light.ink: dark.ink, light.grey: dark.grey, light.paper: dark.paper, "#e4e4e4": "#444"}
    rules = [
        f"{DARK} .octo-value svg [{kind}='{a}']{{{kind}:{b}}}{DARK} .octo-value svg[{kind}='{a}']{{{kind}:{b}}}"
        for a, b in pairs.items()
        if a != b
        for kind in ("fill", "stroke")
    ]
    return SHEET + "".join(rules)


def card(body: str, kind: str = "value") -> str:
    """A card of the notebook's colours around some HTML."""
    return f"<style>{sheet()}</style><div class='octo-value octolab-{kind}'>{body}</div>"


class Fact(NamedTuple):
    """A row of a card."""

    name: str
    value: str
    doc: str = ""
    set: bool = False


def table(facts: Iterable[Fact]) -> str:
    """Rows: name, value, and what it is."""
    rows = "".join(
        f"<tr{' class=octo-set' if f.set else ''}><td>{escape(f.name)}</td><td>{escape(f.value)}</td>"
        f"<td class='octo-doc'>{escape(f.doc)}</td></tr>"
        for f in facts
    )
    return f"<table>{rows}</table>" if rows else ""


def copyable(text: str) -> str:
    """Text with a button that copies it; a click on the text selects all of it."""
    return f'<div><code class="octo-python">{escape(text)}</code><button type="button" onclick="{COPY}">Copy</button></div>'


def parameters(found: Sequence[Value]) -> str:
    """Parameters as rows: what is set is marked, what theory gives is said with its number where that is known."""
    facts = []
    for value in found:
        given = repr(value.given)
        by_theory = "Theory(" in given
        shown = value.text if not by_theory or value.now is value.given else f"{value.text} = {given}"
        facts.append(Fact(value.name, shown, value.doc, value.set))
    note = "<small>A bar marks what differs from its default.</small>" if any(f.set for f in facts) else ""
    return table(facts) + note


def value_card(thing: object) -> str:
    """A compressor, fleet, sampler, schedule, ..., a problem, a data set or a method, as a card."""
    if isinstance(thing, Method):
        return method_card(thing)
    if isinstance(thing, Problem):
        return problem_card(thing)
    if isinstance(thing, Dataset):
        return dataset_card(thing)
    doc = (type(thing).__doc__ or "").strip().partition("\n")[0]
    head = f"<b>{escape(type(thing).__name__)}</b> <small>{escape(doc)}</small>"
    rows = parameters(values(thing)) if dataclasses.is_dataclass(thing) else ""
    return card(f"<div>{head}</div>{rows}{_python(thing)}")


def method_card(method: Method) -> str:
    """Its hyperparameters and the text that makes it; what its paper says is folded away below."""
    about = method.card
    head = f"<b>{escape(about.name or type(method).__name__)}</b> <small>{escape(about.summary)}</small>"
    paper = f"<details><summary>The paper</summary>{about._repr_html_()}</details>"
    return card(f"<div>{head}</div>{parameters(values(method))}{_python(method)}{paper}")


def problem_card(problem: Problem) -> str:
    """Clients, samples and constants of a problem."""
    constants = {"L": problem.L, "L_max": problem.L_max, "mu": problem.mu, "f*": problem.f_star}
    facts = [Fact("clients", f"{problem.n:,}"), Fact("d", f"{problem.d:,}", "length of a model x")]
    if int(problem.sizes.max()) > 1:
        smallest, largest = int(problem.sizes.min()), int(problem.sizes.max())
        facts.append(Fact("samples", f"{int(problem.sizes.sum()):,}", f"{smallest:,} to {largest:,} a client"))
    facts += [Fact(name, f"{v:.4g}") for name, v in constants.items() if v is not None]
    if problem.L and problem.mu:
        facts.append(Fact("kappa", f"{problem.L / problem.mu:.4g}", "L / mu"))
    if problem.constants_note:
        facts.append(Fact("constants", problem.constants_note))
    facts.append(Fact("numbers", str(problem.dtype).removeprefix("torch.")))
    return card(f"<div><b>{escape(problem.name)}</b></div>{table(facts)}{_problem_python(problem)}")


def dataset_card(dataset: Dataset) -> str:
    """What a data set's text says, and the call that loads it again."""
    head, *lines = repr(dataset).splitlines()
    facts = [Fact(name, value.strip()) for name, _, value in (line.strip().partition(" ") for line in lines)]
    again = "" if dataset.given else copyable(f"ol.data.load({_arguments(dataset)})")
    return card(f"<div><b>{escape(head)}</b></div>{table(facts)}{again}")


def _arguments(dataset: Dataset) -> str:
    return ", ".join([repr(dataset.name), *(f"{k}={v!r}" for k, v in dataset.options.items())])


def _problem_python(problem: Problem) -> str:
    try:
        spec = problem.spec
        return "" if "given" in spec else copyable(f"ol.problems.from_spec({to_python(spec)})")
    except (NotImplementedError, ValueError):  # made of the user's own parts
        return ""


def _python(thing: object) -> str:
    try:
        return copyable(to_python(thing))
    except ValueError:  # a part of it is the user's own
        return copyable(repr(thing))


def spec_of(spec: object) -> str:
    """A run's spec, to copy."""
    return copyable(f"ol.from_spec({json.dumps(json.dumps(spec))})")
