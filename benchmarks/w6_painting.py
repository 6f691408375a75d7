"""W6: what a run loses to being watched: its speed in a worker thread under a live dashboard, and alone.

The dashboard repaints as in a notebook: its messages are packed and signed by Jupyter's own session, and thrown away
instead of sent. Target: less than 5 % of the run's wall time, at up to 10 repaints a second.
"""

from __future__ import annotations

import statistics
import time
import warnings
from typing import Any

import numpy as np

import octolab as ol


def post() -> None:
    """Let widgets pack their messages as in a kernel."""
    import comm
    from comm.base_comm import BaseComm
    from jupyter_client.session import Session

    session = Session(key=b"octolab")

    class Posted(BaseComm):
        def publish_msg(
            self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **_: Any
        ) -> None:
            content = {"data": data or {}, "comm_id": self.comm_id}
            session.serialize(session.msg(msg_type, content, metadata=metadata))
            for buffer in buffers or ():
                bytes(memoryview(buffer))

    comm.create_comm = Posted


def convex() -> Any:
    """EF21 on l2-logistic regression, 50 clients, d=650: bits and time recorded."""
    problem = ol.problems.classification("digits", clients=50, split=ol.data.Dirichlet(alpha=0.3))
    fleet = ol.Fleet(seconds=np.linspace(1, 3, 50), up=1e5)
    method = ol.methods.EF21(compressor=ol.compressors.TopK(0.05))
    return ol.start(method, problem, rounds=10**7, fleet=fleet, evaluate_every=3)


def quick() -> Any:
    """GD on a small quadratic: the shortest rounds there are, every one evaluated and recorded."""
    problem = ol.problems.quadratics(n=20, d=100, L=10, mu=1, seed=0)
    return ol.start("gd", problem, rounds=10**7, evaluate_every=1)


def events() -> Any:
    """Ringmaster ASGD, 1,000 devices, an arrival per row, the device timeline on show."""
    problem = ol.problems.Tridiagonal(d=200, n=1000)
    fleet = ol.Fleet(seconds=np.sqrt(np.arange(1, 1001)))
    method = ol.methods.Ringmaster(R=300, lr=0.002)
    return ol.start(method, problem, rounds=10**7, fleet=fleet, evaluate_every=300)


def loss_to_painting(start: Any, panel: str, seconds: float) -> tuple[float, float, float]:
    """Share of a run's speed that painting costs, its standard error, and repaints a second.

    The painter is put to work and sent away in turns, for half a second each, while runs go on: whatever else the
    machine does hits both alike. Each four turns (on, off, off, on) give one ratio, each three ratios take a new run.
    """
    from octolab.lab.dashboard import Dashboard

    board, end = Dashboard(panel=panel), time.monotonic() + seconds
    kept: list[float] = []
    paints = watched = 0.0
    while time.monotonic() < end:
        run = start()
        board.show(run)
        for _ in range(3):
            speed = {True: 0.0, False: 0.0}
            for on in (True, False, False, True):
                (board.painter.start if on else board.painter.stop)()
                begin, at, before = time.perf_counter(), run.round, board.painter.paints
                time.sleep(0.5)
                took = time.perf_counter() - begin
                speed[on] += (run.round - at) / took
                if on:
                    paints, watched = paints + board.painter.paints - before, watched + took
            kept.append(speed[True] / speed[False])
        run.stop().result()
    board.close()
    return 1 - statistics.mean(kept), statistics.stdev(kept) / len(kept) ** 0.5, paints / watched


def bench(seconds: float = 90.0) -> dict[str, float]:
    warnings.simplefilter("ignore")
    post()
    found = {}
    for name, start, panel in (
        ("EF21, convex, overview", convex, "overview"),
        ("GD, shortest rounds, convergence", quick, "convergence"),
        ("Ringmaster, 1,000 devices, timeline", events, "time"),
    ):
        share, error, rate = loss_to_painting(start, panel, seconds)
        print(
            f"W6  {name}: painting costs {share:.1%} +- {error:.1%} of the run's speed (must be < 5%), {rate:.1f} repaints/s"
        )
        found[name] = share
    return found


if __name__ == "__main__":
    bench()
