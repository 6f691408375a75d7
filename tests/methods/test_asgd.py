"""Asynchronous SGD against a plain event queue."""

from __future__ import annotations

import numpy as np
import pytest

import octolab as ol
from tests.methods.by_hand import close, gradients, iterates
from tests.methods.event_queue import simulate

SPEEDS = [1.0, 1.5, 2.0, 7.0]


def shared(n: int = 4, d: int = 5, noise: float = 0.3) -> ol.problems.Tridiagonal:
    return ol.problems.Tridiagonal(d=d, n=n, noise=noise)


def gradient(problem):
    """(A x - b) for A = 1/4 tridiag(-1, 2, -1), b = -e_1/4."""
    d = problem.d
    A = (2 * np.eye(d) - np.eye(d, k=1) - np.eye(d, k=-1)) / 4
    return lambda i, x: A @ x + np.eye(d)[0] / 4


def settings(noise, speeds=SPEEDS):
    return {"fleet": ol.Fleet(seconds=speeds), "randomness": ol.Scripted(noise=noise)}


@pytest.mark.parametrize("policy", ["vanilla", "delay-adaptive"])
def test_the_algorithm_box(policy: str):
    p, z = shared(), np.random.default_rng(0).normal(size=60)
    scale = (lambda delay: 4 / max(4, delay)) if policy == "delay-adaptive" else (lambda delay: 1.0)
    path = simulate(gradient(p), p.x0.numpy(), SPEEDS, 60, lambda delay: 0.2 * scale(delay), noise=list(0.3 * z))
    run = ol.run(ol.methods.ASGD(lr=0.2, policy=policy), p, rounds=60, keep="x", live=False, **settings(list(z)))
    close(run.iterates[1:], [a.x for a in path])
    assert run.history.delay[1:].tolist() == [a.delay for a in path]
    assert run.history.time[1:].tolist() == [a.time for a in path]
    assert max(a.delay for a in path) > 4


def test_heterogeneous_clients_too():
    p = ol.problems.quadratics(n=4, d=3)
    grad = gradients(p)
    path = simulate(lambda i, x: grad[i](x), np.zeros(3), SPEEDS, 40, lambda delay: 0.02)
    with pytest.warns(ol.errors.AssumptionWarning, match="heterogeneous"):
        close(iterates(ol.methods.ASGD(lr=0.02), p, 40, fleet=ol.Fleet(seconds=SPEEDS))[1:], [a.x for a in path])


def test_one_worker_is_sgd():
    p, z = shared(n=1), list(np.random.default_rng(1).normal(size=30))
    sgd = iterates(ol.methods.SGD(lr=0.3, batch_size=1), p, 30, randomness=ol.Scripted(noise=z))
    close(iterates(ol.methods.ASGD(lr=0.3), p, 30, randomness=ol.Scripted(noise=z)), sgd, 1e-14)


@pytest.mark.parametrize("n", [2, 5])
def test_equal_workers_have_the_constant_delay_n_minus_one(n: int):
    delays = ol.run(ol.methods.ASGD(), shared(n=n), rounds=4 * n, live=False).history.delay[1:].tolist()
    assert delays == [*range(n), *[n - 1] * (3 * n)]


def test_delay_adaptive_steps_are_vanilla_while_no_delay_exceeds_n():
    p, z = shared(), list(np.random.default_rng(2).normal(size=30))
    alike = [1.0, 1.1, 1.2, 1.3]
    one, two = (
        ol.run(ol.methods.ASGD(lr=0.2, policy=policy), p, rounds=30, keep="x", live=False, **settings(z, alike))
        for policy in ("vanilla", "delay-adaptive")
    )
    assert one.history.delay.max() <= 4
    assert (one.iterates == two.iterates).all()


def test_the_theory_step():
    p = shared()
    assert ol.methods.ASGD().resolve(p).lr == pytest.approx(1 / (2 * 4 * p.L))
    assert ol.methods.ASGD(eps=1e-3).resolve(p).lr == pytest.approx(1e-3 / (4 * p.L * 0.09 * 5))


def test_every_arrival_costs_d_numbers_and_every_start_a_model():
    run = ol.run(ol.methods.ASGD(), shared(), rounds=20, live=False, fleet=ol.Fleet(seconds=SPEEDS))
    arrivals = np.zeros(4)
    for a in simulate(gradient(shared()), np.zeros(5), SPEEDS, 20, lambda delay: 0.0):
        arrivals[a.client] += 1
    assert (run.federation.ledger.per_client("up") == 32 * 5 * arrivals).all()
    assert (run.federation.ledger.per_client("down") == 32 * 5 * (arrivals + 1)).all()


def test_fast_clients_pull_the_model_to_their_own_optimum():
    """Why the card says homogeneous: with gradients x - 1 and x + 1, thrice as fast is thrice as heavy."""
    p = ol.problems.Quadratics(np.ones((2, 1, 1)), [[1.0], [-1.0]])
    with pytest.warns(ol.errors.AssumptionWarning):
        x = iterates(ol.methods.ASGD(lr=0.002), p, 8000, fleet=ol.Fleet(seconds=[1.0, 3.0]))[-1]
    assert abs(float(x[0]) - 0.5) < 0.01
