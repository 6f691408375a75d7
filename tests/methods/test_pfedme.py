"""pFedMe against its algorithm box; gradient descent on the mean of Moreau envelopes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import octolab as ol
from tests.methods.by_hand import close, gradients, iterates
from tests.methods.local_by_hand import mixed, never_again, weighted
from tests.methods.personal_by_hand import bowls, models, prox, quietly
from tests.methods.test_sgd import logistic, sample_gradient

PFedMe = ol.methods.PFedMe


def by_hand(grad, lam, eta, lr, beta, R, K, cohorts):
    x, theta = np.zeros(5), [np.zeros(5)] * 4
    path = [x]
    for S in cohorts:
        ws = []
        for i in range(4):  # all train; the cohort sends
            w = x
            for _ in range(R):
                for _ in range(K):
                    theta[i] = theta[i] - lr * (grad[i](theta[i]) + lam * (theta[i] - w))
                w = w - eta * lam * (w - theta[i])
            ws.append(w)
        x = (1 - beta) * x + beta * sum(ws[i] for i in S) / len(S)
        path.append(x)
    return path, theta


@pytest.mark.parametrize("cohorts", [[[0, 1, 2, 3]] * 5, [[0, 2], [1, 3], [0, 1], [2, 3], [1, 2]]])
def test_the_algorithm_box(cohorts):
    p, values = bowls(), {"lam": 3.0, "eta": 0.1, "lr": 0.05, "beta": 1.5}
    path, theta = by_hand(gradients(p), **values, R=2, K=3, cohorts=cohorts)
    method = PFedMe(**values, outer_steps=2, inner_steps=3, cohort=len(cohorts[0]))
    run = ol.run(method, p, rounds=5, keep="x", live=False, randomness=ol.Scripted(cohorts=cohorts))
    close(run.iterates, path)
    close(models(run), theta)


def test_the_inner_steps_of_an_outer_step_take_the_same_batch():
    problem, a, y = logistic()
    batches = [[[0, 2], [1], [3]], [[1, 3], [0], [2]]]
    x = theta = [np.zeros(3)] * 3
    lam, eta, lr = 2.0, 0.2, 0.1
    for batch in batches:
        theta = list(theta)
        for i in range(3):
            for _ in range(2):
                theta[i] = theta[i] - lr * (sample_gradient(a[i], y[i], theta[i], batch[i]) + lam * (theta[i] - x[i]))
        x = [w - eta * lam * (w - t) for w, t in zip(x, theta, strict=True)]
    method = PFedMe(lam=lam, eta=eta, lr=lr, outer_steps=2, inner_steps=2, batch_size=2)
    run = ol.run(method, problem, rounds=1, live=False, randomness=ol.Scripted(batches=batches))
    close(run.x, problem.weights.numpy() @ np.stack(x))
    close(models(run), theta)


def test_one_exact_outer_step_of_full_length_is_an_exact_round_of_fedprox():
    p, lam = bowls(), 4.0
    ours = PFedMe(lam=lam, eta=1 / lam, outer_steps=1, solver="exact")
    close(iterates(ours, p, 10), iterates(ol.methods.FedProx(mu=lam, solver="exact"), p, 10), 1e-12)


def test_it_ends_where_the_envelopes_gradients_cancel_at_the_theorems_rate():
    p, lam = weighted(bowls(), [0.4, 0.3, 0.2, 0.1]), 4.0
    method = PFedMe(lam=lam, eta=0.3, outer_steps=1, solver="exact").resolve(p)
    w, A, b, eye = p.weights.numpy(), p.A.numpy(), p.b.numpy(), np.eye(5)
    M = lam * (eye - lam * np.linalg.inv(A + lam * eye))  # Hessians of the envelopes
    star = np.linalg.solve(np.tensordot(w, M, 1), np.einsum("i,ijk,ik->j", w, lam * np.linalg.inv(A + lam * eye), b))
    end = quietly(method, p, 600).x.numpy()
    close(end, star, 1e-8)
    assert np.abs(w @ (lam * (end - prox(p, end, lam)))).max() < 1e-8
    far = [float(np.linalg.norm(x - star)) for x in iterates(method, p, 40)]
    assert 0 < method.rate(p) < 1 and all(b <= method.rate(p) * a * (1 + 1e-9) for a, b in itertools.pairwise(far))
    assert PFedMe(lam=lam, eta=1.0, outer_steps=1, solver="exact").rate(p) is None  # too long a step


def test_many_inner_steps_are_the_exact_solution():
    p = bowls()
    exact = iterates(PFedMe(eta=0.02, outer_steps=3, solver="exact"), p, 10)
    close(iterates(PFedMe(eta=0.02, outer_steps=3, inner_steps=80), p, 10), exact, 1e-8)


def test_what_it_sends_and_who_works():
    p = mixed()
    run = quietly(PFedMe(lr=0.1, outer_steps=3, inner_steps=2, cohort=2), p, 5)
    assert run.federation.ledger.total("up") == 5 * 2 * 32 * p.d  # the cohort's models
    assert (run.history.bits_down.iloc[-1], run.history.gradients.iloc[-1]) == (5 * 32 * p.d, 5 * 3 * 2)


@pytest.mark.filterwarnings("ignore::octolab.errors.AssumptionWarning")
def test_who_is_gone_keeps_its_model_and_an_empty_cohort_moves_nothing():
    p = bowls()
    run = quietly(PFedMe(), p, 5, fleet=never_again(2, 4))
    assert (models(run)[2] == 0).all() and (models(run)[[0, 1, 3]] != 0).any(1).all() and bool((run.x != 0).any())
    run = ol.run(
        PFedMe(cohort=ol.federation.Poisson(0.5)), p, rounds=1, live=False, randomness=ol.Scripted(cohorts=[[]])
    )
    assert (run.x == 0).all() and (models(run) != 0).any()  # they have trained all the same


def test_values_of_the_authors_and_of_theory():
    p = bowls()
    method = PFedMe().resolve(p)
    assert (method.lam, method.inner_steps, method.outer_steps, method.eta, method.beta) == (15.0, 5, 20, 0.005, 1.0)
    assert method.lr == pytest.approx(1 / (p.L_max + 15)) and method.rate(p) is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"lam": 0}, r"lam=0: give a number in \(0, inf\)"),
        ({"outer_steps": 0}, "outer_steps=0"),
        ({"inner_steps": 1.5}, "inner_steps=1.5"),
        ({"eta": -1}, "eta=-1"),
        ({"beta": 0}, "beta=0"),
    ],
)
def test_bad_input_gets_a_sentence(given: dict, words: str):
    with pytest.raises(ValueError, match=words):
        PFedMe(**given)


def test_exact_inner_solutions_need_hessians():
    p = ol.problems.classification("digits", model="mlp", clients=4)
    with pytest.raises(ol.errors.OutsideAssumptions, match="needs Hessians"):
        PFedMe(solver="exact", lr=0.1).resolve(p)


def test_a_run_file_goes_on_to_the_last_bit(tmp_path):
    p = bowls()
    whole = quietly(PFedMe(cohort=2), p, 6)
    part = quietly(PFedMe(cohort=2), p, 3)
    part.save(tmp_path / "run.octo")
    again = ol.resume(tmp_path / "run.octo", rounds=6)
    assert torch.equal(models(again), models(whole)) and torch.equal(again.x, whole.x)
