"""The registries: classes by room and name, so that JSON, text, menus and the command line find them.

    @ol.register("compressors")
    @dataclass(frozen=True)
    class Mine(ol.compressors.Compressor): ...

A room is a kind of thing (compressors, samplers, ...). Names are unique within a room only, so that a jitter and a
staleness policy may both be called Exponential. Case, - and _ do not matter: quantity-skew is QuantitySkew.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from octolab.errors import WrongArgument

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ROOMS", "Room", "catalog", "find", "fitting", "members", "named", "nearest", "place", "register"]

Thing = TypeVar("Thing", bound=Callable[..., Any])


@dataclass(frozen=True)
class Room:
    """noun: what sentences call one of its things. module: what to import for octolab's own. public: where Python
    text finds these, `import octolab as ol` given.
    """

    noun: str
    module: str
    public: str


ROOMS: dict[str, Room] = {
    "methods": Room("method", "octolab.methods.catalogue", "ol.methods"),
    "compressors": Room("compressor", "octolab.compressors", "ol.compressors"),
    "samplers": Room("sampler", "octolab.federation.sampling", "ol.federation"),
    "fleets": Room("fleet", "octolab.fleets", "ol"),
    "jitters": Room("jitter", "octolab.fleets", "ol.fleets"),
    "availability": Room("availability", "octolab.fleets.availability", "ol.fleets"),
    "computation": Room("computation", "octolab.fleets.availability", "ol.fleets"),
    "problems": Room("problem", "octolab.problems", "ol.problems"),
    "splits": Room("split", "octolab.data.splits", "ol.data"),
    "attacks": Room("attack", "octolab.trust.attacks", "ol.attacks"),
    "aggregators": Room("aggregator", "octolab.trust.aggregators", "ol.aggregators"),
    "schedules": Room("schedule", "octolab.schedules", "ol.schedules"),
    "local": Room("local optimiser", "octolab.local", "ol.local"),
    "staleness": Room("staleness policy", "octolab.staleness", "ol.staleness"),
    "stops": Room("stop rule", "octolab.experiment.settings", "ol"),
}
"""Every room. A new one is one line here, and `@register` on its classes."""

_held: dict[str, dict[str, Any]] = {room: {} for room in ROOMS}
_places: dict[Any, tuple[str, str]] = {}


def register(room: str, name: str | None = None) -> Callable[[Thing], Thing]:
    """Let a class (a dataclass; of problems also a function) be known in a room by its name: a class decorator.

    Raises ValueError for an unknown room, for a class that is no dataclass, and for a name that another class has;
    the same class made again, as by a notebook's cell, takes its own place.
    """
    noun = _room(room).noun
    if name is not None:
        _check("name", name, str, "a text")

    def keep(thing: Thing) -> Thing:
        called = name or thing.__name__
        if isinstance(thing, type) and not dataclasses.is_dataclass(thing) and room != "problems":
            raise ValueError(f"{thing.__name__} is no dataclass: a {noun}'s fields are what text and JSON say of it.")
        other = next((n for n in _held[room] if _key(n) == _key(called)), None)
        if other is not None and _origin(_held[room][other]) != _origin(thing):
            raise ValueError(f"There is a {noun} {other} already, from {_held[room][other].__module__}: choose a name.")
        if other is not None:
            del _held[room][other]
        _held[room][called] = thing
        _places[thing] = (room, called)
        return thing

    return keep


def forget(room: str, name: str) -> None:
    """Take a class out of its room again."""
    thing = _held[room].pop(name, None)
    _places.pop(thing, None)


def members(room: str, load: bool = True) -> Mapping[str, Any]:
    """name -> class of a room, by name; a view that grows with the room. load: import octolab's own first."""
    _check("load", load, bool, "True or False")
    if load:
        importlib.import_module(_room(room).module)
    return MappingProxyType(_held[room])


def find(room: str, name: str) -> Any:
    """The class of this name. Raises ValueError with the nearest names."""
    known = members(room)
    for held, thing in known.items():
        if _key(held) == _key(str(name)):
            return thing
    noun = _room(room).noun
    raise ValueError(f"There is no {noun} {name!r}.{nearest(str(name), known)} Known are {', '.join(sorted(known))}.")


def place(thing: Any) -> tuple[str, str] | None:
    """(room, name) of a registered class, or None."""
    return _places.get(thing) if isinstance(thing, Callable) else None  # type: ignore[arg-type]


def catalog(room: str) -> pd.DataFrame:
    """A table of a room: name, and one line of what it is."""
    import pandas as pd

    found = [(name, (inspect.getdoc(thing) or "").split("\n")[0]) for name, thing in sorted(members(room).items())]
    return pd.DataFrame(found, columns=["name", "summary"])


def fitting(base: type) -> dict[str, Any]:
    """name -> registered class, of every room, for the classes at and below a base."""
    _check("base", base, type, "a class")
    for room in ROOMS:
        members(room)
    return {n: thing for thing, (_, n) in _places.items() if isinstance(thing, type) and issubclass(thing, base)}


def named(text: str, room: str | None = None) -> tuple[str, str]:
    """("samplers", "Nice") of "samplers.Nice"; a bare name is of the room given."""
    _check("text", text, str, "a name, such as 'compressors.TopK'")
    if room is not None:
        _room(room)
    before, dot, name = text.rpartition(".")
    if dot and (room is None or before in ROOMS):
        _room(before)
        return before, name
    if room is None:
        raise ValueError(f"{text!r} names no room: write one of {', '.join(ROOMS)}, a dot, and a name.")
    return room, text


def nearest(word: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """ " Did you mean X?" for a word that is nearly one of the known ones, else ""."""
    _check("word", word, str, "a text")
    _check("known", known, Iterable, "words")
    if not isinstance(cutoff, (int, float)) or not 0 <= cutoff <= 1:
        raise WrongArgument(f"cutoff={cutoff!r}: give a number in [0, 1].")
    by_lower = {str(k).lower(): str(k) for k in known}
    near = difflib.get_close_matches(word.lower(), by_lower, 2, cutoff)
    return f" Did you mean {' or '.join(by_lower[n] for n in near)}?" if near else ""


def _check(name: str, value: object, kind: type, words: str) -> None:
    if not isinstance(value, kind):
        raise WrongArgument(f"{name}={value!r}: give {words}.")


def _room(room: str) -> Room:
    if room not in ROOMS:
        raise ValueError(f"There is no room {room!r}.{nearest(str(room), ROOMS)} Rooms are {', '.join(ROOMS)}.")
    return ROOMS[room]


def _key(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _origin(thing: Any) -> tuple[str, str]:
    return thing.__module__, thing.__qualname__
