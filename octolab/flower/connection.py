"""A run's connection to its nodes: opened when the run first needs them, closed at its end.

The run stays the same object with the same federation; only its executor and its memory are the nodes'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from octolab.flower.client import client_app
from octolab.flower.connected_nodes import ConnectedNodes
from octolab.flower.executor import GridExecutor
from octolab.flower.grid import InProcessGrid
from octolab.flower.task import task_of
from octolab.flower.traffic import Traffic
from octolab.flower.world import FlowerWorld, InProcess

if TYPE_CHECKING:
    from flwr.serverapp import Grid

    from octolab.experiment.run import Run


class Connection:
    """A run's connection to its nodes."""

    remote = False  # whether the run's own steps happen elsewhere
    nodes_end = True  # whether the nodes, and what they remember, end with the run
    pause = 0.0  # seconds between two looks for answers

    def __init__(self, at: FlowerWorld, run: Run):
        self.at, self.run, self.opened = at, run, False
        self.traffic = Traffic()
        self.nodes = ConnectedNodes(
            run.problem.n, timeout=at.timeout, patience=at.patience, least=at.least, traffic=self.traffic
        )
        self.executor = GridExecutor(task_of(run, at.wire), run.method, self.nodes, self.open)
        self.executor.attach(run.federation)
        self.executor.copies_wanted = self._memory_is_wanted
        if hasattr(run.problem, "ask"):
            run.problem.ask(self.executor.evaluate)
        if hasattr(run.problem, "put_metrics"):
            self.executor.metrics = run.problem.put_metrics

    def open(self) -> None:
        """Connect, if that has not been done."""
        if self.opened:
            return
        self.opened = True
        try:
            self.nodes.connect(self.start(), self.pause)
            if out := self.run.federation.out:
                self.nodes.events.append(f"clients {sorted(out)} stay out: what they remembered was lost earlier")
            self.meet()
        except BaseException:
            self.stop()
            self.opened = False
            raise

    def meet(self) -> None:
        """What follows from who is there: samples per client, where the data are the nodes' own."""
        sizes = None
        if hasattr(self.run.problem, "settle"):
            sizes = [self.nodes.samples.get(c, 1) for c in range(self.nodes.clients)]
            self.run.problem.settle(sizes)
            fed, weights = self.run.federation, self.run.problem.weights.to(self.run.problem.dtype)
            fed.weights = weights
            fed.same_weight = float(weights[0]) if bool((weights == weights[0]).all()) else None
        self.executor.tell(sizes)

    def close(self) -> None:
        """Let the nodes go; what they remember comes here, so that the run can go on or be saved."""
        if not self.opened:
            return
        try:
            self.executor.put_memory(self.executor.memory())
            self.run.federation.out |= self.executor.remembered.missing
        finally:
            self.opened = False
            self.stop()

    @property
    def savable(self) -> bool:
        """A run file can always be written: clients whose memory cannot be fetched are marked out in it."""
        return True

    def _memory_is_wanted(self) -> bool:
        """Whether what clients remember after this round will be read at once, for a run file or because the nodes end."""
        run, every = self.run, self.run.settings.checkpoint_every
        if run.round + 1 >= run.settings.rounds:
            return self.nodes_end or run.settings.checkpoint is not None
        return run.settings.checkpoint is not None and every is not None and (run.round + 1) % every == 0

    def start(self) -> Grid:
        raise NotImplementedError

    def stop(self) -> None:
        pass

    def launch(self) -> None:
        """Nothing to do: the run's steps are taken here."""

    def advance(self) -> bool:
        raise NotImplementedError


class InProcessConnection(Connection):
    """Nodes in this process; they stay as long as the run does."""

    at: InProcess
    nodes_end = False

    def start(self) -> Grid:
        run = self.run
        app = client_app(self.at.data or run.problem, run.method, run.federation.randomness)
        self.grid = InProcessGrid(app, run.problem.n)
        return self.grid

    def close(self) -> None:
        """The nodes stay."""
