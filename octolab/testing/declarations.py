"""The promises about what a method says: refusals, warnings, its card, its page."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
import warnings
from collections.abc import Iterator
from typing import Any

from octolab import compressors, problems
from octolab.errors import AssumptionWarning, OutsideAssumptions
from octolab.federation import Importance
from octolab.methods import Method
from octolab.params import Param, params
from octolab.problems import Problem
from octolab.testing.problems import NotApplicable, home, with_attributes


def refuses_bad_values(method: Method, problem: Problem) -> str | None:
    """A hyperparameter out of range raises a ValueError naming the field, the value and what is allowed."""
    tried = 0
    for p in params(type(method)).values():
        for bad, words in _bad_values(p):
            try:
                dataclasses.replace(method, **{p.name: bad})
            except ValueError as error:
                for word in (p.name, repr(bad), *words):
                    assert word in str(error), f"{p.name}={bad!r} is refused without saying {word!r}: {error}"
                tried += 1
            else:
                raise AssertionError(f"{p.name}={bad!r} is accepted.")
    if not tried:
        raise NotApplicable("no field declares what it allows; use param(default, doc, gt=..., le=...).")
    return f"{tried} bad values refused"


def _bad_values(p: Param) -> Iterator[tuple[Any, list[str]]]:
    """Bad values of a parameter, and the words that the refusal must hold."""
    if p.choices:
        yield "nonsense", [repr(c) for c in p.choices]
        return
    if p.kind == "object":
        yield "nonsense", ["give"]
        return
    bounds = {k: getattr(p, k) for k in ("gt", "ge", "le", "lt") if getattr(p, k) is not None}
    for name, bound in bounds.items():
        off = 1 if p.whole or name in ("ge", "le") else 0
        yield bound - off if name in ("gt", "ge") else bound + off, [f"{bound:g}"]
    if bounds:
        yield math.nan, [f"{b:g}" for b in bounds.values()]
        if not p.infinite:
            yield math.inf, [f"{b:g}" for b in bounds.values()]
        yield "nonsense", [f"{b:g}" for b in bounds.values()]


def keeps_to_assumptions(method: Method, problem: Problem) -> str | None:
    """Used outside its assumptions, a method warns or refuses, in words."""
    said = []
    for f in dataclasses.fields(method):
        own = getattr(method, f.name)
        if not isinstance(own, compressors.Compressor) or own.axes != 1:
            continue
        for need, wrong in (("unbiased", compressors.TopK(1)), ("contractive", compressors.RandK(1))):
            if need in method.needs:
                said.append(_refusal(dataclasses.replace(method, **{f.name: wrong}), home(method), need))
    quadratics = problems.quadratics(n=4, d=6)
    flat = with_attributes(quadratics, mu_i=quadratics.mu_i * [0, 1, 1, 1])
    elsewhere = {
        "homogeneous": ("heterogeneous", quadratics),
        "strongly convex": ("strong convexity", with_attributes(quadratics, strongly_convex=False)),
        "strongly convex clients": ("strong convexity of every f_i", flat),
        "positive losses": ("positive", quadratics),
        "hessian": ("Hessian", with_attributes(quadratics, has_hessian=False)),
    }
    said += [_refusal(method, where, word) for need, (word, where) in elsewhere.items() if need in method.needs]
    if "at most once" in method.needs:
        again = dataclasses.replace(method, cohort=Importance([0.25] * 4, 2))  # type: ignore[call-arg]
        said.append(_refusal(again, quadratics, "twice"))
    if not said:
        raise NotApplicable(f"it declares no need that can be checked (needs = {method.needs}).")
    return f"{len(said)} misuses answered"


def _refusal(method: Method, problem: Problem, word: str) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            method.resolve(problem)
        except OutsideAssumptions as error:
            text = str(error)
        else:
            text = " ".join(str(w.message) for w in caught if issubclass(w.category, AssumptionWarning))
    assert word in text, f"{method!r} on {problem.name} neither warns nor refuses with a word on {word!r}: {text!r}."
    return text


def card(method: Method, problem: Problem) -> str | None:
    """The card is complete: paper, authors, venue, arXiv id or none, use, avoid, assumes, algorithm."""
    c = method.card
    wanted = (
        "name",
        "summary",
        "title",
        "authors",
        "venue",
        "solves",
        "use",
        "avoid",
        "assumes",
        "algorithm",
        "up",
        "down",
        "step_size",
    )
    missing = [part for part in wanted if not getattr(c, part)]
    assert not missing, f"the page's docstring lacks {', '.join(missing)}."
    assert re.match(r"(none|\d{4}\.\d{4,5})\b", c.arxiv), (
        f"arXiv: {c.arxiv!r} is neither an id such as 2106.05203 nor none."
    )
    for f in dataclasses.fields(method):
        assert f.metadata.get("doc"), (
            f"the hyperparameter {f.name} has no line of documentation; use param(default, doc)."
        )
    assert c.title in str(c) and c.title in c._repr_html_().replace("&#x27;", "'").replace("&amp;", "&"), (
        "the card hides its title."
    )
    return None


def page(method: Method, problem: Problem) -> str | None:
    """A page can be read in one sitting: 40 to 400 lines, as long as its paper needs."""
    try:
        lines = len(inspect.getsource(inspect.getmodule(type(method)) or type(method)).splitlines())
    except (OSError, TypeError):
        raise NotApplicable("its source is not in a file.") from None
    if not type(method).__module__.startswith("octolab.methods."):
        raise NotApplicable("it is not one of octolab's own pages.")
    assert 40 <= lines <= 400, f"the page has {lines} lines."
    return f"{lines} lines"
