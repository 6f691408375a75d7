"""Where client functions run: `ol.run(..., on="flower")`, `on=ol.flower.InProcess(...)`, `on=ol.flower.Simulation(...)`.

A place (frozen, shareable) is joined by a run and gives it a session: open connects, close lets go. The run stays the
same object with the same federation; only its executor and its memory are the nodes'.
"""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from octolab.flower.requirement import check_flwr

if TYPE_CHECKING:
    from octolab.experiment.run import Run


def place(on: Any) -> Any:
    """The place that `on` names; ValueError in words for what is none."""
    named = {"flower": InProcess, "flower-simulation": Simulation}
    if isinstance(on, str) and on in named:
        return named[on]()
    if isinstance(on, str) or not hasattr(on, "join"):
        raise ValueError(
            f"on={on!r}: choose 'flower' (in this process), 'flower-simulation' (Ray), or an object: ol.flower.InProcess(), "
            f"ol.flower.Simulation(), ol.flower.SuperLink('host:port')."
        )
    return on


@dataclass(frozen=True, kw_only=True)
class Place:
    """wire: "float32" sends what is charged, "exact" the simulation's own numbers (see `octolab.flower.codec`).
    timeout: real seconds after which a client that does not answer is absent. patience: seconds to wait for nodes.
    least: nodes that must be there to start (None: one for each client); others may join later.
    """

    wire: str = "float32"
    timeout: float = 60.0
    patience: float = 60.0
    least: int | None = None

    def __post_init__(self) -> None:
        from octolab.flower.codec import check_wire

        check_wire(self.wire)
        for name in ("timeout", "patience"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)!r}: give seconds > 0.")
        if self.least is not None and (not isinstance(self.least, int) or self.least < 1):
            raise ValueError(f"least={self.least!r}: give a whole number >= 1, or None for all clients.")

    def check(self, run: Run) -> None:
        if self.least is not None and self.least > run.problem.n:
            raise ValueError(f"least={self.least}: the problem has {run.problem.n} clients.")


@dataclass(frozen=True, kw_only=True)
class InProcess(Place):
    """Flower's Grid in this process: every client a node with its own context, messages as real bytes. Fast; a
    debugger reaches everything. `on="flower"` is `InProcess()`.

    data: a data hook (client, clients) -> Problem, as in an exported app; None: the run's own problem.
    """

    data: Any = None

    def join(self, run: Run) -> InProcessSession:
        check_flwr()
        self.check(run)
        return InProcessSession(self, run)


@dataclass(frozen=True, kw_only=True)
class Simulation(Place):
    """Flower's simulation runtime: the nodes live in Ray's worker processes. `on="flower-simulation"`.

    cpus: CPUs per client that is working; how many work at once follows from the machine's. data: as in `InProcess`.
    """

    timeout: float = 300.0
    patience: float = 300.0  # Ray takes 10 to 40 seconds before the first answer
    cpus: float = 1.0
    data: Any = None

    def join(self, run: Run) -> SimulationSession:
        check_flwr()
        self.check(run)
        return SimulationSession(self, run)


def task_of(run: Run, wire: str) -> dict[str, Any]:
    """What nodes are told about a run, as JSON: the resolved method, the problem's spec, the seed, the wire.

    method and problem are None where they cannot be written down (a page of one's own, given arrays).
    """
    from octolab.experiment.spec import encode

    source = run.federation.randomness
    task = {"clients": run.problem.n, "seed": source.seed, "wire": wire, "method": None, "problem": None}
    if is_known(run.method):
        task["method"] = encode(run.method)
    spec = run.problem.spec
    if "given" not in spec:
        task["problem"] = spec
    return task


def is_known(method: Any) -> bool:
    """Whether a method can be rebuilt from JSON in another process: it is octolab's own, and so are its parts."""
    from octolab import methods
    from octolab.experiment.spec import encode

    if not type(method).__module__.startswith("octolab.methods.") or methods.get(method.slug) is not type(method):
        return False
    try:
        encode(method)
    except ValueError:
        return False
    return True


