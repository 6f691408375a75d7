"""The ledger: what was really sent and computed, per client, up, down to a cohort and broadcast to all apart."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

COLUMNS = ("up", "down", "broadcast", "paper_up", "gradients", "samples", "replies")
OLD = {"rounds": "replies"}  # names of before, also in run files


class Ledger:
    """Exact counts per client, cumulative over the run.

    up, down, broadcast: bits sent by a client, received as a member of a cohort, received as one of all. A broadcast
    is counted once per client that receives it. paper_up: the uplink in the papers' convention (indices free).
    gradients: gradient evaluations (a minibatch is one); samples: sample-gradients. replies: calls and jobs answered.
    """

    def __init__(self, n: int):
        self.n = n
        self._each = {c: np.zeros(n) for c in COLUMNS}  # float64: whole numbers stay exact up to 2**53
        self._view = self._one_by_one()
        self._all = dict.fromkeys(COLUMNS, 0.0)  # the same for everybody
        self._total = dict.fromkeys(COLUMNS, 0.0)

    @property
    def totals(self) -> dict[str, float]:
        """Column -> its sum over the clients, to be read."""
        return self._total

    def _one_by_one(self) -> dict[str, memoryview[float]]:
        """The same numbers (no copy), for one client at a time: twice as fast."""
        return {c: memoryview(v) for c, v in self._each.items()}  # type: ignore[arg-type, misc]

    def add(self, clients: np.ndarray | None = None, /, **amounts: Any) -> None:
        """Charge `clients` (None: everybody) an amount in each column: one number, or one per client. `add(up=320)`.

        A client that appears twice, in a cohort drawn with replacement, pays twice.
        """
        n = self.n if clients is None else len(clients)
        for column, amount in amounts.items():
            if isinstance(amount, np.ndarray):
                self._total[column] += float(amount.sum())
            else:
                self._total[column] += amount * n
                if clients is None:
                    self._all[column] += amount
                    continue
            if clients is None:
                self._each[column] += amount
            else:
                np.add.at(self._each[column], clients, amount)

    def take_back(self, clients: np.ndarray | None, amounts: dict[str, Any]) -> None:
        """The opposite of `add`, exactly: amounts are whole numbers."""
        self.add(clients, **{column: -amount for column, amount in amounts.items()})

    def add_one(self, column: str, amount: float, client: int) -> None:
        self._view[column][client] += amount
        self._total[column] += amount

    def answered(self, client: int, bits: float, times: int = 1) -> None:
        """Charge a job's reply of `bits` (times=-1: it did not arrive after all)."""
        view, total, bits = self._view, self._total, times * bits
        view["up"][client] += bits
        view["paper_up"][client] += bits
        view["replies"][client] += times
        total["up"] += bits
        total["paper_up"] += bits
        total["replies"] += times

    def per_client(self, column: str) -> np.ndarray:
        """(n,) cumulative counts of one column: up, down, broadcast, paper_up, gradients, samples, replies."""
        column = _named(column)
        return self._each[column] + self._all[column]

    def mean(self, column: str) -> float:
        return self._total[_named(column)] / self.n

    def total(self, column: str) -> float:
        return self._total[_named(column)]

    @property
    def bits_up(self) -> float:
        """Mean over clients of the bits each has sent."""
        return self.mean("up")

    @property
    def bits_down(self) -> float:
        """Mean over clients of the bits each has received, cohort and broadcast together."""
        return (self._total["down"] + self._total["broadcast"]) / self.n

    def __repr__(self) -> str:
        return f"Ledger of {self.n} clients: {self.bits_up:,.0f} bits up and {self.bits_down:,.0f} down per client"

    def state(self) -> dict[str, Any]:
        return {
            "each": {c: v.copy() for c, v in self._each.items()},
            "all": dict(self._all),
            "total": dict(self._total),
        }

    def restore(self, state: dict[str, Any]) -> None:
        each, same, total = ({OLD.get(c, c): v for c, v in state[part].items()} for part in ("each", "all", "total"))
        self._each = {c: np.array(v, dtype=np.float64) for c, v in each.items()}
        self._view = self._one_by_one()
        self._all, self._total = same, total


def _named(column: str) -> str:
    """A column's present name."""
    if column in OLD:
        warnings.warn(f"The ledger's column {column!r} is now {OLD[column]!r}.", DeprecationWarning, stacklevel=3)
    return OLD.get(column, column)
