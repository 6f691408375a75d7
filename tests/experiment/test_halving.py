"""Successive halving: equal budgets, the better half goes on, and the search is charged."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import octolab as ol
from octolab.compressors import Natural, RandK, SignNorm, TopK
from octolab.experiment.halving import halving, tune_k
from tests.methods.by_hand import close

P = ol.problems.quadratics(n=4, d=16, L=8, seed=1)
FLEET = ol.Fleet(seconds=0.01, up=[100.0, 200.0, 1000.0, 5000.0])
EF21 = ol.methods.EF21(start="compressed")


def loss_within(method: ol.Method, budget: float, column: str = "time") -> tuple[float, int]:
    """The loss at the end of the last round within the budget, and its number; by a run of its own."""
    run = ol.run(method, P, rounds=400, fleet=FLEET, evaluate_every=1, live=False)
    inside = run.history[run.history[column] <= budget]
    return (P.value(P.x0), 0) if len(inside) == 0 else (float(inside.loss.iloc[-1]), int(inside["round"].iloc[-1]))


@pytest.mark.parametrize("by, column, budget", [("seconds", "time", 4.0), ("bits", "bits_up", 900.0)])
def test_every_rung_is_what_separate_runs_on_that_budget_would_show(by: str, column: str, budget: float):
    arms = {f"k={k}": replace(EF21, compressor=TopK(k)) for k in (16, 8, 4, 2, 1)}
    found = halving(arms, P, budget=budget, by=by, fleet=FLEET)
    alive = list(arms)
    for rung in range(3):
        losses = {name: loss_within(arms[name], budget * 2**rung, column) for name in alive}
        rows = found.table[found.table["rung"] == rung]
        assert rows.arm.tolist() == alive and (rows[by] == budget * 2**rung).all()
        close(rows.loss.to_numpy(), [losses[name][0] for name in alive], 1e-12)
        assert rows["rounds"].tolist() == [losses[name][1] for name in alive]
        best = sorted(alive, key=lambda name: losses[name][0])[: max(1, len(alive) // 2)]
        alive = [name for name in alive if name in best]
        assert rows[rows.goes_on].arm.tolist() == alive
        if len(alive) == 1:
            break
    assert [found.name] == alive and found.best == arms[found.name]


def test_the_search_is_charged_all_arms_together():
    found = tune_k(EF21, P, budget=3.0, fleet=FLEET)
    assert found.seconds == pytest.approx(sum(run.federation.now for run in found.arms.values()))
    assert found.bits == pytest.approx(sum(run.federation.ledger.bits_up for run in found.arms.values()))
    assert found.seconds > found.run.federation.now and "the search cost" in repr(found)


def test_the_winners_run_is_an_ordinary_one_and_goes_on():
    found = tune_k(EF21, P, budget=3.0, fleet=FLEET, seed=5)
    rounds = found.run.round + 10
    found.run.advance(10)
    same = ol.run(found.best, P, rounds=rounds, fleet=FLEET, seed=5, live=False)
    assert (found.run.x == same.x).all()


def test_it_is_deterministic():
    one, two = (tune_k(EF21, P, budget=3.0, fleet=FLEET, seed=2) for _ in range(2))
    assert one.table.equals(two.table) and one.name == two.name


def test_counts_are_d_halved_down_to_the_least_each_with_its_own_theory_step():
    found = tune_k(EF21, P, budget=2_000, by="bits", least=3)
    assert list(found.arms) == ["k=16", "k=8", "k=4", "k=3"]
    for run in found.arms.values():
        assert run.method.lr == replace(EF21, compressor=run.method.compressor).resolve(P).lr
    chain = tune_k(ol.methods.DIANA(compressor=RandK(0.5) | Natural()), P, budget=2_000, by="bits")
    assert chain.best.compressor.second == Natural() and isinstance(chain.best.compressor.first.k, int)


def test_an_arm_whose_first_round_does_not_fit_counts_with_its_start():
    found = tune_k(EF21, P, budget=6.0, fleet=ol.Fleet(up=100.0))  # dense: 5.12 s and 1 s of computing a round
    first = found.table[found.table["rung"] == 0].set_index("arm")
    assert first.loss["k=16"] == P.value(P.x0) and first["rounds"]["k=16"] == 0


def test_diverged_arms_lose():
    arms = {"wild": ol.methods.GD(lr=1e30), "tame": ol.methods.GD(lr=0.05)}
    found = halving(arms, P, budget=50)
    assert found.name == "tame"
    assert found.table.set_index("arm").status["wild"] == "diverged" and math.isinf(found.table.loss.max())


def test_one_arm_wins_alone():
    assert halving([ol.methods.GD()], P, budget=5).name == "GD()"


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"budget": 0}, "budget=0.*seconds > 0"),
        ({"budget": np.inf}, "budget=inf"),
        ({"budget": True}, "budget=True"),
        ({"budget": 5, "by": "rounds"}, "by='rounds'.*'seconds' or 'bits'"),
        ({"budget": 5, "rounds": 10}, "rounds.*budget alone"),
    ],
)
def test_bad_input_gets_a_sentence(arguments: dict, words: str):
    with pytest.raises(ValueError, match=words):
        halving([ol.methods.GD()], P, **arguments)


def test_methods_without_a_k_get_a_sentence():
    for method in (ol.methods.GD(), ol.methods.EF21(compressor=SignNorm())):
        with pytest.raises(ValueError, match="has no k to choose"):
            tune_k(method, P, budget=5)
    with pytest.raises(ValueError, match=r"least=17\): give 1 to 16"):
        tune_k(EF21, P, budget=5, least=17)
    with pytest.raises(ValueError, match="at least one method"):
        halving([], P, budget=5)
