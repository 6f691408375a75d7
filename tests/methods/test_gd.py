"""Gradient descent: hand-made numbers, the theorem's rates, and what it sends."""

from __future__ import annotations

import numpy as np
import pytest

import octolab as ol
from tests.methods.by_hand import close, gap_to, gradients, iterates


def test_two_clients_in_one_dimension_by_hand():
    """f_1 = x^2 - x, f_2 = 2 x^2 - 5 x: the mean gradient is 3 x - 3."""
    problem = ol.problems.Quadratics([[[2.0]], [[4.0]]], [[1.0], [5.0]])
    close(iterates(ol.methods.GD(lr=0.1), problem, 3), [[0.0], [0.3], [0.51], [0.657]], 1e-15)


def test_the_algorithm_box_with_weights():
    problem = ol.problems.Quadratics(*arrays(), weights=[1, 2, 3, 4, 5])
    w, grad, x = np.arange(1, 6) / 15, gradients(problem), np.zeros(4)
    path = [x]
    for _ in range(20):
        x = x - 0.05 * sum(w[i] * grad[i](x) for i in range(5))
        path.append(x)
    close(iterates(ol.methods.GD(lr=0.05), problem, 20), path)


def arrays():
    rng = np.random.default_rng(0)
    B = rng.normal(size=(5, 4, 4))
    return B @ B.transpose(0, 2, 1) + np.eye(4), rng.normal(size=(5, 4))


@pytest.mark.parametrize("rounds", [10, 50, 200])
def test_the_theory_step_meets_both_theorems(rounds: int):
    p = ol.problems.quadratics(n=5, d=10, L=50, mu=1, seed=1)
    gap, start = gap_to(p, iterates(ol.methods.GD(), p, rounds)[-1]), float((p.x_star**2).sum())
    assert gap <= p.L * start / (2 * rounds)
    assert gap <= (1 - p.mu / p.L) ** rounds * gap_to(p, np.zeros(10)) * (1 + 1e-9)


def test_a_step_of_more_than_two_over_L_diverges_and_says_so():
    p = ol.problems.quadratics(n=3, d=4, L=10, mu=1)
    with pytest.warns(RuntimeWarning, match="no longer finite"):
        run = ol.run(ol.methods.GD(lr=4 / p.L), p, rounds=2000, live=False)
    assert run.status == "diverged" and run.round < 2000


def test_every_round_costs_d_numbers_each_way():
    h = ol.run("gd", ol.problems.quadratics(n=3, d=7), rounds=4, live=False).history
    assert list(h.bits_up) == list(h.bits_down) == [32 * 7 * t for t in range(5)]
    assert list(h.bits_broadcast) == list(h.bits_down) and list(h.gradients) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("share", [0.3, 1.0, 1.7])
def test_the_rate_is_met_up_to_one_over_L_and_not_promised_beyond(share: float):
    p = ol.problems.quadratics(n=5, d=10, L=20, mu=1, seed=1)
    method = ol.methods.GD(lr=share / p.L)
    path = iterates(method, p, 60)
    gaps = np.array([gap_to(p, x) for x in path])
    if share > 1:
        assert method.rate(p) is None
    else:
        assert method.rate(p) == pytest.approx(1 - share * p.mu / p.L)
        assert (gaps[1:] <= method.rate(p) * gaps[:-1] * (1 + 1e-9)).all()
    flat = ol.problems.Logistic([[[1.0, 2.0]]], [[1]])
    assert ol.methods.GD(lr=0.1).rate(flat) is None
