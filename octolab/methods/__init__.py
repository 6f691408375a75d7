"""The methods: one paper = one page, in folders by family. The catalogue is built from the pages.

ol.methods.EF21, ol.methods.get("ef21")     a method's class
ol.methods.catalog()                        all of them, as a table
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache
from typing import Any

from octolab.methods.card import Card
from octolab.methods.method import Method, Theory, param

_registered: dict[str, type[Method]] = {}


@cache
def _pages() -> dict[str, type[Method]]:
    found: dict[str, type[Method]] = {}
    for family in pkgutil.iter_modules(__path__):
        if not family.ispkg:
            continue
        package = importlib.import_module(f"{__name__}.{family.name}")
        for page in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{package.__name__}.{page.name}")
            for thing in vars(module).values():
                if (
                    isinstance(thing, type)
                    and issubclass(thing, Method)
                    and thing.__module__ == module.__name__
                    and thing.slug
                ):
                    found[thing.slug] = thing
    return dict(sorted(found.items()))


def register(cls: type[Method]) -> type[Method]:
    """Add a method of your own to the catalogue of this session (a class decorator)."""
    if not cls.slug:
        raise ValueError(f"{cls.__name__} has no slug: set slug = 'short-name' in the class.")
    _registered[cls.slug] = cls
    return cls


def slugs() -> list[str]:
    """The names of all methods."""
    return sorted({**_pages(), **_registered})


def get(slug: str) -> type[Method]:
    """The class of a method by its slug; an unknown one raises a ValueError with the nearest names."""
    known = {**_pages(), **_registered}
    key = str(slug).lower().replace("_", "-")
    if key in known:
        return known[key]
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.4)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    raise ValueError(f"There is no method {slug!r}. {hint}`octolab methods` lists all {len(known)}.")


def cards() -> list[Card]:
    """The cards of all methods, by family and name."""
    return sorted((get(s).describe() for s in slugs()), key=lambda c: (c.family, c.slug))


def catalog() -> Any:
    """A pandas table of all methods: slug, name, family, what it solves, arXiv, what it needs."""
    import pandas as pd

    columns = ["slug", "name", "family", "summary", "arxiv", "needs"]
    rows = [{c: card.to_dict()[c] for c in columns} for card in cards()]
    return pd.DataFrame(rows, columns=columns).assign(needs=lambda t: t.needs.map(", ".join))


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    for cls in {**_pages(), **_registered}.values():
        if cls.__name__ == name:
            return cls
    raise AttributeError(f"octolab.methods has no {name!r}; the methods are {', '.join(sorted(_names()))}.")


def _names() -> list[str]:
    return [cls.__name__ for cls in {**_pages(), **_registered}.values()]


def __dir__() -> list[str]:
    return sorted([*_names(), "Method", "Theory", "catalog", "cards", "get", "param", "register", "slugs"])


__all__ = ["Card", "Method", "Theory", "cards", "catalog", "get", "param", "register", "slugs"]
