"""FLIX against its algorithm box; gradient descent on an explicit mixture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import octolab as ol
from tests.methods.by_hand import close, gradients, iterates
from tests.methods.local_by_hand import mixed, weighted
from tests.methods.personal_by_hand import bowls, mixture, models, optima, quietly

FLIX = ol.methods.FLIX
ALPHA = (0.3, 1.0, 0.7, 0.5)


def test_the_algorithm_box_with_a_share_for_each_client():
    p, lr = bowls(), 0.1
    grad, own, x = gradients(p), optima(p), np.zeros(5)
    path = [x]
    for _ in range(10):
        x = x - lr * sum(a * grad[i](a * x + (1 - a) * own[i]) for i, a in enumerate(ALPHA)) / 4
        path.append(x)
    close(iterates(FLIX(alpha=ALPHA, lr=lr), p, 10), path)
    run = quietly(FLIX(alpha=ALPHA, lr=lr), p, 10)
    close(models(run), [a * x + (1 - a) * own[i] for i, a in enumerate(ALPHA)])


def test_sharing_everything_is_gradient_descent_and_needs_no_optimum_of_ones_own():
    p = bowls()
    flix, gd = (ol.run(m, p, rounds=30, keep="x", live=False) for m in (FLIX(alpha=1.0, lr=0.1), ol.methods.GD(lr=0.1)))
    assert torch.equal(flix.iterates, gd.iterates)
    for column in ("bits_up", "bits_down", "gradients"):
        assert (flix.history[column] == gd.history[column]).all()


def test_the_step_and_the_rate_of_the_theorem_with_weights_of_the_objective():
    p = weighted(bowls(L=40), [0.4, 0.3, 0.2, 0.1])
    method = FLIX(alpha=ALPHA).resolve(p)
    assert method.lr == pytest.approx(1 / (p.weights.numpy() @ (np.array(ALPHA) ** 2 * p.L_i)))
    loss = mixture(p, ALPHA, optima(p))
    run, best = quietly(method, p, 400), loss(quietly(method, p, 8000).x)
    assert loss(run.x) - best <= method.rate(p) ** 400 * (loss(p.x0) - best) * 1.01 + 1e-12
    assert run.history.personal_loss.iloc[-1] == pytest.approx(loss(run.x))  # what it minimises is in the history
    assert FLIX(alpha=ALPHA, lr=4 * method.lr).rate(p) is None


def test_the_start_is_nearer_to_the_optimum_the_smaller_the_share():
    """The initial gap falls like alpha^2 when the own optima are far apart."""
    p, gaps = bowls(spread=1.0), []
    for alpha in (1.0, 0.1, 0.01):
        loss = mixture(p, alpha, optima(p))
        gaps.append(loss(p.x0) - loss(quietly(FLIX(alpha=alpha), p, 3000).x))
    assert gaps[1] == pytest.approx(gaps[0] / 100, rel=0.5) and gaps[2] == pytest.approx(gaps[1] / 100, rel=0.5)


def test_own_optima_are_exact_where_there_are_hessians_and_their_price_is_counted_and_shown():
    p = mixed()
    run = quietly(FLIX(alpha=0.5), p, 1)
    own = run.federation.memory.own
    assert run.method.solver == "exact" and float(p.grad(own).abs().max()) < 1e-12
    newton = (run.federation.ledger.per_client("gradients") - 1) / (p.d + 1)  # a gradient and a Hessian each
    assert (newton >= 1).all() and (newton == newton.astype(int)).all()
    assert run.history.own_gradients[0] == run.history.gradients[0] == newton.mean() * (p.d + 1)


def test_without_hessians_local_steps_of_a_size_of_each_clients_own_find_them():
    p = bowls(n=3, L_spread=50)
    run = quietly(FLIX(alpha=0.01, solver="sgd", own_steps=7), p, 0)
    own, grad = [np.zeros(5)] * 3, gradients(p)
    for _ in range(7):
        own = [x - grad[i](x) / p.L_i[i] for i, x in enumerate(own)]  # lr itself, 10,000 times as long, would explode
    close(run.federation.memory.own, own)
    assert run.history.own_gradients[0] == 7
    given = quietly(FLIX(alpha=0.01, solver="sgd", own_steps=1, own_lr=0.03), p, 0)
    close(given.federation.memory.own, [-0.03 * g(np.zeros(5)) for g in grad])


def test_where_nothing_is_known_the_step_for_the_own_optimum_follows_from_lr():
    p = ol.problems.classification("digits", model="mlp", clients=4, dtype="float64")
    run = quietly(FLIX(alpha=0.1, lr=5.0, own_steps=2), p, 0)
    close(run.federation.memory.own, p.local_sgd(p.x0, None, lr=0.05, steps=2), 1e-12)


def test_clients_that_share_everything_are_spared_the_search():
    run = quietly(FLIX(alpha=ALPHA, solver="sgd", own_steps=9), bowls(), 0)
    assert run.federation.ledger.per_client("gradients").tolist() == [9, 0, 9, 9]


def test_numbers_of_each_clients_own_survive_json_and_run_files(tmp_path):
    p = ol.problems.quadratics(n=4, d=5, L=8, seed=3)
    for alpha in (list(ALPHA), np.array(ALPHA), torch.tensor(ALPHA, dtype=torch.float64)):
        assert FLIX(alpha=alpha) == FLIX(alpha=ALPHA)
    run = ol.run(FLIX(alpha=np.array(ALPHA)), p, rounds=6, live=False)
    again = ol.from_spec(run.spec).finish()
    assert torch.equal(again.x, run.x) and again.spec["hash"] == run.spec["hash"]
    half = ol.run(FLIX(alpha=ALPHA), p, rounds=3, live=False)
    half.save(tmp_path / "run.octo")
    assert torch.equal(ol.resume(tmp_path / "run.octo", rounds=6).x, run.x)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"alpha": 0}, r"alpha=0: give a number in \(0, 1\].*use local-only"),
        ({"alpha": 1.5}, r"alpha=1.5: give a number in \(0, 1\]"),
        ({"alpha": (0.5, 0.0, 1, 1)}, "alpha=0.0 for client 1: .*use local-only"),
        ({"alpha": (0.5, 0.5, float("nan"), 1)}, "alpha=nan for client 2"),
        ({"alpha": (0.5, 0.2)}, "2 entries and there are 4 clients"),
        ({"own_steps": 0}, "own_steps=0"),
        ({"solver": "guess"}, "'auto', 'exact', 'sgd'"),
    ],
)
def test_bad_input_gets_a_sentence(given: dict, words: str):
    with pytest.raises(ValueError, match=words):
        FLIX(**given).resolve(bowls())


def test_exact_own_optima_need_hessians():
    p = ol.problems.classification("digits", model="mlp", clients=4)
    with pytest.raises(ol.errors.OutsideAssumptions, match="needs Hessians"):
        FLIX(solver="exact", lr=0.1).resolve(p)
