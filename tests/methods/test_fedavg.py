"""FedAvg against its algorithm box, and where it stops on heterogeneous quadratics."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import octolab as ol
from tests.methods.by_hand import close, gap_to, gradients, iterates
from tests.methods.local_by_hand import centre, distance, mixed, never_again, progress, train, weighted
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


TAUS = (1, 2, 5, 3, 8)


def test_the_algorithm_box_with_an_own_number_of_local_steps_for_each_client():
    p = weighted(ol.problems.quadratics(n=5, d=4, L=8, seed=2), w=[1, 2, 3, 1, 1])
    grad, w, x = gradients(p), np.array([1, 2, 3, 1, 1]) / 8, np.zeros(4)
    path = [x]
    for _ in range(6):
        x = x + sum(w[i] * (train(grad[i], x, 0.03, TAUS[i], momentum=0.4) - x) for i in range(5))
        path.append(x)
    method = ol.methods.FedAvg(lr=0.03, local_steps=TAUS, momentum=0.4)
    close(iterates(method, p, 6), path)
    close(iterates(ol.methods.FedAvg(lr=0.03, local_steps=np.array(TAUS), momentum=0.4), p, 6), path)


def test_unequal_work_stops_at_the_known_wrong_point():
    """sum_i w_i (I - (I - lr A_i)^tau_i)(x - x_i*) = 0."""
    p, lr = ol.problems.quadratics(n=5, d=6, L=10, mu=1, seed=4), 0.05
    fixed = centre([progress(A, lr, tau) for A, tau in zip(p.A.numpy(), TAUS, strict=True)], p)
    close(iterates(ol.methods.FedAvg(lr=lr, local_steps=TAUS), p, 600)[-1], fixed)


@pytest.mark.parametrize("lr", [1e-2, 1e-3, 1e-4])
def test_as_the_step_vanishes_the_limit_is_the_optimum_weighted_by_work(lr: float):
    """argmin sum_i w_i tau_i f_i, and the way there is O(lr)."""
    p = ol.problems.quadratics(n=5, d=6, L=10, mu=1, seed=4)
    fixed = centre([progress(A, lr, tau) for A, tau in zip(p.A.numpy(), TAUS, strict=True)], p)
    limit = centre([tau * A for A, tau in zip(p.A.numpy(), TAUS, strict=True)], p)
    assert np.linalg.norm(fixed - limit) < 40 * lr < distance(p, limit)


def test_for_small_steps_a_round_of_tau_steps_is_a_step_of_length_tau():
    """The path of GD with step lr tau, up to a relative error of O(lr tau L) per round."""
    p, lr, tau = ol.problems.quadratics(n=4, d=5, L=10), 1e-5, 10
    slow = iterates(ol.methods.FedAvg(lr=lr, local_steps=tau), p, 50)
    close(slow / np.abs(slow).max(), iterates(ol.methods.GD(lr=lr * tau), p, 50) / np.abs(slow).max(), lr * tau * 10)


@pytest.mark.parametrize(("weighting", "exact"), [("unbiased", True), ("sampled", True), ("ratio", False)])
def test_over_all_cohorts_of_two_the_unbiased_rules_average_to_the_step_of_everybody(weighting: str, exact: bool):
    p = weighted(ol.problems.quadratics(n=4, d=3), w=[1, 2, 3, 4])
    w = p.weights.numpy()
    method = ol.methods.FedAvg(lr=0.05, local_steps=2, cohort=2, weighting=weighting)
    if weighting == "sampled":  # with replacement
        cohorts = {c: w[c[0]] * w[c[1]] for c in itertools.product(range(4), repeat=2)}
    else:
        cohorts = dict.fromkeys(itertools.combinations(range(4), 2), 1 / 6)
    mean = sum(
        chance * iterates(method, p, 1, randomness=ol.Scripted(cohorts=[sorted(c)]))[-1]
        for c, chance in cohorts.items()
    )
    gap = np.abs(mean - iterates(ol.methods.FedAvg(lr=0.05, local_steps=2), p, 1)[-1]).max()
    assert gap < 1e-14 if exact else gap > 1e-3


def test_sampled_cohorts_are_drawn_in_proportion_to_the_weights():
    p = weighted(ol.problems.quadratics(n=3, d=2), w=[1, 2, 7])
    run = ol.run(ol.methods.FedAvg(lr=1e-6, cohort=2, weighting="sampled"), p, rounds=2000, live=False)
    shares = run.federation.ledger.per_client("replies") / 4000
    assert np.abs(shares - [0.1, 0.2, 0.7]).max() < 4 * 0.5 / np.sqrt(4000)  # four standard deviations


def test_more_data_make_more_steps_in_an_epoch_and_equal_steps_are_another_method():
    p = mixed(sizes=(5, 2, 9))
    epochs, steps = (
        ol.run(ol.methods.FedAvg(lr=0.1, batch_size=2, **how), p, rounds=1, live=False)
        for how in ({"local_epochs": 2}, {"local_steps": 6})
    )
    assert epochs.federation.ledger.per_client("gradients").tolist() == [6, 2, 10]
    assert steps.federation.ledger.per_client("gradients").tolist() == [6, 6, 6]
    assert float((epochs.x - steps.x).norm()) > 1e-3


def test_the_rate_is_gradient_descents_and_holds():
    p = ol.problems.quadratics(n=4, d=6, L=20, mu=1)
    method = ol.methods.FedAvg(local_steps=1).resolve(p)
    rate, path = method.rate(p), iterates(method, p, 60)
    assert rate == pytest.approx(1 - p.mu / p.L_max)
    assert all(gap_to(p, b) <= rate * gap_to(p, a) * (1 + 1e-9) for a, b in itertools.pairwise(path))


@pytest.mark.parametrize("how", [{"local_steps": 2}, {"batch_size": 4}, {"cohort": 2}, {"lr": 1.0}, {"momentum": 0.5}])
def test_it_claims_no_rate_to_the_optimum_where_there_is_none(how: dict):
    p = ol.problems.quadratics(n=4, d=6, L=20, mu=1)
    assert ol.methods.FedAvg(**{"local_steps": 1, "lr": 0.05, **how}).rate(p) is None


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"local_epochs": 0}, "local_epochs=0"),
        ({"local_steps": 0}, "local_steps=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"local_steps": (1, 2)}, "one whole number >= 1, or 4 of them"),
        ({"local_steps": (1, 2, 0, 3)}, r"local_steps=0 for client 2: give a number in \[1"),
        ({"local_steps": (1, 2, 1.5, 3)}, r"local_steps=1.5 for client 2: give a number in \[1"),
        ({"weighting": "mean"}, "choose one of 'ratio', 'unbiased', 'sampled'"),
        ({"weighting": "sampled"}, "give a number of clients, or a share"),
        ({"weighting": "sampled", "cohort": ol.federation.Poisson(0.5)}, "give a number of clients, or a share"),
        ({"weighting": "unbiased", "cohort": ol.federation.Weighted([0.25] * 4, 2)}, "no closed inclusion"),
        ({"weighting": "unbiased", "aggregator": ol.aggregators.Mean()}, "leave out aggregator"),
        ({"cohort": 5}, "only 4 clients"),
    ],
)
def test_bad_input_gets_a_sentence(how: dict, words: str):
    with pytest.raises(ValueError, match=words):
        ol.run(ol.methods.FedAvg(lr=0.1, **how), ol.problems.quadratics(n=4, d=2), rounds=1, live=False)


def test_a_cohort_of_one_moves_the_server_to_that_clients_model():
    p = ol.problems.quadratics(n=4, d=5)
    path = iterates(ol.methods.FedAvg(lr=0.05, local_steps=3, cohort=1), p, 1, randomness=ol.Scripted(cohorts=[[2]]))
    close(path[-1], train(gradients(p)[2], np.zeros(5), 0.05, 3))


def test_an_empty_cohort_leaves_everything_as_it_was():
    p = ol.problems.quadratics(n=4, d=5)
    method = ol.methods.FedAvg(lr=0.05, cohort=ol.federation.Poisson(0.3))
    path = iterates(method, p, 3, randomness=ol.Scripted(cohorts=[[1], [], [0, 1]]))
    assert (path[1] == path[2]).all() and (path[2] != path[3]).any()


def test_without_a_client_that_vanished_it_goes_where_the_others_lead():
    p, lr = ol.problems.quadratics(n=4, d=5, L=10, mu=1), 0.05
    others = [progress(A, lr, 3) if i != 1 else 0 * A for i, A in enumerate(p.A.numpy())]
    run = ol.run(ol.methods.FedAvg(lr=lr, local_steps=3), p, rounds=400, fleet=never_again(1, 4), live=False)
    close(run.x, centre(others, p))
