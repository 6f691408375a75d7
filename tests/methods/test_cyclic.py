"""Cyclic participation: groups in a fixed order, and what it costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import octolab as ol
from tests.methods.by_hand import close, gradients, iterates

CyCP, FedAvg = ol.methods.CyCP, ol.methods.FedAvg
PROBLEM = ol.problems.quadratics(n=7, d=4, L=8)
GROUPS = ([0, 4, 5], [1, 2], [3, 6])


def test_the_algorithm_box():
    p, lr, server_lr = PROBLEM, 0.05, 0.7
    grad, x, path = gradients(p), np.zeros(4), [np.zeros(4)]
    for t in range(7):
        moves = []
        for i in GROUPS[t % 3]:
            y = x
            for _ in range(3):
                y = y - lr * grad[i](y)
            moves.append(y - x)
        x = x + server_lr * sum(moves) / len(moves)
        path.append(x)
    method = CyCP(groups=GROUPS, lr=lr, server_lr=server_lr, local_steps=3, optimizer="gd")
    close(iterates(method, p, 7), path)


def test_one_group_is_ordinary_uniform_sampling():
    ours = CyCP(groups=1, per_round=3, lr=0.05, local_steps=4, optimizer="gd")
    close(iterates(ours, PROBLEM, 12), iterates(FedAvg(cohort=3, lr=0.05, local_steps=4), PROBLEM, 12), 1e-13)


def test_only_the_group_whose_turn_it_is_takes_part_and_m_of_it():
    run = ol.run(CyCP(groups=GROUPS, per_round=2, lr=0.01), PROBLEM, rounds=0, live=False)
    before = run.federation.ledger.per_client("replies").copy()
    for t in range(9):
        run.advance()
        now = run.federation.ledger.per_client("replies").copy()
        came = np.flatnonzero(now - before).tolist()
        assert len(came) == 2 and set(came) <= set(GROUPS[t % 3])
        before = now
    assert before[[1, 2, 3, 6]].tolist() == [3] * 4 and before[[0, 4, 5]].sum() == 6


def test_the_three_client_optimisers():
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(6, 3)) for _ in range(4)]
    p, lr = ol.problems.Logistic(X, [np.sign(x[:, 0] + 0.1) for x in X], l2=0.1), 0.3
    batches = [[[0, 1], [2, 3]], [[5, 4], [0, 2]]]  # one entry per local step, one list per member

    def local(rows) -> np.ndarray:
        ys = []
        for i in range(2):
            y = p.x0
            for step in range(2):
                batch = None if rows is None else p.as_batch([rows[step][i]])
                y = y - lr * p.grad(y, torch.tensor([i]), batch)[0]
            ys.append(y.numpy())
        return sum(ys) / 2

    for optimizer in ("sgd", "shuffled-sgd"):
        method = CyCP(groups=([0, 1], [2, 3]), lr=lr, local_steps=2, batch_size=2, optimizer=optimizer)
        close(iterates(method, p, 1, randomness=ol.Scripted(batches=batches))[1], local(batches))
    method = CyCP(groups=([0, 1], [2, 3]), lr=lr, local_steps=2, batch_size=2, optimizer="gd")
    close(iterates(method, p, 1)[1], local(None))


def test_unbiased_weights_make_a_cycle_a_gradient_step_also_for_unequal_groups_and_weights():
    p = ol.problems.Quadratics(PROBLEM.A, PROBLEM.b, weights=[1, 2, 3, 4, 5, 6, 7])
    cycle = lambda weighting: (  # noqa: E731
        iterates(CyCP(groups=GROUPS, lr=1e-7, local_steps=1, optimizer="gd", weighting=weighting), p, 3)[-1] / 3e-7
    )
    gradient = p.gradient(p.x0).numpy()
    close(cycle("unbiased"), -gradient, 1e-5)
    assert np.abs(cycle("mean") + gradient).max() > 0.1


def test_a_group_that_never_comes_moves_the_fixed_point():
    fleet = ol.Fleet(dropout=np.array([0, 0, 0, 1.0, 0, 0, 1.0]))
    method = CyCP(groups=GROUPS, lr=0.003, local_steps=2, optimizer="gd", weighting="unbiased")
    all_come = ol.run(method, PROBLEM, rounds=3000, live=False, evaluate_every=3000)
    some = ol.run(method, PROBLEM, rounds=3000, live=False, evaluate_every=3000, fleet=fleet)
    near, far = (float((r.x - PROBLEM.x_star).norm()) for r in (all_come, some))
    assert near < 0.02 and far > 10 * near


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: CyCP(groups=([0, 1], [2, 3])).resolve(PROBLEM), "exactly once"),
        (lambda: CyCP(groups=(list(range(7)), [])).resolve(PROBLEM), "none may be empty"),
        (lambda: CyCP(groups=8).resolve(PROBLEM), "7 clients make 1 to 7 groups"),
        (lambda: CyCP(groups=GROUPS, per_round=3).resolve(PROBLEM), "the smallest group has 2"),
        (lambda: CyCP(optimizer="adam"), "'shuffled-sgd'"),
        (lambda: CyCP(local_steps=0), r"local_steps=0"),
    ],
)
def test_bad_input_gets_a_sentence(make, words: str):
    with pytest.raises(ValueError, match=words):
        make()
