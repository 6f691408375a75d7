"""What can be turned: the fields of a frozen dataclass as knobs, with kinds, ranges and words; no widget in sight.

A knob has a path (`method.lr`, `problem.split.alpha`) into a few dataclasses. `knobs(thing, "method")` reads
them off types and `param(...)` metadata, objects in a field (a compressor, a sampler, a split) bring their own. `put`
gives a changed copy, and what the dataclass says against a value is the sentence that stands beside the knob.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import itertools
import math
import re
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from octolab.compressors import Compressor, Identity, Natural, RandK, RankR, TopK
from octolab.methods import Theory

NOTHING = "none"
NUMBER = "a number"


@dataclass(frozen=True)
class Knob:
    """One thing to turn.

    kind: number, whole, switch, choice (one of `choices`), kind (which class of object, by name), list, or fixed (only
    Python can change it). low, high: finite bounds, if any; optional: None is allowed, and `none` says what it means.
    theory: may also be `Theory(multiplier)`. share: 5 is a count and 0.05 a share. parent: the path of the object it is part of.
    """

    path: str
    label: str
    doc: str
    kind: str
    value: Any
    default: Any = None
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] = ()
    optional: bool = False
    none: str = ""
    theory: bool = False
    main: bool = False
    share: bool = False
    parent: str = ""

    @property
    def name(self) -> str:
        return self.path.rsplit(".", 1)[-1]

    def read(self, raw: Any) -> Any:
        """The value that a person's entry stands for. A ValueError says what is understood."""
        if self.theory and isinstance(raw, dict) and "theory" in raw:
            return Theory(self._real(raw["theory"]))
        if raw is None or (isinstance(raw, str) and raw.strip().lower() in ("", "none")):
            if self.optional:
                return None
            if self.kind != "choice" or None not in self.choices:
                raise ValueError(f"{self.label} is empty: give {self._wanted()}.")
            return None
        if self.kind == "switch":
            if raw not in (True, False, "true", "false", "True", "False"):
                raise ValueError(f"{self.label}={raw!r}: give true or false.")
            return raw in (True, "true", "True")
        if self.kind == "choice":
            return self._choice(raw)
        if self.kind in ("number", "whole"):
            return self._number(raw)
        return self._literal(raw) if self.kind == "list" else raw

    def _choice(self, raw: Any) -> Any:
        for allowed in self.choices:
            if raw == allowed or str(raw) == str(allowed):
                return allowed
        raise ValueError(f"{self.label}={raw!r}: choose one of {', '.join(map(repr, self.choices))}.")

    def _number(self, raw: Any) -> Any:
        if isinstance(raw, str):
            word = raw.strip().lower().replace(" ", "").replace("×", "*")
            if self.theory and (found := re.fullmatch(r"theory(?:\*(.+))?|(.+)\*theory", word)):
                return Theory(self._real(found[1] or found[2] or 1))
        value = self._real(raw)
        text = str(raw).strip().lower()
        whole = self.kind == "whole" or (self.share and not re.search("[.e/]", text))
        return int(value) if whole and float(value).is_integer() else value

    def _real(self, raw: Any) -> float:
        if isinstance(raw, (int, float)) and not isinstance(raw, bool):
            return float(raw)
        try:
            over, _, under = str(raw).strip().partition("/")
            return float(over) / float(under or 1)
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"{self.label}={raw!r}: give {self._wanted()}.") from None

    def _literal(self, raw: Any) -> Any:
        if not isinstance(raw, str):
            return raw
        try:
            value = ast.literal_eval(f"[{raw.strip().strip('[]()')}]")
        except (ValueError, SyntaxError):
            raise ValueError(f"{self.label}={raw!r}: give numbers, comma separated.") from None
        return type(self.value)(value) if isinstance(self.value, (tuple, list)) else tuple(value)

    def _wanted(self) -> str:
        what = {"whole": "a whole number", "list": "numbers, comma separated", "number": "a number"}.get(
            self.kind, "a value"
        )
        if self.low is not None or self.high is not None:
            low = "-inf" if self.low is None else f"{self.low:g}"
            what += f" from {low} to {'inf' if self.high is None else f'{self.high:g}'}"
        return what + (", or theory" if self.theory else "")


# -- reading a dataclass ---------------------------------------------------------------------------------------------
def knobs(thing: Any, path: str, deep: bool = True) -> list[Knob]:
    """The knobs of a dataclass instance and, right after each, those of the object it holds."""
    out: list[Knob] = []
    hints, docs = _hints(_class(thing)), _docs(_class(thing))
    for f in dataclasses.fields(thing):
        if not f.init or f.name.startswith("_"):
            continue
        knob = _knob(f, getattr(thing, f.name), f"{path}.{f.name}", hints[f.name], docs.get(f.name, ""))
        out.append(knob)
        if knob.kind == "kind" and deep:
            out += _inside(knob, hints[f.name])
    return out


