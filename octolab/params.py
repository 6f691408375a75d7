"""Parameters as data: what a field of a frozen dataclass is and may hold, said once, in `param(...)` and its annotation.

    class EF21(Method):
        lr: Theory[float] = param(Theory(), "step size", gt=0)

    params(EF21)["lr"].theory, .gt, .whole      # typed facts: checks, command line, forms and specs read them here

gt, ge, lt, le are the bounds (>, >=, <, <=).
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import types
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from octolab.errors import WrongArgument

__all__ = ["Param", "Theory", "Value", "allowed", "check", "equal", "fits", "param", "params", "settle", "values"]

PLAIN = (bool, int, float, str, tuple, list, Sequence, type(None))

T = TypeVar("T")


@dataclass(frozen=True)
class Theory(Generic[T]):
    """The value that the method's theorem prescribes for the problem at hand, times a multiplier.

    A field that takes a number or this is of type `Theory[float]`. Methods run resolved: what they read is a float.
    """

    multiplier: float = 1.0

    if TYPE_CHECKING:

        def __get__(self, method: object, owner: type | None = None) -> T: ...
        def __set__(self, method: object, value: T | Theory[T]) -> None: ...
    else:

        def __class_getitem__(cls, kind):
            return kind | cls

    def __repr__(self) -> str:
        return "Theory()" if self.multiplier == 1 else f"Theory({self.multiplier:g})"


@dataclass(frozen=True)
class Param:
    """The facts of one parameter.

    kind:       number, whole (number), share (a count, or a share in (0, 1]), switch, choice, text, list, object (a
                dataclass of a room: a compressor, a sampler, ...), or free (anything; only Python can change it).
    default:    ... where a value must be given; example: a value to start from there, ... if there is none.
    optional:   None is allowed. theory: so is Theory(). per_client: so is a sequence, one value per client.
    numeric:    a number is allowed, maybe beside objects.
    objects:    the classes that its objects may have; room: the registry they come from where that is not a class.
    """

    name: str
    kind: str
    doc: str = ""
    default: Any = ...
    example: Any = ...
    optional: bool = False
    theory: bool = False
    per_client: bool = False
    numeric: bool = False
    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    choices: tuple[Any, ...] | None = None
    objects: tuple[type, ...] = ()
    room: str | None = None
    main: bool = False
    infinite: bool = False

    @property
    def whole(self) -> bool:
        return self.kind == "whole"

    @property
    def required(self) -> bool:
        return self.default is ...

    @property
    def low(self) -> float | None:
        """The lower bound, open or closed."""
        return self.gt if self.ge is None else self.ge

    @property
    def high(self) -> float | None:
        """The upper bound, open or closed."""
        return self.lt if self.le is None else self.le

    def inside(self, value: float) -> bool:
        """Whether a number is finite and within the bounds."""
        return (
            (math.isfinite(value) or (self.infinite and value == math.inf))
            and (self.gt is None or value > self.gt)
            and (self.ge is None or value >= self.ge)
            and (self.lt is None or value < self.lt)
            and (self.le is None or value <= self.le)
        )


FACTS = ("doc", "gt", "ge", "lt", "le", "choices", "main", "room", "example", "infinite")
OLD_BOUNDS = {"above": "gt", "low": "ge", "below": "lt", "upto": "le"}  # the names before 0.2


def param(
    default: Any,
    doc: str,
    *,
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
    choices: tuple[Any, ...] | None = None,
    main: bool = False,
    room: str | None = None,
    example: Any = ...,
    infinite: bool = False,
    **old: float,
) -> Any:
    """A parameter: its default (... where one must be given), one line of documentation, and what is allowed.

    gt, ge, lt, le: bounds (>, >=, <, <=). choices: allowed values. main: one of the few knobs to show first. room: the
    registry that its objects come from, where the annotation names no class (an aggregator is any callable). example:
    a value to start from where there is no default. infinite: inf is allowed, too.
    """
    bounds = {"gt": gt, "ge": ge, "lt": lt, "le": le}
    for name, bound in old.items():
        if name not in OLD_BOUNDS:
            raise WrongArgument(f"param: {name}={bound!r}: there is no such argument: bounds are gt, ge, lt and le.")
        warnings.warn(f"param({name}=...) is now {OLD_BOUNDS[name]}=...", DeprecationWarning, stacklevel=2)
        bounds[OLD_BOUNDS[name]] = bound
    for name, limit in bounds.items():
        if limit is not None and not (_is_number(limit) and not math.isnan(limit)):
            raise WrongArgument(f"param: {name}={limit!r}: give a number.")
    if not isinstance(doc, str):
        raise WrongArgument(f"param: doc={doc!r}: give one line of text.")
    if choices is not None and not isinstance(choices, (tuple, list)):
        raise WrongArgument(f"param: choices={choices!r}: give a tuple of values.")
    if not isinstance(main, bool):
        raise WrongArgument(f"param: main={main!r}: give True or False.")
    facts = {
        "doc": doc,
        **bounds,
        "choices": choices,
        "main": main,
        "room": room,
        "example": example,
        "infinite": infinite,
    }
    return dataclasses.field(metadata=facts) if default is ... else dataclasses.field(default=default, metadata=facts)


# -- reading a dataclass -----------------------------------------------------------------------------------------------
_known: dict[Any, Mapping[str, Param]] = {}


def params(cls: type) -> Mapping[str, Param]:
    """The parameters of a dataclass by name, in order: what `__init__` takes. Computed once from its annotations."""
    if cls not in _known:
        hints = _hints(cls)
        fields = [f for f in dataclasses.fields(cls) if f.init and not f.name.startswith("_")]
        _known[cls] = types.MappingProxyType({f.name: _read(f, hints[f.name]) for f in fields})
    return _known[cls]


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except (NameError, TypeError):  # a name that only type checkers see
        return {f.name: object if isinstance(f.type, str) else f.type for f in dataclasses.fields(cls)}


def _read(f: dataclasses.Field[Any], hint: Any) -> Param:
    parts = _parts(hint)
    facts: dict[str, Any] = {k: v for k, v in f.metadata.items() if k in FACTS}
    objects = tuple(p for p in parts if _is_own(p)) if facts.get("room") is None else (Callable,)
    default: Any = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
    default = ... if default is dataclasses.MISSING else default
    return Param(
        f.name,
        _kind(parts, facts, objects),
        default=default,
        optional=type(None) in parts or default is None,
        theory=Theory in parts,
        per_client=bool(parts & {Sequence, tuple, list}),
        numeric=bool(parts & {int, float}),
        objects=objects,
        **facts,
    )


def _kind(parts: set[Any], facts: dict[str, Any], objects: tuple[type, ...]) -> str:
    if facts.get("choices") is not None:
        return "choice"
    if objects:
        return "object"
    if bool in parts:
        return "switch"
    if {int, float} <= parts and Theory not in parts:
        return "share"
    if float in parts or int in parts:
        return "number" if float in parts else "whole"
    if parts & {tuple, list, Sequence}:
        return "list"
    return "text" if str in parts else "free"


def _parts(hint: Any) -> set[Any]:
    """The classes of a union: `int | Theory` is {int, Theory}; `tuple[int, ...]` counts as tuple."""
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    return {typing.get_origin(part) or part for part in (typing.get_args(hint) if union else (hint,))}


def _is_own(part: Any) -> bool:
    """A class whose instances are described by their parameters."""
    if part is Theory or part in PLAIN or not isinstance(part, type):
        return False
    return dataclasses.is_dataclass(part) or part.__module__.startswith("octolab.")


class Value(NamedTuple):
    """A parameter's value: as it was given, and now, where a `Theory()` in it has become a number.

    set: it has no default, or differs from it.
    """

    name: str
    given: Any
    now: Any
    set: bool
    doc: str

    @property
    def text(self) -> str:
        """The value now, in few letters: per-client numbers as their range."""
        if isinstance(self.now, tuple) and len(self.now) > 4 and all(map(_is_number, self.now)):
            return f"{min(self.now):.4g} to {max(self.now):.4g}, by client"
        return f"{self.now:.4g}" if isinstance(self.now, float) else repr(self.now)


def values(thing: Any, resolved: Any = None) -> list[Value]:
    """The parameters of a dataclass's object with their values; resolved: the same object with numbers for `Theory()`."""
    now = thing if resolved is None else resolved
    return [
        Value(p.name, held, getattr(now, p.name), p.required or not equal(held, p.default), p.doc)
        for p in params(type(thing)).values()
        for held in (getattr(thing, p.name),)
    ]


