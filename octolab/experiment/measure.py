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
        asked = any(isinstance(m, PerClient) for m in metrics)
        self._whole = not all(isinstance(m, PerClient) for m in metrics)
        have = problem.test_scores(problem.x0, by_client=True) is not None
        for by_client, lacking in (
            (False, self._whole and problem.test_scores(problem.x0) is None),
            (True, asked and not have),
        ):
            if lacking:
                names = ", ".join(m.name for m in metrics)
                raise ValueError(
                    f"metrics={names}: {problem.name} has no test samples{' of the clients' if by_client else ''} to measure "
                    f"them on. Give it a test part (test= or global_test=, or a data set with one)."
                )
        self._of_clients = self._by_client(metrics) if have else ()

    @staticmethod
    def _by_client(metrics: tuple[Metric, ...]) -> tuple[PerClient, ...]:
        """Those asked for per client, and every other one per client as well."""
        asked = [m for m in metrics if isinstance(m, PerClient)]
        names = {m.name for m in asked}
        return (*asked, *(PerClient(m) for m in metrics if not isinstance(m, PerClient) and m.name not in names))

    @property
    def columns(self) -> list[str]:
        """All columns that it writes."""
        whole = [m for m in self.metrics if not isinstance(m, PerClient)]
        return [column for metric in (*whole, *self._of_clients) for column in metric.columns()]

    def greater_is_better(self, column: str) -> bool | None:
        """Whether more of this column is better; None if it is none of these metrics'."""
        for metric in (*self.metrics, *self._of_clients):
            if column in metric.columns():
                return metric.greater_is_better and not column.endswith("_left_out")
        return None

    def __call__(self, x: torch.Tensor) -> dict[str, float]:
        """The columns at x (d,): of all test samples, and where clients have test parts of each client's own."""
        row: dict[str, float] = {}
        if self._whole:
            whole = self._now().test_scores(x)
            for metric in self.metrics:
                if not isinstance(metric, PerClient):
                    row.update(self._tried(metric, whole))
        if self._of_clients:
            split = self._now().test_scores(x, by_client=True)
            for each in self._of_clients:
                row.update(self._tried(each, split, said=each in self.metrics))
        return row

    def _tried(self, metric: Metric, scored: Scored | None, said: bool = True) -> dict[str, float]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # scikit-learn's words on classes without samples: NaN says it
                values = metric.measure(scored) if scored is not None else {}
        except Exception as error:
            if said:
                self._say(metric, f"raised {type(error).__name__}: {error}")
            values = {}
        values = {name: values.get(name, math.nan) for name in metric.columns()}
        if said and any(math.isnan(v) for v in values.values()):
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
