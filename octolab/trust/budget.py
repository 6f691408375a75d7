"""A privacy budget that belongs to data: spent by every run on them, and never overdrawn."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from octolab.arguments import expects, number, path
from octolab.trust.accounting import Guarantee, composed, largest

if TYPE_CHECKING:
    from octolab.experiment.callbacks.callback import View

_spent: dict[str, dict[str, Guarantee]] = {}
"""What runs of this process have spent: by the data's checksum, then by run."""


@lru_cache(maxsize=64)
def _allowed(budget: float, delta: float, others: tuple[Guarantee, ...], one: Guarantee) -> int:
    """How many releases of a kind fit into a budget beside others: found once, not asked anew in every round."""

    return largest(lambda steps: composed([*others, replace(one, steps=steps)], delta) <= budget)


class Budget:
    """A callback that ends a run before its data's epsilon exceeds the budget: `ol.run(..., callbacks=[Budget(2.0, 1e-5)])`.

    Budgets are of the data, not of a run: what other runs on the same data have spent counts, in this process, and with
    `file` (JSON, written after every round) in others, too. The same run again (same spec and seed, resumed or not) spends
    once: it releases the same models. A data set has one budget, however it is divided among clients and whatever model is
    trained on it.

    epsilon, delta: of all releases together. file: where the ledger is kept.
    """

    @expects(
        epsilon=number("a budget", ge=0),
        delta=number("smaller than one over the number of clients", gt=0, lt=1),
        file=path(),
    )
    def __init__(self, epsilon: float, delta: float = 1e-5, file: str | os.PathLike[str] | None = None):
        self.epsilon, self.delta = float(epsilon), float(delta)
        self.file = None if file is None else os.path.expanduser(os.fspath(file))

    def __repr__(self) -> str:
        return f"Budget(epsilon={self.epsilon:g}, delta={self.delta:g})"

    def spent(self, data: str) -> float:
        """The epsilon that all runs on these data have spent; data: as in the ledger."""
        return composed(list(self._entries(data).values()), self.delta)

    def would_exceed(self, run: View, rounds: int = 1) -> bool:
        """Whether so many more rounds of this run would break the budget."""
        data, name, claim = self._of(run)
        others = tuple(g for k, g in self._entries(data).items() if k != name)
        return claim.steps + rounds > _allowed(self.epsilon, self.delta, others, replace(claim, steps=0, epsilon=0.0))

    def on_start(self, run: View) -> str | None:
        return "stop" if run.round >= 0 and self.would_exceed(run) else None

    def on_evaluate(self, run: View) -> str | None:
        """Round 0 is evaluated, and has released nothing yet: a run without any budget ends there."""
        return "stop" if self.would_exceed(run) else None

    def on_round(self, run: View) -> str | None:
        data, name, claim = self._of(run)
        self._entries(data)[name] = claim
        self._write()
        return "stop" if self.would_exceed(run) else None

    def _of(self, run: View) -> tuple[str, str, Guarantee]:
        claim = run.guarantee(self.delta)
        if claim.epsilon is None:
            raise ValueError(f"{self!r} cannot count what has no guarantee: {claim.note}.")
        spec = run.problem.spec
        return str(spec.get("dataset") or spec.get("fingerprint") or spec), str(run.spec["hash"]), claim

    def _entries(self, data: str) -> dict[str, Guarantee]:
        if self.file is not None and os.path.exists(self.file):
            with open(self.file, encoding="utf-8") as file:
                for key, runs in json.load(file).items():
                    held = _spent.setdefault(key, {})
                    for name, fields in runs.items():
                        held.setdefault(name, Guarantee(**fields))
        return _spent.setdefault(data, {})

    def _write(self) -> None:
        if self.file is None:
            return
        content = {data: {name: asdict(g) for name, g in runs.items()} for data, runs in _spent.items()}
        folder = os.path.dirname(os.path.abspath(self.file))
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, encoding="utf-8") as file:
            json.dump(content, file)
        os.replace(file.name, self.file)
