"""Hyperparameters as data: `param(default, doc, gt=0)` beside a field says what the field may hold, once.

    class EF21(Method):
        lr: Theory[float] = param(Theory(), "step size", gt=0)

gt, ge, lt, le are the bounds (>, >=, <, <=).
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

__all__ = ["Theory", "allowed", "check", "param"]

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
    **old: float,
) -> Any:
    """A hyperparameter: its default, one line of documentation, and what is allowed.

    gt, ge, lt, le: bounds (>, >=, <, <=); choices: allowed values; main: one of the few knobs to show first.
    """
    bounds = {"gt": gt, "ge": ge, "lt": lt, "le": le}
    for name, bound in old.items():
        if name not in OLD_BOUNDS:
            raise TypeError(f"param() has no argument {name!r}: bounds are gt, ge, lt and le.")
        warnings.warn(f"param({name}=...) is now {OLD_BOUNDS[name]}=...", DeprecationWarning, stacklevel=2)
        bounds[OLD_BOUNDS[name]] = bound
    return dataclasses.field(default=default, metadata={"doc": doc, **bounds, "choices": choices, "main": main})


def check(owner: str, f: dataclasses.Field[Any], value: Any) -> None:
    """One hyperparameter against what is allowed; a ValueError names field, value and range."""
    rule = f.metadata
    if isinstance(f.type, type) and f.type.__module__.startswith("octolab.") and not isinstance(value, f.type):
        raise ValueError(f"{owner}: {f.name}={value!r}: give a {f.type.__name__.lower()}, such as {f.default!r}.")
    if not rule or isinstance(value, Theory) or value is None:
        if isinstance(value, Theory) and not value.multiplier > 0:
            raise ValueError(f"{owner}: {f.name}={value!r}: the multiplier of a theory value is > 0.")
        if value is None and rule and f.default is not None and "None" not in str(f.type):
            raise ValueError(f"{owner}: {f.name}=None: give {allowed(rule)}.")
        return
    if rule["choices"] is not None and value not in rule["choices"]:
        raise ValueError(f"{owner}: {f.name}={value!r}: choose one of {', '.join(map(repr, rule['choices']))}.")
    bounds = [rule[k] for k in ("gt", "ge", "le", "lt")]
    if all(b is None for b in bounds):
        return
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        if not isinstance(value, str) and (hasattr(value, "__len__") or hasattr(value, "probabilities")):
            return  # one value per client, or a sampler: checked where it is used
        raise ValueError(f"{owner}: {f.name}={value!r}: give {allowed(rule)}.")
    whole = "int" in str(f.type) and "float" not in str(f.type)
    if whole and math.isfinite(value) and not float(value).is_integer():
        raise ValueError(f"{owner}: {f.name}={value!r}: give {allowed(rule)}, a whole number.")
    if not inside(rule, float(value)):
        raise ValueError(f"{owner}: {f.name}={value!r}: give {allowed(rule)}.")


def inside(rule: Mapping[str, Any], value: float) -> bool:
    """Whether a number is finite and within the bounds."""
    gt, ge, lt, le = (rule[k] for k in ("gt", "ge", "lt", "le"))
    return (
        math.isfinite(value)
        and (gt is None or value > gt)
        and (ge is None or value >= ge)
        and (lt is None or value < lt)
        and (le is None or value <= le)
    )


def allowed(rule: Mapping[str, Any]) -> str:
    """The bounds in words: a number in (0, 1] (what it is)."""
    left = f"({rule['gt']:g}" if rule["gt"] is not None else f"[{rule['ge']:g}" if rule["ge"] is not None else "(-inf"
    right = f"{rule['le']:g}]" if rule["le"] is not None else f"{rule['lt']:g})" if rule["lt"] is not None else "inf)"
    return f"a number in {left}, {right}" + (f" ({rule['doc']})" if rule.get("doc") else "")
