"""The trained model out of a run: as a module, as predictions, as a folder, and the best of them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from octolab.arguments import expect, whole
from octolab.problems import Problem
from octolab.problems.network import Network

if TYPE_CHECKING:
    from octolab.experiment.run import Run


def module_of(run: Run, personal: int | None = None) -> nn.Module:
    """See `Run.module`."""
    problem = run.federation.objective
    if personal is None:
        return problem.as_module(run.x).eval()
    expect("", "personal", personal, whole(0, problem.n - 1))
    own = run.method.personal(run.federation, run.state)
    held = problem.statistics
    if own is None and (held is None or not held.personal):
        raise ValueError(
            f"{type(run.method).__name__} makes no personal models: leave out personal=, or use a method that does, such as "
            "Ditto or Scafflix, or batchnorm='local'."
        )
    x = run.x if own is None else own[personal]
    if isinstance(problem, Network) and held is not None and held.rows is not None:
        return problem.as_module(x, held.rows[personal] if held.personal else None)
    return problem.as_module(x).eval()


def predicted(run: Run, X: object, scores: bool, personal: int | None) -> np.ndarray:
    """See `Run.predict`."""
    from octolab.models import predictions

    return predictions(run.problem, module_of(run, personal), X, scores)


def save_module(run: Run, folder: str | os.PathLike, personal: int | None) -> str:
    """See `Run.save_model`."""
    from octolab.models import save_model

    row = {k: float(v) for k, v in run.metrics().items() if math.isfinite(float(v))}
    card = {
        "method": run.name,
        "problem": run.problem.name,
        "round": run.round,
        "metrics": row,
        "provenance": run.provenance,
    }
    return save_model(module_of(run, personal), folder, card)


class Best:
    """The model of the best validation value: `round`, `column`, `value`, `x` (d,), and `module()`.

    Judged by validation_accuracy where there is one, else by validation_loss; never by the test data.
    """

    def __init__(self, column: str, more: bool):
        self.column, self._more = column, more
        self.round, self.value = -1, -math.inf if more else math.inf
        self.x = torch.empty(0)
        self._kept: torch.Tensor | None = None  # (s,) the server's running statistics then
        self._problem: Problem | None = None

    @classmethod
    def of(cls, run: Run) -> Best:
        """ValueError where the problem has no validation part."""
        if run.problem.validation is None or not len(run.problem.validation):
            raise ValueError(
                f"keep='best': {run.problem.name} has no validation part to judge by. Make it with validation_share=0.2, say."
            )
        known = run.problem.validation_metrics(run.federation.x0)
        column = "validation_accuracy" if "validation_accuracy" in known else "validation_loss"
        best = cls(column, column.endswith("accuracy"))
        best._problem = run.problem
        return best

    def see(self, number: int, row: Mapping[str, float], x: torch.Tensor, problem: Problem) -> None:
        """The model x of a round and what was measured; an equal value does not replace the earlier one."""
        value = row.get(self.column, math.nan)
        if value > self.value if self._more else value < self.value:
            held = problem.statistics
            self.round, self.value, self.x, self._problem = number, value, x.clone(), problem
            self._kept = None if held is None else held.now.clone()

    def module(self) -> nn.Module:
        """The best model as a torch module."""
        if self.round < 0 or self._problem is None:
            raise ValueError("No round was judged yet: there is no best model.")
        if isinstance(self._problem, Network):
            return self._problem.as_module(self.x, self._kept).eval()
        return self._problem.as_module(self.x).eval()

    def state(self) -> dict[str, Any]:
        """What a run file keeps."""
        return {"round": self.round, "value": self.value, "x": self.x, "kept": self._kept}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The way back from `state`."""
        self.round, self.value, self.x, self._kept = (state[name] for name in ("round", "value", "x", "kept"))

    def state_dict(self) -> dict[str, torch.Tensor]:
        return dict(self.module().state_dict())

    def __repr__(self) -> str:
        return f"best {self.column} {self.value:.4g} in round {self.round}"
