"""Shadowheart SGD: the equilibrium time, the plan, and the step against its algorithm box."""

from __future__ import annotations

import math

import numpy as np
import pytest

import octolab as ol
from octolab.compressors import Identity, RandK
from octolab.methods.asynchronous.shadowheart import equilibrium_time
from tests.methods.by_hand import close, iterates, rand
from tests.methods.test_asgd import gradient, shared


def fleets(count: int):
    """Random devices: (h, tau, omega, s)."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        n = rng.integers(1, 12)
        h, tau = np.exp(rng.normal(0, 1.5, (2, n)))
        yield h, tau, float(rng.choice([0, 0.5, 3, 20])), float(rng.choice([0, 0.1, 1, 30]))


@pytest.mark.parametrize("n", [1, 7])
@pytest.mark.parametrize(
    "h, tau, omega, s", [(1, 1, 3, 5), (0.1, 4, 9, 20), (5, 0.01, 1, 0.5), (2, 3, 0, 10), (2, 3, 4, 0)]
)
def test_equal_workers_have_a_closed_form(n: int, h: float, tau: float, omega: float, s: float):
    c = (tau * omega + h * s) / n
    known = max(h, tau, c + math.sqrt(c * c + 4 * tau * h * s * omega / n))
    assert equilibrium_time(np.full(n, h), np.full(n, tau), omega, s) == pytest.approx(known, rel=1e-12)


def test_free_uncompressed_messages_leave_the_time_of_rennala():
    """tau = 0, omega = 0: t* = min_j max(h_j, 2 s / sum_{i <= j} 1/h_i)."""
    h = np.array([0.5, 1.0, 4.0, 30.0])
    known = min(max(h[j], 2 * 9.0 / (1 / h[: j + 1]).sum()) for j in range(4))
    assert equilibrium_time(h, np.zeros(4), 0.0, 9.0) == pytest.approx(known, rel=1e-12)


def test_it_is_zero_if_a_worker_costs_nothing_and_infinite_if_nobody_answers():
    assert equilibrium_time(np.array([0.0, 1]), np.array([0.0, 1]), 3.0, 2.0) == 0
    assert equilibrium_time(np.full(2, np.inf), np.full(2, np.inf), 3.0, 2.0) == math.inf
    one = equilibrium_time(np.array([1.0]), np.array([2.0]), 3.0, 2.0)
    assert equilibrium_time(np.array([1.0, np.inf]), np.array([2.0, 1.0]), 3.0, 2.0) == one


def test_it_scales_with_the_unit_of_time_and_ignores_the_order_of_workers():
    rng = np.random.default_rng(1)
    for h, tau, omega, s in fleets(20):
        t, order = equilibrium_time(h, tau, omega, s), rng.permutation(len(h))
        assert equilibrium_time(60 * h, 60 * tau, omega, s) == pytest.approx(60 * t, rel=1e-9)
        assert equilibrium_time(h[order], tau[order], omega, s) == pytest.approx(t, rel=1e-12)


def test_it_never_grows_when_a_worker_is_added():
    for h, tau, omega, s in fleets(25):
        for k in range(1, len(h)):
            assert equilibrium_time(h[: k + 1], tau[: k + 1], omega, s) <= equilibrium_time(
                h[:k], tau[:k], omega, s
            ) * (1 + 1e-12)


def test_the_plan_averages_enough_noise_away():
    """sum_i b_i m_i / (b_i omega + omega s + m_i s) >= 1: the relative variance is at most one."""
    for h, tau, omega, s in fleets(100):
        b, m, w = ol.methods.Shadowheart(s=s).plan(h, tau, omega)
        on = b > 0
        assert on.any() and ((b > 0) == (m > 0)).all() and (w[~on] == 0).all()
        if omega or s:
            assert (b[on] * m[on] / (b[on] * omega + omega * s + m[on] * s)).sum() >= 1
            close(w[on], 1 / (b[on] * omega + omega * s + m[on] * s), 1e-15)
        t = equilibrium_time(h, tau, omega, s)
        assert (b * h + m * tau <= 2 * t * (1 + 1e-9)).all()


def test_the_algorithm_box_with_given_noise_and_permutations():
    p, k, d, n, lr, s = shared(n=3, d=6, noise=0.4), 2, 6, 3, 0.3, 4.0
    h, up = np.array([1.0, 2.0, 50.0]), 32 * k / np.array([3.0, 1.0, 2.0])
    tau, omega = 32 * k / up, d / k - 1
    t = equilibrium_time(h, tau, omega, s)
    b, m = np.floor(t / h * (1 + 1e-12)), np.floor(t / tau * (1 + 1e-12))
    active = [i for i in range(n) if b[i] and m[i]]
    assert active == [0, 1] and m[0] != m[1]  # one device is too slow, the others send unequal numbers
    rng, x, grad = np.random.default_rng(3), p.x0.numpy(), gradient(p)
    calls, noise, path = [], [], [x]
    for _ in range(5):
        z, pi = (
            rng.normal(size=(2, 1)),
            [np.stack([rng.permutation(d) for _ in active]) for _ in range(int(max(m)))],
        )
        noise.append(z)
        calls += pi
        above, below = np.zeros(d), 0.0
        for row, i in enumerate(active):
            g = b[i] * grad(i, x) + math.sqrt(b[i]) * 0.4 * z[row]  # the sum of b_i noisy gradients
            w = 1 / (b[i] * omega + omega * s + m[i] * s)
            above = above + w * sum(rand(g, k, pi[j][row]) for j in range(int(m[i])))  # independent compressions
            below += w * m[i] * b[i]
        x = x - lr * above / below
        path.append(x)
    run = ol.run(
        ol.methods.Shadowheart(compressor=RandK(k), s=s, lr=lr), p, rounds=5, keep="x", live=False,
        fleet=ol.Fleet(seconds=h, up=up), randomness=ol.Scripted(noise=noise, permutations=calls),
    )  # fmt: skip
    close(run.iterates, path)
    round_time = max(b[i] * h[i] + m[i] * tau[i] for i in active)
    assert np.allclose(np.diff(run.history.time), round_time) and round_time <= 2 * t
    assert run.federation.ledger.per_client("up").tolist() == [5 * m[0] * 64, 5 * m[1] * 64, 0]
    assert run.federation.ledger.per_client("gradients").tolist() == [5 * b[0], 5 * b[1], 0]


def test_one_worker_without_noise_and_compression_is_gradient_descent():
    p = shared(n=1, noise=0)
    method = ol.methods.Shadowheart(compressor=Identity(), s=0.0, lr=0.5)
    close(iterates(method, p, 30), iterates(ol.methods.GD(lr=0.5), p, 30), 1e-13)


def test_the_theory_values():
    p = shared(d=5, noise=0.1)
    method = ol.methods.Shadowheart(eps=0.02).resolve(p)
    assert (method.s, method.lr) == (pytest.approx(0.05 / 0.02), pytest.approx(1 / (2 * p.L)))


def test_the_theorem_holds():
    """mean |grad f|^2 <= eps after 16 L D/eps rounds of at most 2 t* seconds."""
    p, eps = ol.problems.Tridiagonal(d=10, n=8, noise=0.1), 0.02
    fleet = ol.Fleet(seconds=np.linspace(1, 8, 8), up=np.geomspace(1000, 10, 8))
    rounds = math.ceil(16 * p.L * (p.value(p.x0) - p.f_star) / eps)
    run = ol.run(
        ol.methods.Shadowheart(compressor=RandK(2), eps=eps),
        p,
        rounds=150,
        evaluate_every=1,
        live=False,
        fleet=fleet,
    )
    assert rounds > 150  # already within the first 150
    assert run.history.grad_norm_sq[75:].mean() <= eps
    h, tau = fleet.seconds, 64 / fleet.up
    assert np.diff(run.history.time)[1:].max() <= 2 * equilibrium_time(h, tau, 4.0, p.sigma_sq / eps) * (1 + 1e-9)


def test_nobody_who_ever_answers_is_said_before_the_first_round():
    with pytest.warns(RuntimeWarning, match="no equilibrium time"):
        run = ol.run(ol.methods.Shadowheart(), shared(), rounds=3, fleet=ol.Fleet(seconds=np.inf), live=False)
    assert run.status == "stalled"


def test_the_plan_knows_powers_as_it_knows_seconds():
    p, tau = shared(n=3), [1.0, 2.0, 5.0]
    powers = ol.fleets.Powers([[0]] * 3, [[1 / t] for t in tau])
    plans = [
        ol.run(
            ol.methods.Shadowheart(s=4.0), p, rounds=1, fleet=ol.Fleet(up=100.0, **times), live=False
        ).state.b.tolist()
        for times in ({"seconds": tau}, {"computation": powers})
    ]
    assert plans[0] == plans[1] and len(set(plans[0])) > 1
