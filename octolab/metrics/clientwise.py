"""Metrics of every client at once, for those that a table of counts or of ranks settles: equal to scikit-learn's, client by
client, and some hundred times faster.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from octolab.metrics import named
from octolab.metrics.scored import Scored

MOST = 20_000_000
"""Entries of the counts (clients, C, C): beyond that metrics are computed client by client."""


class Counts:
    """How often each client's samples of a class are taken for each class: true, said and right are (clients, C)."""

    def __init__(self, scored: Scored, classes: int):
        said = named.predicted(scored.scores)
        flat = (scored.owner * classes + scored.labels) * classes + said
        table = np.bincount(flat, minlength=scored.clients * classes * classes)
        table = table.reshape(scored.clients, classes, classes)
        self.right = np.diagonal(table, axis1=1, axis2=2)
        self.true, self.said = table.sum(2), table.sum(1)

    def mean(self, hits: np.ndarray, of: np.ndarray, where: np.ndarray) -> np.ndarray:
        """(clients,): hits / of, 0 where `of` is 0; the one of class 1 if there are two classes, else the mean over `where`."""
        each = hits / np.maximum(of, 1)
        if each.shape[1] == 2 and where is not self.true:
            return each[:, 1]
        here = where > 0
        return (each * here).sum(1) / np.maximum(here.sum(1), 1)


def _accuracy(c: Counts) -> np.ndarray:
    return c.right.sum(1) / np.maximum(c.true.sum(1), 1)


def _f1(c: Counts) -> np.ndarray:
    return c.mean(2 * c.right, c.true + c.said, c.true + c.said)


def _precision(c: Counts) -> np.ndarray:
    return c.mean(c.right, c.said, c.true + c.said)


def _recall(c: Counts) -> np.ndarray:
    return c.mean(c.right, c.true, c.true + c.said)


def _balanced_accuracy(c: Counts) -> np.ndarray:
    return c.mean(c.right, c.true, c.true)


COUNTED: dict[named.Function, Callable[[Counts], np.ndarray]] = {
    named.accuracy: _accuracy,
    named.f1: _f1,
    named.precision: _precision,
    named.recall: _recall,
    named.balanced_accuracy: _balanced_accuracy,
}


def at_once(function: named.Function, scored: Scored) -> np.ndarray | None:
    """(clients,) of a metric, NaN where a client has no samples; None where it has to be computed client by client."""
    if function not in COUNTED or scored.labels.ndim != 1 or scored.labels.dtype.kind not in "iu":
        return None
    classes = scored.scores.shape[1] if scored.scores.ndim == 2 else 2
    if scored.clients * classes**2 > MOST:
        return None
    counts = Counts(scored, classes)
    return np.where(counts.true.sum(1) > 0, COUNTED[function](counts), np.nan)


def one_class(scored: Scored) -> np.ndarray:
    """(clients,): whether all samples of a client are of one class; of several labels a sample, of no client."""
    if scored.labels.ndim != 1:
        return np.zeros(scored.clients, dtype=bool)
    low, high = np.full(scored.clients, np.inf), np.full(scored.clients, -np.inf)
    np.minimum.at(low, scored.owner, scored.labels)
    np.maximum.at(high, scored.owner, scored.labels)
    return low == high
