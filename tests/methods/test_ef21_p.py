"""EF21-P: the model that clients hold follows the server's through compressed messages."""

from __future__ import annotations

import numpy as np
import pytest

import octolab as ol
from octolab.compressors import Identity, TopK
from octolab.methods.communication.ef21 import xi
from tests.methods.by_hand import close, gap_to, gradients, iterates, mean, top


def test_the_algorithm_box():
    p = ol.problems.quadratics(n=4, d=6, L=8, seed=1)
    grad, x, w, lr = gradients(p), np.zeros(6), np.zeros(6), 0.03
    path = [x]
    for _ in range(30):
        x = x - lr * mean([v(w) for v in grad])
        w = w + top(x - w, 2)
        path.append(x)
    close(iterates(ol.methods.EF21P(compressor=TopK(2), lr=lr), p, 30), path)


def test_with_the_identity_it_is_gradient_descent_with_step_one_over_L():
    p = ol.problems.quadratics(n=4, d=6)
    method = ol.methods.EF21P(compressor=Identity())
    assert method.resolve(p).lr == pytest.approx(1 / p.L)
    assert method.resolve(p).rate(p) == pytest.approx(1 - p.mu / p.L)
    close(iterates(method, p, 30), iterates(ol.methods.GD(), p, 30), 1e-12)


def test_its_step_depends_on_the_smoothness_of_f_alone():
    p = ol.problems.quadratics(n=7, d=12, L=9, L_spread=20, eigenbasis="random")
    assert p.L_mean > 1.1 * p.L
    assert ol.methods.EF21P(compressor=TopK(3)).resolve(p).lr == pytest.approx(1 / (p.L * (1 + xi(0.25))))


@pytest.mark.parametrize("multiplier, k", [(1.0, 1), (1.0, 4), (0.5, 1)])
def test_its_rate_bounds_the_lyapunov_function(multiplier: float, k: int):
    """f(x) - f* + (lr L^2/(2 theta q)) |x - w|^2 shrinks by the rate in every round."""
    p = ol.problems.quadratics(n=5, d=10, L=30, mu=1, seed=2)
    run = ol.run(ol.methods.EF21P(compressor=TopK(k), lr=ol.Theory(multiplier)), p, rounds=0, live=False)
    lr, theta = run.method.lr, 1 - np.sqrt(1 - k / 10)
    q = (lr * p.L * xi(k / 10)) ** 2 / (1 - lr * p.L)
    rate = run.method.rate(p)
    assert rate == pytest.approx(max(1 - lr * p.mu, 1 - theta * (1 - q)))

    def psi() -> float:
        return gap_to(p, run.x) + lr * p.L**2 / (2 * theta * q) * float(((run.x - run.state.w) ** 2).sum())

    before = psi()
    for _ in range(300):
        run.advance()
        now = psi()
        assert now <= rate * before * (1 + 1e-9) + 1e-18
        before = now


def test_the_nonconvex_theorem_holds():
    rng = np.random.default_rng(0)
    a = [rng.normal(size=(20, 12)) + 0.5 * i for i in range(5)]
    p = ol.problems.Logistic(a, [np.sign(rng.normal(size=20)) for _ in range(5)], nonconvex=0.1)
    run = ol.run(ol.methods.EF21P(compressor=TopK(1)), p, rounds=400, evaluate_every=1, live=False)
    assert run.history.grad_norm_sq[:-1].mean() <= 2 * p.value(p.x0) / (run.method.lr * 400)  # f >= 0


def test_the_downlink_is_compressed_and_the_uplink_is_not():
    run = ol.run(ol.methods.EF21P(compressor=TopK(2)), ol.problems.quadratics(n=3, d=20), rounds=4, live=False)
    assert run.history.bits_down.tolist() == [640 + 74 * t for t in range(5)]
    assert run.history.bits_up.tolist() == [640 * t for t in range(5)]


def test_everybody_who_heard_holds_the_servers_w_and_it_converges_though_devices_drop_out():
    p = ol.problems.quadratics(n=6, d=10, L=5, spread=0.0)  # without a memory of gradients only agreement is exact then
    method = ol.methods.EF21P(compressor=TopK(3))
    run = ol.run(method, p, rounds=600, fleet=ol.Fleet(dropout=0.3), evaluate_every=600, live=False)
    there = ~run.state.behind
    assert bool((run.federation.memory.held[there] == run.state.w).all())
    assert gap_to(p, run.x) < 1e-10
