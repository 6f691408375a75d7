"""The metrics of a run, on its problem's test samples: what fails is NaN and said once, and the run goes on."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from octolab.metrics import Metric, PerClient, Scored

if TYPE_CHECKING:
    from octolab.problems import Problem


class Measure:
    """`measure(x)` gives the metrics' columns at a model x (d,); ValueError at once where there are no test samples."""

    def __init__(self, problem: Problem, metrics: tuple[Metric, ...], now: Callable[[], Problem] | None = None):
        self._now, self.metrics = now or (lambda: problem), metrics
        self._failed: set[str] = set()
        self._split = any(isinstance(m, PerClient) for m in metrics)
        self._whole = not all(isinstance(m, PerClient) for m in metrics)
        for by_client, wanted in ((False, self._whole), (True, self._split)):
            if wanted and problem.test_scores(problem.x0, by_client=by_client) is None:
                names = ", ".join(m.name for m in metrics)
                raise ValueError(
                    f"metrics={names}: {problem.name} has no test samples{' of the clients' if by_client else ''} to measure "
                    f"them on. Give it a test part (test= or global_test=, or a data set with one)."
                )

    @property
    def columns(self) -> list[str]:
        """All columns that it writes."""
        return [column for metric in self.metrics for column in metric.columns()]

    def greater_is_better(self, column: str) -> bool | None:
        """Whether more of this column is better; None if it is none of these metrics'."""
        for metric in self.metrics:
            if column in metric.columns():
                return metric.greater_is_better and not column.endswith("_left_out")
        return None

    def __call__(self, x: torch.Tensor) -> dict[str, float]:
        whole = self._now().test_scores(x) if self._whole else None
        split = self._now().test_scores(x, by_client=True) if self._split else None
        row: dict[str, float] = {}
        for metric in self.metrics:
            scored = split if isinstance(metric, PerClient) else whole
            row.update(self._tried(metric, scored))
        return row

    def _tried(self, metric: Metric, scored: Scored | None) -> dict[str, float]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # scikit-learn's words on classes without samples: NaN says it
                values = metric.measure(scored) if scored is not None else {}
        except Exception as error:
            self._say(metric, f"raised {type(error).__name__}: {error}")
            values = {}
        values = {name: values.get(name, math.nan) for name in metric.columns()}
        if any(math.isnan(v) for v in values.values()):
            self._say(metric, "gave NaN")
        return values

    def _say(self, metric: Metric, what: str) -> None:
        if metric.name not in self._failed:
            self._failed.add(metric.name)
            warnings.warn(
                f"The metric {metric.name!r} {what}; its column is NaN there, and the run goes on.",
                RuntimeWarning,
                stacklevel=2,
            )

    def by_client(self, x: torch.Tensor) -> dict[str, np.ndarray]:
        """name -> (n,) of x (d,) on each client's own test samples, NaN where a client has none, or one class only."""
        scored = self._now().test_scores(x, by_client=True)
        return {} if scored is None else {m.name: m.by_client(scored) for m in self.metrics}
