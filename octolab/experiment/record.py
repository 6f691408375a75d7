"""What a run writes down: one row per step, in columns, converted late."""

from __future__ import annotations

from typing import Any

import torch

COUNTED = ("round", "time", "bits_up", "bits_down", "bits_broadcast", "paper_bits_up", "gradients", "samples")


class Recorder:
    """Columns, cumulative and per client on average where they count.

    round; time: virtual seconds; bits_up, bits_down: sent and received by a client (bits_down includes broadcasts,
    bits_broadcast is their share); paper_bits_up: indices free, as papers count; gradients, samples: work; then what
    the problem evaluates (loss, grad_norm_sq, accuracy, ...; NaN in rounds between two evaluations), the same of personal
    models (personal_loss, ...; see `personal_metrics`) and what the method logs.
    """

    def __init__(self, keep: bool = False):
        self.rows: list[tuple[float, ...]] = []
        self.sparse: dict[str, tuple[list[int], list[Any]]] = {}  # name -> (row numbers, values)
        self.iterates: list[torch.Tensor] = []
        self.keep = keep

    def add(self, number: int, fed: Any, evaluated: dict[str, float], x: torch.Tensor) -> None:
        ledger, n = fed.ledger, fed.n
        total = ledger._total
        broadcast = total["broadcast"] / n
        self.rows.append(
            (
                number,
                fed.now,
                total["up"] / n,
                total["down"] / n + broadcast,
                broadcast,
                total["paper_up"] / n,
                total["gradients"] / n,
                total["samples"] / n,
            )
        )
        logged = fed.take_log()
        if evaluated or logged:
            at = len(self.rows) - 1
            for name, value in (*evaluated.items(), *logged.items()):
                where, what = self.sparse.setdefault(name, ([], []))
                where.append(at)
                what.append(value)
        if self.keep:
            self.iterates.append(x.clone())

    @property
    def last(self) -> dict[str, Any]:
        """The newest value of every column."""
        if not self.rows:
            return {}
        row: dict[str, Any] = dict(zip(COUNTED, self.rows[-1], strict=True))
        row.update({name: what[-1] for name, (_, what) in self.sparse.items()})
        return row

    def table(self) -> Any:
        import numpy as np
        import pandas as pd

        table = pd.DataFrame(np.array(self.rows, dtype=float).reshape(-1, len(COUNTED)), columns=list(COUNTED))
        table["round"] = table["round"].astype(int)
        for name, (where, what) in self.sparse.items():
            column = pd.Series(what, index=where).reindex(range(len(table)))
            table[name] = column
        return table

    def state(self) -> dict[str, Any]:
        return {
            "rows": [list(r) for r in self.rows],
            "sparse": {k: [list(a), list(b)] for k, (a, b) in self.sparse.items()},
            "iterates": list(self.iterates),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.rows = [tuple(r) for r in state["rows"]]
        self.sparse = {k: (list(a), list(b)) for k, (a, b) in state["sparse"].items()}
        self.iterates = list(state["iterates"])
