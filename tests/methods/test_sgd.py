"""Minibatch SGD against its algorithm box, with given batches, cohorts and noise."""

from __future__ import annotations

import numpy as np

import octolab as ol
from tests.methods.by_hand import close, gradients, iterates


def logistic(sizes=(6, 6, 6), d=3, weights=None, seed=0):
    rng = np.random.default_rng(seed)
    a = [rng.normal(size=(m, d)) for m in sizes]
    y = [np.sign(rng.normal(size=m)) for m in sizes]
    return ol.problems.Logistic(a, y, l2=0.1, weights=weights), a, y


def sample_gradient(a, y, x, rows, l2=0.1):
    """Mean over the rows of the gradient of log(1 + exp(-y a'x)), plus the ridge."""
    return sum(-y[j] * a[j] / (1 + np.exp(y[j] * (a[j] @ x))) for j in rows) / len(rows) + l2 * x


def test_the_algorithm_box_with_given_batches_and_cohorts():
    problem, a, y = logistic(sizes=(6, 4, 8), weights="examples")
    cohorts, w = [[0, 2], [1], [0, 1, 2], [1, 2]], np.array([6, 4, 8]) / 18
    batches = [[[0, 5], [7, 1]], [[3, 2]], [[1, 1], [0, 3], [2, 6]], [[1, 0], [4, 5]]]
    x = np.zeros(3)
    path = [x]
    for S, rows in zip(cohorts, batches, strict=True):
        g = sum(w[i] * sample_gradient(a[i], y[i], x, rows[k]) for k, i in enumerate(S)) / sum(w[i] for i in S)
        x = x - 0.5 * g
        path.append(x)
    method = ol.methods.SGD(lr=0.5, batch_size=2, cohort=0.5)
    script = ol.Scripted(cohorts=cohorts, batches=batches)
    close(iterates(method, problem, 4, randomness=script), path)


def test_gradient_noise_is_averaged_over_the_batch_and_over_the_clients():
    problem = ol.problems.Quadratics(*np_arrays(), noise=2.0)
    z = np.random.default_rng(1).normal(size=(6, 3, 2))
    grad, x = gradients(problem), np.zeros(2)
    path = [x]
    for t in range(6):
        x = x - 0.1 * sum(grad[i](x) + 2.0 / np.sqrt(4) * z[t, i] for i in range(3)) / 3
        path.append(x)
    method = ol.methods.SGD(lr=0.1, batch_size=4)
    close(iterates(method, problem, 6, randomness=ol.Scripted(noise=list(z))), path)


def np_arrays():
    return np.array([np.diag([1.0, 2.0]), np.diag([3.0, 1.0]), np.eye(2)]), np.array([[1.0, 0], [0, 2], [3, -1]])


def test_with_all_samples_it_is_gradient_descent():
    problem, _, _ = logistic(sizes=(6, 4, 8), weights="examples")
    gd = iterates(ol.methods.GD(lr=0.5), problem, 10)
    close(iterates(ol.methods.SGD(lr=0.5, batch_size=None), problem, 10), gd, 1e-15)
    close(iterates(ol.methods.SGD(lr=0.5, batch_size=8), problem, 10), gd, 1e-13)  # the largest client has 8


def test_a_batch_has_no_sample_twice_and_an_epoch_of_batches_is_unbiased():
    problem, _, _ = logistic(sizes=(6, 6, 6))
    index = problem.draw_batch(4, None, ol.Randomness(0).draws(3)).index
    assert all(len(set(row)) == 4 for row in index.tolist())


def test_the_theory_step_for_a_target_reaches_it_on_average():
    """lr = min(1/L, n eps/(2 L sigma^2)): mean E|grad f|^2 <= 2 D/(lr T) + eps/2."""
    p = ol.problems.quadratics(n=4, d=6, L=5, mu=0.5, noise=1.0, seed=3)
    eps, T = 0.05, 3000
    run = ol.run(ol.methods.SGD(batch_size=1, eps=eps), p, rounds=T, evaluate_every=1, live=False)
    lr = run.method.lr
    assert lr == min(1 / p.L, 4 * eps / (2 * p.L * p.sigma_sq))
    D = p.value(p.x0) - p.f_star
    assert run.history.grad_norm_sq[:-1].mean() <= 2 * D / (lr * T) + eps / 2


def test_the_theory_step_knows_that_a_batch_averages_noise():
    p = ol.problems.quadratics(n=4, d=6, L=5, mu=0.5, noise=10.0)
    steps = [ol.methods.SGD(batch_size=b, eps=0.01).resolve(p).lr for b in (1, 4)]
    assert steps[1] == 4 * steps[0]


def test_an_empty_cohort_leaves_the_model_alone():
    problem, _, _ = logistic()
    x = iterates(ol.methods.SGD(lr=0.5, cohort=0.5), problem, 2, randomness=ol.Scripted(cohorts=[[], [0]]))
    assert (x[1] == x[0]).all() and (x[2] != x[1]).any()


def test_it_has_a_linear_rate_with_exact_gradients_of_everybody_only():
    p = ol.problems.quadratics(n=4, d=6, L=10)
    assert ol.methods.SGD(lr=0.1, batch_size=None).rate(p) == ol.methods.GD(lr=0.1).rate(p)
    assert ol.methods.SGD(lr=0.1).rate(p) is None and ol.methods.SGD(lr=0.1, batch_size=None, cohort=2).rate(p) is None
