"""What the arguments of a function may be, said once above it: a wrong one is refused in a sentence, before any work.

    @expects(n=whole(1), L=number(gt=0), eigenbasis=one_of("shared", "random"))
    def quadratics(n=10, L=10.0, eigenbasis="shared"): ...

None is allowed where it is the default.
"""

from __future__ import annotations

import functools
import inspect
import numbers
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from octolab.errors import WrongArgument
from octolab.params import Param, fits, plain
from octolab.rooms import nearest

__all__ = [
    "ALLOW",
    "FLEET",
    "METHOD",
    "NAMED",
    "PROBLEM",
    "RUN",
    "SEED",
    "Fact",
    "expect",
    "expects",
    "function",
    "instance",
    "like",
    "number",
    "one_of",
    "path",
    "sequence",
    "short",
    "switch",
    "text",
    "whole",
]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Fact:
    """Whether a value fits, and in words what would: "give ..."."""

    fits: Callable[[Any], bool]
    words: str

    def __or__(self, other: Fact) -> Fact:
        return Fact(lambda v: self.fits(v) or other.fits(v), f"{self.words}, or {other.words}")


def number(
    what: str = "", *, gt: float | None = None, ge: float | None = None, le: float | None = None, lt: float | None = None,
    infinite: bool = False,
) -> Fact:  # fmt: skip
    """A finite number within bounds; infinite: inf is allowed, too. what: what it is, in words."""
    inner = Param("", "number", gt=gt, ge=ge, le=le, lt=lt, infinite=infinite)
    bounds = [f"{sign} {b:g}" for sign, b in ((">", gt), (">=", ge), ("<=", le), ("<", lt)) if b is not None]
    words = " ".join(["a number" if infinite else "a finite number", " and ".join(bounds)]).strip()
    return Fact(lambda v: fits(inner, plain(v)), words + (f" ({what})" if what else ""))


def whole(least: int, most: int | None = None) -> Fact:
    """A whole number from `least` on."""
    return Fact(
        lambda v: _is_whole(plain(v)) and least <= plain(v) and (most is None or plain(v) <= most),
        f"a whole number >= {least}" + ("" if most is None else f" and <= {most}"),
    )


def _is_whole(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def one_of(*choices: str) -> Fact:
    """One of a few words."""
    return Fact(lambda v: isinstance(v, str) and v in choices, " or ".join(map(repr, choices)))


def text(words: str = "a text") -> Fact:
    """A text that is not empty."""
    return Fact(lambda v: isinstance(v, str) and bool(v), words)


def switch() -> Fact:
    """True or False."""
    return Fact(lambda v: isinstance(v, bool), "True or False")


def path(words: str = "a path") -> Fact:
    """The path of a file or folder."""
    return Fact(lambda v: isinstance(v, (str, os.PathLike)) and bool(os.fspath(v)) and "\0" not in str(v), words)


def function(words: str = "a function") -> Fact:
    """Anything that can be called."""
    return Fact(callable, words)


def instance(words: str, *kinds: type) -> Fact:
    """An object of one of these classes."""
    return Fact(lambda v: isinstance(v, kinds), words)


def like(words: str, *attributes: str) -> Fact:
    """An object, no class, with these attributes: what it is asked for later."""
    return Fact(lambda v: not isinstance(v, type) and all(hasattr(v, name) for name in attributes), words)


def sequence(words: str, of: Fact | None = None, least: int = 0) -> Fact:
    """A list or another sized collection, no text, whose items are all so."""

    def good(value: Any) -> bool:
        sized = isinstance(value, Iterable) and hasattr(value, "__len__") and not isinstance(value, (str, bytes))
        return sized and len(value) >= least and (of is None or all(map(of.fits, value)))

    return Fact(good, words)


def expects(**facts: Fact) -> Callable[[F], F]:
    """A function whose arguments are bound and checked first; WrongArgument, a ValueError, says what does not fit."""

    def around(fn: F) -> F:
        signature = inspect.signature(fn)
        called = fn.__qualname__.removesuffix(".__init__").rpartition(".")[2]
        rest = next((p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD), None)

        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                given = dict(signature.bind(*args, **kwargs).arguments)
            except TypeError as error:
                raise WrongArgument(_unbound(called, signature, kwargs, error)) from None
            given |= given.pop(rest, {}) if rest else {}
            for name, value in given.items():
                if name in facts:
                    _check(called, name, value, facts[name], signature)
            return fn(*args, **kwargs)

        return call  # type: ignore[return-value]

    return around


def _check(called: str, name: str, value: object, fact: Fact, signature: inspect.Signature) -> None:
    known = signature.parameters.get(name)
    several = known is not None and known.kind is known.VAR_POSITIONAL
    for one in value if several and isinstance(value, tuple) else (value,):
        expect(f"{called}: ", name, one, fact, optional=known is None or known.default is None)


def expect(where: str, name: str, value: object, fact: Fact, *, optional: bool = False) -> None:
    """WrongArgument, in words, for a value that does not fit; optional: None does."""
    if not (optional and value is None) and not fact.fits(value):
        raise WrongArgument(f"{where}{name}={short(value)}: give {fact.words}.")


def _unbound(called: str, signature: inspect.Signature, given: Mapping[str, Any], error: TypeError) -> str:
    known = [n for n in signature.parameters if n != "self"]
    strange = [n for n in given if n not in known]
    has = f"It has {', '.join(known)}." if known else "It takes none."
    if strange:
        name = strange[0]
        return f"{called} has no argument {name} (given {name}={short(given[name])}).{nearest(name, known)} {has}"
    return f"{called}: {error}: give what is missing. {has}"


def short(value: object) -> str:
    """A value in one line of a sentence."""
    try:
        shown = " ".join(repr(value).split())
    except Exception:  # a stranger's repr
        shown = f"a {type(value).__name__}"
    return shown if len(shown) <= 120 else f"{shown[:100]}... ({type(value).__name__})"


PROBLEM = like("a problem from ol.problems", "x0", "grad", "weights")
METHOD = like("a method from ol.methods", "resolve", "step")
NAMED = METHOD | text("its name")
FLEET = like("a fleet, such as ol.Fleet(seconds=2.0)", "compute", "lost")
RUN = like("a run, as ol.run returns", "recorder", "federation")
SEED = whole(0)
ALLOW = text("'write', 'network', 'files' or 'place'") | sequence("several of them", text())
