"""What a run sees of its own model at evaluations: norms per layer, and per-client metrics when somebody asks.

It runs in the run's thread, where an evaluation happens anyway, and only reads: a run has the same numbers with and
without it. Nothing of it is in the history or in run files.
"""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from octolab.experiment.run import Run
    from octolab.metrics import Scored
    from octolab.problems import Problem

MOST = 500
"""Snapshots kept; beyond, every second one is forgotten, and from then on every second one is taken."""


class Clients(NamedTuple):
    """Per-client metrics of the server model at one round: name -> (n,)."""

    round: int
    values: dict[str, np.ndarray]


class Observer:
    """Norms per layer at evaluations, at a cost of microseconds each; see `norms`. clients: what `measure` found."""

    def __init__(self, problem: Problem):
        self._bounds = [(q.start, q.stop) for q in problem.layout]
        self.layers = [q.name for q in problem.layout]
        self._on = len(self.layers) > 1
        self._asked, self._answered, self._cost = False, 0.0, 0.0
        self._lock = threading.Lock()
        self._last: tuple[int, torch.Tensor] | None = None
        self._seen, self._stride = 0, 1
        self._rows: list[tuple[int, list[float], list[float]]] = []
        self.clients: list[Clients] = []  # the newest is last
        self.scored: Scored | None = None  # what the model said of the test samples when clients were measured last

    def watch(self) -> None:
        """Somebody looks: take norms of a one-layer model too, whose rounds may be as short as a norm takes."""
        self._on = True

    def ask(self) -> None:
        """Have per-client metrics measured at the next evaluation; at most one part in 25 of the time goes into it."""
        if time.monotonic() - self._answered > max(1.0, 25 * self._cost):
            self._asked = True

    def see(self, run: Run, x: torch.Tensor) -> None:
        """Called by the run after an evaluation of x (d,)."""
        if self._on:
            self._norms(run.round, x)
        if self._asked:
            self._asked, start = False, time.monotonic()
            self.measure(run, x)
            self._answered = time.monotonic()
            self._cost = self._answered - start

    def _norms(self, number: int, x: torch.Tensor) -> None:
        self._seen += 1
        if (self._seen - 1) % self._stride:
            return
        weights, updates = self._sizes(x), [math.nan] * len(self._bounds)
        if self._last is not None and number > self._last[0]:
            updates = [v / (number - self._last[0]) for v in self._sizes(x - self._last[1])]
        self._last = (number, x.clone())
        with self._lock:
            self._rows.append((number, weights, updates))
            if len(self._rows) > MOST:
                self._rows, self._stride = self._rows[::2], 2 * self._stride

    def _sizes(self, x: torch.Tensor) -> list[float]:
        return [math.sqrt(float(torch.dot(v, v))) for v in (x[a:b] for a, b in self._bounds)]

    def measure(self, run: Run, x: torch.Tensor) -> None:
        """Per-client metrics of x now, and what it says of the test samples; in the caller's thread."""
        found = Clients(
            run.round, {k: np.asarray(v, dtype=float) for k, v in run.federation.objective.client_metrics(x).items()}
        )
        scored = run.federation.objective.test_scores(x)
        with self._lock:
            self.scored = scored
            self.clients = [*self.clients[-MOST // 2 :], found]

    def norms(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """rounds (T,); weights (T, layers), |x_l|; updates (T, layers), |change of x_l| since the last row, per round."""
        with self._lock:
            rows = list(self._rows)
        shape = (len(rows), len(self.layers))
        numbers = np.array([r[0] for r in rows], dtype=float)
        weights, updates = (np.array([r[k] for r in rows], dtype=float).reshape(shape) for k in (1, 2))
        return numbers, weights, updates
