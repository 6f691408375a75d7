"""What a method is: a frozen dataclass whose fields are its hyperparameters, with `init`, `step` and client functions.

    @dataclass(frozen=True)
    class EF21(Method):
        slug = "ef21"
        compressor: Compressor = param(TopK(0.05), "contractive compressor C")
        lr: float | Theory = param(Theory(), "step size", gt=0)

        def stepsize(self, problem): ...      # the theorem: what Theory() means for `lr`
        def init(self, fed): ...              # -> State
        def step(self, fed, s): ...           # one round, seen from the server -> State
        def client(self, cohort, x): ...      # seen from the clients: the whole cohort at once

The module's docstring is the method's card; see `octolab.methods.card`.
"""

from __future__ import annotations

import dataclasses
import sys
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch

from octolab.errors import AssumptionWarning, OutsideAssumptions, UnknownConstant
from octolab.federation import Federation
from octolab.federation.sampling import as_sampler
from octolab.methods.card import Card, read_card
from octolab.params import Theory, allowed, check, param

__all__ = ["Method", "Theory", "param"]


class Constants:
    """A problem seen by a theorem: asking for an unknown constant raises a sentence instead of giving None."""

    def __init__(self, problem: Any, method: Method, field: str):
        self._problem, self._method, self._field = problem, method, field

    def variance(self, batch_size: int | None) -> float:
        """The problem's bound on the variance of a stochastic gradient."""
        return self._known("variance", self._problem.variance(batch_size))

    def __getattr__(self, name: str) -> Any:
        return self._known(name, getattr(self._problem, name))

    def _known(self, name: str, value: Any) -> Any:
        if value is None:
            note = getattr(self._problem, "constants_note", None) or "Its constants are unknown."
            raise UnknownConstant(
                f"{type(self._method).__name__}: {self._field}=Theory() needs the constant {name} of {self._problem.name}. "
                f"{note} Give {self._field}=... as a number."
            )
        return value


@dataclass(frozen=True)
class Method:
    """The base of all methods. Fields are hyperparameters; a method holds no data and no state.

    slug: the paper's usual short name. needs: what its theory or its algorithm cannot do without, out of
    "unbiased" (compressor), "contractive" (compressor), "homogeneous" (same objective on every client),
    "strongly convex", "hessian", "full participation". tags: for searching.
    """

    slug: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]] = ()
    tags: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            check(type(self).__name__, f, getattr(self, f.name))

    # -- what a page defines -----------------------------------------------------------------------------------------
    def init(self, fed: Federation) -> Any:
        raise NotImplementedError

    def step(self, fed: Federation, s: Any) -> Any:
        raise NotImplementedError

    def stepsize(self, problem: Any) -> Any:
        raise UnknownConstant(f"{type(self).__name__} has no step size from theory: give lr=... as a number.")

    def model(self, s: Any) -> torch.Tensor:
        """The server model in a state, (d,)."""
        return s.x

    def rate(self, problem: Any) -> float | None:
        """The theorem's factor per step, in (0, 1), for what it shows to shrink linearly; None if it shows no such thing.

        Asked of a resolved method: every `Theory()` is a number.
        """
        return None

    def personal(self, fed: Federation, s: Any) -> torch.Tensor | None:
        """The clients' personal models (n, d), where the method makes any; evaluated free of charge."""
        return None

    # -- what every method can do ------------------------------------------------------------------------------------
    def resolve(self, problem: Any) -> Method:
        """This method made ready for a problem: every `Theory()` a number, compressors bound to the layers.

        Field `lr` asks `stepsize(problem)`, any other field `theory_<name>(problem)`, in the order of the fields.
        """
        self.check(problem)
        method = self
        for f in dataclasses.fields(self):
            value = getattr(method, f.name)
            if isinstance(value, Theory):
                rule = method.stepsize if f.name == "lr" else getattr(method, f"theory_{f.name}", None)
                if rule is None:
                    raise UnknownConstant(
                        f"{type(self).__name__}: {f.name}={value!r}: no theorem gives this value; give {allowed(f.metadata)}."
                    )
                number: Any = rule(Constants(problem, method, f.name)) * value.multiplier
                if getattr(number, "ndim", 0):  # one value per client
                    number = tuple(map(float, number))
                else:
                    number = int(number) if "int" in str(f.type) and value.multiplier == 1 else float(number)
                method = dataclasses.replace(method, **{f.name: number})
            elif hasattr(value, "for_layers"):
                method = dataclasses.replace(
                    method, **{f.name: value.for_layers([tuple(q.shape) for q in problem.layout])}
                )
        return method

    def check(self, problem: Any) -> None:
        """Refuse what cannot work on this problem (`OutsideAssumptions`), warn of what theory does not cover."""
        name = type(self).__name__
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if f.name in ("cohort", "sampler") and value is not None:
                as_sampler(value).check(problem.n)
            if hasattr(value, "omega"):
                self._check_compressor(f.name, value, problem.d)
        if "hessian" in self.needs and not getattr(problem, "has_hessian", False):
            raise OutsideAssumptions(
                f"{name} needs Hessians, and {problem.name} (d={problem.d}) does not give them. "
                f"Use a quadratic or a logistic problem of moderate d, or a first-order method."
            )
        if "homogeneous" in self.needs and not problem.homogeneous and problem.n > 1:
            caution(
                f"{name} assumes that all clients share one objective; {problem.name} is heterogeneous, so it will "
                f"favour the clients that answer most often."
            )
        if "strongly convex" in self.needs and not problem.strongly_convex:
            caution(
                f"{name}'s theorem assumes strong convexity, which {problem.name} lacks: its step is a heuristic here, "
                f"so try others (lr=ol.Theory(4), or compare(..., tune=...))."
            )

    def _check_compressor(self, field: str, compressor: Any, d: int) -> None:
        name = type(self).__name__
        if "unbiased" in self.needs and not compressor.unbiased:
            raise OutsideAssumptions(
                f"{name}: {field}={compressor!r} is biased, and the method needs an unbiased one (RandK, QSGD, Natural, "
                f"PermK, ...). For biased compressors such as TopK use EF21."
            )
        if "contractive" in self.needs and compressor.alpha(d) is None:
            raise OutsideAssumptions(
                f"{name}: {field}={compressor!r} is not contractive. Use TopK, or Scaled({compressor!r}), which divides "
                f"an unbiased compressor by 1 + omega."
            )

    def __repr__(self) -> str:
        shown = [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in dataclasses.fields(self)
            if not _same(getattr(self, f.name), f.default)
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    @cached_property
    def card(self) -> Card:
        return type(self).describe()

    @classmethod
    def describe(cls) -> Card:
        """The card: title, authors, venue, arXiv id, what it solves, when to use it and when not, assumptions, ..."""
        module = sys.modules[cls.__module__]
        own = "" if cls.__doc__ is None or cls.__doc__.startswith(f"{cls.__name__}(") else cls.__doc__
        return read_card(own if "arXiv:" in own or "Paper:" in own else (module.__doc__ or ""), cls)

    def _repr_html_(self) -> str:
        return self.card._repr_html_()


def _same(a: Any, b: Any) -> bool:
    try:
        return bool(a == b)
    except (ValueError, RuntimeError):  # arrays
        return False


def caution(text: str) -> None:
    """Say that a theorem does not cover what was asked for."""
    warnings.warn(text, AssumptionWarning, stacklevel=4)