def _knob(f: dataclasses.Field, value: Any, path: str, hint: Any, doc: str) -> Knob:
    rule: Any = f.metadata or {}
    doc = rule.get("doc") or doc
    parts = _parts(hint)
    low = rule.get("gt") if rule.get("ge") is None else rule["ge"]
    high = rule.get("lt") if rule.get("le") is None else rule["le"]
    default = None if f.default is dataclasses.MISSING else f.default
    base = {
        "path": path, "label": f.name, "doc": doc, "value": value, "default": default, "low": low, "high": high,
        "main": bool(rule.get("main")), "theory": Theory in parts, "optional": type(None) in parts,
        "none": found[1].strip() if (found := re.search(r"None: ([^;,(]+)", doc)) else "",
    }  # fmt: skip
    if rule.get("choices") is not None:
        return Knob(kind="choice", choices=tuple(rule["choices"]), **base)
    if options := options_of(hint, value):
        return Knob(kind="kind", choices=options, **base)
    if bool in parts:
        return Knob(kind="switch", **base)
    if float in parts or int in parts:
        share = {int, float} <= parts and Theory not in parts
        return Knob(kind="number" if float in parts else "whole", share=share, **base)
    if parts & {tuple, list} or isinstance(value, (tuple, list)):
        return Knob(kind="list", **base)
    if str in parts and isinstance(value, (str, type(None))):
        return Knob(kind="text", **base)
    return Knob(kind="fixed", **base)


def _inside(knob: Knob, hint: Any) -> list[Knob]:
    """The knobs of the object, or the number, that a knob of kind "kind" holds."""
    value = knob.value
    if kind_name(value) == NUMBER:
        inner: dict[str, Any] = {"path": f"{knob.path}.number", "label": f"{knob.label} number", "parent": knob.path}
        more: dict[str, Any] = {
            "kind": "number",
            "choices": (),
            "optional": False,
            "main": False,
            "share": int in _parts(hint),
        }
        return [dataclasses.replace(knob, **inner, **more)]
    if not dataclasses.is_dataclass(value):
        return []
    return [
        dataclasses.replace(k, parent=k.parent or knob.path, label=f"{knob.label} {k.label}", main=False)
        for k in knobs(value, knob.path)
    ]


def _class(thing: Any) -> Any:
    return type(thing)


