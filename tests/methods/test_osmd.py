"""OSMD sampling: an unbiased gradient, an unbiased feedback, and a variance that is learned down."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import octolab as ol
from octolab.methods.participation.osmd import tilted
from tests.methods.by_hand import close, gradients, iterates

OSMD = ol.methods.OSMD
PROBLEM = ol.problems.quadratics(n=5, d=3, L=8)


def by_hand(p, q: np.ndarray, floor: float) -> np.ndarray:
    """The projection as the box says: try k = 0, 1, ... smallest at the floor, the others scaled."""
    n, order = len(q), np.argsort(q, kind="stable")
    for k in range(n):
        out = np.full(n, floor / n)
        rest = order[k:]
        out[rest] = q[rest] * (1 - k * floor / n) / q[rest].sum()
        if out[rest].min() >= floor / n - 1e-15:
            return out
    raise AssertionError("no k is feasible")


def test_the_algorithm_box_with_given_draws():
    p, lr, eta, floor, K = ol.problems.Quadratics(PROBLEM.A, PROBLEM.b, [1, 2, 3, 4, 5]), 0.02, 3e-3, 0.5, 3
    grad, w = gradients(p), p.weights.numpy()
    drawn = [[0, 2, 2], [1, 3, 4], [2, 2, 2], [0, 1, 4]]
    x, prob = np.zeros(3), np.full(5, 0.2)
    path = [x]
    for ids in drawn:
        G, q = np.zeros(3), prob.copy()
        for i in sorted(set(ids)):
            times, g = ids.count(i), grad[i](x)
            G += times * w[i] * g / (K * prob[i])
            q[i] = prob[i] * np.exp(eta * times * w[i] ** 2 * (g @ g) / (K**2 * prob[i] ** 3))
        x, prob = x - lr * G, by_hand(p, q, floor)
        path.append(x)
    method = OSMD(draws=K, lr=lr, eta=eta, floor=floor)
    run = ol.run(method, p, rounds=4, keep="x", live=False, randomness=ol.Scripted(cohorts=drawn))
    close(run.iterates, path)
    close(run.state.p, prob)
    assert prob.max() > 0.25


def test_gradient_and_feedback_are_unbiased_by_enumeration():
    """All 5^2 draws of K = 2: the mean step is lr grad f, the mean feedback a/(K p^2), minus the variance's derivative."""
    p, lr, K, x0 = PROBLEM, 0.1, 2, np.ones(3)
    g = p.grad(torch.as_tensor(x0)).numpy()
    a = (g**2).sum(1) / 25
    uniform, step, feedback = np.full(5, 0.2), np.zeros(3), np.zeros(5)
    for ids in product(range(5), repeat=K):
        method = OSMD(draws=K, lr=lr, eta=1e-9, floor=1e-3)
        run = ol.run(method, p, rounds=1, x0=x0, live=False, randomness=ol.Scripted(cohorts=[sorted(ids)]))
        step += (np.asarray(run.x) - x0) / 25
        times = np.bincount(ids, minlength=5)
        feedback += times * a / (K**2 * uniform**3) / 25
    close(step, -lr * p.gradient(x0).numpy(), 1e-12)
    variance = lambda q: np.sum(a / q) / K  # noqa: E731
    h = 1e-6
    slope = [(variance(uniform + h * e) - variance(uniform - h * e)) / (2 * h) for e in np.eye(5)]
    close(feedback, -np.array(slope), 1e-6)


def test_the_projection_is_the_nearest_in_kl_divergence():
    rng = np.random.default_rng(0)
    for _ in range(20):
        p, gain, floor = rng.dirichlet(np.ones(6)) * 0.5 + 0.5 / 6, 3 * rng.random(6), float(rng.uniform(0.1, 0.9))
        found, q = tilted(p, gain, floor), p * np.exp(gain)
        close(found, by_hand(None, q, floor), 1e-12)
        divergence = lambda v, q=q: np.sum(v * np.log(v / q) - v + q)  # noqa: E731
        best = minimize(
            divergence,
            np.full(6, 1 / 6),
            bounds=[(floor / 6, 1)] * 6,
            constraints={"type": "eq", "fun": lambda v: v.sum() - 1},
            options={"ftol": 1e-12},
        )
        assert divergence(found) <= best.fun + 1e-9 and found.sum() == pytest.approx(1)


