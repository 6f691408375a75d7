"""FedAvg against its algorithm box, and where it stops on heterogeneous quadratics."""

from __future__ import annotations

import numpy as np
import pytest

import octolab as ol
from tests.methods.by_hand import close, gradients, iterates
from tests.methods.test_sgd import logistic, sample_gradient


def test_the_algorithm_box_with_local_steps_and_momentum():
    p = ol.problems.quadratics(n=4, d=5, L=8, seed=2)
    grad, x = gradients(p), np.zeros(5)
    path = [x]
    for _ in range(10):
        deltas = []
        for g in grad:
            y, v = x, np.zeros(5)  # the momentum buffer is new in every round
            for _ in range(3):
                v = 0.5 * v + g(y)
                y = y - 0.02 * v
            deltas.append(y - x)
        x = x + 0.7 * sum(deltas) / 4
        path.append(x)
    method = ol.methods.FedAvg(lr=0.02, local_steps=3, momentum=0.5, server_lr=0.7)
    close(iterates(method, p, 10), path)


def test_two_local_steps_by_hand():
    """f_1 = x^2 - x, f_2 = 2 x^2 - 5 x, lr = 0.1: clients go 0, 0.1, 0.18 and 0, 0.5, 0.8; mean 0.49."""
    p = ol.problems.Quadratics([[[2.0]], [[4.0]]], [[1.0], [5.0]])
    close(iterates(ol.methods.FedAvg(lr=0.1, local_steps=2), p, 1), [[0.0], [0.49]], 1e-15)


def test_cohorts_are_averaged_in_proportion_to_their_examples():
    """x + sum_S w_i (y_i - x) / sum_S w_i, w_i = N_i / N; more data make more steps in an epoch."""
    problem, a, y = logistic(sizes=(5, 2, 8), weights="examples")
    sizes, cohorts = [5, 2, 8], [[0, 1], [1, 2]]
    orders = [
        [np.array([4, 2, 0, 1, 3]), np.array([1, 0])],
        [np.array([0, 1]), np.array([7, 1, 5, 2, 0, 3, 6, 4])],
    ]
    batches, x = [], np.zeros(3)
    path = [x]
    for S, order in zip(cohorts, orders, strict=True):
        cut = [[o[k : k + 2].tolist() for k in range(0, len(o), 2)] for o in order]
        # the library asks for as many local steps as its largest client anywhere in the cohort takes
        for t in range(max(map(len, cut))):
            batches.append([c[t] if t < len(c) else [] for c in cut])
        ends = []
        for k, i in enumerate(S):
            z = x
            for rows in cut[k]:
                z = z - 0.3 * sample_gradient(a[i], y[i], z, rows)
            ends.append(z)
        x = x + sum(sizes[i] * (z - x) for i, z in zip(S, ends, strict=True)) / sum(sizes[i] for i in S)
        path.append(x)
    method = ol.methods.FedAvg(lr=0.3, local_epochs=1, batch_size=2, cohort=0.5)
    close(iterates(method, problem, 2, randomness=ol.Scripted(cohorts=cohorts, batches=batches)), path)


def test_an_epoch_visits_every_sample_once_and_counts_it():
    problem, _, _ = logistic(sizes=(5, 2, 8))
    run = ol.run(ol.methods.FedAvg(lr=0.1, local_epochs=3, batch_size=2), problem, rounds=1, live=False)
    assert run.federation.ledger.per_client("samples").tolist() == [15, 6, 24]
    assert run.federation.ledger.per_client("gradients").tolist() == [9, 3, 12]  # 3 ceil(N_i / 2)


def test_one_full_local_step_is_gradient_descent():
    p = ol.problems.quadratics(n=4, d=5)
    gd = iterates(ol.methods.GD(lr=0.05), p, 20)
    close(iterates(ol.methods.FedAvg(lr=0.05, local_steps=1), p, 20), gd, 1e-13)
    close(iterates(ol.methods.FedAvg(lr=0.025, server_lr=2.0, local_steps=1), p, 20), gd, 1e-13)


def test_clients_that_agree_take_tau_steps_of_gradient_descent_in_a_round():
    p = ol.problems.Tridiagonal(d=8, n=3, noise=0)
    close(
        iterates(ol.methods.FedAvg(lr=0.5, local_steps=4), p, 5),
        iterates(ol.methods.GD(lr=0.5), p, 20)[::4],
        1e-13,
    )


@pytest.mark.parametrize("tau", [2, 5, 20])
def test_on_quadratics_it_stops_at_the_known_wrong_point(tau: int):
    """The fixed point solves sum_i w_i (I - (I - lr A_i)^tau)(x - x_i*) = 0."""
    p = ol.problems.quadratics(n=5, d=6, L=10, mu=1, seed=4)
    lr, A, b = 0.05, p.A.numpy(), p.b.numpy()
    M = [np.eye(6) - np.linalg.matrix_power(np.eye(6) - lr * A[i], tau) for i in range(5)]
    fixed = np.linalg.solve(sum(M), sum(M[i] @ np.linalg.solve(A[i], b[i]) for i in range(5)))
    close(iterates(ol.methods.FedAvg(lr=lr, local_steps=tau), p, 600)[-1], fixed)
    assert np.linalg.norm(fixed - p.x_star.numpy()) > 0.01


def test_an_aggregator_replaces_the_mean():
    p = ol.problems.quadratics(n=5, d=6)
    method = ol.methods.FedAvg(lr=0.05, local_steps=2, aggregator=ol.aggregators.Mean())
    close(iterates(method, p, 5), iterates(ol.methods.FedAvg(lr=0.05, local_steps=2), p, 5), 1e-13)


def test_only_the_cohort_is_charged():
    p = ol.problems.quadratics(n=4, d=5)
    run = ol.run(
        ol.methods.FedAvg(lr=0.05, cohort=2),
        p,
        rounds=1,
        live=False,
        randomness=ol.Scripted(cohorts=[[1, 3]]),
    )
    assert run.federation.ledger.per_client("up").tolist() == [0, 160, 0, 160]
    assert run.federation.ledger.per_client("down").tolist() == [0, 160, 0, 160]
