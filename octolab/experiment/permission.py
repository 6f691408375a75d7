"""A file describes, it never acts: what a foreign spec may make octolab do, and what no spec may ask for.

Checked on the JSON alone, before anything is opened, made or allocated.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from octolab.errors import OctolabError, RunFileError

ACTIONS = ("write", "network", "files", "place")
"""What `allow=` may hold: write run files, fetch data, open other files, run clients elsewhere (`on`)."""

ASKS = {"checkpoint": "write", "checkpoint_every": "write", "on": "place"}
"""Settings of a spec that act."""
SOURCES = {"hub:": "network", "file:": "files"}
"""Data sets of a spec that act."""

DEEPEST = 64
LARGEST = 2**27
"""Numbers that a problem made from a few words may hold (1 GB): a larger one is made by its owner and handed in."""


@contextmanager
def in_words(name: str) -> Iterator[None]:
    """Whatever is wrong inside a file becomes a RunFileError; what octolab itself says of it stays what it says."""
    try:
        yield
    except OctolabError:
        raise
    except ValueError as error:
        raise RunFileError(str(error)) from error
    except (LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, MemoryError) as error:
        raise RunFileError(
            f"{name} holds what no run has ({type(error).__name__}: {error}): it is damaged, or something else wrote it."
        ) from error


def check_allow(allow: Collection[str]) -> frozenset[str]:
    """The actions that a caller allows."""
    given = (allow,) if isinstance(allow, str) else tuple(allow)
    wrong = [a for a in given if a not in ACTIONS]
    if wrong:
        raise ValueError(f"allow={allow!r}: choose from {', '.join(map(repr, ACTIONS))}.")
    return frozenset(given)


def check_spec(spec: object, allow: Collection[str] = (), *, own_problem: bool = False) -> None:
    """RunFileError in words for a spec that asks for more than `allow`, or that is no spec. own_problem: it is handed in."""
    allowed = check_allow(allow)
    if not isinstance(spec, Mapping):
        raise RunFileError(f"A spec is a JSON object with method, problem and settings; got a {type(spec).__name__}.")
    missing = sorted({"method", "problem", "settings"} - set(spec))
    if missing:
        raise RunFileError(f"The spec lacks {missing}: a spec has method, problem and settings.")
    for part in ("method", "problem", "settings"):
        if not isinstance(spec[part], Mapping):
            raise RunFileError(f"The spec's {part} is {_short(spec[part])}: it is a JSON object.")
    for _, value in _walk(spec):
        if isinstance(value, Mapping) and "array" in value:
            _check_array(value["array"])
    for name, action in ASKS.items():
        if spec["settings"].get(name) is not None and action not in allowed:
            raise RunFileError(
                f"The spec sets {name}={_short(spec['settings'][name])}: a file writes and places nothing by itself. "
                f"Leave it out, or say allow=({action!r},) if you trust where it comes from."
            )
    if not own_problem:
        _check_problem(spec["problem"], allowed)


def _check_problem(problem: Mapping[str, Any], allowed: frozenset[str]) -> None:
    for _, value in _walk(problem):
        for prefix, action in SOURCES.items():
            if isinstance(value, str) and value.startswith(prefix) and action not in allowed:
                verb = "fetched from the network" if action == "network" else "opened"
                raise RunFileError(
                    f"The spec names the data set {_short(value)}, which would be {verb}: say allow=({action!r},) if you "
                    f"trust where the spec comes from, or hand the problem in with problem=."
                )
    numbers = {k: v for k, v in problem.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    n, d = (max(1.0, float(numbers.get(k, 1))) for k in ("n", "d"))
    held = n * d * d if problem.get("kind") == "quadratics" else n * d
    held = max(held, float(numbers.get("clients", 1)))
    if not math.isfinite(held) or held > LARGEST:
        raise RunFileError(
            f"The spec describes a problem of {held:.3g} numbers, and a spec makes at most {LARGEST:.3g}: make the problem "
            f"yourself and hand it in with problem=."
        )


def _check_array(value: object) -> None:
    """Numbers only, rectangular: what NumPy turns into an array of about the text's size."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        if any(not isinstance(row, list) or len(row) != len(value[0]) for row in value):
            raise RunFileError("The spec holds an array whose rows differ in length.")
        for row in value:
            _check_array(row)
    elif not isinstance(value, (int, float)) and not (
        isinstance(value, list) and all(isinstance(v, (int, float)) for v in value)
    ):
        raise RunFileError(f"The spec holds an array of {_short(value)}: an array holds numbers.")


def _walk(value: object, depth: int = 0) -> Iterator[tuple[int, object]]:
    """Every value inside, with its depth."""
    if depth > DEEPEST:
        raise RunFileError(f"The spec is nested more than {DEEPEST} deep: no spec of octolab's is.")
    yield depth, value
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for item in inner:
        if isinstance(item, (str, Mapping, list)):
            yield from _walk(item, depth + 1)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
