"""Objects as JSON and back: {"kind": "samplers.Nice", "m": 5}, and a method as {"method": "ef21", ...}."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from octolab.notation.building import build
from octolab.params import Theory, params, plain
from octolab.rooms import ROOMS, find, members, named, place


def to_json(value: Any) -> Any:
    """A hyperparameter or setting as JSON. Raises ValueError for what no room knows.

    >>> to_json(Theory(2)), to_json((1, None))
    ({'theory': 2}, [1, None])
    """
    value = plain(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "__array__"):
        return {"array": np.asarray(value).tolist()}
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    if isinstance(value, Theory):
        return {"theory": value.multiplier}
    slug = getattr(value, "slug", None)  # a method outside the catalogue: who loads its run hands it in
    found = place(type(value)) or (None if slug is None else ("methods", slug))
    if found is not None:
        room, name = found
        head = {"method": name} if room == "methods" else {"kind": f"{room}.{name}"}
        if hasattr(value, "to_spec"):  # made of parts that only their names can stand for
            return head | value.to_spec()
        return head | {n: to_json(getattr(value, n)) for n in params(type(value))}
    raise ValueError(
        f"{value!r} cannot be written as JSON, so this run has no spec. Use octolab's own samplers, aggregators, fleets "
        f"and attacks, or numbers and arrays; a dataclass of your own joins by @ol.register(room), out of {', '.join(ROOMS)}."
    )


def from_json(data: Any, room: str | None = None) -> Any:
    """The way back from `to_json`; a bare kind, as in {"kind": "TopK", "k": 0.05}, is of the room given.

    Raises ValueError for unknown names and fields.
    """
    if isinstance(data, list):
        return tuple(from_json(v, room) for v in data)
    if not isinstance(data, dict):
        return data
    data = _renewed(data)
    if set(data) == {"array"}:
        return np.asarray(data["array"])
    if set(data) == {"theory"}:
        return Theory(data["theory"])
    if "method" in data:
        room, name = "methods", data["method"]
    elif isinstance(data.get("kind"), str):
        room, name = named(data["kind"], room)
    else:
        raise ValueError(
            f"A spec entry is a number, a text, a list, or an object with a kind; got keys {sorted(data)}."
        )
    rest = {k: v for k, v in data.items() if k not in ("method" if room == "methods" else "kind",)}
    cls = find(room, name)
    if not isinstance(cls, type) or not hasattr(cls, "__dataclass_fields__"):  # a problem may fetch what it is made of
        raise ValueError(f"A spec entry cannot be a {ROOMS[room].noun}: got {name!r}.")
    if hasattr(cls, "from_spec"):
        return cls.from_spec(data)
    return build(room, name, {k: from_json(v, room) for k, v in rest.items()})


def parse_json(text: str, what: str) -> Any:
    """JSON text as data; a ValueError, in words, where it is none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{what} is not JSON: {error}.") from None


def _renewed(data: dict[str, Any]) -> dict[str, Any]:
    """What 0.1 wrote, {"compressor": {"kind": ...}} and {"object": "Nice", ...}, as it is written now."""
    if set(data) == {"compressor"} and isinstance(data["compressor"], dict):
        return {**data["compressor"], "kind": f"compressors.{data['compressor'].get('kind')}"}
    if "object" not in data:
        return data
    rest = {k: v for k, v in data.items() if k != "object"}
    if data["object"] == "Theory":
        return {"theory": rest.get("multiplier", 1.0)}
    for room in ("samplers", "fleets", "jitters", "schedules", "local", "attacks", "aggregators", "stops"):
        if data["object"] in members(room):
            return {"kind": f"{room}.{data['object']}", **rest}
    raise ValueError(f"The spec names {data['object']!r}, which octolab does not know.")
