"""Which methods stand for all in tests of what treats all alike: the first of each family; the others are slow tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

import octolab as ol


def every_method(slugs: Iterable[str] | None = None) -> list[Any]:
    """Parameters for `parametrize`: all methods, of which all but one of each family are slow."""
    seen: set[str] = set()
    found = []
    for slug in ol.methods.slugs() if slugs is None else slugs:
        family = ol.methods.get(slug).__module__.split(".")[-2]
        found.append(pytest.param(slug, marks=pytest.mark.slow if family in seen else ()))
        seen.add(family)
    return found
