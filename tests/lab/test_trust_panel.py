"""The dashboard's panel on trust: what it draws is what was spent, flagged and served."""

from __future__ import annotations

import numpy as np
import pytest

import octolab as ol
from octolab.lab.dashboard import StaticDashboard


def charts(run) -> dict:
    board = StaticDashboard(run)
    return {c.key: c for c in board.charts("trust")}


def test_epsilon_over_rounds_ends_at_what_the_run_may_claim():
    problem = ol.problems.quadratics(n=20, d=3, seed=1)
    method = ol.methods.DPFedAvg(cohort=ol.federation.Poisson(0.2), noise_multiplier=3.0, lr=0.01, accountant="rdp")
    run = ol.run(method, problem, rounds=12, live=False)
    found = charts(run)
    curve = found["epsilon"].marks[0]
    assert curve.y[-1] == pytest.approx(run.guarantee().epsilon) and curve.x[-1] == 12
    assert (np.diff(curve.y) > 0).all() and "sampling" in found["epsilon"].note
    assert found["price"].marks[0].y[0] == run.last["loss"]


def test_flags_beside_the_truth():
    problem = ol.problems.quadratics(n=9, d=4, spread=0.1, seed=3)
    method = ol.methods.FedAvg(lr=0.05, local_steps=1, aggregator=ol.aggregators.CoordinateMedian())
    run = ol.run(method, problem, rounds=6, live=False, attack=ol.attacks.SignFlip(clients=(0, 1), scale=50.0))
    found = charts(run)["suspects"]
    assert {m.part for m in found.marks} >= {"flagged", "rightly"} and "omniscient" in found.note


def test_groups_by_loss_and_no_panel_where_nothing_is_to_be_said():
    plain = ol.run("gd", ol.problems.quadratics(n=3, d=3), rounds=2, live=False)
    assert "trust" not in StaticDashboard(plain).panels
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), rng.integers(0, 2, 60)
    held = ol.data.from_arrays(X, y, clients=np.arange(60) % 4, groups=np.array(["a", "b", "c"])[np.arange(60) % 3])
    run = ol.run("gd", ol.problems.classification(held), rounds=2, live=False)
    losses = charts(run)["groups"].marks[0].y
    assert len(losses) == 3 and (np.diff(losses) >= 0).all()
