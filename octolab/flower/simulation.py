"""A run's connection to Flower's simulation runtime, whose nodes live in Ray's worker processes."""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from octolab.errors import OctolabError
from octolab.flower.client import client_app
from octolab.flower.connected_nodes import NodeError
from octolab.flower.connection import Connection
from octolab.flower.requirement import HOW
from octolab.flower.world import Simulation


class SimulationFailed(OctolabError, RuntimeError):
    """Flower's simulation runtime did not start, or it broke; the message holds Ray's own reason."""


class SimulationConnection(Connection):
    """Nodes in Ray's processes. The runtime wants to own the ServerApp, so its main function only hands the grid over."""

    at: Simulation
    pause = 0.02

    def open(self) -> None:
        try:
            super().open()
        except NodeError as error:  # no node has said anything wrong: Ray itself may not be there
            import ray

            if self.nodes.node or ray.is_initialized():
                raise
            raise SimulationFailed(
                f"Ray has not started within {self.at.patience:g} s, and says nothing. Try `import ray; ray.init()` by itself, "
                f"give it longer (ol.flower.Simulation(patience=...)), or use on='flower', which needs no Ray."
            ) from error

    def start(self) -> Grid:
        if importlib.util.find_spec("ray") is None:
            raise ImportError(
                f"on='flower-simulation' needs Ray, which is not installed: {HOW} (it has flwr[simulation]), or use "
                f"on='flower', which needs no Ray."
            )
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        run, task = self.run, self.executor.task
        if run.federation.randomness.scripts():
            raise ValueError("Scripted randomness cannot be sent to other processes: use on='flower', or a seed.")
        problem = self.at.data or (None if task["problem"] else run.problem)
        app = client_app(problem, None if task["method"] else run.method, run.federation.randomness)
        server = ServerApp()
        self._grid: list[Grid] = []
        self._error: BaseException | None = None
        self._ended = False
        self._ready, self._closing = threading.Event(), threading.Event()

        @server.main()
        def main(grid: Grid, context: Context) -> None:
            self._grid.append(grid)
            self._ready.set()
            self._closing.wait()

        self._thread = threading.Thread(target=self._simulate, args=(server, app), name="octolab-ray", daemon=True)
        self._thread.start()
        self._ready.wait(self.at.patience)
        self.check()
        if not self._grid:
            raise SimulationFailed(f"Flower's simulation runtime was not ready after {self.at.patience:g} s.")
        self.nodes.check = self.check
        return self._grid[0]

    def check(self) -> None:
        """Raise if the runtime is gone; whoever waits for nodes asks this, at every look."""
        if not self._ended or self._closing.is_set():
            return
        reason = _reason(self._error) if self._error is not None else "it ended without a word"
        raise SimulationFailed(
            f"Flower's simulation runtime broke: {reason}. Ray's own log is in /tmp/ray/session_latest/logs, where it got "
            f"that far. on='flower' runs the same without Ray."
        ) from self._error

    def _simulate(self, server: ServerApp, app: ClientApp) -> None:
        from flwr.simulation import run_simulation

        resources = {"client_resources": {"num_cpus": self.at.cpus, "num_gpus": 0.0}}
        try:
            with _quiet_flower():
                run_simulation(server, app, self.nodes.clients, backend_config=resources)  # type: ignore[arg-type]
        except BaseException as error:  # SystemExit too: it is how flwr says that an extra is missing
            self._error = error
        finally:
            self._ended = True
            self._ready.set()

    def stop(self) -> None:
        if not hasattr(self, "_thread"):
            return
        self._closing.set()
        self._thread.join(timeout=60)
        import ray

        ray.shutdown()


@contextmanager
def _quiet_flower() -> Iterator[None]:
    """Without flwr's warning that run_simulation will go (there is no other way into the runtime yet), and with the
    PYTHONPATH of before, which flwr lengthens for Ray.
    """
    logger, path = logging.getLogger("flwr"), os.environ.get("PYTHONPATH")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # its errors are raised here, with their reason
    try:
        yield
    finally:
        logger.setLevel(level)
        if path is None:
            os.environ.pop("PYTHONPATH", None)
        else:
            os.environ["PYTHONPATH"] = path


def _reason(error: BaseException) -> str:
    """The first error of a chain, in its own words."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return f"{type(error).__name__}: {error}".rstrip(". ")
