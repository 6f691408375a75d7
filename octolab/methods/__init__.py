"""The methods: one paper = one page, in folders by family. The catalogue is built from the pages.

ol.methods.EF21, ol.methods.get("ef21")     a method's class
ol.methods.catalog()                        all of them, as a table
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from octolab import rooms
from octolab.arguments import Fact, expects, text
from octolab.methods.card import Card
from octolab.methods.method import Method, Theory, param
from octolab.methods.template import template

if TYPE_CHECKING:
    import pandas as pd

    from octolab.methods.names import *  # noqa: F403  # every page, for editors


@expects(cls=Fact(lambda v: isinstance(v, type) and hasattr(v, "slug"), "a class of a method"))
def register(cls: type[Method]) -> type[Method]:
    """Add a method of your own to the catalogue of this session (a class decorator)."""
    if not cls.slug:
        raise ValueError(f"{cls.__name__} has no slug: set slug = 'short-name' in the class.")
    return rooms.register("methods", cls.slug)(cls)


def slugs() -> list[str]:
    """The names of all methods."""
    return sorted(rooms.members("methods"))


@expects(slug=text("a method's name: see ol.methods.catalog()"))
def get(slug: str) -> type[Method]:
    """The class of a method by its slug; an unknown one raises a ValueError with the nearest names."""
    try:
        found: type[Method] = rooms.find("methods", slug)
    except ValueError as error:
        raise ValueError(
            f"{error} If it is your own, write @ol.methods.register above its class, or give the method itself."
        ) from None
    return found


def cards() -> list[Card]:
    """The cards of all methods, by family and name."""
    return sorted((get(s).describe() for s in slugs()), key=lambda c: (c.family, c.slug))


def catalog() -> pd.DataFrame:
    """A table of all methods: slug, name, family, what it solves, arXiv, what it needs."""
    import pandas as pd

    columns = ["slug", "name", "family", "summary", "arxiv", "needs"]
    rows = [{c: card.to_dict()[c] for c in columns} for card in cards()]
    return pd.DataFrame(rows, columns=columns).assign(needs=lambda t: t.needs.map(", ".join))


def __getattr__(name: str) -> type[Method]:
    if name.startswith("_"):
        raise AttributeError(name)
    for cls in rooms.members("methods").values():
        if cls.__name__ == name:
            return cls
    raise AttributeError(f"octolab.methods has no {name!r}; the methods are {', '.join(sorted(_names()))}.")


def _names() -> list[str]:
    return [cls.__name__ for cls in rooms.members("methods").values()]


def __dir__() -> list[str]:
    return sorted([*_names(), *__all__])


__all__ = ["Card", "Method", "Theory", "cards", "catalog", "get", "param", "register", "slugs", "template"]
