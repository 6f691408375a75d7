"""SAGA against its algorithm box; the table's mean; no floor of sampling."""

from __future__ import annotations

import numpy as np
import pytest

import octolab as ol
from tests.methods.by_hand import close, gradients, iterates, mean

SAGA = ol.methods.SAGA
Q = ol.problems.quadratics(n=6, d=5, L=8, seed=2)
WEIGHTED = ol.problems.Quadratics(Q.A.numpy(), Q.b.numpy(), weights=[1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize("problem", [Q, WEIGHTED], ids=["equal", "weighted"])
def test_the_algorithm_box_with_given_cohorts(problem: ol.problems.Problem):
    n, lr, grad, w = problem.n, 0.03, gradients(problem), problem.weights.numpy()
    rng = np.random.default_rng(0)
    cohorts = [np.sort(rng.choice(n, 2, replace=False)) for _ in range(30)]
    x = np.zeros(problem.d)
    table = [grad[i](x) for i in range(n)]
    path = [x]
    for S in cohorts:
        A = sum(w[i] * table[i] for i in range(n))
        g = A + sum(w[i] / (2 / n) * (grad[i](x) - table[i]) for i in S)
        for i in S:
            table[i] = grad[i](x)
        x = x - lr * g
        path.append(x)
    close(iterates(SAGA(cohort=2, lr=lr), problem, 30, randomness=ol.Scripted(cohorts=cohorts)), path)


def test_with_everybody_it_is_gradient_descent():
    close(iterates(SAGA(cohort=None, lr=0.05), Q, 40), iterates(ol.methods.GD(lr=0.05), Q, 40), 1e-13)


def test_the_server_holds_the_mean_of_the_table_also_after_drop_outs():
    run = ol.run(SAGA(cohort=3), Q, rounds=60, fleet=ol.Fleet(dropout=0.4), live=False)
    close(run.state.A, Q.weights.numpy() @ run.federation.memory.phi.numpy(), 1e-12)


def test_started_at_the_optimum_it_stays():
    run = ol.run(SAGA(cohort=1), Q, rounds=30, x0=Q.x_star, live=False)
    close(run.x, Q.x_star, 1e-13)


def test_one_client_a_round_reaches_the_optimum_where_sgd_has_a_floor():
    p = ol.problems.quadratics(n=20, d=10, L=20, mu=1)
    method = SAGA(cohort=1).resolve(p)
    assert method.lr == pytest.approx(1 / (3 * p.L_max)) and method.rate(p) == 1 - min(1 / 80, p.mu / (3 * p.L_max))
    runs = {
        m: ol.run(m, p, rounds=1200, evaluate_every=1200, live=False).x
        for m in (method, ol.methods.SGD(lr=method.lr, cohort=1, batch_size=None))
    }
    saga, sgd = (float(((x - p.x_star) ** 2).sum()) for x in runs.values())
    assert saga < 1e-12 and sgd > 1e-3
    assert mean([saga]) <= 1e3 * method.rate(p) ** 1200


def test_the_bits_of_a_round_are_d_numbers_each_way_for_the_cohort():
    ledger = ol.run(SAGA(cohort=2), Q, rounds=10, live=False).federation.ledger
    assert ledger.per_client("up").sum() == 32 * Q.d * (Q.n + 10 * 2)
