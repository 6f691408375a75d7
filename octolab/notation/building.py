"""A registered class and its arguments become an object; or a sentence says which of them do not fit."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from octolab.params import params
from octolab.rooms import find, nearest


def build(room: str, name: str, arguments: Mapping[str, Any]) -> Any:
    """The object of a room's class. Raises ValueError for an unknown name, and for missing or unknown arguments."""
    make = find(room, name)
    known = arguments_of(make)
    unknown = [k for k in arguments if k not in known]
    missing = [k for k, required in known.items() if required and k not in arguments]
    if unknown or missing:
        hint = nearest(unknown[0], known) if unknown else ""
        raise ValueError(
            f"{name} has the fields {', '.join(known) or 'none'}; given {', '.join(arguments) or 'none'}.{hint}"
        )
    try:
        return make(**arguments)
    except TypeError as error:
        raise ValueError(f"{name} cannot be made from {dict(arguments)!r}: {error}.") from None


def arguments_of(make: Any) -> dict[str, bool]:
    """name -> whether it must be given, for a dataclass or a function."""
    if isinstance(make, type) and hasattr(make, "__dataclass_fields__"):
        return {p.name: p.required for p in params(make).values()}
    return {n: p.default is p.empty for n, p in inspect.signature(make).parameters.items()}
