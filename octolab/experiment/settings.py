"""Everything of a run but the method and the problem, checked before any work is done."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from octolab.arguments import FLEET, SEED, Fact, expect, instance, like, number, one_of, path, sequence, whole
from octolab.errors import RunFileError
from octolab.experiment.writing import target_of
from octolab.federation import Attack, Fleet
from octolab.metrics import Metric, greater_is_better, metrics_of
from octolab.params import plain
from octolab.rooms import register

FOREVER = 1_000_000
"""Rounds of a run that only a stop rule ends."""


COSTS = {"bits": "bits_up", "seconds": "time"}
"""Budgets of `until`, and the columns that they are of."""


@register("stops")
@dataclass(frozen=True, init=False)
class Until:
    """Stop when any of these is reached: bits (up per client) or seconds at or above; loss, grad_norm_sq, or any column
    that the run evaluates, such as accuracy=0.9, at the value or better (greater or less, as the metric has it).
    """

    loss: float | None = None
    grad_norm_sq: float | None = None
    bits: float | None = None
    seconds: float | None = None
    targets: tuple[tuple[str, float], ...] = ()
    """The other columns, by name."""

    def __init__(
        self,
        loss: float | None = None,
        grad_norm_sq: float | None = None,
        bits: float | None = None,
        seconds: float | None = None,
        targets: Iterable[Sequence[Any]] = (),
        **columns: Any,
    ):
        expect("until: ", "targets", targets, sequence("pairs (column, value)", sequence("a pair", least=2)))
        more = {str(name): value for name, value in targets} | columns
        given = {"loss": loss, "grad_norm_sq": grad_norm_sq, "bits": bits, "seconds": seconds}
        for name, value in (given | more).items():
            number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
            if value is not None and not (number and not math.isnan(value)):
                raise ValueError(f"until: {name}={value!r}: give a number.")
            if name in COSTS and value is not None and not value > 0:
                raise ValueError(f"until: {name}={value!r}: a budget is a number > 0.")
        finite = [v for v in (given | more).values() if v is not None and math.isfinite(v)]
        limits = {name: value for name, value in (given | more).items() if value is not None}
        for name, value in limits.items():
            if math.isinf(value) and (not finite or name not in COSTS):
                raise ValueError(f"until: {name}={value!r}: give a finite number.")
        if not limits:
            raise ValueError(
                "until is empty: give at least one of loss, grad_norm_sq, bits, seconds, or a metric's name."
            )
        for name, value in given.items():
            object.__setattr__(self, name, plain(value))
        object.__setattr__(self, "targets", tuple(sorted((k, plain(v)) for k, v in more.items() if v is not None)))

    def reached(self, row: Mapping[str, float], better: Callable[[str], bool] = greater_is_better) -> bool:
        """Whether a row of newest values meets any of them; better(column) says whether more of it is better."""
        return (
            (self.loss is not None and row.get("loss", np.inf) <= self.loss)
            or (self.grad_norm_sq is not None and row.get("grad_norm_sq", np.inf) <= self.grad_norm_sq)
            or (self.bits is not None and row["bits_up"] >= self.bits)
            or (self.seconds is not None and row["time"] >= self.seconds)
            or any(meets(row.get(name, math.nan), value, better(name)) for name, value in self.targets)
        )


def meets(value: float, target: float, more: bool) -> bool:
    """Whether a value is at its target or better; NaN never is."""
    return value >= target if more else value <= target


FACTS: dict[str, Fact] = {
    "rounds": whole(0),
    "until": instance("dict(loss=...) or ol.Until(loss=...)", Until),
    "fleet": FLEET,
    "seed": SEED,
    "keep": one_of("x", "best") | sequence("both", one_of("x", "best")),
    "deadline": number("seconds after which a round stops waiting", gt=0, infinite=True),
    "attack": like("an attack from ol.attacks", "check", "data"),
    "fleet_seed": SEED,
    "threads": whole(1),
    "evaluate_every": whole(1),
    "checkpoint": path("the path of a run file"),
    "checkpoint_every": whole(1),
    "deterministic": one_of("portable"),
}


@dataclass(frozen=True)
class Settings:
    """Everything of a run but the method and the problem."""

    rounds: int
    until: Until | None = None
    fleet: Fleet | None = None
    seed: int = 0
    x0: Any = None
    dtype: str | None = None
    keep: str | tuple[str, ...] | None = None
    deadline: float | None = None
    attack: Attack | None = None
    fleet_seed: int | None = None
    executor: str | int = "auto"
    threads: int | None = None
    on: Any = None
    evaluate_every: int | None = None
    metrics: tuple[Metric, ...] | None = None
    checkpoint: str | None = None
    checkpoint_every: int | None = None
    deterministic: str | None = None

    def __post_init__(self) -> None:
        if self.metrics is not None:
            object.__setattr__(self, "metrics", metrics_of(self.metrics) or None)
        for name, fact in FACTS.items():
            expect("", name, getattr(self, name), fact, optional=name not in ("rounds", "seed", "executor"))
        if not self.kept <= {"x", "best"}:
            raise ValueError(
                f"keep={self.keep!r}: 'x' keeps every iterate, 'best' the model of the best validation value, ('x', 'best') "
                "both, None none."
            )
        if self.dtype not in (None, "float32", "float64"):
            raise ValueError(f"dtype={self.dtype!r}: choose 'float32' or 'float64'.")
        if self.checkpoint_every is not None and self.checkpoint is None:
            raise ValueError("checkpoint_every was given without checkpoint: say where, checkpoint='run.octo'.")

    @property
    def kept(self) -> set[str]:
        """The names in `keep`."""
        return {self.keep} if isinstance(self.keep, str) else set(self.keep or ())

    @property
    def every(self) -> int:
        """Rounds between two evaluations of the objective: 1 up to a thousand rounds, or where `until` asks for it."""
        return self.evaluate_every or (1 if self.until is not None else max(1, self.rounds // 500))


def writable(path: str | os.PathLike) -> None:
    """A ValueError if no run file can be written there."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise ValueError(f"checkpoint={str(path)!r}: the folder {folder} does not exist. Make it first.")
    try:
        target_of(path)
    except RunFileError as error:
        raise RunFileError(f"checkpoint={error}") from None
    if not os.access(folder, os.W_OK):
        raise ValueError(
            f"checkpoint={str(path)!r} cannot be written: choose a file name in a folder you can write to."
        )
