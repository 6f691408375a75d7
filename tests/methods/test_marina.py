"""MARINA against its algorithm box, its identities and its bound."""

from __future__ import annotations

import numpy as np
import pytest

import octolab as ol
from octolab.compressors import QSGD, Identity, Natural, PermK, RandK
from tests.methods.by_hand import close, gap_to, gradients, iterates, mean, permutations, rand
from tests.methods.test_sgd import logistic, sample_gradient

COINS = [0, 0, 1, 0, 1, 1, 0, 0, 0, 1, 0, 0]


def test_the_algorithm_box_with_given_coins_and_permutations():
    p = ol.problems.quadratics(n=3, d=6, L=8, seed=1)
    given, grad, x, lr = permutations(COINS.count(0), 3, 6), gradients(p), np.zeros(6), 0.02
    g, use = mean([v(x) for v in grad]), iter(given)
    path = [x]
    for coin in COINS:
        new = x - lr * g
        if coin:
            g = mean([v(new) for v in grad])
        else:
            pi = next(use)
            g = g + mean([rand(grad[i](new) - grad[i](x), 2, pi[i]) for i in range(3)])
        x = new
        path.append(x)
    script = ol.Scripted(coins=COINS, permutations=given)
    close(iterates(ol.methods.MARINA(compressor=RandK(2), lr=lr, p=0.3), p, len(COINS), randomness=script), path)


def test_with_minibatches_both_points_see_the_same_samples():
    problem, a, y = logistic(sizes=(6, 6, 6))
    coins, lr = [0, 1, 0, 0], 0.3
    batches = [[[0, 5], [4, 1], [2, 3]], [[1, 2], [0, 3], [5, 4]], [[3, 3], [2, 1], [0, 1]]]
    everything, x, use = range(6), np.zeros(3), iter(batches)
    g = mean([sample_gradient(a[i], y[i], x, everything) for i in range(3)])
    path = [x]
    for coin in coins:
        new = x - lr * g
        if coin:
            g = mean([sample_gradient(a[i], y[i], new, everything) for i in range(3)])
        else:
            rows = next(use)
            g = g + mean(
                [sample_gradient(a[i], y[i], new, rows[i]) - sample_gradient(a[i], y[i], x, rows[i]) for i in range(3)]
            )
        x = new
        path.append(x)
    method = ol.methods.MARINA(compressor=Identity(), lr=lr, p=0.3, batch_size=2)
    close(iterates(method, problem, 4, randomness=ol.Scripted(coins=coins, batches=batches)), path)


@pytest.mark.parametrize(
    "method",
    [
        ol.methods.MARINA(compressor=Identity(), p=0.2, lr=0.05),
        ol.methods.MARINA(compressor=RandK(1), p=1.0, lr=0.05),
        ol.methods.MARINA(compressor=QSGD(1), p=1, lr=0.05),
    ],
    ids=repr,
)
def test_with_the_identity_or_full_rounds_only_it_is_gradient_descent(method):
    p = ol.problems.quadratics(n=4, d=6)
    close(iterates(method, p, 40), iterates(ol.methods.GD(lr=0.05), p, 40), 1e-12)


def test_permk_on_equal_clients_is_gradient_descent():
    """Clients that agree share out the coordinates: together they send the whole difference."""
    p = ol.problems.Tridiagonal(d=12, n=4, noise=0)
    method = ol.methods.MARINA(compressor=PermK(4), p=0.2, lr=0.5)
    close(iterates(method, p, 30), iterates(ol.methods.GD(lr=0.5), p, 30), 1e-12)


def test_the_theory_values():
    p = ol.problems.quadratics(n=10, d=20, L=50)
    method = ol.methods.MARINA(compressor=RandK(4)).resolve(p)
    assert method.p == pytest.approx(0.2)
    assert method.lr == pytest.approx(1 / (p.L + p.L_qm * np.sqrt((1 - 0.2) * 4 / (0.2 * 10))))
    assert ol.methods.MARINA(compressor=Identity()).resolve(p).lr == pytest.approx(1 / p.L)
    assert ol.methods.MARINA(compressor=Natural()).resolve(p).p == pytest.approx(9 / 32)  # its share of dense bits


@pytest.mark.parametrize("k", [1, 5])
def test_the_theorems_bound_holds(k: int):
    """mean E|grad f(x_t)|^2 <= 2 (f(x0) - f*)/(lr T), on a nonconvex logistic loss, mean of three seeds."""
    rng = np.random.default_rng(0)
    a = [rng.normal(size=(20, 10)) for _ in range(8)]
    p = ol.problems.Logistic(a, [np.sign(rng.normal(size=20)) for _ in range(8)], nonconvex=0.1)
    T, means = 400, []
    for seed in range(3):
        run = ol.run(ol.methods.MARINA(compressor=RandK(k)), p, rounds=T, evaluate_every=1, seed=seed, live=False)
        means.append(run.history.grad_norm_sq[:-1].mean())
    assert np.mean(means) <= 2 * p.value(p.x0) / (run.method.lr * T)


def test_it_converges_linearly_to_the_exact_optimum():
    p = ol.problems.quadratics(n=10, d=10, L=5, mu=1)
    run = ol.run(ol.methods.MARINA(compressor=RandK(2)), p, rounds=1500, evaluate_every=1500, live=False)
    assert float(((run.x - p.x_star) ** 2).sum()) < 1e-20


def test_a_full_round_costs_d_numbers_a_compressed_one_k_and_the_coin_a_bit():
    p = ol.problems.quadratics(n=3, d=20)
    method = ol.methods.MARINA(compressor=RandK(3), p=0.2, lr=0.01)
    h = ol.run(method, p, rounds=len(COINS), randomness=ol.Scripted(coins=COINS), live=False).history
    assert (np.diff(h.bits_up) == [640 if c else 96 for c in COINS]).all() and h.bits_up[0] == 640
    assert (np.diff(h.bits_down) == 641).all()
    assert (np.diff(h.gradients) == [1 if c else 2 for c in COINS]).all()


@pytest.mark.parametrize("multiplier", [1.0, 0.5])
def test_the_lyapunov_function_of_its_linear_rate(multiplier: float):
    """E[f - f* + c |g - grad f|^2] shrinks by max(1 - lr mu, 1 - p (1 - q)); a mean of 20 seeds; 1.3 for chance."""
    p = ol.problems.quadratics(n=5, d=8, L=10, mu=1, seed=2)
    m = ol.methods.MARINA(compressor=RandK(2), lr=ol.methods.Theory(multiplier)).resolve(p)
    variance, T, ends = (1 - m.p) * 3 / 5 * p.L_qm**2, 150, []
    c = (1 - m.lr * p.L) / (2 * m.lr * variance)
    q = m.lr**2 * variance / (m.p * (1 - m.lr * p.L))
    assert m.rate(p) == pytest.approx(max(1 - m.lr * p.mu, 1 - m.p * (1 - q))) and 0 < m.rate(p) < 1
    for seed in range(20):
        run = ol.run(m, p, rounds=T, seed=seed, evaluate_every=T, live=False)
        ends.append(gap_to(p, run.x) + c * float(((run.state.g - p.gradient(run.x)) ** 2).sum()))
    assert np.mean(ends) <= 1.3 * m.rate(p) ** T * gap_to(p, p.x0)
    assert ol.methods.MARINA(compressor=RandK(2), lr=0.5).resolve(p).rate(p) is None
    assert ol.methods.MARINA(compressor=Identity()).resolve(p).rate(p) == pytest.approx(1 - p.mu / p.L)
