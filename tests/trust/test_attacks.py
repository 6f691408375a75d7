"""Liars in a federation: what sign flipping does to the mean, and not to the median."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.trust.aggregators import CoordinateMedian, TrimmedMean
from octolab.trust.attacks import SignFlip


def alike(n: int = 10) -> ol.problems.Problem:
    return ol.problems.quadratics(n=n, d=8, L=5, mu=1, spread=0.1, seed=0)


def far(problem: ol.problems.Problem, aggregator, liars: tuple, scale: float = 1.0) -> float:
    method = ol.methods.FedAvg(lr=0.1, local_steps=1, aggregator=aggregator)
    run = ol.run(method, problem, rounds=200, live=False, attack=SignFlip(clients=liars, scale=scale))
    return float((run.x - problem.x_star).norm())


def test_honest_clients_converge_under_every_rule():
    for rule in (None, CoordinateMedian(), TrimmedMean(b=3)):
        assert far(alike(), rule, ()) < 0.3


def test_sign_flip_breaks_the_mean_and_not_the_median():
    p = alike()
    start = float(p.x_star.norm())
    assert far(p, None, (0, 4, 7), scale=5.0) > 10 * start
    for rule in (CoordinateMedian(), TrimmedMean(b=3)):
        assert far(p, rule, (0, 4, 7), scale=5.0) < 0.25 * start


@pytest.mark.parametrize("rule", [CoordinateMedian(), TrimmedMean(b=4)], ids=repr)
def test_clients_that_agree_outvote_any_minority_exactly(rule):
    p = ol.problems.Tridiagonal(d=8, n=9, noise=0)
    method = ol.methods.FedAvg(lr=0.5, local_steps=3, aggregator=rule)
    honest, lied = (
        ol.run(method, p, rounds=20, live=False, attack=attack).x
        for attack in (None, SignFlip(clients=(0, 2, 5, 8), scale=100.0))
    )
    assert torch.allclose(lied, honest, rtol=0, atol=1e-12)


def test_a_weak_flip_only_slows_the_mean_down():
    """Three of ten flip: the mean has 0.4 of its length, and points to the honest clients' optimum."""
    p = alike()
    assert far(p, None, (0, 4, 7)) < 0.5


def test_a_flipped_reply_is_minus_scale_times_the_honest_one():
    p = alike(4)
    fed = ol.Federation(p, attack=SignFlip(clients=(1, 3), scale=2.0))
    replies = fed.call(lambda cohort, x: cohort.grad(x), p.x0)
    honest = p.grad(p.x0)
    assert torch.equal(replies.stack(), honest * torch.tensor([[1.0], [-2], [1], [-2]], dtype=torch.float64))
    assert torch.allclose(
        replies.mean(), (honest[0] - 2 * honest[1] + honest[2] - 2 * honest[3]) / 4, rtol=0, atol=1e-14
    )
    some = fed.call(lambda cohort, x: cohort.grad(x), p.x0, to=np.array([2, 3]))
    assert torch.equal(some.stack(), honest[2:] * torch.tensor([[1.0], [-2]], dtype=torch.float64))


def test_liars_lie_to_asynchronous_servers_too():
    p = ol.problems.Tridiagonal(d=5, n=3, noise=0)
    honest, lied = (
        ol.run(ol.methods.ASGD(lr=0.1), p, rounds=3, keep="x", live=False, attack=attack).iterates
        for attack in (None, SignFlip(clients=(1,)))
    )
    assert torch.equal(honest[1], lied[1])
    assert torch.allclose(lied[2] - lied[1], -(honest[2] - honest[1]), rtol=0, atol=1e-15)


def test_lies_cost_the_same_bits_and_leave_the_clients_memory_honest():
    p = alike(4)
    method = ol.methods.EF21(compressor=ol.compressors.Identity())
    honest, lied = (ol.run(method, p, rounds=5, live=False, attack=a) for a in (None, SignFlip(clients=(0,))))
    assert honest.history.bits_up.tolist() == lied.history.bits_up.tolist()
    assert not torch.equal(honest.x, lied.x)
    assert torch.allclose(lied.federation.memory.g, p.grad(lied.x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "bad, word",
    [({"clients": (0,), "scale": 0}, "scale"), ({"clients": (12,)}, "clients are numbered 0 to 9")],
)
def test_impossible_attacks_are_refused_in_words(bad: dict, word: str):
    with pytest.raises(ValueError, match=word):
        ol.Federation(alike(), attack=SignFlip(**bad))
