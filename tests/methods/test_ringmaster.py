"""Ringmaster ASGD against a plain event queue; its identities, its theorem, its bits."""

from __future__ import annotations

import math

import numpy as np
import pytest

import octolab as ol
from tests.methods.by_hand import close, iterates
from tests.methods.event_queue import simulate
from tests.methods.test_asgd import SPEEDS, gradient, settings, shared

INFINITE = 10**9
variants = pytest.mark.parametrize("variant", ["ignore", "stop"])


@pytest.mark.parametrize("R", [1, 2, 3, 5])
@variants
def test_the_algorithm_box(variant: str, R: int):
    p, z = shared(), np.random.default_rng(0).normal(size=80)
    path = simulate(gradient(p), p.x0.numpy(), SPEEDS, 80, lambda delay: 0.2, R, variant == "stop", list(0.3 * z))
    method = ol.methods.Ringmaster(lr=0.2, R=R, variant=variant)
    run = ol.run(method, p, rounds=80, keep="x", live=False, **settings(list(z)))
    close(run.iterates[1:], [a.x for a in path])
    assert run.history.delay[1:].tolist() == [a.delay for a in path]
    assert run.history.time[1:].tolist() == [a.time for a in path]
    assert run.history.accepted[1:].tolist() == [a.used for a in path]


@variants
@pytest.mark.parametrize("R", [INFINITE, 17])
def test_beyond_the_largest_delay_it_is_asgd(variant: str, R: int):
    p, z = shared(), list(np.random.default_rng(1).normal(size=60))
    asgd = ol.run(ol.methods.ASGD(lr=0.2), p, rounds=60, keep="x", live=False, **settings(z))
    assert asgd.history.delay.max() < 17
    ours = iterates(ol.methods.Ringmaster(lr=0.2, R=R, variant=variant), p, 60, **settings(z))
    assert (ours == asgd.iterates.numpy()).all()


@variants
def test_without_noise_and_with_R_equal_to_one_every_used_step_is_gradient_descent(variant: str):
    p = shared(noise=0)
    run = ol.run(
        ol.methods.Ringmaster(R=1, lr=0.5, variant=variant),
        p,
        rounds=60,
        keep="x",
        live=False,
        fleet=ol.Fleet(seconds=SPEEDS),
    )
    used = run.history.accepted[1:].to_numpy(dtype=bool)
    gd = iterates(ol.methods.GD(lr=0.5), p, int(used.sum()))
    close(run.iterates[1:][used], gd[1:], 1e-13)
    assert used.all() == (variant == "stop")


def test_stopping_with_R_equal_to_one_runs_at_the_pace_of_the_fastest_worker():
    run = ol.run(
        ol.methods.Ringmaster(R=1, variant="stop"),
        shared(),
        rounds=25,
        live=False,
        fleet=ol.Fleet(seconds=[3.0, 0.5, 0.7, 9.0]),
    )
    assert run.history.time.tolist() == [0.5 * k for k in range(26)]


@pytest.mark.parametrize("R", [1, 2, INFINITE])
def test_one_worker_is_sgd_for_every_R(R: int):
    p, z = shared(n=1), list(np.random.default_rng(2).normal(size=30))
    sgd = iterates(ol.methods.SGD(lr=0.3, batch_size=1), p, 30, randomness=ol.Scripted(noise=z))
    close(iterates(ol.methods.Ringmaster(lr=0.3, R=R), p, 30, randomness=ol.Scripted(noise=z)), sgd, 1e-14)


@variants
def test_no_used_gradient_is_as_stale_as_R(variant: str):
    h = ol.run(
        ol.methods.Ringmaster(R=3, lr=0.1, variant=variant),
        shared(),
        rounds=200,
        live=False,
        fleet=ol.Fleet(seconds=SPEEDS),
    ).history
    assert h.delay[h.accepted == True].max() == 2  # noqa: E712
    assert (h.delay[h.accepted == False] >= 3).all()  # noqa: E712
    assert (variant == "ignore") == bool((h.accepted == False).any())  # noqa: E712


def test_the_theorems_R_and_step():
    p = shared(d=5, noise=0.1)  # sigma^2 = 0.05
    for eps in (1.0, 0.02, 0.003):
        method = ol.methods.Ringmaster(eps=eps).resolve(p)
        assert max(1, math.ceil(0.05 / eps - 1e-9)) == method.R
        assert method.lr == pytest.approx(min(1 / (2 * method.R * p.L), eps / (4 * p.L * 0.05)))
    assert (
        ol.methods.Ringmaster(eps=0.003, batch_size=10).resolve(p).R == 2
    )  # a batch of ten has a tenth of the variance


@variants
def test_the_theorem_holds(variant: str):
    """mean |grad f|^2 <= eps after K = ceil(8 R L D/eps + 16 sigma^2 L D/eps^2) updates."""
    p, eps = ol.problems.Tridiagonal(d=4, n=5, noise=0.1), 0.02
    method = ol.methods.Ringmaster(eps=eps, variant=variant).resolve(p)
    assert method.R == 2
    D, sigma_sq = p.value(p.x0) - p.f_star, p.sigma_sq
    K = math.ceil(8 * method.R * p.L * D / eps + 16 * sigma_sq * p.L * D / eps**2)
    run = ol.run(method, p, rounds=2 * K, evaluate_every=1, live=False, fleet=ol.Fleet(seconds=[1, 1.3, 2.2, 3.1, 10]))
    used = run.history[run.history.accepted == True].grad_norm_sq[:K]  # noqa: E712
    assert len(used) == K and used.mean() <= eps


def test_discarded_arrivals_are_charged_and_stopped_ones_are_not():
    p, fleet = shared(), ol.Fleet(seconds=[1.0, 1.0, 1.0, 2.5])
    ignore = ol.run(ol.methods.Ringmaster(R=2, lr=0.1), p, rounds=40, live=False, fleet=fleet)
    discarded = ignore.history[1:][ignore.history.accepted[1:] == False]  # noqa: E712
    assert len(discarded) > 0
    assert ignore.federation.ledger.total("up") == 160 * 40
    assert ignore.federation.ledger.total("gradients") <= 40 - len(discarded) + 1  # ignored ones are not even evaluated
    stop = ol.run(ol.methods.Ringmaster(R=2, lr=0.1, variant="stop"), p, rounds=40, live=False, fleet=fleet)
    assert stop.federation.ledger.total("up") == 160 * 40
    assert stop.federation.ledger.per_client("up")[3] == 0  # always cancelled before it is done
    assert stop.federation.ledger.total("down") > ignore.federation.ledger.total("down")


def test_a_slow_worker_does_not_slow_it_down():
    p = shared(noise=0)
    with_slow, without = (
        ol.run(
            ol.methods.Ringmaster(R=3, lr=0.1, variant="stop"),
            shared(n=len(s), noise=0),
            rounds=50,
            live=False,
            fleet=ol.Fleet(seconds=s),
        )
        for s in ([1.0, 1.0, 1e9], [1.0, 1.0])
    )
    assert with_slow.history.time.iloc[-1] == without.history.time.iloc[-1]
    assert p.value(with_slow.x) == p.value(without.x)
