"""Tuning: the same grid of values for every method, chosen by the final loss on the same budget."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from octolab.arguments import NAMED, PROBLEM, expects, sequence, text
from octolab.errors import AssumptionWarning, UnknownConstant
from octolab.experiment.launch import prepare
from octolab.experiment.run import Run
from octolab.experiment.summary import status
from octolab.methods import Method, Theory, get

if TYPE_CHECKING:
    import pandas as pd

    from octolab.problems import Problem

MULTIPLIERS = tuple(2.0**k for k in range(-2, 8))
"""Of the theory step: the grid of `compare(tune=True)` and `tune` where the problem's constants are known."""
STEPS = tuple(0.1 * 2.0**k for k in range(-6, 5))
"""Step sizes themselves: the grid where some method has no step from theory on this problem."""


@dataclass(eq=False, repr=False)
class Tuned:
    """What `tune` returns. table: one row per value tried; best: the method with the number filled in; its run."""

    table: pd.DataFrame
    best: Method
    run: Run
    how: str

    def __repr__(self) -> str:
        return f"best: {self.best!r} ({self.how})\n{self.table.to_string(index=False)}"

    def _repr_html_(self) -> str:
        table = self.table.to_html(index=False, border=0)
        return f"<div><b>{escape(repr(self.best))}</b> ({escape(self.how)}){table}</div>"


@expects(method=NAMED, problem=PROBLEM, grid=sequence("a list of values"), field=text("a field's name"))
def tune(
    method: Method | str,
    problem: Problem,
    *,
    rounds: int | None = None,
    grid: Sequence[float] | None = None,
    field: str = "lr",
    seed: int = 0,
    **settings: Any,
) -> Tuned:
    """Try values of one hyperparameter on one budget; the best is the one with the least final loss.

    grid: values of the field. Default, for `lr`: the powers of two 2^-2 to 2^7 times the theory step, or step
    sizes where the problem's constants are not known. Diverged runs stay in the table and never win.
    """
    made = get(method)() if isinstance(method, str) else method
    known = [f.name for f in dataclasses.fields(made)]
    if field not in known:
        raise ValueError(f"tune(field={field!r}): {type(made).__name__} has no such field; it has {', '.join(known)}.")
    if grid is not None:
        values: list[Any] = list(grid)
    elif isinstance(getattr(made, field), Theory) or field == "lr":
        values = grid_for([made], problem, None, field)
    else:
        raise ValueError(f"tune(field={field!r}) needs grid=[...]: only step sizes have a grid of their own.")
    if not values:
        raise ValueError("tune: grid is empty; give at least one value.")
    return search(made, problem, values, field, seed=seed, rounds=rounds, **settings)


def grid_for(
    methods: Iterable[Method], problem: Problem, given: Sequence[float] | None, field: str = "lr"
) -> list[Any]:
    """The same grid for all: multiples of each theory step if every method has one here, else step sizes."""
    if given is not None and not len(given):
        raise ValueError("tune=[]: give multiples of the theory step, or tune=True for the usual ones.")
    for method in methods:
        try:
            with quiet():
                if hasattr(method, field):
                    dataclasses.replace(method, **{field: Theory()}).resolve(problem)
        except UnknownConstant:
            return list(STEPS if given is None else map(float, given))
    return [Theory(float(m)) for m in (MULTIPLIERS if given is None else given)]


def search(method: Method, problem: Problem, grid: Sequence[Any], field: str, **plan: Any) -> Tuned:
    import pandas as pd

    from octolab.experiment.progress import counted

    runs = []
    with quiet():
        for value in counted(grid, f"tuning {type(method).__name__}"):
            runs.append(prepare(dataclasses.replace(method, **{field: value}), problem, **plan).finish())
    order = sorted(range(len(runs)), key=lambda i: rank(runs[i]))
    rows = []
    for value, run in zip(grid, runs, strict=True):
        last, used = run.recorder.last, getattr(run.method, field)
        row = {"multiplier": value.multiplier} if isinstance(value, Theory) else {}
        rows.append(
            {
                **row,
                field: used,
                "loss": last.get("loss", math.nan),
                "rounds": run.round,
                "status": status(run),
            }
        )
    best, value = runs[order[0]], grid[order[0]]
    used = getattr(best.method, field)
    edge = ", the edge of the grid" if len(grid) > 1 and order[0] in (0, len(grid) - 1) else ""
    word = f"theory x {value.multiplier:g} = {used:.3g}" if isinstance(value, Theory) else (
        f"{used:.3g}" if isinstance(used, float) else f"{used!r}"
    )  # fmt: skip
    how = f"{word} (best of {len(grid)} tried{edge})"
    return Tuned(pd.DataFrame(rows), dataclasses.replace(method, **{field: used}), best, how)


def rank(run: Run) -> tuple[int, float]:
    """Less is better: the final loss; what reached a wanted loss or gradient comes first, by its rounds."""
    last, until = run.recorder.last, run.settings.until
    loss = last.get("loss", math.inf)
    if run.status in ("diverged", "failed") or not math.isfinite(loss):
        return 2, math.inf
    goal = None
    if until is not None and (until.loss is not None or until.grad_norm_sq is not None):
        goal = dataclasses.replace(until, bits=None, seconds=None)
    return (0, float(last["round"])) if goal is not None and goal.reached(last) else (1, loss)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings that have been given once already, or that a table will show."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        yield
