"""Everything of a run but the method and the problem, checked before any work is done."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from octolab.experiment.writing import target_of
from octolab.federation import Attack, Fleet
from octolab.rooms import register

FOREVER = 1_000_000
"""Rounds of a run that only a stop rule ends."""


@register("stops")
@dataclass(frozen=True)
class Until:
    """Stop when any of these is reached: loss or grad_norm_sq at or below, bits (up per client) or seconds at or above."""

    loss: float | None = None
    grad_norm_sq: float | None = None
    bits: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("bits", "seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"until: {name}={value!r}: a budget is a number > 0.")
        if all(v is None for v in dataclasses.astuple(self)):
            raise ValueError("until is empty: give at least one of loss, grad_norm_sq, bits, seconds.")

    def reached(self, row: dict[str, float]) -> bool:
        return (
            (self.loss is not None and row.get("loss", np.inf) <= self.loss)
            or (self.grad_norm_sq is not None and row.get("grad_norm_sq", np.inf) <= self.grad_norm_sq)
            or (self.bits is not None and row["bits_up"] >= self.bits)
            or (self.seconds is not None and row["time"] >= self.seconds)
        )


@dataclass(frozen=True)
class Settings:
    """Everything of a run but the method and the problem."""

    rounds: int
    until: Until | None = None
    fleet: Fleet | None = None
    seed: int = 0
    x0: Any = None
    dtype: str | None = None
    keep: str | None = None
    deadline: float | None = None
    attack: Attack | None = None
    executor: str | int = "auto"
    threads: int | None = None
    on: Any = None
    evaluate_every: int | None = None
    checkpoint: str | None = None
    checkpoint_every: int | None = None

    def __post_init__(self) -> None:
        for name, low in (("rounds", 0), ("evaluate_every", 1), ("checkpoint_every", 1), ("threads", 1)):
            value = getattr(self, name)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low
            ):
                raise ValueError(f"{name}={value!r}: give a whole number >= {low}.")
        if self.keep not in (None, "x"):
            raise ValueError(f"keep={self.keep!r}: keep='x' keeps every iterate, keep=None none.")
        if self.dtype not in (None, "float32", "float64"):
            raise ValueError(f"dtype={self.dtype!r}: choose 'float32' or 'float64'.")
        if self.checkpoint_every is not None and self.checkpoint is None:
            raise ValueError("checkpoint_every was given without checkpoint: say where, checkpoint='run.octo'.")

    @property
    def every(self) -> int:
        """Rounds between two evaluations of the objective: 1 up to a thousand rounds, or where `until` asks for it."""
        return self.evaluate_every or (1 if self.until is not None else max(1, self.rounds // 500))


def writable(path: str | os.PathLike) -> None:
    """A ValueError if no run file can be written there."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise ValueError(f"checkpoint={str(path)!r}: the folder {folder} does not exist. Make it first.")
    target_of(path)
    if not os.access(folder, os.W_OK):
        raise ValueError(
            f"checkpoint={str(path)!r} cannot be written: choose a file name in a folder you can write to."
        )