@cache
def _hints(cls: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except (NameError, TypeError):  # a name that only type checkers see
        return {f.name: object for f in dataclasses.fields(cls)}


def _parts(hint: Any) -> set[Any]:
    """The classes of a union: `int | Theory` is {int, Theory}; `tuple[int, ...]` counts as tuple."""
    found = (
        typing.get_args(hint)
        if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
        else (hint,)
    )
    return {typing.get_origin(part) or part for part in found}


@cache
def _docs(cls: Any) -> dict[str, str]:
    """What a class's docstring says of its fields, `name: text` with indented continuation lines or in one run."""
    text = " ".join((inspect.getdoc(cls) or "").split())
    names = [f.name for f in dataclasses.fields(cls)]
    found = {}
    for name in names:
        match = re.search(rf"(?:^|[\s.;,]){name}:\s+(.+?)(?=(?:[\s.;](?:{'|'.join(names)})(?:, \w+)*:\s)|>>>|$)", text)
        if match:
            found[name] = re.split(r"[:;]\s|\.\s", match[1].strip())[0].rstrip(";.,")
    return found


# -- objects ---------------------------------------------------------------------------------------------------------
def options_of(hint: Any, value: Any = None) -> tuple[str, ...]:
    """Names of what a field of objects may hold; empty if it holds none."""
    classes = kinds_of(hint, value)
    if not classes:
        return ()
    parts = _parts(hint)
    out = [NOTHING] if type(None) in parts else []
    out += [NUMBER] if parts & {int, float} else []
    return (*out, *classes)


def kinds_of(hint: Any, value: Any = None) -> dict[str, type]:
    """name -> class of the objects that fit a field: what its type names, among octolab's public dataclasses."""
    found: dict[str, type] = {}
    for part in _parts(hint):
        if part is Callable or part is typing.Callable or getattr(part, "__name__", "") == "Callable":
            found |= _callables()
        elif isinstance(part, type) and part.__module__.startswith("octolab.") and part is not Theory:
            found |= {c.__name__: c for c in _concrete(part)}
    if dataclasses.is_dataclass(value) and not isinstance(value, Theory):
        found.setdefault(type(value).__name__, type(value))
    axes = getattr(value, "axes", 1)  # a compressor of matrices gives way to others of matrices
    return dict(sorted((n, c) for n, c in found.items() if getattr(made(c), "axes", axes) == axes))


def _concrete(base: type) -> Iterator[type]:
    for cls in _below(base) or [base]:
        public = cls.__module__.startswith("octolab.") and not cls.__name__.startswith("_")
        listed = base is not Compressor or cls.__name__ in Compressor.kinds
        if public and listed and dataclasses.is_dataclass(cls) and made(cls) is not None:
            yield cls


def _below(cls: type) -> list[type]:
    direct: list[type] = type.__subclasses__(cls)
    return [c for d in direct for c in (d, *_below(d))]


@cache
def _callables() -> dict[str, type]:
    """What combines clients' rows: the aggregators."""
    from octolab.trust import aggregators

    return {
        n: c
        for n, c in vars(aggregators).items()
        if isinstance(c, type) and n[0].isupper() and dataclasses.is_dataclass(c) and "__call__" in vars(c) and made(c)
    }


@cache
def made(cls: Any) -> Any:
    """An instance to start from: fields without a default get the first simple value that the class accepts."""
    needed = [f for f in dataclasses.fields(cls) if f.init and _required(f)]
    hints = _hints(cls)
    for values in itertools.islice(itertools.product(*(_samples(f, hints[f.name]) for f in needed)), 40):
        try:
            return cls(**{f.name: v for f, v in zip(needed, values, strict=True)})
        except (ValueError, TypeError):
            continue
    return None


def _required(f: dataclasses.Field) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _samples(f: dataclasses.Field, hint: Any) -> list[Any]:
    parts = _parts(hint)
    if f.name == "second":
        return [Natural()]
    if Compressor in parts:
        return [RandK(0.1), TopK(0.05), Natural(), Identity(), RankR(1)]
    if {int, float} <= parts:
        return [0.05, 0.5]
    if float in parts:
        return [0.5, 0.1]
    if int in parts:
        return [8, 1, 2]
    if str in parts:
        return [""]
    known: dict[str, list[Any]] = {"p": [0.5], "clients": [(0,)]}
    return known.get(f.name, [])


def kind_name(value: Any) -> str:
    """How a value of a field of objects is called in its list."""
    if value is None:
        return NOTHING
    if isinstance(value, (int, float)):
        return NUMBER
    return type(value).__name__


def of_kind(hint: Any, name: str, now: Any, label: str) -> Any:
    """An object of the named kind, keeping what fields it shares with the present one."""
    if name == kind_name(now):
        return now
    if name == NOTHING:
        return None
    if name == NUMBER:
        return 0.5
    known = kinds_of(hint, now)
    if name not in known:
        near = difflib.get_close_matches(name, known, 1, 0.5)
        hint_text = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"{label}: there is no {name!r}.{hint_text} Known are {', '.join(options_of(hint, now))}.")
    fresh = made(known[name])
    for f in dataclasses.fields(fresh):
        if f.init and hasattr(now, f.name) and type(getattr(now, f.name)) is type(getattr(fresh, f.name)):
            try:
                fresh = dataclasses.replace(fresh, **{f.name: getattr(now, f.name)})
            except (ValueError, TypeError):
                continue
    return fresh


# -- changing --------------------------------------------------------------------------------------------------------
def put(thing: Any, names: list[str], value: Any) -> Any:
    """A copy of a dataclass with the field at the end of `names` replaced; the dataclasses on the way check it."""
    head, *rest = names
    new = value if not rest or rest == ["number"] else put(getattr(thing, head), rest, value)
    if new is getattr(thing, head):
        return thing
    return dataclasses.replace(thing, **{head: new})


def enter(thing: Any, knob: Knob, names: list[str], raw: Any) -> Any:
    """A copy of `thing` with a person's entry at `names`; raises ValueError with the sentence for that person."""
    if knob.kind == "fixed":
        raise ValueError(f"{knob.label}={knob.value!r} can be changed in Python only.")
    if knob.kind == "kind":
        owner = thing
        for name in names[:-1]:
            owner = getattr(owner, name)
        wanted = raw if isinstance(raw, str) or raw is None else None
        if wanted is None and raw is not None:
            value = raw  # an object, from Python
        else:
            value = of_kind(
                _hints(_class(owner))[names[-1]], NOTHING if raw is None else str(raw), knob.value, knob.label
            )
    elif isinstance(raw, Theory) or (dataclasses.is_dataclass(raw) and not isinstance(raw, type)):
        value = raw
    else:
        value = knob.read(raw)
    try:
        return put(thing, names, value)
    except TypeError as error:
        raise ValueError(f"{knob.label}={raw!r}: {error}.") from None


def span(knob: Knob) -> tuple[float, float] | None:
    """Where a slider would go, if the knob has finite bounds that make one useful."""
    if knob.kind not in ("number", "whole") or knob.low is None or knob.high is None:
        return None
    return (knob.low, knob.high) if math.isfinite(knob.low) and math.isfinite(knob.high) else None


__all__ = ["NOTHING", "NUMBER", "Knob", "enter", "kind_name", "knobs", "made", "put", "span"]
