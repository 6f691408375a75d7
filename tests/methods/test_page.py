"""PAGE against its algorithm box; its identities; its bound."""

from __future__ import annotations

import numpy as np
import pytest

import octolab as ol
from octolab.compressors import Identity
from tests.methods.by_hand import close, gradients, iterates

PAGE = ol.methods.PAGE
Q = ol.problems.quadratics(n=6, d=5, L=8, seed=2)
WEIGHTED = ol.problems.Quadratics(Q.A.numpy(), Q.b.numpy(), weights=[1, 2, 3, 4, 5, 6])
COINS = [0, 0, 1, 0, 1, 1, 0, 0, 0, 1] * 3


@pytest.mark.parametrize("problem", [Q, WEIGHTED], ids=["equal", "weighted"])
def test_the_algorithm_box_with_given_cohorts_and_coins(problem: ol.problems.Problem):
    n, b, lr, grad, w = problem.n, 2, 0.03, gradients(problem), problem.weights.numpy()
    rng = np.random.default_rng(0)
    cohorts = [np.sort(rng.choice(n, b, replace=False)) for _ in range(COINS.count(0))]
    use = iter(cohorts)
    whole = lambda x: sum(w[i] * grad[i](x) for i in range(n))  # noqa: E731
    x = np.zeros(problem.d)
    g, path = whole(x), [x]
    for coin in COINS:
        old, x = x, x - lr * g
        g = whole(x) if coin else g + n / b * sum(w[i] * (grad[i](x) - grad[i](old)) for i in next(use))
        path.append(x)
    scripted = ol.Scripted(cohorts=cohorts, coins=COINS)
    close(iterates(PAGE(cohort=b, lr=lr, p=0.3), problem, len(COINS), randomness=scripted), path)


@pytest.mark.parametrize("how", [{"p": 1.0, "cohort": 2}, {"p": 0.2, "cohort": 6}], ids=["p = 1", "b = n"])
def test_with_everybody_it_is_gradient_descent(how: dict):
    close(iterates(PAGE(lr=0.05, **how), Q, 40), iterates(ol.methods.GD(lr=0.05), Q, 40), 1e-12)


def test_with_the_identity_marina_is_page_with_everybody():
    close(iterates(PAGE(lr=0.05, cohort=6), Q, 40), iterates(ol.methods.MARINA(Identity(), lr=0.05), Q, 40), 1e-12)


def test_its_step_its_probability_and_its_bound():
    p = ol.problems.quadratics(n=16, d=6, L=10, mu=1)
    method = PAGE(cohort=4).resolve(p)
    assert method.p == 4 / 20
    assert method.lr == pytest.approx(1 / (p.L + p.L_qm * np.sqrt((1 - method.p) / (method.p * 4))))
    T, gap = 400, p.value(p.x0) - p.f_star
    histories = [ol.run(method, p, rounds=T, seed=k, live=False).history for k in range(3)]
    assert np.mean([h["grad_norm_sq"][:-1].mean() for h in histories]) <= 2 * gap / (method.lr * T)
    ends = [h["loss"].iloc[-1] - p.f_star for h in histories]
    assert np.mean(ends) <= method.rate(p) ** T * gap + 1e-14


def test_the_bits_count_everybody_on_the_coin_and_the_cohort_without():
    coins = [1, 0, 0, 1]
    cohorts = [[0, 3], [1, 2]]
    run = ol.run(PAGE(cohort=2, lr=0.01, p=0.5), Q, rounds=4, live=False,
                 randomness=ol.Scripted(coins=coins, cohorts=cohorts))  # fmt: skip
    assert run.federation.ledger.per_client("up").sum() == 32 * Q.d * (3 * 6 + 2 * 2)
