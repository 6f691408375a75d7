"""Who was suspected, against who really lied."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from octolab.arguments import RUN, expects

if TYPE_CHECKING:
    from octolab.experiment import Run


class Detection(NamedTuple):
    """Counts over all rounds: attackers' replies that reached a rule, replies flagged, and those that are both.

    precision: None if nothing was flagged; recall: None if no attacker was asked.
    """

    attackers: int
    flagged: int
    caught: int

    @property
    def precision(self) -> float | None:
        return self.caught / self.flagged if self.flagged else None

    @property
    def recall(self) -> float | None:
        return self.caught / self.attackers if self.attackers else None

    @property
    def f1(self) -> float | None:
        """2 caught / (flagged + attackers); None if there are neither."""
        total = self.flagged + self.attackers
        return 2 * self.caught / total if total else None


@expects(run=RUN)
def detection(run: Run) -> Detection:
    """What the flag rule (see `octolab.federation.rule.flagged`) would have said, summed over the rounds of a run.

    Only calls that a robust rule aggregated, in a run with an attack, are looked at. The truth is the simulator's: a
    server does not have it, and under secure aggregation it has no single messages either.
    """
    table = run.history
    counts = {name: int(table[name].sum()) if name in table else 0 for name in Detection._fields}
    return Detection(**counts)
