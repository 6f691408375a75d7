"""SCAFFOLD against its algorithm box; no drift, also when only some take part."""

from __future__ import annotations

import numpy as np
import pytest

import octolab as ol
from tests.methods.by_hand import close, gap_to, gradients, iterates
from tests.methods.local_by_hand import distance, never_again, weighted


@pytest.mark.parametrize("option", [1, 2])
def test_the_algorithm_box_with_given_cohorts(option: int):
    p = ol.problems.quadratics(n=5, d=4, L=6, seed=1)
    cohorts = [[0, 3], [1, 2, 4], [0, 1], [2], [3, 4], [0, 1, 2, 3, 4]]
    grad, lr, K, eta, n = gradients(p), 0.04, 3, 0.8, 5
    x, c, own = np.zeros(4), np.zeros(4), [np.zeros(4) for _ in range(5)]
    path = [x]
    for S in cohorts:
        dy, dc = [], []
        for i in S:
            y = x
            for _ in range(K):
                y = y - lr * (grad[i](y) - own[i] + c)
            fresh = grad[i](x) if option == 1 else own[i] - c + (x - y) / (K * lr)
            dy.append(y - x)
            dc.append(fresh - own[i])
            own[i] = fresh
        x = x + eta / len(S) * sum(dy)
        c = c + sum(dc) / n  # 1/n, not 1/|S|
        path.append(x)
    method = ol.methods.SCAFFOLD(lr=lr, local_steps=K, server_lr=eta, cohort=2, option=option)
    close(iterates(method, p, 6, randomness=ol.Scripted(cohorts=cohorts)), path)


@pytest.mark.parametrize("option", [1, 2])
def test_one_local_step_is_gradient_descent(option: int):
    p = ol.problems.quadratics(n=4, d=5)
    method = ol.methods.SCAFFOLD(lr=0.05, local_steps=1, server_lr=1.2, option=option)
    close(iterates(method, p, 30), iterates(ol.methods.GD(lr=0.05 * 1.2), p, 30), 1e-12)


def test_the_options_coincide_for_one_local_step_even_for_cohorts():
    p = ol.problems.quadratics(n=4, d=5)
    one, two = (ol.methods.SCAFFOLD(lr=0.05, local_steps=1, cohort=2, option=o) for o in (1, 2))
    close(iterates(one, p, 30), iterates(two, p, 30), 1e-12)


@pytest.mark.parametrize("world", [{}, {"fleet": ol.Fleet(dropout=0.3)}], ids=["cohorts", "cohorts and drop-outs"])
def test_the_servers_variate_is_the_mean_of_the_clients(world: dict):
    p = ol.problems.quadratics(n=8, d=5)
    run = ol.run(ol.methods.SCAFFOLD(lr=0.02, cohort=3), p, rounds=50, live=False, **world)
    close(run.state.c, run.federation.memory.c.mean(0), 1e-12)


def test_it_is_exact_where_fedavg_at_the_same_step_stalls():
    p = ol.problems.quadratics(n=8, d=10, L=20, mu=1, seed=0)
    lr, K = 0.02, 10
    scaffold = iterates(ol.methods.SCAFFOLD(lr=lr, local_steps=K), p, 600)[-1]
    fedavg = iterates(ol.methods.FedAvg(lr=lr, local_steps=K), p, 600)[-1]
    star = p.x_star.numpy()
    assert np.linalg.norm(scaffold - star) < 1e-12
    assert np.linalg.norm(fedavg - star) > 0.1


def test_it_is_exact_with_three_clients_of_eight_a_round():
    p = ol.problems.quadratics(n=8, d=10, L=20, mu=1, seed=0)
    scaffold = iterates(ol.methods.SCAFFOLD(lr=0.02, local_steps=5, cohort=3), p, 1500)[-1]
    fedavg = iterates(ol.methods.FedAvg(lr=0.02, local_steps=5, cohort=3), p, 1500)[-1]
    assert np.linalg.norm(scaffold - p.x_star.numpy()) < 1e-11
    assert np.linalg.norm(fedavg - p.x_star.numpy()) > 0.1


def test_the_theory_step_converges_linearly():
    """lr = min(1/(81 K L), 1/(15 mu K)): as fast as the theorem's exp(-mu K lr/2) per round."""
    p = ol.problems.quadratics(n=4, d=6, L=5, mu=1, seed=2)
    method = ol.methods.SCAFFOLD(local_steps=2).resolve(p)
    assert method.lr == pytest.approx(min(1 / (81 * 2 * 5), 1 / (15 * p.mu * 2)))
    path = iterates(method, p, 500)
    assert gap_to(p, path[-1]) <= np.exp(-500 * p.mu * 2 * method.lr / 2) * gap_to(p, path[0])


