"""Objects as the Python text that makes them: `ol.compressors.TopK(0.05)`, `np.linspace(1, 10, 20)`."""

from __future__ import annotations

import dataclasses
import json
import math
from functools import cache
from typing import Any

import numpy as np

PUBLIC = ("compressors", "data", "federation", "methods", "aggregators", "attacks", "problems")


def source(value: Any) -> str:
    """Text that evaluates to `value`, given `import octolab as ol` and `import numpy as np`.

    Raises ValueError for what octolab cannot name: a function or a class of your own.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return "np.nan" if math.isnan(value) else "np.inf" if value > 0 else "-np.inf"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, np.generic):
        return source(value.item())
    if isinstance(value, np.ndarray):
        return f"np.array({value.tolist()!r})"
    if isinstance(value, (list, tuple)):
        body = ", ".join(map(source, value))
        return f"[{body}]" if isinstance(value, list) else f"({body}{',' if len(value) == 1 else ''})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{source(k)}: {source(v)}" for k, v in value.items()) + "}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return call(name_of(type(value)), *_arguments(value))
    raise ValueError(f"{value!r} cannot be written as Python text: octolab does not know where it comes from.")


def call(name: str, positional: list[str], named: dict[str, str]) -> str:
    return f"{name}({', '.join([*positional, *(f'{k}={v}' for k, v in named.items())])})"


def _arguments(value: Any) -> tuple[list[str], dict[str, str]]:
    """Fields without a default first, by position; then those that differ from their default, by name."""
    positional: list[str] = []
    named: dict[str, str] = {}
    for f in dataclasses.fields(value):
        if not f.init:
            continue
        held = getattr(value, f.name)
        if f.name == "alpha" and type(value).__module__.startswith("octolab.data"):  # how a split is told from another
            named[f.name] = source(held)
            continue
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            positional.append(source(held))
        elif not _same(held, f.default if f.default is not dataclasses.MISSING else None):
            named[f.name] = source(held)
    if type(value).__name__ == "Theory" and named:
        return [named["multiplier"]], {}
    return positional, named


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return False
    return type(a) is type(b) and bool(a == b)


@cache
def name_of(cls: type) -> str:
    """Where a class is found from `ol`."""
    import octolab as ol
    from octolab.methods import Method, get, slugs

    if issubclass(cls, Method):
        if cls.slug in slugs() and get(cls.slug) is cls:
            return f"ol.methods.{cls.__name__}"
        raise ValueError(f"{cls.__name__} is not in the catalogue: decorate it with @ol.methods.register.")
    for name in ("Theory", "Fleet", "Until"):
        if getattr(ol, name) is cls:
            return f"ol.{name}"
    for module in PUBLIC:
        if getattr(getattr(ol, module), cls.__name__, None) is cls:
            return f"ol.{module}.{cls.__name__}"
    raise ValueError(f"{cls.__name__} cannot be written as Python text: octolab does not know where it comes from.")
