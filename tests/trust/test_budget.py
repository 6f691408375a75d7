"""Budgets of data: runs end before they break them, and nobody begins anew for nothing."""

from __future__ import annotations

import pytest

import octolab as ol
from octolab.trust import Budget, accounting

POISSON = ol.federation.Poisson(0.2)


def fresh(seed: int) -> ol.problems.Problem:
    """Data of its own for every test: budgets belong to data."""
    return ol.problems.quadratics(n=50, d=3, seed=seed)


def method(**more):
    return ol.methods.DPFedAvg(cohort=POISSON, noise_multiplier=3.0, lr=0.01, accountant="rdp", **more)


def run(problem, budget, rounds: int = 100, **more):
    return ol.run(method(), problem, rounds=rounds, callbacks=[budget], evaluate_every=rounds, live=False, **more)


def test_a_run_ends_before_its_budget_breaks():
    found = run(fresh(101), Budget(1.0, delta=1e-3))
    allowed = accounting.steps_within(1.0, 3.0, 0.2, 1e-3, accountant="rdp")
    assert found.round == allowed < 100 and found.status == "stopped"
    assert found.guarantee(1e-3).epsilon <= 1.0


def test_another_run_on_the_same_data_has_what_is_left():
    problem = fresh(102)
    first = run(problem, Budget(1.0, delta=1e-3), rounds=12)
    second = run(problem, Budget(1.0, delta=1e-3), seed=1)
    allowed = accounting.steps_within(1.0, 3.0, 0.2, 1e-3, accountant="rdp")
    assert first.round == 12 and second.round == allowed - 12
    assert run(fresh(103), Budget(1.0, delta=1e-3)).round == allowed  # other data have a budget of their own


def test_the_same_run_again_spends_once():
    problem = fresh(104)
    once = run(problem, Budget(1.0, delta=1e-3))
    assert run(problem, Budget(1.0, delta=1e-3)).round == once.round


def test_a_budget_in_a_file_outlives_the_process(tmp_path, monkeypatch):
    problem, path = fresh(105), tmp_path / "ledger.json"
    run(problem, Budget(1.0, delta=1e-3, file=path), rounds=12)
    monkeypatch.setattr("octolab.trust.budget._spent", {})
    allowed = accounting.steps_within(1.0, 3.0, 0.2, 1e-3, accountant="rdp")
    assert run(problem, Budget(1.0, delta=1e-3, file=path), seed=1).round == allowed - 12


def test_without_any_budget_a_run_ends_before_its_first_release():
    assert run(fresh(106), Budget(0.01, delta=1e-3)).round == 0


def test_cohorts_of_fixed_size_are_added_up_exactly():
    one = accounting.Guarantee(1.0, 1e-5, 50, 4.0, 0.1, "fixed-size", "replace-one", "rdp")
    whole = accounting.epsilon(
        4.0, steps=100, accountant="rdp", adjacency="replace-one", sampling="fixed-size", clients=100, cohort=10
    )
    assert accounting.composed([one, one], 1e-5) == pytest.approx(whole)


def test_what_is_no_budget_and_what_cannot_be_counted():
    with pytest.raises(ValueError, match=r"epsilon=-1\.0: give a finite number"):
        Budget(-1.0)
    with pytest.raises(ValueError, match="cannot be added up"):
        accounting.composed(
            [
                accounting.Guarantee(1.0, 1e-5, 1, 1.0, 1.0, "none", "add-or-remove-one", "pld"),
                accounting.Guarantee(1.0, 1e-5, 1, 1.0, 1.0, "none", "replace-one", "pld"),
            ],
            1e-5,
        )


def test_two_halves_are_the_whole():
    half = accounting.Guarantee(1.0, 1e-5, 50, 2.0, 0.1, "poisson", "add-or-remove-one", "rdp")
    assert accounting.composed([half, half], 1e-5) == pytest.approx(accounting.epsilon(2.0, 0.1, 100, accountant="rdp"))


def test_every_rule_against_every_attack():
    problem = ol.problems.quadratics(n=9, d=4, spread=0.1, seed=3)
    found = ol.trust.worst_case(
        {"FedAvg": lambda aggregator: ol.methods.FedAvg(lr=0.05, local_steps=1, aggregator=aggregator)},
        {"mean": None, "median": ol.aggregators.CoordinateMedian()},
        {"nobody": None, "flip": ol.attacks.SignFlip(clients=(0, 1), scale=20.0)},
        problem,
        rounds=30,
        metric="loss",
    )
    worst = found.table["", "worst"]
    assert worst["FedAvg", "mean"] == found.runs["FedAvg", "mean", problem.name, "flip"].last["loss"]
    assert worst["FedAvg", "median"] < worst["FedAvg", "mean"]
    assert found.figure().data[0].z.shape == (2, 3)
    with pytest.raises(ValueError, match="give a dict of names"):
        ol.trust.worst_case({}, {}, {}, problem)
