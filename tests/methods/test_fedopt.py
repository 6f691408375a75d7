"""FedAdam, FedYogi, FedAdagrad and FedAvgM against their algorithm boxes."""

from __future__ import annotations

import numpy as np
import pytest

import octolab as ol
from tests.methods.by_hand import close, gradients, iterates
from tests.methods.local_by_hand import distance, mixed, never_again, train, weighted

M = ol.methods
FOUR = [M.FedAdam, M.FedYogi, M.FedAdagrad, M.FedAvgM]
SECOND = {
    "fedadam": lambda v, D: 0.9 * v + 0.1 * D**2,
    "fedyogi": lambda v, D: v - 0.1 * D**2 * np.sign(v - D**2),
    "fedadagrad": lambda v, D: v + D**2,
}


@pytest.mark.parametrize("slug", SECOND)
def test_the_algorithm_box_with_given_cohorts(slug: str):
    p = weighted(ol.problems.quadratics(n=4, d=5, L=8, seed=2), w=[1, 2, 3, 4])
    cohorts = [[0, 2], [1, 2, 3], [3], [], [0, 1, 2, 3], [1]]
    grad, w, tau, b1 = gradients(p), p.weights.numpy(), 0.05, 0.6
    x, m, v = np.zeros(5), np.zeros(5), np.full(5, tau**2)
    path = [x]
    for S in cohorts:
        if S:  # an empty cohort leaves everything as it was, the momentum too
            D = sum(w[i] * (train(grad[i], x, 0.04, 3) - x) for i in S) / sum(w[i] for i in S)
            m, v = b1 * m + (1 - b1) * D, SECOND[slug](v, D)
            x = x + 0.3 * m / (np.sqrt(v) + tau)
        path.append(x)
    how = {} if slug == "fedadagrad" else {"beta2": 0.9}
    method = M.get(slug)(lr=0.04, local_steps=3, cohort=2, server_lr=0.3, beta1=b1, tau=tau, **how)
    close(iterates(method, p, len(cohorts), randomness=ol.Scripted(cohorts=cohorts)), path)


def test_the_algorithm_box_of_server_momentum():
    p = ol.problems.quadratics(n=4, d=5, L=8, seed=2)
    cohorts, grad, x, m = [[0, 2], [1, 2, 3], [], [3], [0, 1]], gradients(p), np.zeros(5), np.zeros(5)
    path = [x]
    for S in cohorts:
        if S:
            m = 0.8 * m + sum(train(grad[i], x, 0.04, 3) - x for i in S) / len(S)
            x = x + 0.5 * m
        path.append(x)
    method = M.FedAvgM(lr=0.04, local_steps=3, cohort=2, server_lr=0.5, beta=0.8)
    close(iterates(method, p, len(cohorts), randomness=ol.Scripted(cohorts=cohorts)), path)


def first_step(method: ol.Method) -> float:
    """x after two rounds on f = (x - 1)^2/2 with one local step of length 1/2: D = 1/2, then (1 - x)/2."""
    return iterates(method, ol.problems.Quadratics([[[1.0]]], [[1.0]]), 2)[:, 0].tolist()


def test_two_rounds_by_hand():
    """D = 1/2, v0 = tau^2 = 1/4, server_lr = 1, beta1 = 1/2 (Adagrad 0), beta2 = 3/4, tau = 1/2; no bias correction."""
    how = {"lr": 0.5, "local_steps": 1, "server_lr": 1.0, "tau": 0.5, "beta1": 0.5}
    # Adam: m = 1/4, v = 3/16 + 1/16 = 1/4, x = 1/4/(1/2 + 1/2) = 1/4; D = 3/8, m = 5/16, v = 3/16 + 9/256 = 57/256
    close(first_step(M.FedAdam(beta2=0.75, **how)), [0, 1 / 4, 1 / 4 + (5 / 16) / (np.sqrt(57) / 16 + 1 / 2)], 1e-15)
    # Yogi: v - D^2 = 0, so v stays 1/4, x = 1/4; then D^2 = 9/64 < v: v = 1/4 - 9/256 = 55/256
    close(first_step(M.FedYogi(beta2=0.75, **how)), [0, 1 / 4, 1 / 4 + (5 / 16) / (np.sqrt(55) / 16 + 1 / 2)], 1e-15)
    # Adagrad without momentum: v = 1/2, x = 1/2/(sqrt(1/2) + 1/2) = sqrt 2 - 1
    one = np.sqrt(2) - 1
    D = (1 - one) / 2
    expected = [0, one, one + D / (np.sqrt(0.5 + D**2) + 0.5)]
    close(first_step(M.FedAdagrad(**{**how, "beta1": 0.0})), expected, 1e-15)
    # FedAvgM: m = 1/2, x = 1/2; D = 1/4, m = 1/4 + 1/4, x = 1
    close(first_step(M.FedAvgM(lr=0.5, local_steps=1, beta=0.5)), [0, 0.5, 1.0], 1e-15)


