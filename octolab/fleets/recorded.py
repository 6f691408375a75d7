"""A fleet whose jobs end when a record says so: how an asynchronous run is replayed to the same trajectory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from octolab.arguments import expect, sequence
from octolab.fleets.fleet import Fleet
from octolab.fleets.rows import bad_rows
from octolab.params import param
from octolab.rooms import register

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("done", "ignored", "dropped", "cancelled")


@register("fleets")
@dataclass(frozen=True, eq=False, repr=False)
class Recorded(Fleet):
    """The jobs of a record, in the order of their ends: whose, when (virtual seconds), and what became of each.

    A client's jobs end one after the other as recorded: "done" and "ignored" ones arrive, a "dropped" one is given up then,
    a "cancelled" one never ends by itself, nor does any after the record. Synchronous calls take no time.
    """

    clients: Sequence[int] = param((), "whose job ended")
    times: Sequence[float] = param((), "when it ended, in virtual seconds")
    kinds: Sequence[str] = param((), "done, ignored, dropped or cancelled")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("clients", "times", "kinds"):
            expect("Recorded: ", name, getattr(self, name), sequence("a list with one entry for each job"))
        wrong = [
            f"row {k}: client={i!r}, time={t!r}, kind={kind!r}"
            for k, (i, t, kind) in enumerate(zip(self.clients, self.times, self.kinds, strict=True))
            if not (int(i) == i and i >= 0 and 0 <= t < math.inf and kind in KINDS)
        ]
        if wrong:
            allowed = f"client numbers >= 0, finite times >= 0, kinds out of {', '.join(KINDS)}"
            raise ValueError(f"{bad_rows('The record', wrong)} Give {allowed}.")
        ends: dict[int, list[tuple[float, bool]]] = {}
        for i, t, kind in zip(self.clients, self.times, self.kinds, strict=True):
            ends.setdefault(int(i), []).append((math.inf if kind == "cancelled" else float(t), kind == "dropped"))
        object.__setattr__(self, "_ends", ends)

    @classmethod
    def from_events(cls, events: pd.DataFrame) -> Recorded:
        """From a table with the columns time, client and kind: `run.events`."""
        missing = [c for c in ("time", "client", "kind") if c not in events.columns]
        if missing:
            raise ValueError(
                f"The events lack the column {', '.join(missing)}: give run.events, or what it was written to."
            )
        kinds = events["kind"].astype(str).tolist()
        return cls(clients=events["client"].tolist(), times=events["time"].astype(float).tolist(), kinds=kinds)

    def __repr__(self) -> str:
        return f"Recorded({len(self.times):,} jobs)"

    def check(self, n: int) -> None:
        if len(self.clients) and max(self.clients) >= n:
            raise ValueError(f"The record names client {max(self.clients)}: there are {n} clients, from 0.")

    @property
    def instant(self) -> bool:
        return True

    def end(self, client: int, number: int) -> tuple[float, bool]:
        """When the client's job of that number ends (inf: never by itself), and whether it is given up then."""
        own: list[tuple[float, bool]] = self._ends.get(client, [])  # type: ignore[attr-defined]
        return own[number] if number < len(own) else (np.inf, False)
