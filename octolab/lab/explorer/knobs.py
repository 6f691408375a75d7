"""What can be turned: the parameters of a frozen dataclass as knobs, with kinds, ranges and words; no widget in sight.

A knob has a path (`method.lr`, `problem.split.alpha`) into a few dataclasses. `knobs(thing, "method")` makes one of each
parameter (`octolab.params`); objects in a field (a compressor, a sampler, a split) bring their own. `put` gives a changed
copy, and what the dataclass says against a value is the sentence that stands beside the knob.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from octolab.methods import Method
from octolab.notation import meaning
from octolab.params import Param, Theory, params
from octolab.rooms import fitting, members, nearest
from octolab.schedules import Schedule

NOTHING = "none"
NUMBER = "a number"


@dataclass(frozen=True)
class Knob:
    """One thing to turn.

    kind: number, whole, switch, choice (one of `choices`), text, kind (which class of object, by name), list, or fixed
    (only Python can change it). param: the facts of the parameter. parent: the path of the object it is part of.
    """

    path: str
    label: str
    kind: str
    value: Any
    param: Param
    choices: tuple[Any, ...] = ()
    main: bool = False
    parent: str = ""

    @property
    def name(self) -> str:
        return self.path.rsplit(".", 1)[-1]

    @property
    def doc(self) -> str:
        return self.param.doc

    @property
    def default(self) -> Any:
        return None if self.param.required else self.param.default

    @property
    def low(self) -> float | None:
        """The lower bound, if any."""
        return self.param.low

    @property
    def high(self) -> float | None:
        """The upper bound, if any."""
        return self.param.high

    @property
    def optional(self) -> bool:
        return self.param.optional

    @property
    def theory(self) -> bool:
        return self.param.theory

    @property
    def none(self) -> str:
        """What None means, in the words of the documentation: `...; None: never`."""
        found = re.search(r"None: ([^;,(]+)", self.doc)
        return found[1].strip() if found else ""

    def read(self, raw: Any) -> Any:
        """The value that a person's entry stands for. A ValueError says what is understood."""
        if isinstance(raw, dict) and "theory" in raw:
            raw = f"theory*{raw['theory']}"
        text = "none" if raw is None else str(list(raw)) if isinstance(raw, (list, tuple)) else str(raw)
        value = meaning(self.param, text)
        whole = isinstance(value, float) and value.is_integer() and self.kind == "whole"
        real = isinstance(value, int) and not isinstance(value, bool) and self.param.kind == "number"
        return int(value) if whole else float(value) if real else value


def knobs(thing: Any, path: str) -> list[Knob]:
    """The knobs of a dataclass instance and, right after each, those of the object it holds."""
    out: list[Knob] = []
    for p in params(type(thing)).values():
        knob = _knob(p, getattr(thing, p.name), f"{path}.{p.name}")
        out += [knob, *(_inside(knob) if knob.kind == "kind" else ())]
        if isinstance(thing, Method) and p.name == "lr" and knob.kind == "number":
            out.append(_over_rounds(knob))
    return out


OVER = "over"
"""The end of the path of the knob that makes a step size a schedule."""


def _over_rounds(knob: Knob) -> Knob:
    """Beside a step size that is a number or theory's: the schedule that it may become."""
    choices = ("constant", *(n for n in kinds_of(SCHEDULES) if n != "Constant"))
    facts = Param(OVER, "choice", "how the step changes from round to round", default="constant", choices=choices)
    return Knob(f"{knob.path}.{OVER}", "over rounds", "choice", "constant", facts, choices, parent=knob.path)


SCHEDULES = Param("lr", "object", "step size", numeric=True, gt=0, objects=(Schedule,))
"""What `lr` is once it is a schedule: one of them, or a number again."""


def _knob(p: Param, value: Any, path: str) -> Knob:
    if isinstance(value, Schedule) and p.kind == "number":
        p = dataclasses.replace(SCHEDULES, doc=p.doc, main=p.main)
    kind, choices = p.kind, tuple(p.choices or ())
    if kind == "object":
        kind, choices = "kind", options_of(p, value)
    elif kind in ("share", "free"):
        kind = "number" if kind == "share" else "list" if isinstance(value, (tuple, list)) else "fixed"
    return Knob(path, p.name, kind, value, p, choices, p.main)


