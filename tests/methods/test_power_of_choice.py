"""Power-of-Choice: the candidates with the highest loss train; faster at first, and biased for good."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.federation import Weighted
from octolab.methods.participation.power_of_choice import highest
from tests.methods.by_hand import close, gradients, iterates

PowerOfChoice, FedAvg = ol.methods.PowerOfChoice, ol.methods.FedAvg
PROBLEM = ol.problems.quadratics(n=8, d=4, L=8)


def trained(p, grad, x: np.ndarray, i: int, lr: float, steps: int) -> np.ndarray:
    y = x
    for _ in range(steps):
        y = y - lr * grad[i](y)
    return y - x


def test_the_algorithm_box_with_given_candidates():
    p, lr, server_lr = PROBLEM, 0.05, 0.9
    grad = gradients(p)
    asked = [[0, 2, 3, 5], [1, 2, 6, 7], [0, 4, 5, 6], [0, 1, 2, 3]]
    x, path = np.zeros(4), [np.zeros(4)]
    for candidates in asked:
        losses = p.loss(torch.from_numpy(x)).numpy()
        chosen = sorted(candidates, key=lambda i: (-losses[i], i))[:2]
        x = x + server_lr * sum(trained(p, grad, x, i, lr, 3) for i in chosen) / 2
        path.append(x)
    method = PowerOfChoice(cohort=2, candidates=4, lr=lr, server_lr=server_lr, local_steps=3)
    close(iterates(method, p, 4, randomness=ol.Scripted(cohorts=asked)), path)


def test_last_known_losses_come_free_and_clients_never_seen_go_first():
    """rpow-d: the loss a client reported at its last participation; infinite before; ties to the lower number."""
    p, lr = PROBLEM, 0.05
    grad = gradients(p)
    asked = [[0, 2, 3, 5], [0, 2, 6, 7], [0, 2, 6, 7], [0, 2, 6, 7], [0, 2, 6, 7]]
    known, x, path = np.full(8, np.inf), np.zeros(4), [np.zeros(4)]
    for candidates in asked:
        chosen = sorted(candidates, key=lambda i: (-known[i], i))[:2]
        known[chosen] = p.loss(torch.from_numpy(x)).numpy()[chosen]
        x = x + sum(trained(p, grad, x, i, lr, 1) for i in chosen) / 2
        path.append(x)
    method = PowerOfChoice(cohort=2, candidates=4, lr=lr, local_steps=1, variant="rpow-d")
    run = ol.run(method, p, rounds=5, keep="x", live=False, randomness=ol.Scripted(cohorts=asked))
    close(run.iterates, path)
    close(run.state.losses[torch.tensor([0, 2, 6, 7])], known[[0, 2, 6, 7]])
    assert torch.isinf(run.state.losses[4]) and run.federation.ledger.total("up") == 5 * 2 * (32 * 4 + 32)
    assert run.federation.ledger.total("down") == 5 * 2 * 32 * 4


def test_cheap_losses_are_those_of_a_minibatch():
    X = [np.array([[1.0], [5.0]]), np.array([[2.0], [3.0]])]
    p = ol.problems.Logistic(X, [[-1, 1], [-1, 1]], x0=np.ones(1))
    x = {rows: highest(np.arange(2), p.loss(p.x0, None, p.as_batch([[rows], [rows]])), 1)[0] for rows in (0, 1)}
    assert x == {0: 1, 1: 1}  # losses 1.31, 2.13 on the first samples; 0.007, 0.049 on the second
    given = ol.Scripted(cohorts=[[0, 1]], batches=[[[1], [0]], [[0], [0]]])
    run = ol.run(
        PowerOfChoice(cohort=1, candidates=2, variant="cpow-d", batch_size=1, local_steps=1, lr=0.1),
        p, rounds=1, live=False, randomness=given,
    )  # fmt: skip
    assert run.federation.ledger.per_client("up").tolist() == [32, 64]  # client 1 saw its bad sample, and trained
    run = ol.run(
        PowerOfChoice(cohort=1, candidates=2, variant="cpow-d", batch_size=1, local_steps=1, lr=0.1),
        p, rounds=1, live=False, randomness=ol.Scripted(cohorts=[[0, 1]], batches=[[[0], [1]], [[0], [0]]]),
    )  # fmt: skip
    assert run.federation.ledger.per_client("up").tolist() == [64, 32]


@pytest.mark.parametrize("variant", ["pow-d", "rpow-d"])
def test_as_many_candidates_as_places_is_sampling_by_weight(variant: str):
    ours = PowerOfChoice(cohort=3, candidates=3, lr=0.05, local_steps=2, variant=variant)
    theirs = FedAvg(cohort=Weighted([1 / 8] * 8, 3), lr=0.05, local_steps=2)
    close(iterates(ours, PROBLEM, 15), iterates(theirs, PROBLEM, 15), 1e-13)


def test_candidates_are_drawn_by_their_weights_and_the_chosen_are_averaged_plainly():
    p = ol.problems.Quadratics(PROBLEM.A, PROBLEM.b, weights=[1, 1, 1, 1, 1, 1, 1, 93])
    run = ol.run(PowerOfChoice(cohort=2, candidates=2, lr=1e-3), p, rounds=200, live=False, evaluate_every=200)
    came = run.federation.ledger.per_client("gradients") / (1 + 5)
    assert came[7] > 180 and came[:7].max() < 60
    both = ol.Scripted(cohorts=[[0, 7]])
    x = iterates(PowerOfChoice(cohort=2, candidates=2, lr=0.05, local_steps=1), p, 1, randomness=both)[1]
    close(x, -0.05 * (p.grad(p.x0)[0] + p.grad(p.x0)[7]) / 2)


def test_candidates_receive_the_model_once_and_send_a_number():
    run = ol.run(PowerOfChoice(cohort=2, candidates=5, lr=0.05, local_steps=3), PROBLEM, rounds=10, live=False)
    ledger = run.federation.ledger
    assert ledger.total("down") + ledger.total("broadcast") == 10 * 5 * 32 * 4
    assert ledger.total("up") == 10 * (5 * 32 + 2 * 32 * 4)
    assert ledger.total("gradients") == 10 * (5 + 2 * 3)  # a loss is worth a gradient


def test_it_favours_the_worst_clients_and_misses_the_optimum():
    """Twelve clients label one way, four another: the worst client gains what the average loses."""
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(20, 4)) for _ in range(16)]
    rules = [np.array([1.0, 0, 0, 0])] * 12 + [np.array([-0.5, 1.0, 0, 0])] * 4
    p = ol.problems.Logistic(X, [np.where(x @ r > 0, 1, -1) for x, r in zip(X, rules, strict=True)], l2=0.01)
    losses = {}
    for name, method in {
        "uniform": FedAvg(cohort=4, lr=0.2, local_steps=2),
        "pow-d": PowerOfChoice(cohort=4, candidates=8, lr=0.2, local_steps=2),
    }.items():
        x = ol.run(method, p, rounds=300, keep="x", live=False, evaluate_every=300).iterates[150:]
        losses[name] = torch.stack([p.loss(v) for v in x]).mean(0)
    assert float(losses["pow-d"].max()) < 0.85 * float(losses["uniform"].max())
    assert float(losses["pow-d"].mean()) > 1.05 * float(losses["uniform"].mean())


def test_ties_go_to_the_lower_number():
    assert highest(np.array([1, 4, 6, 7]), torch.tensor([2.0, 5.0, 2.0, 2.0]), 3).tolist() == [1, 4, 6]


def test_a_cohort_of_one_and_devices_that_vanish():
    gone = np.array([0, 0, 0, 1.0, 1.0, 1.0, 1.0, 1.0])
    method = PowerOfChoice(cohort=1, candidates=2, lr=0.05)
    run = ol.run(method, PROBLEM, rounds=30, fleet=ol.Fleet(dropout=gone), live=False)
    assert run.status == "finished" and (run.federation.ledger.per_client("up")[3:] == 0).all()


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: PowerOfChoice(cohort=5, candidates=3).resolve(PROBLEM), "cohort <= candidates <= 8"),
        (lambda: PowerOfChoice(cohort=2, candidates=9).resolve(PROBLEM), "cohort <= candidates <= 8"),
        (lambda: PowerOfChoice(cohort=0), r"cohort=0: give a number in \(0"),
        (lambda: PowerOfChoice(variant="best"), "'cpow-d'"),
    ],
)
def test_bad_input_gets_a_sentence(make, words: str):
    with pytest.raises(ValueError, match=words):
        make()
