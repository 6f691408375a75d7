"""The schedules. Each is a frozen value; `schedule(t)` is the step size of round t, the first round being 0."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from octolab.arguments import expects, text
from octolab.faces import Shown
from octolab.params import Theory, param, plain, settle
from octolab.rooms import members, place, register


@dataclass(frozen=True)
class Schedule(Shown):
    """The base of all schedules: `schedule(t) -> float`.

    A schedule may hold `Theory()` instead of a number; `resolve` puts the number in, for the problem at hand.
    """

    def __post_init__(self) -> None:
        settle(self)

    def __call__(self, t: int) -> float:
        """The step size of round t (0, 1, ...)."""
        raise NotImplementedError

    def resolve(self, theory: Callable[[Theory], float]) -> Schedule:
        """This schedule with numbers for every `Theory()` in it, inside other schedules too."""
        found: dict[str, Any] = {}
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Theory):
                found[f.name] = theory(value)
            elif isinstance(value, Schedule):
                found[f.name] = value.resolve(theory)
        return dataclasses.replace(self, **found) if found else self

    @property
    def theoretical(self) -> bool:
        """Whether a `Theory()` is still to be resolved."""
        values = (getattr(self, f.name) for f in dataclasses.fields(self))
        return any(isinstance(v, Theory) or (isinstance(v, Schedule) and v.theoretical) for v in values)

    def at(self, t: int, what: str = "lr") -> float:
        """The step size of round t, checked: a ValueError names the round if it is no finite number > 0."""
        try:
            value = plain(self(t))
        except Exception as error:
            raise ValueError(
                f"{what}={self!r} fails in round {t} ({type(error).__name__}: {error}): rounds are 0, 1, 2, ..."
            ) from error
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value) or value <= 0:
            raise ValueError(
                f"{what}={self!r} gives {value!r} in round {t}: a step size is a finite number > 0. Give a floor > 0, or "
                f"plan no more rounds than the schedule has."
            )
        return float(value)


@register("schedules")
@dataclass(frozen=True)
class Constant(Schedule):
    """The same step size in every round.

    >>> Constant(0.1)(5)
    0.1
    """

    lr: float | Theory = param(..., "step size, or Theory()", gt=0, main=True, example=0.1)

    def __call__(self, t: int) -> float:
        return _number(self.lr)


@register("schedules")
@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from `lr` in round 0 down to `floor` after `rounds` rounds, and the floor from then on.

    floor + (lr - floor) (1 + cos(pi t / rounds)) / 2 (Loshchilov, Hutter 2017, arXiv 1608.03983, without restarts).

    >>> round(Cosine(1.0, rounds=10)(5), 12)
    0.5
    """

    lr: float | Theory = param(..., "step size, or Theory()", gt=0, main=True, example=0.1)
    rounds: int = param(..., "rounds until the floor", ge=1, example=100)
    floor: float = param(0.0, "the least step", ge=0)

    def __post_init__(self) -> None:
        settle(self)
        low = isinstance(self.floor, (int, float)) and math.isfinite(self.floor) and self.floor >= 0
        if not low or (not isinstance(self.lr, Theory) and self.floor > self.lr):
            raise ValueError(f"Cosine: floor={self.floor!r}: give a number from 0 to lr={self.lr!r}.")

    def __call__(self, t: int) -> float:
        top = _number(self.lr)
        return self.floor + (top - self.floor) * (1 + math.cos(math.pi * min(t, self.rounds) / self.rounds)) / 2


@register("schedules")
@dataclass(frozen=True)
class Step(Schedule):
    """`lr`, multiplied by `factor` after every `every` rounds.

    >>> [Step(1.0, every=2, factor=0.5)(t) for t in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    lr: float | Theory = param(..., "step size, or Theory()", gt=0, main=True, example=0.1)
    every: int = param(..., "rounds between two cuts", ge=1, example=100)
    factor: float = param(0.1, "what a cut multiplies by", gt=0)

    def __call__(self, t: int) -> float:
        return _number(self.lr) * self.factor ** (t // self.every)


@register("schedules")
@dataclass(frozen=True)
class InverseSqrt(Schedule):
    """lr / sqrt(t + 1): what the theory of stochastic gradients asks for without a horizon.

    >>> InverseSqrt(1.0)(3)
    0.5
    """

    lr: float | Theory = param(..., "step size, or Theory()", gt=0, main=True, example=0.1)

    def __call__(self, t: int) -> float:
        return _number(self.lr) / math.sqrt(t + 1)


@register("schedules")
@dataclass(frozen=True)
class Warmup(Schedule):
    """The first `rounds` rounds climb in equal steps to what `schedule` says; then it goes on from its own round 0.

    In round t < rounds the step is schedule(0) (t + 1) / (rounds + 1). `schedule` may be a number or `Theory()`.

    >>> [Warmup(1.0, rounds=3)(t) for t in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """

    schedule: Schedule | float | Theory = param(..., "what is climbed to", gt=0, example=0.1)
    rounds: int = param(..., "rounds of the climb", ge=1, example=10)

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", as_schedule(self.schedule, "Warmup: schedule"))
        settle(self)

    def __call__(self, t: int) -> float:
        inner = as_schedule(self.schedule)
        return inner(0) * (t + 1) / (self.rounds + 1) if t < self.rounds else inner(t - self.rounds)


@register("schedules")
@dataclass(frozen=True)
class OfRound(Schedule):
    """Any function of the round: `OfRound(lambda t: 0.1 / (t + 1))`, or the bare function where a method takes `lr`.

    Specs and run files hold its name only. One that is registered, @ol.register("schedules"), is found by it again; of any
    other the method has to be handed over to `resume`, `load_run` and `from_spec`.
    """

    function: Callable[[int], float]

    def __post_init__(self) -> None:
        settle(self)
        if not callable(self.function) or isinstance(self.function, type):
            raise ValueError(
                f"OfRound: function={self.function!r}: give a function of the round, such as lambda t: 0.1."
            )

    def __call__(self, t: int) -> float:
        return self.function(t)

    @property
    def python(self) -> str:
        """Python text; ValueError, since a function has none."""
        raise ValueError(f"{self!r} cannot be written as Python text: it is a function.")

    def to_spec(self) -> dict[str, str]:
        """The function's name, for JSON."""
        known = place(self.function)
        return {"function": getattr(self.function, "__name__", repr(self.function)) if known is None else known[1]}

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> OfRound:
        """The registered function of this name; ValueError for one that is not."""
        name = str(spec.get("function"))
        found = members("schedules").get(name)
        if found is None or isinstance(found, type):
            raise ValueError(
                f"The step size is {name!r}, a function of the round of your own, which a spec only names: decorate it with "
                f'@ol.register("schedules"), or hand the method in, method=...'
            )
        return cls(found)


@expects(what=text())
def as_schedule(value: Any, what: str = "lr") -> Schedule:
    """A schedule as it is, a number or `Theory()` as a constant one, a function of the round wrapped."""
    if isinstance(value, Schedule):
        return value
    if isinstance(value, Theory) or (isinstance(value, numbers.Real) and not isinstance(value, bool)):
        return Constant(value if isinstance(value, Theory) else float(value))
    if callable(value) and not isinstance(value, type):
        return OfRound(value)
    raise ValueError(f"{what}={value!r}: give a number > 0, Theory(), a schedule, or a function of the round.")


def _number(lr: float | Theory) -> float:
    if isinstance(lr, Theory):
        raise ValueError(f"{lr!r} has no value without a method and a problem: the run asks for it after resolving.")
    return lr
