"""Objects in words, for the command line and forms: `TopK:0.05`, `dirichlet:0.3`, `ef21:lr=theory:4`; and back."""

from __future__ import annotations

import functools
import json
import operator
import re
from typing import Any

from octolab.notation.building import arguments_of, build
from octolab.notation.json import from_json, parse_json
from octolab.notation.python import from_python, same
from octolab.params import Param, Theory, check, params, plain
from octolab.rooms import find, fitting, nearest, place


def from_text(text: str, room: str) -> Any:
    """The object of a room that the words stand for. Raises ValueError with the nearest names.

    Name, Name:argument,name=argument, chains with |, what holds a comma in parentheses; also JSON, and Python's TopK(0.05).

    >>> from_text("dirichlet:0.5", "splits")
    Dirichlet(alpha=0.5, min_size=1)
    """
    text = _bare(text)
    if text.startswith("{"):
        return from_json(parse_json(text, repr(text)), room)
    if re.match(r"[\w.]+\(", text):
        return from_python(text, room)
    return functools.reduce(operator.or_, [_one(part, room) for part in split_list(text, "|")])


def _one(text: str, room: str) -> Any:
    return build(room, *arguments_of_text(_bare(text), room))


def arguments_of_text(text: str, room: str) -> tuple[str, dict[str, Any]]:
    """The name and the arguments in `Name:argument,name=argument`."""
    name, _, rest = text.partition(":")
    cls = find(room, name)
    known = params(cls) if hasattr(cls, "__dataclass_fields__") else {}
    order = list(arguments_of(cls))
    given: dict[str, Any] = {}
    for i, piece in enumerate(split_list(rest, ",")):
        key, equals, word = piece.partition("=")
        if not equals or not key.strip().isidentifier():
            if i >= len(order):
                raise ValueError(f"{text!r}: write name=value for {piece!r}; {name} has {', '.join(order) or 'none'}.")
            key, word = order[i], piece
        key = key.strip()
        if key not in order:
            raise ValueError(
                f"{name} has no argument {key!r}.{nearest(key, order)} It has {', '.join(order) or 'none'}."
            )
        given[key] = read(known[key], word, name) if key in known else number(word)
    return name, given


def read(p: Param, word: str, owner: str) -> Any:
    """A parameter's value from words. Raises ValueError naming owner, parameter, word and what is allowed.

    Numbers (also 1/20), none, true and false, theory or theory:MULTIPLIER, a choice, one number per client (1,2,3), an
    object as in `from_text`.
    """
    value = meaning(p, word)
    check(owner, p, value)
    return value


def meaning(p: Param, word: str) -> Any:
    """As `read`, for those whose class checks what it is given: what is not understood comes back as it is."""
    word = _bare(word)
    low = word.lower()
    if p.choices is not None:
        return next((c for c in p.choices if str(c).lower() == low), word)
    if p.optional and low in ("none", ""):
        return None
    if p.theory and (found := re.fullmatch(r"theory(?:\s*[:*×]\s*(.+))?|(.+?)\s*[*×]\s*theory", low)):
        times = number(found[1] or found[2] or "1")
        return word if isinstance(times, str) else Theory(times)
    if p.kind == "switch":
        return {"true": True, "false": False}.get(low, word)
    if p.kind == "text":
        return word
    meant = number(word)
    if isinstance(meant, str) and p.kind == "object":
        return from_text(word, room_of(p)) if word else word
    if isinstance(meant, str) and (p.per_client or p.kind in ("list", "free")):
        return _listed(word)
    return meant


def room_of(p: Param) -> str:
    """The room whose objects a parameter takes."""
    if p.room is not None:
        return p.room
    for o in p.objects:
        for found in map(place, fitting(o).values()):
            if found is not None:
                return found[0]
    raise ValueError(f"{p.name} takes {' or '.join(o.__name__ for o in p.objects)}, which no words stand for.")


def number(word: str) -> Any:
    """An int or a float (also 1/20, 5%) if the word is one, else the word."""
    if word.strip().endswith("%"):
        share = number(word.strip()[:-1])
        return word.strip() if isinstance(share, str) else share / 100
    over, slash, under = word.strip().partition("/")
    for kind in (int, float):
        try:
            return float(over) / float(under) if slash else kind(over)
        except (ValueError, ZeroDivisionError):
            pass
    return word.strip()


def _listed(word: str) -> Any:
    """`1, 2, 3` or JSON's [[0, 1], [2, 3]] as tuples; what is no list as the word it is."""
    body = word if word.startswith("[") else f"[{word}]"
    try:
        return from_json(json.loads(body))
    except json.JSONDecodeError:
        return word


def split_list(text: str, at: str) -> list[str]:
    """The pieces between the separators that stand outside of all brackets; of an empty text none."""
    depth, pieces = 0, [""]
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == at and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += letter
    return [p.strip() for p in pieces] if text.strip() else []


def _bare(text: str) -> str:
    """Without the parentheses around all of it."""
    text = text.strip()
    depth = [sum((c in "([{") - (c in ")]}") for c in text[: i + 1]) for i in range(len(text))]
    around = text.startswith("(") and 0 not in depth[:-1]
    return _bare(text[1:-1]) if around and depth[-1] == 0 else text


# -- writing -----------------------------------------------------------------------------------------------------------
def to_text(value: Any) -> str:
    """The words for a value, as `from_text` and `read` understand them. Raises ValueError for what no room knows.

    >>> to_text(Theory(4)), to_text((1, 2)), to_text(None)
    ('theory:4', '(1,2)', 'none')
    """
    value = plain(value)
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float, str)):
        return str(value)
    if isinstance(value, Theory):
        return "theory" if value.multiplier == 1 else f"theory:{value.multiplier:g}"
    if isinstance(value, (list, tuple)) or hasattr(value, "__array__"):
        return json.dumps(_tuple_free(value)) if _deep(value) else f"({','.join(map(to_text, value))})"
    found = place(type(value))
    if found is None:
        raise ValueError(f"{value!r} cannot be written in words: octolab does not know where it comes from.")
    words = []
    for p in params(type(value)).values():
        held = getattr(value, p.name)
        if p.required:
            words.append(_nested(held))
        elif not same(held, p.default):
            words.append(f"{p.name}={_nested(held)}")
    return f"{found[1]}:{','.join(words)}" if words else found[1]


def _nested(value: Any) -> str:
    text = to_text(value)
    return f"({text})" if place(type(value)) and re.search("[,|]", text) else text


def _deep(value: Any) -> bool:
    return any(isinstance(v, (list, tuple)) or getattr(v, "ndim", 0) for v in value)


def _tuple_free(value: Any) -> Any:
    return [_tuple_free(v) for v in value] if hasattr(value, "__len__") else plain(value)
