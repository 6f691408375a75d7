"""Races on one problem: what has been sent when the clients' models are near the optimum."""

from __future__ import annotations

from typing import NamedTuple

import octolab as ol
from octolab.experiment.launch import prepare


class Finish(NamedTuple):
    steps: int
    up: float  # bits per client
    down: float


def race(method: ol.Method, problem: ol.problems.Problem, tol: float, limit: int, seed: int = 0) -> Finish:
    """Until mean |x_i - x*|^2 <= tol |x0 - x*|^2."""
    star = problem.x_star
    start = float(((problem.x0 - star) ** 2).sum())
    run = prepare(method, problem, rounds=limit, evaluate_every=limit, seed=seed).advance(1)
    while float(((run.federation.memory.x - star) ** 2).sum(1).mean()) > tol * start:
        assert run.round < limit, f"{method!r} needs more than {limit} steps"
        run.advance(1)
    ledger = run.federation.ledger
    down = ledger.per_client("down") + ledger.per_client("broadcast")
    return Finish(run.round, float(ledger.per_client("up").mean()), float(down.mean()))