def _inside(knob: Knob) -> list[Knob]:
    """The knobs of the object, or the number, that a knob of kind "kind" holds."""
    if kind_name(knob.value) == NUMBER:
        share = dataclasses.replace(knob.param, kind="share", optional=False, objects=())
        return [Knob(f"{knob.path}.number", f"{knob.label} number", "number", knob.value, share, parent=knob.path)]
    if not dataclasses.is_dataclass(knob.value):
        return []
    return [
        dataclasses.replace(k, parent=k.parent or knob.path, label=f"{knob.label} {k.label}", main=False)
        for k in knobs(knob.value, knob.path)
    ]


# -- objects ---------------------------------------------------------------------------------------------------------
def options_of(p: Param, value: Any = None) -> tuple[str, ...]:
    """Names of what a parameter of objects may hold."""
    out = [NOTHING] if p.optional else []
    out += [NUMBER] if p.numeric else []
    return (*out, *kinds_of(p, value))


def kinds_of(p: Param, value: Any = None) -> dict[str, type]:
    """name -> class of the objects that fit a parameter, and of the one it holds."""
    found: dict[str, type] = dict(members(p.room)) if p.room is not None else {}
    for base in p.objects if p.room is None else ():
        found |= fitting(base)
    found = {n: c for n, c in found.items() if made(c) is not None}
    if dataclasses.is_dataclass(value) and not isinstance(value, (type, Theory)):
        found.setdefault(type(value).__name__, type(value))
    axes = getattr(value, "axes", 1)  # a compressor of matrices gives way to others of matrices
    return dict(sorted((n, c) for n, c in found.items() if getattr(made(c), "axes", axes) == axes))


@cache
def made(cls: Any) -> Any:
    """An instance to start from, required parameters at their examples; None where one has no example, or takes what only
    Python can say.
    """
    if hasattr(cls, "to_spec"):
        return None
    needed = {p.name: p.example for p in params(cls).values() if p.required}
    return None if ... in needed.values() else cls(**needed)


def kind_name(value: Any) -> str:
    """How a value of a field of objects is called in its list."""
    if value is None:
        return NOTHING
    if isinstance(value, (int, float)):
        return NUMBER
    return type(value).__name__


def of_kind(p: Param, name: str, now: Any, label: str) -> Any:
    """An object of the named kind, keeping what fields it shares with the present one."""
    if name == kind_name(now):
        return now
    if name == NUMBER and isinstance(now, Schedule):
        return step_of(now)
    if name in (NOTHING, NUMBER):
        return None if name == NOTHING else 0.5
    known = kinds_of(p, now)
    if name not in known:
        options = ", ".join(options_of(p, now))
        raise ValueError(f"{label}: there is no {name!r}.{nearest(name, known)} Known are {options}.")
    if isinstance(now, Schedule):
        return scheduled(step_of(now), name)
    fresh = made(known[name])
    for shared in params(type(fresh)):
        if hasattr(now, shared) and type(getattr(now, shared)) is type(getattr(fresh, shared)):
            try:
                fresh = dataclasses.replace(fresh, **{shared: getattr(now, shared)})
            except (ValueError, TypeError):
                continue
    return fresh


def step_of(schedule: Any) -> Any:
    """The number, or `Theory()`, that a schedule starts from."""
    while isinstance(schedule, Schedule):
        schedule = getattr(schedule, "lr", getattr(schedule, "schedule", 0.1))
    return schedule


def scheduled(step: Any, name: str) -> Any:
    """A step size as the named schedule that starts from it; "constant": as it is."""
    if name == "constant":
        return step
    known = kinds_of(SCHEDULES)
    if name not in known:
        raise ValueError(f"There is no schedule {name!r}.{nearest(str(name), known)} Known are {', '.join(known)}.")
    fresh = made(known[name])
    return dataclasses.replace(fresh, **{"lr" if "lr" in params(type(fresh)) else "schedule": step})


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
    if names[-1] == OVER and knob.label == "over rounds":
        return put(thing, names[:-1], scheduled(getattr(thing, names[0]), raw))
    if knob.kind == "fixed":
        raise ValueError(f"{knob.label}={knob.value!r} can be changed in Python only.")
    if dataclasses.is_dataclass(raw) and not isinstance(raw, type):
        value: Any = raw  # an object, from Python
    elif knob.kind == "kind" and (raw is None or isinstance(raw, str)):
        value = of_kind(knob.param, NOTHING if raw is None else raw, knob.value, knob.label)
    else:
        value = raw if knob.kind == "kind" else knob.read(raw)
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