def equal(a: Any, b: Any) -> bool:
    """Whether two values are the same; arrays never are."""
    try:
        return bool(a == b)
    except (ValueError, RuntimeError):  # arrays
        return False


# -- checking ----------------------------------------------------------------------------------------------------------
def settle(thing: Any, owner: str | None = None, besides: type | tuple[type, ...] = ()) -> None:
    """For `__post_init__` of a frozen dataclass: NumPy's scalars become Python's, and every value is checked.

    besides: classes whose objects may stand anywhere; they check themselves.
    """
    for p in params(type(thing)).values():
        given = getattr(thing, p.name)
        if isinstance(given, besides):
            continue
        value = plain(given)
        check(owner or type(thing).__name__, p, value)
        if p.whole and isinstance(value, float):
            value = int(value)
        if value is not given:
            object.__setattr__(thing, p.name, value)


def plain(value: Any) -> Any:
    """A NumPy or PyTorch scalar as the Python number it is, in tuples and lists too; anything else as it is."""
    if type(value) in (tuple, list) and any(hasattr(v, "item") or type(v) in (tuple, list) for v in value):
        return type(value)(map(plain, value))
    scalar = getattr(value, "ndim", None) == 0 and hasattr(value, "item")
    return value.item() if scalar else value


def check(owner: str, p: Param, value: Any) -> None:
    """One value against what is allowed; a ValueError names parameter, value and what to give."""
    if value is None and (p.optional or (p.choices is not None and None in p.choices)):
        return
    if isinstance(value, Theory):
        if not (isinstance(value.multiplier, numbers.Real) and value.multiplier > 0):
            raise ValueError(f"{owner}: {p.name}={value!r}: the multiplier of a theory value is > 0.")
        return
    if p.per_client and p.numeric and hasattr(value, "__len__") and not isinstance(value, str):
        wrong = [(i, v) for i, v in enumerate(map(plain, value)) if not fits(p, v)]
        if wrong:
            raise ValueError(f"{owner}: {p.name}={wrong[0][1]!r} for client {wrong[0][0]}: give {allowed(p)}.")
        return
    if not fits(p, value):
        raise ValueError(f"{owner}: {p.name}={value!r}: {'choose' if p.kind == 'choice' else 'give'} {allowed(p)}.")