class Session:
    """A run's connection to its nodes."""

    remote = False  # whether the run's own steps happen elsewhere
    pause = 0.0  # seconds between two looks for answers

    def __init__(self, at: Place, run: Run):
        from octolab.flower.executor import GridExecutor
        from octolab.flower.nodes import Nodes
        from octolab.flower.traffic import Traffic

        self.at, self.run, self.opened = at, run, False
        self.traffic = Traffic()
        self.nodes = Nodes(
            run.problem.n, timeout=at.timeout, patience=at.patience, least=at.least, traffic=self.traffic
        )
        self.executor = GridExecutor(task_of(run, at.wire), run.method, self.nodes, self.open)
        self.executor.attach(run.federation)
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
            if self.savable:
                self.executor.put_memory(self.executor.memory())
        finally:
            self.opened = False
            self.stop()

    @property
    def savable(self) -> bool:
        """Whether a run file can be written now: what clients remember must be there to be fetched."""
        from octolab.flower.nodes import NodeError

        try:
            self.executor.memory()
            return True
        except NodeError as error:
            self.nodes.events.append(f"no run file: {error}")
            return False

    def start(self) -> Any:
        raise NotImplementedError

    def stop(self) -> None:
        pass

    def advance(self) -> bool:
        raise NotImplementedError


class InProcessSession(Session):
    """Nodes in this process; they stay as long as the run does."""

    def start(self) -> Any:
        from octolab.flower.client import client_app
        from octolab.flower.grid import InProcessGrid

        run = self.run
        at: Any = self.at
        app = client_app(at.data or run.problem, run.method, run.federation.randomness)
        self.grid = InProcessGrid(app, run.problem.n)
        return self.grid

    def close(self) -> None:
        pass


class SimulationSession(Session):
    """Nodes in Ray's processes. The runtime wants to own the ServerApp, so its main function only hands the grid over."""

    pause = 0.02

    def start(self) -> Any:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        from flwr.app import Context
        from flwr.serverapp import Grid, ServerApp

        from octolab.flower.client import client_app

        run, task = self.run, self.executor.task
        if run.federation.randomness.scripts():
            raise ValueError("Scripted randomness cannot be sent to other processes: use on='flower', or a seed.")
        at: Any = self.at
        problem = at.data or (None if task["problem"] else run.problem)
        app = client_app(problem, None if task["method"] else run.method, run.federation.randomness)
        server = ServerApp()
        self._grid: list[Grid] = []
        self._error: list[BaseException] = []
        self._ready, self._closing = threading.Event(), threading.Event()

        @server.main()
        def main(grid: Grid, context: Context) -> None:
            self._grid.append(grid)
            self._ready.set()
            self._closing.wait()

        self._thread = threading.Thread(target=self._simulate, args=(server, app), name="octolab-ray", daemon=True)
        self._thread.start()
        if not self._ready.wait(self.at.patience):
            raise TimeoutError(f"Flower's simulation runtime was not ready after {self.at.patience:g} s.")
        if self._error:
            raise RuntimeError(f"Flower's simulation runtime did not start: {self._error[0]}") from self._error[0]
        return self._grid[0]

    def _simulate(self, server: Any, app: Any) -> None:
        from flwr.simulation import run_simulation

        at: Any = self.at
        resources = {"client_resources": {"num_cpus": at.cpus, "num_gpus": 0.0}}
        logger, path = logging.getLogger("flwr"), os.environ.get("PYTHONPATH")
        level = logger.level
        logger.setLevel(
            logging.ERROR
        )  # it says that run_simulation will go; there is no other way into the runtime yet
        try:
            run_simulation(server, app, self.nodes.clients, backend_config=resources)  # type: ignore[arg-type]
        except BaseException as error:
            self._error.append(error)
        finally:
            logger.setLevel(level)
            if path is None:
                os.environ.pop("PYTHONPATH", None)
            else:
                os.environ["PYTHONPATH"] = path  # flwr lengthens it for Ray
            self._ready.set()

    def stop(self) -> None:
        if not hasattr(self, "_thread"):
            return
        self._closing.set()
        self._thread.join(timeout=60)
        import ray

        ray.shutdown()
