"""EF21-SGDM and SGD2M: a running average under EF21, and what it buys."""

from __future__ import annotations

import numpy as np
import pytest

import octolab as ol
from octolab.compressors import Identity, TopK
from tests.methods.by_hand import close, gradients, iterates, mean, top

NOISE = list(np.random.default_rng(0).standard_normal((25, 4, 6)))


@pytest.mark.parametrize("momentum", ["single", "double"])
def test_the_algorithm_box_with_given_noise(momentum: str):
    p = ol.problems.quadratics(n=4, d=6, L=8, seed=1)
    grad, x, lr, eta = gradients(p), np.zeros(6), 0.02, 0.3
    g = [v(x) for v in grad]
    v, u = list(g), list(g)
    path = [x]
    for z in NOISE:
        x = x - lr * mean(g)
        for i in range(4):
            v[i] = (1 - eta) * v[i] + eta * (grad[i](x) + z[i])
            u[i] = (1 - eta) * u[i] + eta * v[i] if momentum == "double" else v[i]
            g[i] = g[i] + top(u[i] - g[i], 2)
        path.append(x)
    method = ol.methods.EF21SGDM(compressor=TopK(2), lr=lr, eta=eta, momentum=momentum, batch_size=1)
    close(iterates(method, p, 25, randomness=ol.Scripted(noise=NOISE)), path)


@pytest.mark.parametrize("momentum", ["single", "double"])
def test_with_eta_one_it_is_ef21_sgd_bit_for_bit(momentum: str):
    p = ol.problems.quadratics(n=4, d=6, noise=1.0)
    method = ol.methods.EF21SGDM(compressor=TopK(1), lr=0.01, eta=1.0, momentum=momentum)
    sgd = ol.methods.EF21SGD(compressor=TopK(1), lr=0.01)
    assert (iterates(method, p, 40) == iterates(sgd, p, 40)).all()


def test_with_eta_one_and_exact_gradients_it_is_ef21():
    p = ol.problems.quadratics(n=4, d=6)
    method = ol.methods.EF21SGDM(compressor=TopK(1), lr=0.01, eta=1.0, batch_size=None)
    assert (iterates(method, p, 40) == iterates(ol.methods.EF21(compressor=TopK(1), lr=0.01), p, 40)).all()


def test_with_the_identity_and_exact_gradients_it_is_sgd_with_momentum():
    """g = v obeys v <- (1 - eta) v + eta grad f(x)."""
    p, eta = ol.problems.quadratics(n=4, d=6), 0.2
    x, path = np.zeros(6), [np.zeros(6)]
    v = mean([g(x) for g in gradients(p)])
    for _ in range(40):
        x = x - 0.05 * v
        v = (1 - eta) * v + eta * mean([g(x) for g in gradients(p)])
        path.append(x)
    close(iterates(ol.methods.EF21SGDM(compressor=Identity(), lr=0.05, eta=eta, batch_size=None), p, 40), path)


def test_the_theory_step():
    p = ol.problems.quadratics(n=7, d=12, L=9, L_spread=4)
    lr = lambda **kw: ol.methods.EF21SGDM(**kw).resolve(p).lr  # noqa: E731
    assert lr(compressor=TopK(1), eta=1.0) == pytest.approx(1 / 12 / (20 * p.L_qm))
    assert lr(compressor=TopK(12), eta=0.01) == pytest.approx(0.01 / (7 * p.L))


def test_the_headline_momentum_lowers_the_floor_of_noise():
    """Noise N(0, 9 I), lr = 0.01, Top1 of 30: the specification has 5.3 without momentum and 0.36 with eta = 0.05."""
    p = ol.problems.quadratics(n=20, d=30, mu=1, L=10, seed=5, noise=3.0)
    floor = {}
    for eta in (1.0, 0.05):
        method = ol.methods.EF21SGDM(compressor=TopK(1), lr=0.01, eta=eta, batch_size=1)
        run = ol.run(method, p, rounds=3000, evaluate_every=1, live=False)
        floor[eta] = float(run.history.grad_norm_sq[-1500:].mean())
    assert 3 < floor[1.0] < 8 and floor[0.05] < floor[1.0] / 8


def test_two_averages_need_a_smaller_step_than_one():
    """Without compression and noise, SGD2M is a third-order filter, stable for lr L < 2 eta (0.01 here); SGDM bears more."""
    p = ol.problems.quadratics(n=3, d=4, L=10, mu=1)
    size = {}
    for momentum, lr in (("single", 0.02), ("double", 0.02), ("double", 0.004)):
        method = ol.methods.EF21SGDM(compressor=Identity(), lr=lr, eta=0.05, momentum=momentum, batch_size=None)
        size[momentum, lr] = float(np.linalg.norm(iterates(method, p, 2000)[-1] - p.x_star.numpy()))
    assert size["single", 0.02] < 1e-8 and size["double", 0.02] > 1e3 and size["double", 0.004] < 1e-3


def test_a_client_remembers_one_or_two_averages_and_they_do_not_share_memory():
    p = ol.problems.quadratics(n=5, d=4, noise=1.0)
    for momentum, names in (("single", {"g", "v"}), ("double", {"g", "v", "u"})):
        run = ol.run(
            ol.methods.EF21SGDM(momentum=momentum), p, rounds=2, fleet=ol.Fleet(dropout=0.5), seed=1, live=False
        )
        memory = run.federation.memory
        assert set(memory) == names
        assert len({memory[name].data_ptr() for name in names}) == len(names)
        close(run.state.g, memory.g.mean(0), 1e-12)


def test_bits_are_ef21s():
    p = ol.problems.quadratics(n=3, d=20, noise=1.0)
    run = ol.run(ol.methods.EF21SGDM(compressor=TopK(2)), p, rounds=3, live=False)
    assert run.history.bits_up.tolist() == [32 * 20 + (2 * 32 + 2 * 5) * t for t in range(4)]
