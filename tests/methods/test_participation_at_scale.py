"""The participation methods with 1,000 clients and d = 7,850: stacked, no client function called once per client."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.federation import Stratified, executor
from octolab.federation.sampling import ParticipationFloor, Reshuffled

M = ol.methods
METHODS = [
    M.SPPMAS(cohort=100, local_rounds=4, gamma=1.0),
    M.SPPMAS(cohort=Stratified(50), local_rounds=4, gamma=1.0, solver="cg"),
    M.SPPMAS(cohort=None, local_rounds=3, gamma=1.0, solver="nonlinear-cg"),
    M.RRCLI(cohort=100, batch_size=4),
    M.CyCP(groups=10, batch_size=4),
    M.OCS(uploads=50),
    M.OCS(uploads=50, variant="aocs"),
    M.PowerOfChoice(cohort=50, candidates=200),
    M.PowerOfChoice(cohort=50, candidates=200, variant="rpow-d"),
    M.OSMD(draws=50),
    M.FairFloor(cohort=50, at_least=1, window=40),
    M.SCAFFOLD(cohort=ParticipationFloor(50, at_least=1, rounds=40), lr=0.1),
    M.FedAvg(cohort=Reshuffled(100), lr=0.1, batch_size=4, local_epochs=1),
]


@pytest.fixture(scope="module")
def problem():
    """Softmax regression on 784 features and 10 classes, eight samples per client."""
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(8, 784)) / 28 for _ in range(1000)]
    return ol.problems.Softmax(X, [rng.integers(0, 10, 8) for _ in X], l2=1e-3, classes=10, dtype=torch.float32)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_thousand_clients_run_in_stacked_passes(problem, method: ol.Method, monkeypatch):
    assert (problem.n, problem.d) == (1000, 7850)
    passes, run_pass = [], executor.Executor._pass
    monkeypatch.setattr(
        executor.Executor,
        "_pass",
        lambda self, *given: passes.append(1) or run_pass(self, *given),
    )
    run = ol.run(method, problem, rounds=3, live=False)
    calls = run.federation.counters["calls"]
    assert run.status == "finished" and len(passes) <= calls * -(-1000 // min(problem.chunk, 1000)) * 2
    assert run.metrics()["loss"] <= problem.value(problem.x0) * 1.05
