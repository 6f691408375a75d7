"""Asynchronous SGD in plain Python: the reference for ASGD and Ringmaster."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import NamedTuple

import numpy as np


class Arrival(NamedTuple):
    x: np.ndarray  # the server's model after it
    time: float
    client: int
    delay: int
    used: bool


def simulate(
    grad: Callable[[int, np.ndarray], np.ndarray],
    x: np.ndarray,
    seconds: list[float],
    arrivals: int,
    step: Callable[[int], float],
    R: float = inf,
    stop: bool = False,
    noise: list[float] | None = None,
) -> list[Arrival]:
    """Each worker computes for its seconds at the point it was given; `step(delay)` is the step size.

    A gradient is discarded if its delay is at least R; with `stop`, jobs restart once their delay reaches R.
    """
    n, k, out = len(seconds), 0, []
    job = {i: (seconds[i], x, 0) for i in range(n)}  # worker -> (finish, point, version)
    left = iter(noise or [])
    for _ in range(arrivals):
        i = min(job, key=lambda w: (job[w][0], w))
        now, point, version = job[i]
        delay = k - version
        used = delay < R
        if used:
            x = x - step(delay) * (grad(i, point) + (next(left) if noise else 0.0))
            k += 1
        job[i] = (now + seconds[i], x, k)
        if used and stop:
            for w in range(n):
                if k - job[w][2] >= R:
                    job[w] = (now + seconds[w], x, k)
        out.append(Arrival(x, now, i, delay, used))
    return out
