"""DIANA against its algorithm box; linear to the exact optimum where memoryless compression stalls."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.compressors import QSGD, Identity, Natural, RandK, TopK
from octolab.experiment.launch import prepare
from tests.methods.by_hand import close, gradients, iterates, mean, permutations, rand


def test_the_algorithm_box_with_given_permutations():
    p = ol.problems.quadratics(n=3, d=6, L=8, seed=1)
    given, grad, x, lr, a = permutations(20, 3, 6), gradients(p), np.zeros(6), 0.02, 0.3
    h, H = [np.zeros(6)] * 3, np.zeros(6)
    path = [x]
    for pi in given:
        m = [rand(grad[i](x) - h[i], 2, pi[i]) for i in range(3)]
        x = x - lr * (H + mean(m))  # H before its update
        h, H = [h[i] + a * m[i] for i in range(3)], H + a * mean(m)
        path.append(x)
    method = ol.methods.DIANA(compressor=RandK(2), lr=lr, alpha=a)
    close(iterates(method, p, 20, randomness=ol.Scripted(permutations=given)), path)


def test_with_the_identity_and_a_equal_to_one_it_is_gradient_descent():
    p = ol.problems.quadratics(n=4, d=6)
    method = ol.methods.DIANA(compressor=Identity(), lr=0.05)
    assert method.resolve(p).alpha == 1
    close(iterates(method, p, 30), iterates(ol.methods.GD(lr=0.05), p, 30), 1e-12)


@pytest.mark.parametrize("Q", [RandK(1), QSGD(1), Natural()], ids=repr)
def test_at_the_optimum_with_the_right_shifts_it_never_moves(Q):
    p = ol.problems.quadratics(n=4, d=6)
    run = prepare(ol.methods.DIANA(compressor=Q), p, rounds=20, x0=p.x_star).advance()
    shifts = p.grad(p.x_star)
    run.federation.memory.h = shifts
    run.state = run.state._replace(h=shifts.mean(0))
    run.advance(20)
    close(run.x, p.x_star, 1e-13)
    close(run.federation.memory.h, shifts, 1e-13)


def test_the_servers_shift_is_the_mean_of_the_clients():
    p = ol.problems.quadratics(n=7, d=12)
    run = ol.run(ol.methods.DIANA(), p, rounds=200, live=False)
    close(run.state.h, run.federation.memory.h.mean(0), 1e-12)


def test_the_theory_values():
    p = ol.problems.quadratics(n=10, d=20, L=50)
    method = ol.methods.DIANA(compressor=RandK(4)).resolve(p)
    assert (method.alpha, method.lr) == (pytest.approx(1 / 5), pytest.approx(1 / (50 * (1 + 6 * 4 / 10))))


def test_the_lyapunov_function_meets_its_bound_where_compression_without_memory_stalls():
    """E V_t <= max(1 - lr mu, 1 - a/2)^t V_0. (a = 0 is compressed gradient descent without memory.)"""
    p = ol.problems.quadratics(n=10, d=20, L=50, mu=1, seed=0)
    T, star, target = 600, p.x_star, p.grad(p.x_star)
    run = ol.run(ol.methods.DIANA(compressor=RandK(4)), p, rounds=T, evaluate_every=T, live=False)
    lr, a, omega = run.method.lr, run.method.alpha, 4.0

    def V(x: torch.Tensor, h: torch.Tensor) -> float:
        return float(((x - star) ** 2).sum() + 4 * omega * lr**2 / (10 * a) * ((h - target) ** 2).sum(1).mean())

    V0 = V(p.x0, torch.zeros(10, 20, dtype=torch.float64))
    assert V(run.x, run.federation.memory.h) <= max(1 - lr * p.mu, 1 - a / 2) ** T * V0
    without = ol.run(ol.methods.DIANA(compressor=RandK(4), alpha=0.0), p, rounds=T, evaluate_every=T, live=False)
    assert float(((without.x - star) ** 2).sum()) > 0.05
    assert float(((run.x - star) ** 2).sum()) < 1e-3 * float(((without.x - star) ** 2).sum())


def test_positions_of_randk_come_from_a_shared_seed_and_cost_nothing():
    run = ol.run(ol.methods.DIANA(compressor=RandK(3)), ol.problems.quadratics(n=3, d=20), rounds=4, live=False)
    assert run.history.bits_up.tolist() == [96 * t for t in range(5)]


class Unchecked(ol.methods.DIANA):
    """DIANA that takes any compressor."""

    slug, needs = "", ()


def test_with_a_contractive_compressor_and_a_equal_to_one_it_is_ef21():
    p = ol.problems.quadratics(n=4, d=6, L=8, seed=1)
    diana = Unchecked(compressor=TopK(2), alpha=1.0, lr=0.03)
    ef21 = ol.methods.EF21(compressor=TopK(2), lr=0.03, start="compressed")
    close(iterates(diana, p, 30), iterates(ef21, p, 30), 1e-12)


def test_its_rate_is_the_theorems_and_none_outside_it():
    p = ol.problems.quadratics(n=10, d=20, L=50)
    method = ol.methods.DIANA(compressor=RandK(4)).resolve(p)
    assert method.rate(p) == pytest.approx(max(1 - method.lr, 1 - 1 / 10))
    for change in ({"lr": 2 * method.lr}, {"alpha": 0.0}, {"alpha": 0.5}):
        assert replace(method, **change).rate(p) is None


def test_its_step_knows_the_weights():
    n, d = 100, 20
    q = ol.problems.quadratics(n=n, d=d, L=10, mu=1)
    weights = np.full(n, 0.5 / (n - 1))
    weights[-1] = 0.5
    p = ol.problems.Quadratics(q.A.numpy(), q.b.numpy(), weights=weights)
    run = ol.run(ol.methods.DIANA(RandK(1)), p, rounds=300, evaluate_every=300, live=False)
    assert p.value(run.x) < p.value(p.x0)  # with omega/n, the step of equal weights, it went to 1e16
