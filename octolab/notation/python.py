"""Objects as the Python text that makes them, `ol.compressors.TopK(0.05)`, and back, without evaluating anything."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from octolab.notation.building import arguments_of, build
from octolab.params import Theory, params, plain
from octolab.rooms import ROOMS, find, members, place


def to_python(value: Any) -> str:
    """Text that evaluates to `value`, given `import octolab as ol` and `import numpy as np`.

    Raises ValueError for what octolab cannot name: a function, or a class that is in no room.

    >>> to_python(Theory(2)), to_python([1, math.inf])
    ('ol.Theory(2)', '[1, np.inf]')
    """
    value = plain(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "np.nan" if math.isnan(value) else "np.inf" if value > 0 else "-np.inf"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if hasattr(value, "__array__"):
        return f"np.array({np.asarray(value).tolist()!r})"
    if isinstance(value, (list, tuple)):
        body = ", ".join(map(to_python, value))
        return f"[{body}]" if isinstance(value, list) else f"({body}{',' if len(value) == 1 else ''})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{to_python(k)}: {to_python(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Theory):
        return call("ol.Theory", [] if value.multiplier == 1 else [to_python(value.multiplier)], {})
    if hasattr(value, "python"):
        return str(value.python)
    return call(_name(type(value)), *_arguments(value))


def call(name: str, positional: Sequence[str], named: dict[str, str]) -> str:
    """name(positional, ..., key=value, ...)"""
    return f"{name}({', '.join([*positional, *(f'{k}={v}' for k, v in named.items())])})"


def _name(cls: type) -> str:
    """Where a class is found from `ol`."""
    found = place(cls)
    if found is None:
        raise ValueError(
            f"{cls.__name__} cannot be written as Python text: octolab does not know where it comes from. Decorate it "
            f"with @ol.register(...)."
        )
    room, name = found
    own = cls.__module__.startswith("octolab.") or room == "methods"
    return f"{ROOMS[room].public}.{cls.__name__}" if own else f"ol.rooms.find({json.dumps(room)}, {json.dumps(name)})"


def _arguments(value: Any) -> tuple[list[str], dict[str, str]]:
    """What must be given first, by position; then what differs from its default, by name."""
    positional: list[str] = []
    named: dict[str, str] = {}
    split = (place(type(value)) or ("", ""))[0] == "splits"
    for p in params(type(value)).values():
        held = getattr(value, p.name)
        if p.required and not named:
            positional.append(to_python(held))
        elif p.required or (split and p.main) or not same(held, p.default):  # a split is told by its main parameter
            named[p.name] = to_python(held)
    return positional, named


def same(a: Any, b: Any) -> bool:
    """Whether two values are written alike."""
    if hasattr(a, "__array__") or hasattr(b, "__array__"):
        return False
    return type(a) is type(b) and bool(a == b)


# -- and back ----------------------------------------------------------------------------------------------------------
def from_python(text: str, room: str | None = None) -> Any:
    """The object that a call such as `ol.compressors.TopK(0.05)` makes; with a room also `TopK(0.05)`, as repr writes it.

    Literals, np.array, np.inf, np.nan and calls of registered classes are understood; all else raises a ValueError.

    >>> from_python("ol.Theory(2)")
    Theory(2)
    """
    try:
        return _value(ast.parse(text.strip(), mode="eval").body, room)
    except (SyntaxError, RecursionError):
        raise ValueError(f"{text!r} is not a Python call such as ol.compressors.TopK(0.05).") from None


def _value(node: ast.expr, room: str | None) -> Any:
    if isinstance(node, ast.Call):
        return _called(node, room)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _value(node.left, room) | _value(node.right, room)
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_value(item, room) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Attribute) and ast.unparse(node) in ("np.inf", "np.nan"):
        return float(node.attr)
    if isinstance(node, ast.UnaryOp) and ast.unparse(node) == "-np.inf":
        return -math.inf
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(f"{ast.unparse(node)!r} is neither a value nor a call that octolab knows.") from None


def _called(node: ast.Call, room: str | None) -> Any:
    name = ast.unparse(node.func)
    if name == "np.array" and len(node.args) == 1:
        return np.array(_value(node.args[0], room))
    if name == "ol.Theory":
        return Theory(*(_value(a, room) for a in node.args))
    where, called = _found(node.func, name, room)
    order = list(arguments_of(find(where, called)))
    if len(node.args) > len(order) or any(k.arg is None for k in node.keywords):
        raise ValueError(f"{ast.unparse(node)!r}: {called} has the fields {', '.join(order) or 'none'}.")
    given = {n: _value(a, where) for n, a in zip(order, node.args, strict=False)}
    return build(where, called, given | {str(k.arg): _value(k.value, where) for k in node.keywords})


def _found(func: ast.expr, text: str, room: str | None) -> tuple[str, str]:
    """(room, name) of what is called."""
    if isinstance(func, ast.Call) and ast.unparse(func.func) == "ol.rooms.find" and len(func.args) == 2:
        where, name = (_value(a, None) for a in func.args)
        return str(where), str(name)
    before, _, name = text.rpartition(".")
    for where, facts in ROOMS.items():
        if facts.public == before and name in _class_names(where):
            return where, _class_names(where)[name]
    if not before and room is not None:
        return room, name
    raise ValueError(f"{text!r} is no class that octolab knows: write it as in ol.compressors.TopK(0.05).")


def _class_names(room: str) -> dict[str, str]:
    """The name of a class -> its name in the room, which for methods is the slug."""
    return {thing.__name__: name for name, thing in members(room).items()}
