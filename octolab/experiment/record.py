"""What a run writes down: one row per step, in columns, converted late."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    import pandas as pd

    from octolab.federation import Federation

COUNTED = ("round", "time", "bits_up", "bits_down", "bits_broadcast", "paper_bits_up", "gradients", "samples")

Row = tuple[float, ...]
"""The counted values of one step."""


class Column(NamedTuple):
    """What was evaluated or logged under one name: `length` values, each with the number of its row."""

    rows: list[int]
    values: list[Any]
    length: int


class Snapshot(NamedTuple):
    """A record at one moment. Nothing is copied: a record's lists only grow, so that their lengths tell what counts."""

    rows: list[Row]
    length: int
    columns: dict[str, Column]

    def newest(self, name: str, most: int | None = None) -> list[Any]:
        """The newest values of a column, oldest first; empty if there is no such column."""
        column = self.columns.get(name)
        if column is None:
            return []
        return column.values[0 if most is None else max(0, column.length - most) : column.length]

    @property
    def last(self) -> dict[str, Any]:
        """The newest value of every column."""
        if not self.length:
            return {}
        row: dict[str, Any] = dict(zip(COUNTED, self.rows[self.length - 1], strict=True))
        row.update({name: c.values[c.length - 1] for name, c in self.columns.items() if c.length})
        return row


class Recorder:
    """Columns, cumulative and per client on average where they count. Safe to read from any thread.

    round; time: virtual seconds; bits_up, bits_down: sent and received by a client (bits_down includes broadcasts,
    bits_broadcast is their share); paper_bits_up: indices free, as papers count; gradients, samples: work; then what
    the problem evaluates (loss, grad_norm_sq, accuracy, ...; NaN in rounds between two evaluations), the same of personal
    models (personal_loss, ...; see `personal_metrics`) and what the method logs.
    """

    def __init__(self, keep: bool = False):
        self.rows: list[Row] = []
        self.sparse: dict[str, tuple[list[int], list[Any]]] = {}  # name -> (row numbers, values)
        self.iterates: list[torch.Tensor] = []
        self.keep = keep
        self.evaluated = -1  # number of the newest row with an evaluation of the objective
        self._lock = threading.Lock()

    def add(self, number: int, fed: Federation, evaluated: Mapping[str, float], x: torch.Tensor) -> None:
        """The row of step `number`: what the federation counted and logged, what was evaluated at x (d,)."""
        total, n = fed.ledger.totals, fed.n
        broadcast = total["broadcast"] / n
        row = (
            number,
            fed.now,
            total["up"] / n,
            total["down"] / n + broadcast,
            broadcast,
            total["paper_up"] / n,
            total["gradients"] / n,
            total["samples"] / n,
        )
        self.append(row, evaluated, fed.take_log())
        if self.keep:
            self.iterates.append(x.clone())

    def append(self, row: Row, evaluated: Mapping[str, Any], logged: Mapping[str, Any]) -> None:
        """A row that somebody else counted."""
        with self._lock:
            at = len(self.rows)
            self.rows.append(row)
            if evaluated:
                self.evaluated = at
            if not evaluated and not logged:
                return
            for name, value in {**evaluated, **logged}.items():
                rows, column = self.sparse.setdefault(name, ([], []))
                rows.append(at)
                column.append(value)

    def snapshot(self) -> Snapshot:
        """What is recorded now."""
        with self._lock:
            columns = {name: Column(rows, values, len(rows)) for name, (rows, values) in self.sparse.items()}
            return Snapshot(self.rows, len(self.rows), columns)

    def mark(self) -> tuple[int, int]:
        """How much is recorded now."""
        return len(self.rows), self.evaluated

    def rewind(self, mark: tuple[int, int]) -> None:
        """As it was at `mark`, in new lists: who reads a snapshot keeps the old ones."""
        with self._lock:
            rows, self.evaluated = mark
            self.rows, self.iterates = self.rows[:rows], self.iterates[:rows]
            kept = {name: bisect_left(where, rows) for name, (where, _) in self.sparse.items()}
            self.sparse = {k: (at[: kept[k]], what[: kept[k]]) for k, (at, what) in self.sparse.items() if kept[k]}

    @property
    def last(self) -> dict[str, Any]:
        """The newest value of every column: of the objective, as of row `evaluated`."""
        return self.snapshot().last

    def table(self) -> pd.DataFrame:
        """All rows; NaN where a column has no value."""
        import pandas as pd

        now = self.snapshot()
        counted = np.array(now.rows[: now.length], dtype=float).reshape(-1, len(COUNTED))
        table = pd.DataFrame(counted, columns=list(COUNTED))
        table["round"] = table["round"].astype(int)
        for name, column in now.columns.items():
            values = pd.Series(column.values[: column.length], index=column.rows[: column.length])
            table[name] = values.reindex(range(len(table)))
        return table

    def state(self) -> dict[str, Any]:
        """What a run file keeps."""
        return {
            "rows": [list(r) for r in self.rows],
            "sparse": {k: [list(a), list(b)] for k, (a, b) in self.sparse.items()},
            "iterates": list(self.iterates),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """The way back from `state`."""
        with self._lock:
            self.rows = [tuple(r) for r in state["rows"]]
            self.sparse = {k: (list(a), list(b)) for k, (a, b) in state["sparse"].items()}
            self.iterates = list(state["iterates"])
            self.evaluated = self.sparse["loss"][0][-1] if self.sparse.get("loss", ([],))[0] else -1
