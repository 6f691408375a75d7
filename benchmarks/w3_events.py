"""W3: the asynchronous event core, nothing to evaluate. Bound: a bare heap with a delay test."""

from __future__ import annotations

import heapq

import numpy as np

import octolab as ol
from benchmarks.timing import Arms, thousands
from octolab.federation import Federation


def nothing(cohort, x):
    raise AssertionError("no result is read, so nothing is evaluated")


def bench(n: int = 10_000, events: int = 100_000) -> dict[str, float]:
    seconds = np.sqrt(np.arange(1, n + 1))
    problem = ol.problems.Tridiagonal(d=2, n=n)

    def core() -> None:
        fed = Federation(problem, fleet=ol.Fleet(seconds=seconds))
        x = fed.x0
        for i in range(n):
            fed.submit(i, nothing, x, tag=0, sends=64)
        for k in range(events):
            job = fed.next()
            fed.submit(job.client, nothing, x, tag=k, sends=64)

    def bare() -> None:
        tau = seconds.tolist()
        heap = [(tau[i], i, 0) for i in range(n)]
        heapq.heapify(heap)
        for k in range(events):
            now, i, version = heapq.heappop(heap)
            if k - version < 100:
                pass
            heapq.heappush(heap, (now + tau[i], i, k))

    arms = Arms(octolab=core, bound=bare)
    arms.run(repeats=5)
    rate = (events + n) / arms.seconds["octolab"]
    print(
        f"W3  event core, n={n:,}: {thousands(rate)} events/s; {arms.ratio('bound', 'octolab'):.1f} x slower than a bare heap"
    )
    return {"events_per_second": rate, "times_bare_heap": arms.ratio("bound", "octolab")}


if __name__ == "__main__":
    bench()
