"""Ditto against its algorithm box: FedAvg, and beside it a personal model on a leash."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import octolab as ol
from tests.methods.by_hand import close, gradients
from tests.methods.local_by_hand import mixed, never_again, train
from tests.methods.personal_by_hand import bowls, models, optima, prox, quietly

Ditto = ol.methods.Ditto


def test_the_algorithm_box():
    p, lr, lam = bowls(), 0.05, 0.7
    grad, x, v = gradients(p), np.zeros(5), [np.zeros(5)] * 4
    for _ in range(6):
        ys = []
        for i in range(4):
            y, mine = x, v[i]
            for _ in range(3):  # the leash is tied to the model received
                y, mine = y - lr * grad[i](y), mine - lr * (grad[i](mine) + lam * (mine - x))
            ys.append(y)
            v[i] = mine
        x = sum(ys) / 4
    run = quietly(Ditto(lr=lr, lam=lam, local_steps=3), p, 6)
    close(run.x, x)
    close(models(run), v)


def test_personal_steps_and_their_size_are_its_own_and_momentum_is_the_common_models_alone():
    p, lam = bowls(), 0.7
    grad, x, v = gradients(p), np.zeros(5), [np.zeros(5)] * 4
    for _ in range(4):
        for i in range(4):
            for _ in range(5):
                v[i] = v[i] - 0.02 * (grad[i](v[i]) + lam * (v[i] - x))
        x = sum(train(g, x, 0.05, 3, momentum=0.5) for g in grad) / 4
    how = {"lr": 0.05, "local_steps": 3, "momentum": 0.5, "personal_steps": 5, "personal_lr": 0.02}
    run = quietly(Ditto(lam=lam, **how), p, 4)
    close(run.x, x)
    close(models(run), v)


@pytest.mark.parametrize(
    "how",
    [
        {"local_epochs": 2, "batch_size": 2, "cohort": 2, "momentum": 0.5},
        {"local_steps": (1, 3, 2), "server_lr": 0.7},
        {"batch_size": 3, "cohort": 2, "weighting": "unbiased"},
        {"aggregator": ol.aggregators.CoordinateMedian()},
    ],
)
def test_the_common_model_is_fedavgs_to_the_last_bit_and_so_is_the_traffic(how: dict):
    p = mixed()
    ours, theirs = (
        ol.run(m, p, rounds=6, seed=2, keep="x", live=False)
        for m in (Ditto(lr=0.1, lam=0.5, **how), ol.methods.FedAvg(lr=0.1, **how))
    )
    assert torch.equal(ours.iterates, theirs.iterates)
    assert (ours.history[["bits_up", "bits_down"]] == theirs.history[["bits_up", "bits_down"]]).all().all()
    assert ours.history.gradients.iloc[-1] == 2 * theirs.history.gradients.iloc[-1]  # twice the local work


def test_without_a_leash_it_is_local_only():
    p, how = bowls(), {"lr": 0.05, "local_steps": 4}
    loose, alone = quietly(Ditto(lam=0.0, **how), p, 20), quietly(ol.methods.LocalOnly(**how), p, 20)
    close(models(loose), models(alone), 1e-13)
    close(models(quietly(Ditto(lam=0.0, **how), p, 400)), optima(p), 1e-8)


@pytest.mark.parametrize("solver", ["sgd", "exact"])
def test_it_ends_at_the_proximal_points_of_the_optimum(solver: str):
    p, lam = bowls(), 2.0
    run = quietly(Ditto(lam=lam, local_steps=1, solver=solver), p, 300)
    close(run.x, p.x_star, 1e-8)
    close(models(run), prox(p, p.x_star, lam), 1e-8)


def test_on_an_ever_shorter_leash_it_ends_at_the_common_model():
    """|v_i - x| <= |grad f_i(x)|/lam."""
    p = bowls()
    for lam in (10.0, 100.0, 1000.0):
        run = quietly(Ditto(lam=lam, lr=0.1, local_steps=1, solver="exact"), p, 200)
        apart = (models(run) - run.x).norm(dim=1)
        assert (apart <= p.grad(run.x).norm(dim=1) / lam * (1 + 1e-9)).all()
    assert float(apart.max()) < 0.05


def test_who_does_not_take_part_keeps_its_model():
    p = bowls()
    run = quietly(Ditto(lr=0.05), p, 5, fleet=never_again(2, 4))
    assert (models(run)[2] == 0).all() and (models(run)[[0, 1, 3]] != 0).any(1).all()
    run = ol.run(Ditto(lr=0.05, cohort=2), p, rounds=1, live=False, randomness=ol.Scripted(cohorts=[[0, 3]]))
    assert (models(run)[[1, 2]] == 0).all() and (models(run)[[0, 3]] != 0).any(1).all()


def test_values_of_theory():
    p = bowls()
    assert Ditto(lam=3.0).resolve(p).lr == pytest.approx(1 / (p.L_max + 3))
    one = Ditto(lam=3.0, local_steps=1).resolve(p)
    assert one.rate(p) == pytest.approx(1 - one.lr * p.mu) and Ditto(lr=0.1).rate(p) is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"lam": -1}, r"lam=-1: give a number in \[0, inf\)"),
        ({"personal_steps": 0}, "personal_steps=0"),
        ({"personal_lr": 0}, "personal_lr=0"),
        ({"weighting": "sampled"}, "'ratio', 'unbiased'"),
        ({"local_steps": (1, 2)}, "4 of them, one per client"),
    ],
)
def test_bad_input_gets_a_sentence(given: dict, words: str):
    with pytest.raises(ValueError, match=words):
        Ditto(**given).resolve(bowls())


def test_the_exact_solver_needs_hessians():
    p = ol.problems.classification("digits", model="mlp", clients=4)
    with pytest.raises(ol.errors.OutsideAssumptions, match="needs Hessians"):
        Ditto(solver="exact", lr=0.1).resolve(p)