def test_a_feedback_beyond_all_floats_is_harmless():
    p = tilted(np.full(4, 0.25), np.array([0, 0, 1e9, 0]), 0.4)
    close(p, [0.1, 0.1, 0.7, 0.1], 1e-14)


def test_with_a_floor_of_one_it_is_uniform_sampling():
    run = ol.run(OSMD(draws=2, floor=1.0, lr=0.01), PROBLEM, rounds=50, live=False)
    close(run.state.p, np.full(5, 0.2), 1e-13)


def still() -> ol.problems.Quadratics:
    """n=10 clients with gradients of very different size; with a tiny lr the model hardly moves."""
    size = np.array([1, 1, 1, 1, 1, 1, 2, 3, 6, 10.0])
    rng = np.random.default_rng(0)
    b = rng.normal(size=(10, 4))
    b *= (size / np.linalg.norm(b, axis=1))[:, None]
    return ol.problems.Quadratics(np.tile(np.eye(4), (10, 1, 1)), b)


def test_it_learns_whom_to_ask():
    """The specification: variance 99.8 uniform, 48.8 learned, 47.1 at the optimum; eta a hundred times too big: 410."""
    p = still()
    a = (p.b.numpy() ** 2).sum(1) / 100
    variance = lambda q: float(np.sum(a / q))  # noqa: E731
    uniform, optimum = variance(np.full(10, 0.1)), variance(np.sqrt(a) / np.sqrt(a).sum())
    learn = lambda **more: variance(  # noqa: E731
        ol.run(OSMD(lr=1e-12, floor=0.1, **more), p, rounds=4000, live=False, evaluate_every=4000).state.p.numpy()
    )
    learned = learn(draws=2)
    assert optimum <= learned <= optimum + 0.15 * (uniform - optimum)
    eta = 4 / (20 * 1000 * a.mean())
    assert learn(draws=2, eta=100 * eta) > 1.5 * uniform


def test_eta_is_found_from_the_first_feedback_and_then_kept():
    p = still()
    given = ol.Scripted(cohorts=[[3, 9], [1, 2]])
    run = ol.run(OSMD(draws=2, lr=1e-3), p, rounds=2, live=False, randomness=given)
    a = (p.b.numpy() ** 2).sum(1) / 100
    assert run.state.eta == pytest.approx(4 / (20 * 1000 * (a[3] + a[9]) / 2))


def test_only_the_drawn_compute_and_send_and_each_pays_once():
    run = ol.run(OSMD(draws=3, lr=0.01), PROBLEM, rounds=1, live=False, randomness=ol.Scripted(cohorts=[[1, 1, 4]]))
    assert run.federation.ledger.per_client("up").tolist() == [0, 96, 0, 0, 96]
    assert run.federation.ledger.per_client("gradients").tolist() == [0, 1, 0, 0, 1]


def test_several_local_steps_send_a_gradient_of_their_path():
    p, lr = PROBLEM, 0.02
    grad, g = gradients(p), {}
    for i in (1, 4):
        y = np.zeros(3)
        for _ in range(3):
            y = y - lr * grad[i](y)
        g[i] = -y / lr
    method = OSMD(draws=2, lr=lr, local_steps=3)
    x = iterates(method, p, 1, randomness=ol.Scripted(cohorts=[[1, 4]]))[1]
    close(x, -lr * (g[1] + g[4]) / (2 * 5 * 0.2))


def test_the_step_from_theory_converges_where_the_clients_agree():
    p = ol.problems.quadratics(n=6, d=4, spread=0, L_spread=3)
    run = ol.run(OSMD(), p, rounds=2000, live=False, evaluate_every=2000)
    close(run.x, p.x_star, 1e-6)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: OSMD(draws=0), r"draws=0: give a number in \[1"),
        (lambda: OSMD(floor=0.0), r"floor=0.0: give a number in \(0, 1\]"),
        (lambda: OSMD(floor=1.5), r"\(0, 1\]"),
        (lambda: OSMD(eta=-1.0), r"eta=-1.0"),
    ],
)
def test_bad_input_gets_a_sentence(make, words: str):
    with pytest.raises(ValueError, match=words):
        make()
