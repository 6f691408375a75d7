"""What a method is: a frozen dataclass whose fields are its hyperparameters, with `init`, `step` and client functions.

    class EF21(Method):
        slug = "ef21"
        compressor: Compressor = param(TopK(0.05), "contractive compressor C")
        lr: Theory[float] = param(Theory(), "step size", gt=0)

        def stepsize(self, problem): ...      # the theorem: what Theory() means for `lr`
        def init(self, fed): ...              # -> State
        def step(self, fed, s): ...           # one round, seen from the server -> State
        def client(self, cohort, x): ...      # seen from the clients: the whole cohort at once

The module's docstring is the method's card; see `octolab.methods.card`. What a hook sees:

    check, resolve               the `Problem`; what is not known of it is None
    stepsize, theory_..., rate   its `Constants`: numbers, and a sentence where one is not known
    init, step, personal         the `Federation` (`fed.problem` is the problem)
    client functions             their `Cohort`
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, dataclass_transform

import torch

from octolab.compressors import Compressor
from octolab.errors import AssumptionWarning, OutsideAssumptions, UnknownConstant
from octolab.faces import Shown
from octolab.federation import Federation
from octolab.federation.sampling import Sampler, as_sampler, may_repeat
from octolab.methods.card import Card, read_card
from octolab.methods.constants import Constants, Known
from octolab.methods.mistakes import missing, no_model
from octolab.methods.stage import Stage
from octolab.params import Theory, allowed, equal, param, params, settle
from octolab.problems import Problem
from octolab.schedules import Schedule, as_schedule
from octolab.trust.accounting import Guarantee

__all__ = ["Constants", "Method", "Theory", "param"]


class Frozen:
    """Attributes that stay as they were made: a changed copy comes from `dataclasses.replace`."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


