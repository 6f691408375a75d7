"""FedProx against its algorithm box: exact solutions, partial work, and the bias that stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import octolab as ol
from tests.methods.by_hand import close, gradients, iterates
from tests.methods.local_by_hand import centre, distance, mixed, never_again, train, weighted

FedAvg, FedProx = ol.methods.FedAvg, ol.methods.FedProx
PROBLEM = ol.problems.quadratics(n=8, d=10, L=20, mu=1, seed=0)


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_the_algorithm_box_with_given_cohorts(momentum: float):
    """The proximal centre is the model received this round, and momentum does not smear its term."""
    p = weighted(ol.problems.quadratics(n=4, d=5, L=8, seed=2), w=[1, 2, 3, 4])
    cohorts, w, grad, x = [[0, 2], [1, 2, 3], [3]], np.array([1, 2, 3, 4]), gradients(p), np.zeros(5)
    path = [x]
    for S in cohorts:
        ends = {i: train(grad[i], x, 0.04, 6, momentum, prox=2.0) for i in S}
        x = x + 0.8 * sum(w[i] * (ends[i] - x) for i in S) / sum(w[i] for i in S)
        path.append(x)
    method = FedProx(lr=0.04, mu=2.0, local_steps=6, momentum=momentum, server_lr=0.8, cohort=2)
    close(iterates(method, p, 3, randomness=ol.Scripted(cohorts=cohorts)), path)


@pytest.mark.parametrize("how", [{"local_steps": 4}, {"local_epochs": 2, "batch_size": 3, "cohort": 2}])
def test_without_the_proximal_term_it_is_fedavg(how: dict):
    p = mixed()
    close(iterates(FedProx(lr=0.1, mu=0.0, **how), p, 8), iterates(FedAvg(lr=0.1, **how), p, 8), 1e-14)


@pytest.mark.parametrize("mu", [0.5, 20.0])
def test_exact_solutions_are_proximal_points(mu: float):
    """y_i = prox_{f_i/mu}(x) = (A_i + mu)^-1 (b_i + mu x); many local steps come to the same."""
    p, x = ol.problems.quadratics(n=3, d=5, L=8), np.zeros(5)
    path = [x]
    for _ in range(5):
        x = (
            sum(np.linalg.solve(A + mu * np.eye(5), b + mu * x) for A, b in zip(p.A.numpy(), p.b.numpy(), strict=True))
            / 3
        )
        path.append(x)
    close(iterates(FedProx(mu=mu, solver="exact"), p, 5), path)
    close(iterates(FedProx(mu=mu, lr=0.03, local_steps=800), p, 5), path)


def test_on_logistic_regression_the_exact_solution_solves_the_subproblem():
    p = mixed()
    x = ol.run(
        FedProx(mu=0.7, solver="exact", cohort=1), p, rounds=1, live=False, randomness=ol.Scripted(cohorts=[[2]])
    ).x
    assert float((p.grad(x, slice(2, 3))[0] + 0.7 * (x - p.x0)).norm()) < 1e-13


def test_the_bias_shrinks_with_mu_and_never_vanishes():
    """The fixed point solves sum_i (A_i + mu)^-1 (A_i x - b_i) = 0. The specification has 0.52, 0.25, 0.054."""
    floors = {}
    for mu in (1.0, 10.0, 100.0, 1000.0):
        fixed = centre([np.linalg.solve(A + mu * np.eye(10), A) for A in PROBLEM.A.numpy()], PROBLEM)
        floors[mu] = distance(PROBLEM, fixed)
        close(iterates(FedProx(mu=mu, solver="exact"), PROBLEM, 2, x0=fixed)[-1], fixed, 1e-12)
        if mu == 1:
            close(iterates(FedProx(mu=mu, solver="exact"), PROBLEM, 100)[-1], fixed)
    assert list(floors.values()) == sorted(floors.values(), reverse=True)
    assert floors[1] > 2 * floors[10] / 1.5 and 0 < floors[1000] < floors[100] / 5


def test_a_larger_mu_makes_slower_progress():
    first = [
        distance(PROBLEM, iterates(FedProx(mu=mu, solver="exact"), PROBLEM, 3)[-1]) for mu in (10.0, 100.0, 1000.0)
    ]
    assert first == sorted(first)


def test_stragglers_do_a_random_part_of_their_steps_and_it_counts():
    """Given uniforms: who is slow (below the share), and how much it gets done."""
    p, u = ol.problems.quadratics(n=4, d=5), np.array([[0.1, 0.0], [0.9, 0.0], [0.4, 0.55], [0.2, 0.999]])
    done = [1, 6, 4, 6]  # 1 + floor(0 * 6), all 6, 1 + floor(0.55 * 6), 1 + floor(0.999 * 6)
    ends = [train(g, np.zeros(5), 0.05, k, prox=0.3) for g, k in zip(gradients(p), done, strict=True)]
    method = FedProx(lr=0.05, mu=0.3, local_steps=6, stragglers=0.5)
    run = ol.run(method, p, rounds=1, live=False, randomness=ol.Scripted(uniforms=[u]))
    close(run.x, sum(ends) / 4)
    assert run.federation.ledger.per_client("gradients").tolist() == done


def test_stragglers_with_epochs_do_whole_epochs():
    p = mixed(sizes=(5, 2, 9))
    run = ol.run(FedProx(lr=0.1, local_epochs=4, batch_size=2, stragglers=1.0), p, rounds=1, live=False)
    taken = run.federation.ledger.per_client("gradients")
    assert (taken % [3, 1, 5] == 0).all() and (taken >= [3, 1, 5]).all() and (taken <= [12, 4, 20]).all()
    assert len({*(taken / [3, 1, 5])}) > 1


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_the_share_of_stragglers_and_their_work(share: float):
    p = ol.problems.quadratics(n=400, d=2)
    run = ol.run(FedProx(lr=0.01, local_steps=10, stragglers=share), p, rounds=5, live=False)
    mean = run.federation.ledger.total("gradients") / 2000
    assert abs(mean - (10 * (1 - share) + 5.5 * share)) <= 4 * 4.5 / np.sqrt(2000)


def test_keeping_the_partial_work_of_slow_devices_beats_dropping_it():
    """Half the clients need six times as long. At the deadline FedAvg loses them, and ends at the others' optimum."""
    p = ol.problems.quadratics(n=8, d=6, L=10, mu=1, seed=1)
    slow = [6.0] * 4 + [1.0] * 4
    world = {"fleet": ol.Fleet(seconds=slow), "deadline": 12.5, "rounds": 150, "live": False}
    dropped = ol.run(FedAvg(lr=0.02, local_steps=12), p, **world)
    assert dropped.federation.ledger.per_client("replies").tolist() == [0] * 4 + [150] * 4
    kept = ol.run(FedProx(lr=0.02, mu=1.0, local_steps=(2,) * 4 + (12,) * 4), p, **world)
    assert kept.federation.ledger.per_client("replies").min() == 150
    assert distance(p, kept.x) < 0.7 * distance(p, dropped.x)


