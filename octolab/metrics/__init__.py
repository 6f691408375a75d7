"""Metrics of test samples by name, or as a function f(labels, scores) -> float: what `metrics=` of a run takes."""

from __future__ import annotations

from octolab.metrics.metric import Given, Metric, PerClient, metric_of, metrics_of
from octolab.metrics.named import NAMED, greater_is_better
from octolab.metrics.scored import Scored

__all__ = ["NAMED", "Given", "Metric", "PerClient", "Scored", "greater_is_better", "metric_of", "metrics_of"]
