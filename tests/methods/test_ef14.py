"""Classic error feedback (EF14), and what happens without any memory at all."""

from __future__ import annotations

import numpy as np
import pytest

import octolab as ol
from octolab.compressors import QSGD, Identity, RandK, SignNorm, TopK
from octolab.experiment.launch import prepare
from tests.methods.by_hand import close, gap_to, gradients, iterates, mean, top


def three_clients() -> ol.problems.Quadratics:
    """f_i = <a_i, x>^2 + |x|^2/4 with a_i in {(-3, 2, 2), ...}: Beznosikov et al. (arXiv 2002.12410)."""
    a = np.array([[-3.0, 2, 2], [2, -3, 2], [2, 2, -3]])
    return ol.problems.Quadratics(2 * a[:, :, None] * a[:, None, :] + np.eye(3) / 2, np.zeros((3, 3)), x0=np.ones(3))


def test_the_algorithm_box():
    p = ol.problems.quadratics(n=4, d=6, L=8, seed=1)
    grad, e, x, lr = gradients(p), [np.zeros(6)] * 4, np.zeros(6), 0.03
    path = [x]
    for _ in range(25):
        sent = []
        for i in range(4):
            v = e[i] + lr * grad[i](x)
            sent.append(top(v, 2))
            e[i] = v - sent[-1]
        x = x - mean(sent)
        path.append(x)
    close(iterates(ol.methods.EF14(compressor=TopK(2), lr=lr), p, 25), path)


def test_with_the_identity_it_is_gradient_descent():
    p = ol.problems.quadratics(n=4, d=6)
    close(
        iterates(ol.methods.EF14(compressor=Identity(), lr=0.05), p, 30),
        iterates(ol.methods.GD(lr=0.05), p, 30),
        1e-13,
    )


@pytest.mark.parametrize("C", [TopK(1), SignNorm(), RandK(2, scaled=False), QSGD(7)], ids=repr)
def test_the_virtual_iterate_makes_a_gradient_step_whatever_is_sent(C):
    """z = x - mean e obeys z <- z - lr grad f(x)."""
    p = ol.problems.quadratics(n=4, d=6)
    run = prepare(ol.methods.EF14(compressor=C, lr=0.02), p, rounds=40).advance()
    for _ in range(40):
        x, z = run.x, run.x - run.federation.memory.e.mean(0)
        run.advance()
        close(run.x - run.federation.memory.e.mean(0), z - 0.02 * p.gradient(x), 1e-12)


@pytest.mark.parametrize("lr", [0.001, 0.01, 0.1])
def test_without_memory_every_step_multiplies_by_one_plus_eleven_sixths_lr(lr: float):
    p, x = three_clients(), np.ones(3)
    grad = gradients(p)
    for _ in range(10):
        y = x - lr * mean([top(g(x), 1) for g in grad])
        close(y, (1 + 11 * lr / 6) * x, 1e-13)
        x = y


def test_with_memory_the_same_example_converges():
    p = three_clients()
    for method in (ol.methods.EF14(compressor=TopK(1)), ol.methods.EF21(compressor=TopK(1))):
        assert np.linalg.norm(iterates(method, p, 3000)[-1]) < 1e-6, method


def test_on_heterogeneous_clients_it_stalls_where_ef21_at_the_same_step_is_exact():
    p = ol.problems.quadratics(n=20, d=30, L=10, mu=1, seed=5)
    ends = {}
    for method in (ol.methods.EF14(compressor=TopK(1)), ol.methods.EF21(compressor=TopK(1))):
        step = ol.Theory(8)
        run = ol.run(type(method)(compressor=TopK(1), lr=step), p, rounds=1500, evaluate_every=1500, live=False)
        ends[method.slug] = gap_to(p, run.x)
    assert ends["ef21"] < 1e-8 < 1e-3 < ends["ef14"]


def test_the_step_is_inside_the_message_so_a_message_has_the_units_of_the_model():
    p = ol.problems.quadratics(n=3, d=4)
    run = ol.run(ol.methods.EF14(compressor=TopK(1), lr=1e-3), p, rounds=5, live=False)
    assert run.history.bits_up.tolist() == [34 * t for t in range(6)]  # one number and two bits of position


def test_the_headline_ef21_goes_to_zero_where_ef14_stops_and_no_memory_goes_nowhere():
    """The specification, on its own random problem: 2e-14, 1e-2, 9.9 after 6000 rounds at EF21's step."""
    p = ol.problems.quadratics(n=20, d=30, L=10, mu=1, seed=5, eigenbasis="random")
    gap = {}
    for method in (ol.methods.EF21, ol.methods.EF14):
        run = ol.run(method(compressor=TopK(1)), p, rounds=3000, evaluate_every=3000, live=False)
        gap[method.slug] = gap_to(p, run.x)
    A, b, x, lr = p.A.numpy(), p.b.numpy(), np.zeros(30), run.method.lr
    for _ in range(3000):
        v = A @ x - b
        at = np.abs(v).argmax(1)
        x = x - lr * np.bincount(at, v[np.arange(20), at], minlength=30) / 20
    assert gap["ef21"] < 1e-9 and 1e-3 < gap["ef14"] < 1e-1 and gap_to(p, x) > 1


def test_it_promises_no_linear_rate():
    p = ol.problems.quadratics(n=4, d=6)
    assert ol.methods.EF14().resolve(p).rate(p) is None