@dataclass_transform(frozen_default=True)
@dataclass(frozen=True, repr=False)
class Method(Frozen, Shown):
    """The base of all methods. Fields are hyperparameters; a method holds no data and no state.

    slug: the paper's usual short name. needs: what its theory or its algorithm cannot do without, out of
    "unbiased" (compressor), "contractive" (compressor), "homogeneous" (same objective on every client),
    "strongly convex", "strongly convex clients" (every f_i), "hessian" (which solver="exact" needs of any method),
    "positive losses", "full participation", "at most once" (no client twice in a cohort). tags: for searching. stage: where
    its claim is shown.
    """

    slug: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]] = ()
    tags: ClassVar[tuple[str, ...]] = ()
    stage: ClassVar[Stage | None] = None
    start_here: ClassVar[bool] = False
    """Whether the catalogue shows this very page to those who begin."""
    messages: ClassVar[Mapping[str, str]] = {}
    """What a client function's reply is, by the function's name: "gradient", "difference" (of gradients) or "update" (of
    the model). Attacks that aim need to know it."""

    @classmethod
    def own_stage(cls) -> Stage | None:
        """The stage that this very page declares: a method that builds on another makes its own claim."""
        found: Stage | None = vars(cls).get("stage")
        return found

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Every method is a frozen dataclass; one that is decorated as such too (as before 0.2) stays what it was."""
        super().__init_subclass__(**kwargs)
        dataclass(frozen=True, repr=False)(cls)
        for name in ("__setattr__", "__delattr__"):
            delattr(cls, name)  # `Frozen` has them; a decorator wants to make its own
        for f in dataclasses.fields(cls):
            if f.name in inspect.get_annotations(cls) and f.default is not dataclasses.MISSING:
                setattr(cls, f.name, f)  # what `param` said, should a decorator ask again

    def __post_init__(self) -> None:
        lr = getattr(self, "lr", None)
        if callable(lr):  # a schedule, or any function of the round
            object.__setattr__(self, "lr", as_schedule(lr))
        settle(self, besides=Schedule)

    # -- what a page defines -----------------------------------------------------------------------------------------
    def init(self, fed: Federation) -> Any:
        """The state before the first step: a tensor (the model), or a NamedTuple with the model as its field x."""
        raise missing(self, "init", "def init(self, fed): return fed.x0")

    def step(self, fed: Federation, s: Any) -> Any:
        """One round, seen from the server: the new state."""
        raise missing(self, "step", "def step(self, fed, x): return x - self.lr * fed.call(self.client, x).mean()")

    def stepsize(self, problem: Constants) -> Any:
        """The step size that the theorem prescribes; one number, or (n,)."""
        raise UnknownConstant(f"{type(self).__name__} has no step size from theory: give lr=... as a number.")

    def model(self, s: Any) -> torch.Tensor:
        """The server model in a state, (d,): the state itself if it is a tensor, else its field x."""
        if isinstance(s, torch.Tensor):
            return s
        try:
            return s.x
        except AttributeError:
            raise no_model(self, s) from None

    def rate(self, problem: Constants) -> float | None:
        """The theorem's factor per step, in (0, 1), for what it shows to shrink to nothing; None if it shows no such thing.

        Asked of a resolved method (every `Theory()` is a number) by `proved_rate`.
        """
        return None

    def guarantee(self, problem: Problem, s: Any, delta: float) -> Guarantee | None:
        """What may be said of privacy after the releases that a state counts; None: this method adds no noise."""
        return None

    def relations(self, fed: Federation, s: Any) -> dict[str, torch.Tensor]:
        """What stays true between server and clients, whoever drops out: each sentence with a tensor that is zero then."""
        return {}

    def personal(self, fed: Federation, s: Any) -> torch.Tensor | None:
        """The clients' personal models (n, d), where the method makes any; evaluated free of charge."""
        return None

    # -- what every method can do ------------------------------------------------------------------------------------
    def proved_rate(self, problem: Problem) -> float | None:
        """`rate` on a problem; None also where that needs a constant that is not known."""
        if self.schedule is not None:
            return None
        try:
            return self.rate(Known(problem, type(self).__name__))
        except UnknownConstant:
            return None

    def resolve(self, problem: Problem) -> Method:
        """This method made ready for a problem: every `Theory()` a number, compressors bound to the layers.

        Field `lr` asks `stepsize(problem)`, any other field `theory_<name>(problem)`, in the order of the fields; what a
        class adds comes before what it inherits, since its theorem says how the inherited ones depend on it. Of a
        schedule `lr` the others see the first round's step; `at(t)` is the method in round t.
        """
        if self.schedule is not None:
            return self._scheduled(problem, self.schedule)
        self.check(problem)
        method = self
        lineage = [inspect.get_annotations(cls) for cls in type(self).__mro__]
        for f in sorted(dataclasses.fields(self), key=lambda f: [f.name in own for own in lineage].index(True)):
            value, facts = getattr(method, f.name), params(type(self))[f.name]
            if isinstance(value, Theory):
                rule = method.stepsize if f.name == "lr" else getattr(method, f"theory_{f.name}", None)
                if rule is None:
                    raise UnknownConstant(
                        f"{type(self).__name__}: {f.name}={value!r}: no theorem gives this value; give {allowed(facts)}."
                    )
                number: Any = rule(Known(problem, type(self).__name__, f.name)) * value.multiplier
                if getattr(number, "ndim", 0):  # one value per client
                    number = tuple(map(float, number))
                else:
                    whole = facts.whole and value.multiplier == 1
                    number = int(number) if whole else float(number)
                method = dataclasses.replace(method, **{f.name: number})
            elif hasattr(value, "for_layers"):
                method = dataclasses.replace(
                    method, **{f.name: value.for_layers([tuple(q.shape) for q in problem.layout])}
                )
        return method

    @property
    def schedule(self) -> Schedule | None:
        """The step sizes over rounds, if `lr` is a schedule."""
        lr = getattr(self, "lr", None)
        return lr if isinstance(lr, Schedule) else None

    def _scheduled(self, problem: Problem, schedule: Schedule) -> Method:
        def number(theory: Theory[float]) -> float:
            lr = dataclasses.replace(self, **{"lr": theory}).resolve(problem).__dict__["lr"]
            if isinstance(lr, tuple):
                raise ValueError(
                    f"{type(self).__name__}: lr={schedule!r}: theory gives every client a step of its own here, and a schedule "
                    f"is one number a round: give numbers instead of Theory()."
                )
            return float(lr)

        numbers = schedule.resolve(number)
        first = dataclasses.replace(self, **{"lr": numbers.at(0)}).resolve(problem)
        return dataclasses.replace(first, **{"lr": numbers})

    def at(self, t: int) -> Method:
        """This method in round t: itself, or with the number that its schedule has for that round."""
        return self if self.schedule is None else dataclasses.replace(self, **{"lr": self.schedule.at(t)})

    def check(self, problem: Problem) -> None:
        """Refuse what cannot work on this problem (`OutsideAssumptions`), warn of what theory does not cover."""
        name = type(self).__name__
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if f.name in ("cohort", "sampler") and value is not None:
                self._check_cohort(f.name, value, problem.n)
            if isinstance(value, Compressor):
                self._check_compressor(f.name, value, problem.d)
        exact = getattr(self, "solver", None) == "exact"
        if (exact or "hessian" in self.needs) and not problem.has_hessian:
            raise OutsideAssumptions(
                f"{name}{': solver=' + repr('exact') if exact else ''} needs Hessians, and {problem.name} (d={problem.d}) does "
                f"not give them. Use a quadratic or a logistic problem of moderate d, or "
                f"{'solver=' + repr('sgd') if exact else 'a first-order method'}."
            )
        if "homogeneous" in self.needs and not problem.homogeneous and problem.n > 1:
            caution(
                f"{name} assumes that all clients share one objective; {problem.name} is heterogeneous, so it will "
                f"favour the clients that answer most often."
            )
        if "positive losses" in self.needs and not problem.nonnegative:
            raise OutsideAssumptions(
                f"{name} weighs clients by their losses, which must be positive, and those of {problem.name} may be negative: "
                f"use a classification or a regression."
            )
        if "strongly convex" in self.needs and not problem.strongly_convex:
            caution(
                f"{name}'s theorem assumes strong convexity, which {problem.name} lacks: its step is a heuristic here, "
                f"so try others (lr=ol.Theory(4), or compare(..., tune=...))."
            )
        elif "strongly convex clients" in self.needs and problem.strongly_convex and not problem.mu_min:
            caution(
                f"{name}'s theorem assumes strong convexity of every f_i, and {problem.name} has some without: take its "
                f"step (1/L, p = 0.1) as a heuristic."
            )

    def _check_cohort(self, field: str, cohort: Sampler | int | float | None, n: int) -> None:
        as_sampler(cohort).check(n)
        if "at most once" in self.needs and may_repeat(cohort):
            raise OutsideAssumptions(
                f"{type(self).__name__}: {field}={cohort!r} may draw a client twice, and clients here have a memory that "
                f"changes once a round. Use a number of clients, Poisson or Weighted."
            )

    def _check_compressor(self, field: str, compressor: Compressor, d: int) -> None:
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
            if not equal(getattr(self, f.name), f.default)
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


def caution(text: str) -> None:
    """Say that a theorem does not cover what was asked for."""
    warnings.warn(text, AssumptionWarning, stacklevel=4)
