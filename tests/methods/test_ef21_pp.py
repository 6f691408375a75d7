"""EF21 with partial participation: those who are absent keep their g_i, and the server knows."""

from __future__ import annotations

import numpy as np
import pytest

import octolab as ol
from octolab.compressors import TopK
from octolab.federation import Nice, Poisson
from octolab.methods.communication.ef21 import linear_rate, xi
from tests.methods.by_hand import close, gap_to, gradients, iterates, mean, top


def test_the_algorithm_box_with_given_cohorts():
    p = ol.problems.quadratics(n=4, d=6, L=8, seed=1)
    cohorts = [[0, 1], [], [3], [0, 1, 2, 3], [1, 2], [0]]
    grad, x, lr = gradients(p), np.zeros(6), 0.03
    g = [v(x) for v in grad]
    path = [x]
    for S in cohorts:
        x = x - lr * mean(g)
        g = [g[i] + top(grad[i](x) - g[i], 2) if i in S else g[i] for i in range(4)]
        path.append(x)
    method = ol.methods.EF21PP(compressor=TopK(2), lr=lr, cohort=Poisson(0.5))
    close(iterates(method, p, 6, randomness=ol.Scripted(cohorts=cohorts)), path)


@pytest.mark.parametrize("everybody", [None, 5, Poisson(1.0)], ids=repr)
def test_when_all_take_part_it_is_ef21(everybody):
    p = ol.problems.quadratics(n=5, d=8)
    method = ol.methods.EF21PP(compressor=TopK(1), cohort=everybody)
    close(iterates(method, p, 40), iterates(ol.methods.EF21(compressor=TopK(1)), p, 40), 1e-13)


@pytest.mark.parametrize("cohort, share", [(2, 2 / 8), (0.25, 2 / 8), (Nice(3), 3 / 8), (Poisson(0.1), 0.1)], ids=repr)
def test_the_step_is_ef21s_with_p_times_alpha(cohort, share: float):
    p = ol.problems.quadratics(n=8, d=10)
    lr = ol.methods.EF21PP(compressor=TopK(2), cohort=cohort).resolve(p).lr
    assert lr == pytest.approx(1 / (p.L + p.L_mean * xi(share * 0.2)))


def test_the_servers_g_stays_the_mean_of_all_clients():
    p = ol.problems.quadratics(n=8, d=10)
    run = ol.run(
        ol.methods.EF21PP(compressor=TopK(1), cohort=3),
        p,
        rounds=100,
        fleet=ol.Fleet(dropout=0.2),
        live=False,
    )
    close(run.state.g, run.federation.memory.g.mean(0), 1e-12)


def test_it_is_exact_on_heterogeneous_clients():
    p = ol.problems.quadratics(n=8, d=10, L=5, mu=1)
    run = ol.run(ol.methods.EF21PP(compressor=TopK(3), cohort=4), p, rounds=3000, evaluate_every=3000, live=False)
    assert gap_to(p, run.x) < 1e-14


def test_the_absent_neither_send_nor_receive():
    p = ol.problems.quadratics(n=4, d=20)
    script = ol.Scripted(cohorts=[[1], [1, 3]])
    run = ol.run(ol.methods.EF21PP(compressor=TopK(2), cohort=2), p, rounds=2, randomness=script, live=False)
    start, each = 640, 2 * 32 + 2 * 5
    assert run.federation.ledger.per_client("up").tolist() == [start, start + 2 * each, start, start + each]
    assert run.federation.ledger.per_client("down").tolist() == [0, 1280, 0, 640]


def test_its_linear_rate_is_ef21s_with_p_times_alpha():
    p = ol.problems.quadratics(n=8, d=10)
    method = ol.methods.EF21PP(compressor=TopK(2), cohort=2).resolve(p)
    assert method.rate(p) == pytest.approx(linear_rate(method.lr, p.L, p.L_mean, 0.25 * 0.2, p.mu))
