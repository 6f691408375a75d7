"""First mistakes in a method of one's own, each a sentence with the line to change. Looked for in a run's first steps only."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from octolab.errors import MethodMistake

SAVED = (bool, int, float, str, np.generic, np.ndarray, torch.Tensor)
"""What a state may hold, in tuples, dataclasses, lists and dicts, so that a run can be saved and continued."""


def missing(method: object, hook: str, line: str) -> MethodMistake:
    """The sentence for a hook that a class lacks."""
    return MethodMistake(f"{type(method).__name__} has no {hook}. Add to the class:  {line}")


def no_model(method: object, state: object) -> MethodMistake:
    """The sentence for a state in which no server model is found."""
    name = type(method).__name__
    if state is None:
        return MethodMistake(f"{name}: init or step returned nothing. End it with `return` and the new state.")
    return MethodMistake(
        f"{name}: a state of type {type(state).__name__} has no field x, so the server model is unknown. Make the state a "
        f"NamedTuple with a field x (or a plain tensor), or say where it is:  def model(self, s): return ..."
    )


def sizes(method: object, came: list[tuple[int, ...]], given: torch.Tensor, error: Exception) -> MethodMistake:
    """The sentence for a first step in which tensors did not fit. came: shapes of one reply each, of the last call."""
    shapes = ", ".join(map(str, came)) or "no reply"
    return MethodMistake(
        f"{type(method).__name__}: shapes do not fit in step: the last call's clients replied {shapes} each, and the model is "
        f"{tuple(given.shape)}. Let the client function return a row like the model for every client:  "
        f"return cohort.grad(x)  ({error})"
    )


def look(
    method: object, x: torch.Tensor, state: object, given: torch.Tensor, old: torch.Tensor | None, at: int
) -> None:
    """Raise `MethodMistake` for what a step made of the model. x: (d,) after it; given: the run's start; old: before it,
    with `at`, torch's count of writes into it.
    """
    name = type(method).__name__
    if not isinstance(x, torch.Tensor) or x.shape != given.shape:
        found = f"has shape {tuple(x.shape)}" if isinstance(x, torch.Tensor) else f"is a {type(x).__name__}"
        raise MethodMistake(
            f"{name}: the server model after this step {found}; it has to be a tensor of shape {tuple(given.shape)}. A reply of "
            f"all clients becomes one vector by `.mean()`:  g = fed.call(self.client, x).mean()"
        )
    if old is not None and old._version != at:
        raise MethodMistake(
            f"{name}: the model of the step before was changed in place, and then a step cannot be taken back, saved or sent. "
            f"Make a new tensor:  x = x - self.lr * g  instead of  x -= self.lr * g"
        )
    for path, value in parts(state, "s"):
        if value is not None and not isinstance(value, SAVED):
            warnings.warn(
                f"{name}: {path} is a {type(value).__name__}, which no run file can hold: this run cannot be saved. Keep "
                f"tensors and numbers in the state; a constant belongs into a field of the class:  "
                f"{path.rpartition('.')[2]} = param(...)",
                UserWarning,
                stacklevel=2,
            )


def parts(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The leaves of a state with their paths."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        inner = [(f"{path}.{n}", v) for n, v in zip(value._fields, value, strict=True)]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = [(f"{path}.{f.name}", getattr(value, f.name)) for f in dataclasses.fields(value)]
    elif isinstance(value, (tuple, list)):
        inner = [(f"{path}[{k}]", v) for k, v in enumerate(value)]
    elif isinstance(value, dict):
        inner = [(f"{path}[{k!r}]", v) for k, v in value.items()]
    else:
        yield path, value
        return
    for name, held in inner:
        yield from parts(held, name)
