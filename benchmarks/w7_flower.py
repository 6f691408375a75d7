"""W7: the third world. Rounds on Flower's in-process Grid against the same run here, and what the envelope weighs."""

from __future__ import annotations

import time
import warnings
from typing import Any

import octolab as ol
from benchmarks.timing import Arms

ROUNDS = 60


def cases() -> dict[str, tuple[Any, Any]]:
    tiny = ol.problems.quadratics(n=10, d=20, L=10, mu=1)
    network = ol.problems.classification("digits", model="mlp", clients=10)
    return {
        "FedAvg": (ol.methods.FedAvg(local_epochs=1), tiny),
        "EF21": (ol.methods.EF21(), tiny),
        "SCAFFOLD": (ol.methods.SCAFFOLD(), tiny),
        "FedAvg, MLP d=4,810": (ol.methods.FedAvg(lr=0.05, local_epochs=1, batch_size=10), network),
    }


def bench() -> dict[str, float]:
    warnings.simplefilter("ignore")
    out: dict[str, float] = {}
    for name, (method, problem) in cases().items():
        made: list[ol.Run] = []

        def go(method: Any = method, problem: Any = problem, made: Any = made, **how: Any) -> None:
            made.append(ol.run(method, problem, rounds=ROUNDS, evaluate_every=ROUNDS, live=False, **how))

        arms = Arms(
            here=lambda go=go: go(),
            one_by_one=lambda go=go: go(executor="loop"),
            flower=lambda go=go: go(on="flower"),
            exact=lambda go=go: go(on=ol.flower.InProcess(wire="exact")),
        ).run(repeats=3)
        traffic = next(run.world.traffic for run in reversed(made) if run.world and run.settings.on == "flower")
        rate = ROUNDS / arms.seconds["flower"]
        must = " (must be >= 100)" if problem.d == 20 else ""
        print(
            f"W7  {name}, 10 clients: {rate:,.0f} rounds/s on the Grid{must}; {arms.ratio('here', 'flower'):.1f} x the time "
            f"of a stacked run, {arms.ratio('one_by_one', 'flower'):.2f} x one client at a time; exact wire "
            f"{arms.ratio('exact', 'flower'):.2f} x faster; envelope {traffic.envelope:.2f} bytes per payload byte"
        )
        out[name] = rate
    start = time.perf_counter()
    ol.run(*cases()["EF21"], rounds=0, on="flower", live=False)
    print(f"W7  to greet 10 nodes in this process and start EF21: {1000 * (time.perf_counter() - start):.0f} ms")
    return out


if __name__ == "__main__":
    bench()
