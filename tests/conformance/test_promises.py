"""Every method in the catalogue keeps every promise of `octolab.testing`: a page is tested by being there."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

import octolab as ol
from octolab.testing import ONCE, PROMISES, STANDARD, NotApplicable


@cache
def standard(where: str, homogeneous: bool) -> ol.problems.Problem:
    return STANDARD[where](ol.methods.get("asgd" if homogeneous else "gd")())


def cases() -> list[Any]:
    """All of them; where a run is told from its copy, quadratics show it, and the other two problems are slow tests."""
    again = ("resumes", "forks", "stops", "repeats", "spec")
    return [
        pytest.param(slug, promise, where, marks=pytest.mark.slow if promise in again and where != "quadratics" else ())
        for slug in ol.methods.slugs()
        for promise in PROMISES
        if promise not in ONCE
        for where in STANDARD
    ]


@pytest.mark.parametrize("slug, promise, where", cases())
def test_every_method_keeps_its_promises_on_every_standard_problem(slug: str, promise: str, where: str) -> None:
    method = ol.methods.get(slug)()
    problem = standard(where, "homogeneous" in method.needs)
    try:
        PROMISES[promise](method, problem)
    except NotApplicable as reason:
        refused = {"network": "hessian", "quadratics": "positive losses"}.get(where)
        assert refused in method.needs, reason


@pytest.mark.parametrize("promise", ONCE)
@pytest.mark.parametrize("slug", ol.methods.slugs())
def test_every_page_keeps_its_word(slug: str, promise: str) -> None:
    method = ol.methods.get(slug)()
    try:
        where = "logistic" if "positive losses" in method.needs else "quadratics"
        PROMISES[promise](method, standard(where, "homogeneous" in method.needs))
    except NotApplicable as reason:
        nothing = promise == "theory" and not any(isinstance(v, ol.Theory) for v in vars(method).values())
        assert nothing or (promise == "keeps_to_assumptions" and not set(method.needs) - {"full participation"}), reason