def fits(p: Param, value: Any) -> bool:
    """Whether a parameter takes this value, None and `Theory()` apart."""
    if p.kind == "choice":
        return any(type(value) in _alike(c) and value == c for c in p.choices or ())
    if p.kind == "object":
        number = p.numeric and _is_number(value) and p.inside(float(value))
        return number or any(callable(value) if o is Callable else isinstance(value, o) for o in p.objects)
    if p.kind in ("switch", "text"):
        return isinstance(value, bool if p.kind == "switch" else str)
    if p.kind == "list":
        return hasattr(value, "__len__") and not isinstance(value, str)
    if p.kind in ("number", "whole", "share"):
        return _is_number(value) and p.inside(float(value)) and (not p.whole or float(value).is_integer())
    return p.kind == "free"


def _alike(choice: Any) -> tuple[type, ...]:
    """The types whose values may equal a choice: 1.0 is 1, and True is not."""
    return (int, float) if _is_number(choice) else (type(choice),)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def allowed(p: Param) -> str:
    """What a parameter takes, in words: a number in (0, 1] (what it is)."""
    if p.kind == "choice":
        return f"one of {', '.join(map(repr, p.choices or ()))}"
    what = {
        "object": _object_words(p),
        "switch": "True or False",
        "text": "a text",
        "list": "numbers, one per client",
        "free": "a value",
    }.get(p.kind) or f"a number in {_interval(p)}"
    if p.kind == "whole":
        what += ", a whole number"
    return what + (f" ({p.doc})" if p.doc and p.kind != "object" else "")


def _object_words(p: Param) -> str:
    names = ["function" if o is Callable else o.__name__.lower() for o in p.objects]
    words = [f"{'an' if n[0] in 'aeio' else 'a'} {n}" for n in (["number"] if p.numeric else []) + names]
    start = p.example if p.required else p.default
    such = f", such as {start!r}" if start is not None and start is not ... else ""
    return " or ".join([*words, *(["None"] if p.optional else [])]) + such


def _interval(p: Param) -> str:
    left = f"({p.gt:g}" if p.gt is not None else f"[{p.ge:g}" if p.ge is not None else "(-inf"
    right = f"{p.le:g}]" if p.le is not None else f"{p.lt:g})" if p.lt is not None else "inf)"
    return f"{left}, {right}"
