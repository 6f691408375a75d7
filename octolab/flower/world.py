"""Where a run's client functions are evaluated on Flower: the values of `on=`, with the settings they share.

A world is frozen and shareable. A run joins it and gets a connection of its own (`octolab.flower.connection`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from octolab.arguments import expect, number, whole
from octolab.flower.requirement import check_flwr

if TYPE_CHECKING:
    from octolab.experiment.run import Run
    from octolab.flower.connection import InProcessConnection
    from octolab.flower.messages import DataHook
    from octolab.flower.simulation import SimulationConnection


@dataclass(frozen=True, kw_only=True)
class FlowerWorld:
    """wire: "float32" sends what is charged, "exact" the simulation's own numbers (see `octolab.flower.codec`).

    timeout: real seconds after which a client that does not answer is absent; its first answer may take `patience` more.
    patience: seconds to wait for nodes at the start, and for one answer where nobody gives any; then the run stops with a
    sentence. least: nodes that must be there to start (None: one for each client); others may join later.
    """

    wire: str = "float32"
    timeout: float = 60.0
    patience: float = 60.0
    least: int | None = None

    def __post_init__(self) -> None:
        from octolab.flower.codec import check_wire

        check_wire(self.wire)
        for name in ("timeout", "patience"):
            expect("", name, getattr(self, name), number("seconds", gt=0, infinite=True))
        expect("", "least", self.least, whole(1), optional=True)

    def check(self, run: Run) -> None:
        if self.least is not None and self.least > run.problem.n:
            raise ValueError(f"least={self.least}: the problem has {run.problem.n} clients.")


@dataclass(frozen=True, kw_only=True)
class InProcess(FlowerWorld):
    """Flower's Grid in this process: every client a node with its own context, messages as real bytes. Fast; a
    debugger reaches everything. `on="flower"` is `InProcess()`.

    data: a data hook (client, clients) -> Problem, as in an exported app; None: the run's own problem.
    """

    data: DataHook | None = None

    def join(self, run: Run) -> InProcessConnection:
        check_flwr()
        self.check(run)
        from octolab.flower.connection import InProcessConnection

        return InProcessConnection(self, run)


@dataclass(frozen=True, kw_only=True)
class Simulation(FlowerWorld):
    """Flower's simulation runtime: the nodes live in Ray's worker processes. `on="flower-simulation"`.

    cpus: CPUs per client that is working; how many work at once follows from the machine's. data: as in `InProcess`.
    """

    timeout: float = 300.0
    patience: float = 300.0  # Ray takes 10 to 40 seconds before the first answer
    cpus: float = 1.0
    data: DataHook | None = None

    def join(self, run: Run) -> SimulationConnection:
        check_flwr()
        self.check(run)
        from octolab.flower.simulation import SimulationConnection

        return SimulationConnection(self, run)