def test_two_vectors_travel_each_way():
    run = ol.run(ol.methods.SCAFFOLD(lr=0.02), ol.problems.quadratics(n=3, d=7), rounds=2, live=False)
    assert run.history.bits_up.tolist() == run.history.bits_down.tolist() == [0, 448, 896]


def test_with_control_variates_frozen_at_zero_it_is_fedavg():
    """In the first round they are."""
    p = ol.problems.quadratics(n=5, d=4)
    scaffold = ol.methods.SCAFFOLD(lr=0.05, local_steps=4, server_lr=0.7)
    close(iterates(scaffold, p, 1), iterates(ol.methods.FedAvg(lr=0.05, local_steps=4, server_lr=0.7), p, 1), 1e-14)


def test_option_one_refreshes_with_the_gradient_at_the_model_received():
    p = ol.problems.quadratics(n=4, d=5)
    run = ol.run(ol.methods.SCAFFOLD(lr=0.02, option=1), p, rounds=3, live=False, keep="x")
    close(run.federation.memory.c, p.grad(run.iterates[-2]), 1e-13)


@pytest.mark.parametrize("cohort", [None, 2])
def test_unequal_weights_lead_to_the_weighted_optimum(cohort):
    p = weighted(ol.problems.quadratics(n=4, d=5, L=10, mu=1), w=[1, 2, 3, 4])
    run = ol.run(ol.methods.SCAFFOLD(lr=0.03, cohort=cohort), p, rounds=1500, live=False)
    close(run.state.c, p.weights @ run.federation.memory.c, 1e-11)
    assert distance(p, run.x) < 1e-10


@pytest.mark.parametrize("seed", range(3))
def test_the_rate_holds_at_the_theory_step(seed: int):
    p = ol.problems.quadratics(n=4, d=6, L=5, mu=1, seed=seed)
    method = ol.methods.SCAFFOLD(local_steps=2).resolve(p)
    rate, path = method.rate(p), iterates(method, p, 300)
    assert rate == pytest.approx(1 - method.lr * min(p.mu_i))
    assert gap_to(p, path[-1]) <= rate**300 * gap_to(p, path[0])
    assert ol.methods.SCAFFOLD(lr=1.0).rate(p) is None and ol.methods.SCAFFOLD(batch_size=2).resolve(p).rate(p) is None


def test_a_client_that_vanished_keeps_its_last_word():
    """c = mean c_i stays true with its stale c_i, so the others end where their gradients cancel it."""
    p = ol.problems.quadratics(n=4, d=5, L=10, mu=1)
    run = ol.run(ol.methods.SCAFFOLD(lr=0.03), p, rounds=1500, fleet=never_again(1, 4), live=False)
    memory, g = run.federation.memory.c, p.grad(run.x)
    assert (memory[1] == 0).all()  # it never answered
    close(memory[[0, 2, 3]], g[[0, 2, 3]], 1e-9)
    assert float((g[[0, 2, 3]].sum(0) + memory[1]).abs().max()) < 1e-9


def test_an_empty_cohort_leaves_everything_as_it_was():
    p = ol.problems.quadratics(n=4, d=5)
    method = ol.methods.SCAFFOLD(lr=0.05, cohort=ol.federation.Poisson(0.3))
    path = iterates(method, p, 3, randomness=ol.Scripted(cohorts=[[1], [], [0, 1]]))
    assert (path[1] == path[2]).all() and (path[2] != path[3]).any()


def test_a_cohort_of_one_is_enough():
    p = ol.problems.quadratics(n=4, d=5, L=10, mu=1)
    assert distance(p, iterates(ol.methods.SCAFFOLD(lr=0.02, cohort=1), p, 3000)[-1]) < 1e-10


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"local_steps": 0}, "local_steps=0"),
        ({"option": 3}, "choose one of 1, 2"),
        ({"cohort": ol.federation.Importance([0.25] * 4, 2)}, "may draw a client twice"),
    ],
)
def test_bad_input_gets_a_sentence(how: dict, words: str):
    with pytest.raises(ValueError, match=words):
        ol.run(ol.methods.SCAFFOLD(lr=0.1, **how), ol.problems.quadratics(n=4, d=2), rounds=1, live=False)
