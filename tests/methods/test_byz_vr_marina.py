"""Byz-VR-MARINA, its form for sampled clients, and the momentum form: identities, the harm bound, what attackers can do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.methods.theory.robust import good_cohorts, norm_bound

MEAN = ol.aggregators.Mean()


def problem(n: int = 6) -> ol.problems.Problem:
    return ol.problems.quadratics(n=n, d=5, L=5, mu=0.5, seed=2)


def iterates(method, p, rounds: int = 25, **settings) -> torch.Tensor:
    return ol.run(method, p, rounds=rounds, live=False, keep="x", **settings).iterates


def equal(a: torch.Tensor, b: torch.Tensor, atol: float = 1e-10) -> bool:
    return torch.allclose(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize("method", ["ByzVRMARINA", "ByzVRMARINAPP"])
@pytest.mark.parametrize("p", [0.3, 1.0])
def test_with_the_mean_and_exact_differences_it_is_gradient_descent(method: str, p: float):
    """Whatever the coin says; a clip of at least max L_i never binds."""
    q = problem()
    more = {"cohort": 6, "clip": float(q.L_max) * 1.001} if method.endswith("PP") else {}
    made = getattr(ol.methods, method)(lr=0.1, p=p, aggregator=MEAN, **more)
    assert equal(iterates(made, q), iterates(ol.methods.GD(lr=0.1), q))


def test_with_the_coin_always_it_is_gradient_descent_for_any_clip():
    q = problem()
    made = ol.methods.ByzVRMARINAPP(lr=0.1, p=1.0, cohort=2, clip=1e-3, aggregator=MEAN)
    assert equal(iterates(made, q), iterates(ol.methods.GD(lr=0.1), q))


def test_a_trajectory_against_plain_numpy():
    q, lr, clip = problem(), 0.1, 0.4
    coins, cohorts = [0, 1, 0, 0], [[0, 2, 5], [0, 1, 2, 3, 4], [1, 3, 4], [2, 3, 5]]

    def gradients(x):
        return q.grad(torch.from_numpy(x)).numpy()

    x = np.zeros(5)
    g, expected = np.median(gradients(x), axis=0), [x]
    for coin, cohort in zip(coins, cohorts, strict=True):
        ahead = x - lr * g
        if coin:
            g = np.median(gradients(ahead)[cohort], axis=0)
        else:
            change, limit = (gradients(ahead) - gradients(x))[cohort], clip * np.linalg.norm(ahead - x)
            lengths = np.linalg.norm(change, axis=1, keepdims=True)
            g = g + np.median(change * np.minimum(1, limit / lengths), axis=0)
        x = ahead
        expected.append(x)
    method = ol.methods.ByzVRMARINAPP(
        lr=lr, p=0.5, cohort=3, full_cohort=5, clip=clip, aggregator=ol.aggregators.CoordinateMedian()
    )
    got = iterates(method, q, rounds=4, randomness=ol.Scripted(coins=coins, cohorts=cohorts))
    assert equal(got, torch.from_numpy(np.array(expected)))


@pytest.mark.parametrize("rule", [MEAN, ol.aggregators.CoordinateMedian()], ids=repr)
def test_whatever_attackers_send_a_round_without_the_coin_moves_g_by_no_more_than_the_clip_allows(rule):
    q, clip = problem(), 0.7
    method = ol.methods.ByzVRMARINAPP(lr=0.05, p=0.01, cohort=3, clip=clip, aggregator=rule)
    run = ol.run(
        method, q, rounds=1, live=False,
        attack=ol.attacks.SignFlip(clients=(0, 1, 2, 3, 4), scale=1e6), randomness=ol.Scripted(coins=[0] * 20),
    )  # fmt: skip
    for _ in range(8):
        x, g = run.state.x, run.state.g
        run.advance()
        step = float((run.state.x - x).norm())
        assert float((run.state.g - g).norm()) <= norm_bound(rule, q.d) * clip * step * (1 + 1e-12)


def test_what_is_sent_up_and_down():
    q = problem()
    method = ol.methods.ByzVRMARINAPP(lr=0.05, p=0.5, cohort=2, compressor=ol.compressors.RandK(1))
    run = ol.run(method, q, rounds=2, live=False, randomness=ol.Scripted(coins=[0, 1]))
    up, down = run.history["bits_up"] * 6, run.history["bits_down"]
    assert up.iloc[1] - up.iloc[0] == 2 * method.compressor.bits(5)
    assert up.iloc[2] - up.iloc[1] == 6 * 32 * 5
    assert (down.diff().iloc[1:] == 32 * 5 + 1).all()  # g and the coin, to all


def test_how_often_a_cohort_is_good_at_its_closed_forms():
    n, honest = 20, 15
    assert good_cohorts(n, honest, 1, 0.25) == pytest.approx((honest / n, 1 / honest))
    assert good_cohorts(n, honest, 2, 0.25) == pytest.approx((honest * 14 / (n * 19), 2 / honest))
    assert good_cohorts(n, honest, n, 0.25) == pytest.approx((1.0, 1.0))


def test_the_theory_step_is_the_papers_formula():
    q = problem()
    method = ol.methods.ByzVRMARINAPP(cohort=2, f=1, p=0.5).resolve(q)
    good, one = good_cohorts(6, 5, 2, 1 / 6)
    A = 32 * good * 5 * one * 11 * (1 + 2 / 6) / (0.25 * (5 / 6) * 2) + 16 * (1 - good) * (1 + 4 * 5) / 0.25
    assert float(method.lr) == pytest.approx(1 / (q.L_max * (1 + math.sqrt(A))))
    assert float(method.clip) == pytest.approx(2 * q.L_max)


@pytest.mark.slow
def test_the_papers_headline_only_clipping_survives_cohorts_of_attackers():
    """n=20, 5 attackers, cohorts of 4, all hold all data; shift-back strikes where attackers are most of a cohort."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 20))
    y = np.sign(X @ rng.normal(size=20) + 0.5 * rng.normal(size=600))
    p = ol.problems.Logistic([X] * 20, [y] * 20, l2=0.02)
    liars = ol.attacks.ShiftBack(clients=tuple(range(5)))
    gap = {}
    for clip in (0.1, 1.0, 1e9):
        method = ol.methods.ByzVRMARINAPP(lr=0.3, p=1 / 19, cohort=4, clip=clip, batch_size=32)
        run = ol.run(method, p, rounds=1200, live=False, attack=liars, evaluate_every=20)
        gap[clip] = float(np.median(run.history["loss"].dropna().iloc[-10:])) - p.f_star
    assert gap[0.1] < 1e-8 and gap[1.0] < 1e-8
    assert gap[1e9] > 1e4 * gap[1.0]


def test_the_momentum_form_holds_where_the_mean_is_dragged_back():
    q = ol.problems.quadratics(n=10, d=5, L=2, mu=0.5, spread=0.1, seed=2)
    liars = ol.attacks.SignFlip(clients=(0, 3), scale=10.0)
    robust = ol.methods.RobustMomentum(lr=0.2, clip=2.0, aggregator=ol.aggregators.CoordinateMedian())
    plain = ol.methods.SGD(lr=0.2, batch_size=None)
    far = [float((ol.run(m, q, rounds=150, live=False, attack=liars).x - q.x_star).norm()) for m in (robust, plain)]
    assert far[0] < 0.5 and not far[1] < 10 * far[0]
