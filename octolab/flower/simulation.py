"""A run's connection to Flower's simulation runtime, whose nodes live in Ray's worker processes."""

from __future__ import annotations

import logging
import os
import threading

from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from octolab.flower.client import client_app
from octolab.flower.connection import Connection
from octolab.flower.world import Simulation


class SimulationConnection(Connection):
    """Nodes in Ray's processes. The runtime wants to own the ServerApp, so its main function only hands the grid over."""

    at: Simulation
    pause = 0.02

    def start(self) -> Grid:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        run, task = self.run, self.executor.task
        if run.federation.randomness.scripts():
            raise ValueError("Scripted randomness cannot be sent to other processes: use on='flower', or a seed.")
        problem = self.at.data or (None if task["problem"] else run.problem)
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

    def _simulate(self, server: ServerApp, app: ClientApp) -> None:
        from flwr.simulation import run_simulation

        resources = {"client_resources": {"num_cpus": self.at.cpus, "num_gpus": 0.0}}
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