def test_yogis_v_shrinks_gently_where_adams_collapses():
    """v - D^2 > 0 and large: Adam keeps a share beta2 of v, Yogi subtracts (1 - beta2) D^2."""
    p = ol.problems.Quadratics([[[1.0]]], [[1.0]])
    how = {"lr": 0.1, "local_steps": 1, "v0": 100.0, "beta2": 0.9}
    adam, yogi = (ol.run(kind(**how), p, rounds=5, live=False).state.v for kind in (M.FedAdam, M.FedYogi))
    assert float(adam) == pytest.approx(100 * 0.9**5, rel=1e-3) and float(yogi) > 99.9


@pytest.mark.parametrize(
    "how", [{"local_steps": 4}, {"local_epochs": 2, "batch_size": 3, "cohort": 2, "momentum": 0.5}]
)
def test_without_momentum_fedavgm_is_fedavg(how: dict):
    p = mixed()
    close(iterates(M.FedAvgM(lr=0.1, beta=0.0, **how), p, 8), iterates(M.FedAvg(lr=0.1, **how), p, 8), 1e-14)


def test_with_one_local_step_fedavgm_is_the_heavy_ball():
    p, x = ol.problems.quadratics(n=4, d=5, L=10), np.zeros(5)
    path = [x, x]
    for _ in range(20):
        path.append(path[-1] - 0.04 * p.gradient(path[-1]).numpy() + 0.7 * (path[-1] - path[-2]))
    close(iterates(M.FedAvgM(lr=0.08, server_lr=0.5, beta=0.7, local_steps=1), p, 20), path[1:])


@pytest.mark.parametrize("kind", [M.FedAdam, M.FedYogi, M.FedAdagrad])
def test_without_adaptivity_they_are_fedavg(kind: type):
    """beta1 = 0, v0 = 0, server_lr = tau -> infinity: m/(sqrt(v) + tau) tends to D/tau."""
    p, how = mixed(), {"lr": 0.1, "local_epochs": 2, "batch_size": 3}
    flat = kind(server_lr=1e9, tau=1e9, v0=0.0, beta1=0.0, **how)
    close(iterates(flat, p, 10), iterates(M.FedAvg(**how), p, 10), 1e-6)


@pytest.mark.parametrize("kind", [M.FedAdam, M.FedYogi])
def test_there_is_no_bias_correction(kind: type):
    """torch.optim.Adam on -D makes a first step of server_lr in every coordinate; here it is (1 - b1) D/(...) only."""
    p = ol.problems.quadratics(n=3, d=4)
    method = kind(lr=0.01, local_steps=1, server_lr=0.1, tau=1e-8)
    step = iterates(method, p, 1)[-1]
    D = iterates(M.FedAvg(lr=0.01, local_steps=1), p, 1)[-1]
    close(step, 0.1 * 0.1 * D / (0.1 * np.abs(D) + 1e-8), 1e-6)  # sqrt(1 - b2) = 0.1: v0 = 1e-16 does not show
    other = iterates(kind(lr=0.01, local_steps=1, server_lr=0.1, tau=1e-8, beta1=0.5), p, 1)[-1]
    close(other, 5 * step, 1e-12)  # (1 - 0.5)/(1 - 0.9); with the correction both would be the same


def test_adaptive_steps_serve_coordinates_of_very_different_scale():
    """diag(1, 1e-3): in 60 rounds FedAvg at its largest stable step has hardly begun on the second coordinate."""
    p = ol.problems.Quadratics(np.array([np.diag([1.0, 1e-3])] * 3), np.array([[1.0, 1e-3]] * 3))
    plain = iterates(M.FedAvg(lr=1.0, local_steps=1), p, 60)[-1]
    adaptive = iterates(M.FedAdagrad(lr=1.0, local_steps=1, server_lr=0.5, tau=1e-6), p, 60)[-1]
    assert distance(p, plain) > 0.9 and distance(p, adaptive) < 0.1


@pytest.mark.parametrize("kind", FOUR)
def test_a_cohort_of_one_and_a_client_that_vanished(kind: type):
    p = ol.problems.quadratics(n=4, d=5, L=10, mu=1)
    for how, world in (({"cohort": 1}, {}), ({}, {"fleet": never_again(1, 4)})):
        run = ol.run(kind(lr=0.02, **how), p, rounds=100, live=False, **world)
        assert run.status == "finished" and p.value(run.x) < p.value(p.x0)


@pytest.mark.parametrize("kind", FOUR)
@pytest.mark.parametrize(
    ("name", "bad"),
    [("local_epochs", 0), ("server_lr", 0), ("beta1", 1.0), ("tau", 0), ("beta2", -0.1), ("v0", -1), ("beta", 1)],
)
def test_bad_input_names_field_and_value(kind: type, name: str, bad: float):
    if name in {f.name for f in kind.__dataclass_fields__.values()}:
        with pytest.raises(ValueError, match=f"{kind.__name__}: {name}={bad}"):
            kind(**{name: bad})


def test_the_three_share_a_page_and_have_a_card_each():
    cards = [M.get(slug).describe() for slug in SECOND]
    assert [c.name for c in cards] == ["FedAdam", "FedYogi", "FedAdagrad"]
    assert {c.arxiv for c in cards} == {"2003.00295"} and len({c.summary for c in cards}) == 3
    assert M.FedAvgM.describe().arxiv == "1909.06335" and M.FedAdagrad().beta1 == 0
