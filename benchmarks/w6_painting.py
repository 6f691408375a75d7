"""W6: what a run loses to being watched: the same run in a worker thread, alone and under a live dashboard.

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
from benchmarks.timing import Arms


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
    """EF21 on l2-logistic regression, 50 clients, d=650: rounds of a few milliseconds, bits and time recorded."""
    problem = ol.problems.classification("digits", clients=50, split=ol.data.Dirichlet(alpha=0.3))
    fleet = ol.Fleet(seconds=np.linspace(1, 3, 50), up=1e5)
    method = ol.methods.EF21(compressor=ol.compressors.TopK(0.05))
    return lambda: ol.start(method, problem, rounds=1500, fleet=fleet)


def quick() -> Any:
    """GD on a small quadratic: the shortest rounds there are, every one evaluated and recorded."""
    problem = ol.problems.quadratics(n=20, d=100, L=10, mu=1, seed=0)
    return lambda: ol.start("gd", problem, rounds=40_000, evaluate_every=1)


def events() -> Any:
    """Ringmaster ASGD, 1,000 devices, an arrival per row, the device timeline on show."""
    problem = ol.problems.Tridiagonal(d=200, n=1000)
    fleet = ol.Fleet(seconds=np.sqrt(np.arange(1, 1001)))
    method = ol.methods.Ringmaster(R=300, lr=0.002)
    return lambda: ol.start(method, problem, rounds=150_000, fleet=fleet)


def loss_to_painting(start: Any, panel: str, repeats: int) -> tuple[float, float, float]:
    """Share of wall time lost, processor time spent on top of the run's own, and repaints a second."""
    from octolab.lab.dashboard import Dashboard

    board = Dashboard(panel=panel)
    used: dict[str, list[float]] = {"bare": [], "painted": []}
    rates = []

    def bare() -> None:
        begin = time.process_time()
        start().result()
        used["bare"].append(time.process_time() - begin)

    def painted() -> None:
        begin, clock, before = time.process_time(), time.perf_counter(), board.painter.paints
        run = start()
        board.show(run)
        run.result()
        used["painted"].append(time.process_time() - begin)
        rates.append((board.painter.paints - before) / (time.perf_counter() - clock))

    arms = Arms(bare=bare, painted=painted).run(repeats)
    board.close()
    extra = statistics.median(p / b for b, p in zip(used["bare"], used["painted"], strict=True)) - 1
    return arms.ratio("bare", "painted") - 1, extra, statistics.median(rates)


def bench(repeats: int = 7) -> dict[str, float]:
    warnings.simplefilter("ignore")
    post()
    found = {}
    for name, make, panel in (
        ("EF21, convex, overview", convex, "overview"),
        ("GD, shortest rounds, convergence", quick, "convergence"),
        ("Ringmaster, 1,000 devices, timeline", events, "time"),
    ):
        share, extra, rate = loss_to_painting(make(), panel, repeats)
        print(f"W6  {name}: painting costs {share:.1%} of the wall time (must be < 5%), "
              f"{extra:.1%} more processor time, {rate:.1f} repaints/s")  # fmt: skip
        found[name] = share
    return found


if __name__ == "__main__":
    bench()