def test_an_empty_cohort_and_a_cohort_of_one():
    p = ol.problems.quadratics(n=4, d=5)
    method = FedProx(lr=0.05, mu=1.0, local_steps=3, cohort=ol.federation.Poisson(0.3))
    path = iterates(method, p, 2, randomness=ol.Scripted(cohorts=[[], [2]]))
    assert (path[1] == 0).all()
    close(path[2], train(gradients(p)[2], np.zeros(5), 0.05, 3, prox=1.0))


def test_a_vanished_client_is_forgotten():
    p = ol.problems.quadratics(n=3, d=5, L=10, mu=1)
    run = ol.run(FedProx(mu=5.0, solver="exact"), p, rounds=200, fleet=never_again(0, 3), live=False)
    fixed = centre([np.linalg.solve(A + 5 * np.eye(5), A) * (i > 0) for i, A in enumerate(p.A.numpy())], p)
    close(run.x, fixed)


@pytest.mark.parametrize(
    ("how", "words"),
    [({"mu": -1}, "mu=-1"), ({"local_epochs": 0}, "local_epochs=0"), ({"stragglers": 1.5}, "stragglers=1.5")],
)
def test_bad_input_gets_a_sentence(how: dict, words: str):
    with pytest.raises(ValueError, match=words):
        FedProx(**how)


def test_exact_solutions_need_hessians_and_a_minimiser():
    network = ol.problems.classification("digits", model="mlp", clients=2)
    with pytest.raises(ol.errors.OutsideAssumptions, match=r"needs Hessians.*solver='sgd'"):
        ol.run(FedProx(lr=0.1, solver="exact"), network, rounds=1, live=False)
    bent = ol.problems.Quadratics(np.array([np.diag([1.0, -2.0]), 5 * np.eye(2)]), np.ones((2, 2)))
    with pytest.raises(ValueError, match="not strongly convex"):
        ol.run(FedProx(lr=0.1, mu=1.0, solver="exact"), bent, rounds=1, live=False)


def test_the_exact_solution_is_charged_as_newton_steps():
    p = ol.problems.quadratics(n=3, d=5)
    run = ol.run(FedProx(mu=1.0, solver="exact"), p, rounds=2, live=False)
    assert run.federation.ledger.per_client("gradients").tolist() == [24, 24, 24]  # two Newton steps, 1 + 5 each
    assert torch.equal(torch.tensor(run.history.bits_up.to_numpy()), torch.tensor([0.0, 160, 320]))
