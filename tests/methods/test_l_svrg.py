"""L-SVRG against its algorithm box; its Lyapunov rate; no floor of sampling."""

from __future__ import annotations

import numpy as np
import pytest

import octolab as ol
from tests.methods.by_hand import close, gradients, iterates

LSVRG = ol.methods.LSVRG
Q = ol.problems.quadratics(n=6, d=5, L=8, seed=2)
WEIGHTED = ol.problems.Quadratics(Q.A.numpy(), Q.b.numpy(), weights=[1, 2, 3, 4, 5, 6])
COINS = [0, 0, 1, 0, 1, 1, 0, 0, 0, 1] * 3


@pytest.mark.parametrize("problem", [Q, WEIGHTED], ids=["equal", "weighted"])
def test_the_algorithm_box_with_given_cohorts_and_coins(problem: ol.problems.Problem):
    n, lr, grad, w = problem.n, 0.03, gradients(problem), problem.weights.numpy()
    rng = np.random.default_rng(0)
    cohorts = [np.sort(rng.choice(n, 2, replace=False)) for _ in COINS]
    x = ref = np.zeros(problem.d)
    path = [x]
    for S, coin in zip(cohorts, COINS, strict=True):
        whole = sum(w[i] * grad[i](ref) for i in range(n))
        g = whole + sum(w[i] / (2 / n) * (grad[i](x) - grad[i](ref)) for i in S)
        old, x = x, x - lr * g
        ref = old if coin else ref
        path.append(x)
    scripted = ol.Scripted(cohorts=cohorts, coins=COINS)
    close(iterates(LSVRG(cohort=2, lr=lr, p=0.3), problem, len(COINS), randomness=scripted), path)


def test_with_everybody_it_is_gradient_descent():
    close(iterates(LSVRG(cohort=None, lr=0.05), Q, 40), iterates(ol.methods.GD(lr=0.05), Q, 40), 1e-13)


def test_the_server_holds_the_mean_of_the_reference_gradients_also_after_drop_outs():
    run = ol.run(LSVRG(cohort=3, p=0.4), Q, rounds=60, fleet=ol.Fleet(dropout=0.4), live=False)
    close(run.state.G, Q.weights.numpy() @ run.federation.memory.h.numpy(), 1e-12)


def test_one_client_a_round_keeps_the_theorems_rate():
    p = ol.problems.quadratics(n=20, d=10, L=20, mu=1)
    method = LSVRG(cohort=1).resolve(p)
    assert method.p == 1 / 20 and method.lr == pytest.approx(1 / (6 * p.L_max))
    rate = method.rate(p)
    assert rate == max(1 - method.lr * p.mu, 1 - method.p / 2)
    h = p.grad(p.x0) - p.grad(p.x_star)
    start = float((p.x_star**2).sum()) + 4 * method.lr**2 / (method.p * p.n) * float((h**2).sum())
    ends = [
        float(((ol.run(method, p, rounds=1200, seed=k, evaluate_every=1200, live=False).x - p.x_star) ** 2).sum())
        for k in range(3)
    ]
    assert np.mean(ends) <= rate**1200 * start


def test_a_new_reference_costs_everybody_a_gradient():
    run = ol.run(LSVRG(cohort=2, p=1.0), Q, rounds=10, live=False)
    assert run.federation.ledger.per_client("up").sum() == 32 * Q.d * (Q.n + 10 * (2 + Q.n))
