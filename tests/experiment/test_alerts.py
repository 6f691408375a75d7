"""Alerts: what they notice, what they leave alone, and that each says what to do."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import octolab as ol
from octolab.experiment.alerts import LEVELS, Alert, alerts, stale_after
from octolab.experiment.launch import prepare

M = ol.methods


@pytest.fixture(scope="module")
def problem():
    return ol.problems.quadratics(n=4, d=6, L=10, mu=1, seed=0)


def finished(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return prepare(*args, **kwargs).finish()


def kinds(run):
    return [a.kind for a in run.alerts]


def the(run, kind):
    (found,) = [a for a in run.alerts if a.kind == kind]
    assert found.level in LEVELS and found.round == run.round
    assert found.message.endswith(".") and found.advice.endswith(".")
    return found


def test_a_run_that_goes_well_is_left_alone(problem):
    assert finished("gd", problem, rounds=300).alerts == []
    assert finished("ef21", problem, rounds=300).alerts == []


def test_a_run_that_has_not_begun_is_left_alone(problem):
    assert prepare("gd", problem, rounds=3).alerts == []


def test_alerts_are_frozen_data(problem):
    alert = Alert("stalled", "warning", 3, "It stands.", "Move.")
    with pytest.raises(AttributeError):
        alert.level = "info"
    assert str(alert) == "It stands. Move."


def test_after_divergence_the_step_to_try_is_named(problem):
    alert = the(finished(M.GD(lr=1e6), problem, rounds=200), "diverging")
    assert alert.level == "error" and "no longer finite" in alert.message
    assert "lr=2.5e+05 instead of 1e+06" in alert.advice


def test_divergence_is_noticed_while_numbers_are_finite(problem):
    run = prepare(M.GD(lr=0.25), problem, rounds=30).advance(20)  # beyond 2/L = 0.2
    assert np.isfinite(run.recorder.last["loss"])
    assert "times what it was at the start" in the(run, "diverging").message


def test_noise_that_a_constant_step_cannot_beat_is_a_stall():
    problem = ol.problems.Tridiagonal(d=10, n=4, noise=0.5)
    run = finished(M.SGD(lr=0.3), problem, rounds=3000)
    alert = the(run, "stalled")
    assert "noise of its step" in alert.advice and alert.level == "warning"


def test_slow_progress_is_progress():
    problem = ol.problems.quadratics(n=4, d=20, L=1000, mu=0.01, seed=1)
    assert "stalled" not in kinds(finished("gd", problem, rounds=900))


def test_an_optimum_is_no_stall(problem):
    run = finished("gd", problem, rounds=3000)
    assert run.recorder.last["grad_norm_sq"] < 1e-20 and run.alerts == []


def test_drift_that_stands_still_is_a_stall_with_other_words():
    problem = ol.problems.quadratics(n=8, d=10, L=10, mu=1, seed=3)
    run = finished(M.FedAvg(lr=0.09, local_epochs=20, batch_size=None), problem, rounds=300)
    assert "SCAFFOLD" in the(run, "stalled").advice


def test_when_every_device_hangs_the_run_says_so():
    problem = ol.problems.Tridiagonal(d=4, n=3, noise=0.01)
    fleet = ol.Fleet(jitter=ol.federation.Hang(1.0))
    run = finished(M.ASGD(lr=0.01), problem, rounds=5, fleet=fleet)
    assert run.status == "stalled"
    assert the(run, "stalled").level == "error"


def test_stale_devices_are_counted_as_devices():
    problem = ol.problems.Tridiagonal(d=4, n=10, noise=0.01)
    fleet = ol.Fleet(seconds=np.r_[np.ones(6), np.full(4, 300.0)])  # 4 of 10 bring gradients 1,800 updates old
    run = finished(M.ASGD(lr=1e-4), problem, rounds=1900, fleet=fleet)
    alert = the(run, "stale")
    assert alert.message.startswith("40% of the devices") and "Ringmaster" in alert.advice
    assert stale_after(10) == 20


def test_delays_of_an_even_fleet_are_not_stale():
    problem = ol.problems.Tridiagonal(d=4, n=10, noise=0.01)
    assert "stale" not in kinds(
        finished(M.ASGD(lr=1e-3), problem, rounds=500, fleet=ol.Fleet(seconds=np.linspace(1, 2, 10)))
    )


def test_a_client_that_gives_most_updates_dominates():
    problem = ol.problems.Tridiagonal(d=4, n=10, noise=0.01)
    run = finished(M.ASGD(lr=1e-4), problem, rounds=400, fleet=ol.Fleet(seconds=np.r_[0.02, np.ones(9)]))
    alert = the(run, "dominant")
    share = run.federation.ledger.per_client("replies")[0] / run.federation.ledger.total("replies")
    assert alert.message.startswith(f"Client 0 gives {share:.0%} of all updates") and share > 0.5


def test_an_even_cohort_dominates_nothing(problem):
    assert "dominant" not in kinds(finished(M.FedAvg(lr=0.01, cohort=2), problem, rounds=60))


def test_a_budget_of_bits_is_called_nearly_spent_at_nine_tenths(problem):
    per_round = 6 * 32
    until = {"bits": 100 * per_round, "loss": problem.f_star - 1}
    run = prepare("gd", problem, until=until)
    run.advance(80)
    assert "budget" not in kinds(run)
    run.advance(15)
    alert = the(run, "budget")
    assert "bits" in alert.message and "94%" in alert.message and f"{until['loss']:.4g}" in alert.message


def test_a_target_that_was_reached_needs_no_budget(problem):
    run = finished("gd", problem, until={"loss": problem.f_star + 1e-3, "bits": 1e9})
    assert run.status == "finished" and "budget" not in kinds(run)


def test_replies_that_get_lost_are_counted():
    problem = ol.problems.quadratics(n=10, d=6, L=10, mu=1, seed=0)
    run = finished(M.FedAvg(lr=0.01), problem, rounds=100, fleet=ol.Fleet(dropout=0.5))
    lost = float(run.history.dropped.sum()) / (10 * 101)
    assert f"About {lost:.0%}" in the(run, "dropouts").message
    assert "dropouts" not in kinds(finished(M.FedAvg(lr=0.01), problem, rounds=100, fleet=ol.Fleet(dropout=0.1)))


def test_rounds_that_nobody_answers_are_counted_and_are_no_progress(problem):
    run = finished(M.FedAvg(lr=0.05, local_epochs=1), problem, rounds=20, fleet=ol.Fleet(dropout=1.0))
    alert = the(run, "unanswered")
    assert alert.level == "error" and alert.message.startswith("0 of 20 rounds had an answer")
    assert "0 of 20 rounds had an answer" in repr(run)


def test_a_run_in_which_somebody_always_answers_says_nothing_of_it(problem):
    run = finished(M.FedAvg(lr=0.05, local_epochs=1), problem, rounds=20)
    assert "had an answer" not in repr(run) and "unanswered" not in kinds(run)


def test_the_gravest_comes_first():
    problem = ol.problems.Tridiagonal(d=4, n=10, noise=0.01)
    run = finished(M.ASGD(lr=50.0), problem, rounds=60, fleet=ol.Fleet(seconds=np.r_[0.02, np.ones(9)]))
    levels = [LEVELS.index(a.level) for a in alerts(run)]
    assert kinds(run)[0] == "diverging" and levels == sorted(levels, reverse=True)


def test_asking_changes_nothing(problem):
    one, other = (prepare("ef21", problem, rounds=40) for _ in range(2))
    for _ in range(41):
        one.advance()
        assert isinstance(one.alerts, list)
    assert one.history.equals(other.finish().history)


# -- trust --------------------------------------------------------------------------------------------------------------
def test_a_private_method_without_noise_is_told_that_it_is_not_private():
    problem = ol.problems.quadratics(n=4, d=3, seed=0)
    silent = ol.run(ol.methods.DPFedAvg(noise_multiplier=0.0, cohort=None, lr=0.05), problem, rounds=3, live=False)
    assert "privacy" in kinds(silent)
    noisy = ol.run(ol.methods.DPFedAvg(noise_multiplier=1.0, cohort=None, lr=0.05), problem, rounds=3, live=False)
    assert "privacy" not in kinds(noisy)


def test_flagged_replies_are_a_suspicion_and_saturated_multipliers_a_cap_out_of_reach():
    problem = ol.problems.quadratics(n=9, d=4, spread=0.1, seed=3)
    method = ol.methods.FedAvg(lr=0.05, local_steps=1, aggregator=ol.aggregators.CoordinateMedian())
    attack = ol.attacks.SignFlip(clients=(0, 1), scale=50.0)
    assert "suspicion" in kinds(ol.run(method, problem, rounds=4, live=False, attack=attack))
    clients = ol.problems.classification("breast-cancer", clients=4)
    capped = ol.methods.BoundedGroupLoss(cap=1e-4, lr_theta=5.0)
    assert "cap" in kinds(ol.run(capped, clients, rounds=60, live=False, evaluate_every=60))
