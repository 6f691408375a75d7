"""EF21-BC: compressed both ways; what everybody holds stays the same for all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.compressors import Identity, RandK, Scaled, TopK
from octolab.methods.communication.ef21 import xi
from tests.methods.by_hand import close, gap_to, gradients, iterates, mean, top


def test_the_algorithm_box():
    p = ol.problems.quadratics(n=4, d=6, L=8, seed=1)
    grad, x, lr = gradients(p), np.zeros(6), 0.03
    g = [v(x) for v in grad]
    b = mean(g)
    path = [x]
    for _ in range(30):
        x = x - lr * b
        g = [g[i] + top(grad[i](x) - g[i], 2) for i in range(4)]
        b = b + top(mean(g) - b, 3)
        path.append(x)
    close(iterates(ol.methods.EF21BC(compressor=TopK(2), downlink=TopK(3), lr=lr), p, 30), path)


def test_with_the_identity_down_it_is_ef21():
    p = ol.problems.quadratics(n=4, d=6)
    method = ol.methods.EF21BC(compressor=TopK(1), downlink=Identity(), lr=0.02)
    close(iterates(method, p, 40), iterates(ol.methods.EF21(compressor=TopK(1), lr=0.02), p, 40), 1e-12)


def test_with_two_identities_it_is_gradient_descent_with_step_one_over_L():
    p = ol.problems.quadratics(n=4, d=6)
    method = ol.methods.EF21BC(compressor=Identity(), downlink=Identity())
    assert method.resolve(p).lr == pytest.approx(1 / p.L)
    assert method.resolve(p).rate(p) == pytest.approx(1 - p.mu / p.L)
    close(iterates(method, p, 40), iterates(ol.methods.GD(), p, 40), 1e-12)


def test_the_step_is_the_bound_of_the_specification():
    p = ol.problems.quadratics(n=7, d=12, L=9, L_spread=5)
    ratio = lambda alpha: (1 - alpha) / (1 - np.sqrt(1 - alpha)) ** 2  # noqa: E731  beta/theta
    up, down = ratio(3 / 12), ratio(2 / 12)
    M = 8 * down + up * (1 + 8 * down)
    lr = ol.methods.EF21BC(compressor=TopK(3), downlink=TopK(2)).resolve(p).lr
    assert lr == pytest.approx(1 / (p.L + p.L_qm * np.sqrt(2 * M))) and up == pytest.approx(xi(3 / 12) ** 2)


@pytest.mark.parametrize("multiplier", [1.0, 0.5])
def test_its_rate_bounds_the_lyapunov_function(multiplier: float):
    p = ol.problems.quadratics(n=5, d=10, L=10, mu=1, seed=2)
    method = ol.methods.EF21BC(compressor=TopK(4), downlink=TopK(5), lr=ol.Theory(multiplier))
    run = ol.run(method, p, rounds=0, live=False)
    lr, up, down = run.method.lr, 0.4, 0.5
    theta_C, theta_D = 1 - np.sqrt(1 - up), 1 - np.sqrt(1 - down)
    beta = (1 - down) / theta_D
    B = 8 * xi(down) ** 2 + xi(up) ** 2 * (1 + 8 * xi(down) ** 2)
    r = lr * p.L_qm * np.sqrt(2 * B / (1 - lr * p.L))
    rate = run.method.rate(p)
    assert rate == pytest.approx(max(1 - lr * p.mu, 1 - min(theta_C, theta_D) * (1 - r)))

    def psi() -> float:
        s, memory = run.state, run.federation.memory
        errors = ((memory.g - p.grad(run.x)) ** 2).sum(1).mean()
        c_b = lr / (theta_D * r)
        c_g = (lr + 8 * beta * c_b) / (theta_C * r)
        return gap_to(p, run.x) + c_b * float(((s.g - s.b) ** 2).sum()) + c_g * float(errors)

    before = psi()
    for _ in range(200):
        run.advance()
        now = psi()
        assert now <= rate * before * (1 + 1e-9) + 1e-18
        before = now


def test_twenty_times_the_step_still_converges():
    """Top3 both ways, d = 30."""
    p = ol.problems.quadratics(n=10, d=30, L=5, mu=1)
    method = ol.methods.EF21BC(compressor=TopK(3), downlink=TopK(3), lr=ol.Theory(20))
    run = ol.run(method, p, rounds=2500, evaluate_every=2500, live=False)
    assert gap_to(p, run.x) < 1e-4 * gap_to(p, p.x0) and run.method.rate(p) is None


def test_after_the_start_nothing_dense_is_sent():
    p = ol.problems.quadratics(n=3, d=20)
    run = ol.run(ol.methods.EF21BC(compressor=TopK(2), downlink=TopK(1)), p, rounds=4, live=False)
    assert run.history.bits_up.tolist() == [640 + (2 * 32 + 2 * 5) * t for t in range(5)]
    assert run.history.bits_down.tolist() == [2 * 640 + (32 + 5) * t for t in range(5)]  # x0 and b once


def test_everybody_holds_the_same_model_and_the_servers():
    p = ol.problems.quadratics(n=5, d=8)
    run = ol.run(ol.methods.EF21BC(), p, rounds=50, live=False)
    s, memory = run.state, run.federation.memory
    assert bool((memory.held == s.b).all()) and bool((memory.next == s.x - run.method.lr * s.b).all())


def test_who_missed_a_message_is_told_everything_and_nothing_is_lost():
    p = ol.problems.quadratics(n=6, d=10, L=5)
    method = ol.methods.EF21BC(compressor=TopK(4), downlink=TopK(4), lr=ol.Theory(8))
    run = ol.run(method, p, rounds=1000, fleet=ol.Fleet(dropout=0.2), evaluate_every=1000, live=False)
    s, memory = run.state, run.federation.memory
    close(s.g, memory.g.mean(0), 1e-12)
    there = ~s.behind
    assert bool(there.any()) and bool((memory.held[there] == s.b).all())
    assert gap_to(p, run.x) < 1e-8
    assert run.history.bits_down.iloc[-1] > 1000 * 4 * 36  # more than the compressed messages


def test_a_client_that_never_answers_is_sent_everything_in_every_round():
    p = ol.problems.quadratics(n=3, d=20)
    gone = np.array([1.0, 0, 0])
    run = ol.run(
        ol.methods.EF21BC(compressor=TopK(2), downlink=TopK(1)), p, rounds=5, fleet=ol.Fleet(dropout=gone), live=False
    )
    assert run.state.behind.tolist() == [True, False, False]
    down = run.federation.ledger.per_client("down") + run.federation.ledger.per_client("broadcast")
    assert down.tolist() == [2 * 640 + 37 + 4 * 1280, 2 * 640 + 5 * 37, 2 * 640 + 5 * 37]


def test_the_servers_randomness_is_addressed():
    p = ol.problems.quadratics(n=3, d=8)
    method = ol.methods.EF21BC(compressor=TopK(2), downlink=Scaled(RandK(3)), lr=0.01)
    assert torch.equal(*(ol.run(method, p, rounds=20, seed=4, live=False).x for _ in range(2)))
    assert not torch.equal(*(ol.run(method, p, rounds=20, seed=seed, live=False).x for seed in (4, 5)))
