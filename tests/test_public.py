"""What a person at a keyboard sees: every public name completes, says what it is, and shows its arguments."""

from __future__ import annotations

import inspect
import types

import pytest

import octolab as ol

MODULES = [name for name in ol.__all__ if isinstance(getattr(ol, name), types.ModuleType)]


def called(thing: object) -> bool:
    """Whether arguments are what a person wants to see: of functions and classes, but errors."""
    error = isinstance(thing, type) and issubclass(thing, BaseException)
    plain = inspect.isroutine(thing) or inspect.isclass(thing)
    return plain and not error and not isinstance(thing, types.GenericAlias)


@pytest.mark.parametrize("place", ["octolab", *MODULES])
def test_every_public_name_completes_and_has_a_docstring_and_a_signature(place):
    module = ol if place == "octolab" else getattr(ol, place)
    names = set(getattr(module, "__all__", ())) | ({*dir(module)} if place == "methods" else set())
    assert names <= set(dir(module))
    for name in names:
        thing = getattr(module, name)
        if called(thing):
            assert inspect.getdoc(thing), f"{place}.{name} has no docstring"
            assert inspect.signature(thing) is not None


@pytest.mark.parametrize("function", [ol.start, ol.compare, ol.repeat])
def test_what_passes_settings_on_names_them(function):
    shown = inspect.signature(function).parameters
    assert {"fleet", "metrics", "callbacks", "evaluate_every", "x0"} <= set(shown)
    assert "settings" not in shown and ("seed" in shown) == ("seeds" not in shown)
    assert shown["evaluate_every"].annotation == inspect.signature(ol.run).parameters["evaluate_every"].annotation
