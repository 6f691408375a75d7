"""Allocation under budgets: the greedy solution is the linear programme's, and plans keep to every budget."""

import numpy as np
import pytest

from octolab.fleets import Fleet, LatencyPredictor, LogNormal, allocate, profile


def fleet(seed, n=40):
    rng = np.random.default_rng(seed)
    return Fleet(seconds=rng.lognormal(0, 1, n), up=rng.lognormal(13, 1, n), battery=rng.lognormal(-4, 2, n))


@pytest.mark.parametrize("seed", range(20))
def test_greedy_is_exact(seed):
    budget = dict(seconds=20, server_core_seconds=0.72, bandwidth_mbps=0.3 + seed / 10, battery_share=0.05)
    greedy = allocate(fleet(seed), solver="greedy", **budget)
    assert greedy.bound == pytest.approx(allocate(fleet(seed), solver="highs", **budget).bound, abs=1e-7)
    assert greedy.value <= greedy.bound + 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_a_plan_keeps_to_every_budget(seed):
    devices = fleet(seed)
    plan = allocate(devices, seconds=20, server_core_seconds=0.5, bandwidth_mbps=0.4, battery_share=0.05, most=16)
    assert plan.participates.sum() <= min(0.5 / 0.05, 0.4e6 * 20 / 1e6)
    assert (plan.seconds <= 20).all() and (plan.joules <= devices.budget * 0.05 + 1e-9).all() and plan.work.max() <= 16
    assert ((plan.work > 0) == plan.participates).all()


def test_more_of_anything_never_makes_the_plan_worse():
    budget = dict(seconds=10.0, server_core_seconds=0.3, bandwidth_mbps=0.5, battery_share=0.02)
    before = allocate(fleet(3), **budget).bound
    for name in budget:
        assert allocate(fleet(3), **budget | {name: 2 * budget[name]}).bound >= before


def test_spent_batteries_and_fairness():
    devices = Fleet(seconds=[1.0, 1.0, 4.0], battery=1.0)
    tired = allocate(devices, seconds=10, spent=[3600.0, 0.0, 0.0])
    assert tired.participates.tolist() == [False, True, True]
    tight = dict(seconds=10.0, server_core_seconds=0.10, reply_core_seconds=0.05)
    assert allocate(devices, **tight).participates.tolist() == [True, True, False]
    assert allocate(devices, at_least=[0.0, 0.0, 1.0], **tight).participates[2]


@pytest.mark.parametrize("bad", [dict(seconds=0), dict(seconds=1, battery_share=2), dict(seconds=1, most=0.5),
                                 dict(seconds=1, solver="magic"), dict(seconds=1, weights=[1])])  # fmt: skip
def test_bad_budgets_get_a_sentence(bad):
    with pytest.raises(ValueError, match=next(reversed(bad))):
        allocate(fleet(0), **bad)


def test_a_budget_nobody_can_meet_gives_nobody_work_and_an_impossible_fairness_a_sentence():
    assert allocate(fleet(0), seconds=1e-9).work.sum() == 0
    with pytest.raises(ValueError, match="less fairness"):
        allocate(Fleet(seconds=np.ones(9)), seconds=5, server_core_seconds=0.1, at_least=np.ones(9))


def test_the_predictors_quantiles_cover_what_they_say():
    devices = Fleet.lognormal(400, compute_ratio=30, seed=2, jitter=LogNormal(0.4))
    seen, new = profile(devices, jobs=5, seed=0), profile(devices, jobs=40, seed=1)
    clients = np.repeat(np.arange(400), 5)
    predictor = LatencyPredictor().fit(clients, seen.ravel())
    for q in (0.5, 0.9, 0.99):
        assert predictor.coverage(q, np.repeat(np.arange(400), 40), new.ravel()) == pytest.approx(q, abs=0.02)
    m0, sb, sw = predictor.moments
    assert sw == pytest.approx(0.4, abs=0.02) and sb == pytest.approx(np.log(30) / 4.652, abs=0.06)
    assert predictor.predict([10**6])[0] == pytest.approx(np.exp(m0))  # never seen: the fleet's median


def test_a_predictor_that_saw_nothing_or_nonsense_says_so():
    with pytest.raises(ValueError, match="seen nothing yet"):
        LatencyPredictor().predict([0])
    with pytest.raises(ValueError, match="lost"):
        LatencyPredictor().observe([0], [np.inf])


def test_one_latency_each_and_identical_devices_are_no_trouble():
    assert LatencyPredictor().observe([0, 1], [1.0, 4.0]).predict([0, 1, 2]).tolist() == pytest.approx([1, 4, 2])
    assert LatencyPredictor().observe([0, 0, 1], [2.0, 2.0, 2.0]).quantile(0.9, [0, 5]).tolist() == pytest.approx(
        [2, 2]
    )
