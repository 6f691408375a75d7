"""FedDyn against its algorithm box; exact at its fixed point, also when only some take part."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import octolab as ol
from tests.methods.by_hand import close, gradients, iterates
from tests.methods.local_by_hand import distance, mixed, never_again, train, weighted

FedDyn = ol.methods.FedDyn
PROBLEM = ol.problems.quadratics(n=8, d=10, L=20, mu=1, seed=0)
COHORTS = [[0, 3], [1, 2, 4], [0, 1], [2], [], [3, 4], [0, 1, 2, 3, 4]]


@pytest.mark.parametrize("solver", ["sgd", "exact"])
@pytest.mark.parametrize("report", ["cloud", "clients"])
@pytest.mark.parametrize("w", [None, [1, 2, 3, 4, 5]])
def test_the_algorithm_box_with_given_cohorts(solver: str, report: str, w):
    p = weighted(ol.problems.quadratics(n=5, d=4, L=6, seed=1), w)
    grad, w, lr, alpha = gradients(p), p.weights.numpy(), 0.04, 1.5
    x, h, own = np.zeros(4), np.zeros(4), [np.zeros(4) for _ in range(5)]
    path = [x]
    for S in COHORTS:
        theta = {}
        for i in S:
            if solver == "exact":
                A, b = p.A[i].numpy(), p.b[i].numpy()
                theta[i] = np.linalg.solve(A + alpha * np.eye(4), b + own[i] + alpha * x)
            else:
                theta[i] = train(grad[i], x, lr, 3, prox=alpha, correction=-own[i])
            own[i] = own[i] - alpha * (theta[i] - x)
            h = h - alpha * w[i] * (theta[i] - x)  # 1/n, not 1/|S|
        if S:
            mean = sum(w[i] * theta[i] for i in S) / sum(w[i] for i in S)
            x = mean - h / alpha
        path.append(path[-1] if not S else mean if report == "clients" else x)
    method = FedDyn(alpha=alpha, lr=lr, local_steps=3, cohort=2, solver=solver, report=report)
    close(iterates(method, p, len(COHORTS), randomness=ol.Scripted(cohorts=COHORTS)), path)


@pytest.mark.parametrize("world", [{}, {"fleet": ol.Fleet(dropout=0.3)}], ids=["cohorts", "cohorts and drop-outs"])
@pytest.mark.parametrize("solver", ["sgd", "exact"])
def test_the_servers_h_is_the_mean_of_the_clients(solver: str, world: dict):
    run = ol.run(FedDyn(alpha=2.0, cohort=3, solver=solver), PROBLEM, rounds=50, live=False, **world)
    close(run.state.h, run.federation.memory.h.mean(0), 1e-12)


@pytest.mark.parametrize("cohort", [None, 3])
def test_with_exact_solutions_h_i_is_the_gradient_at_the_clients_last_model(cohort):
    p, alpha = PROBLEM, 2.0
    run = ol.run(FedDyn(alpha=alpha, cohort=cohort, solver="exact"), p, rounds=0, live=False)
    for _ in range(12):
        before, x = run.federation.memory.h.clone(), run.state.x.clone()
        run.advance(1)
        after = run.federation.memory.h
        theta = x + (before - after) / alpha  # of those who took part
        moved = (before != after).any(1)
        close(p.grad(theta)[moved], after[moved], 1e-12)


def test_the_first_round_of_everybody_is_a_reflection_of_fedprox():
    """x_1 = 2 z - x_0, z the round of FedProx with mu = alpha, exact."""
    for p in (PROBLEM, mixed()):
        z = iterates(ol.methods.FedProx(mu=3.0, solver="exact"), p, 1)[-1]
        clients, cloud = (iterates(FedDyn(alpha=3.0, solver="exact", report=r), p, 1)[-1] for r in ("clients", "cloud"))
        close(clients, z)
        close(cloud, 2 * z - p.x0.numpy())


@pytest.mark.parametrize("report", ["clients", "cloud"])
@pytest.mark.parametrize("how", [{"solver": "exact"}, {"local_steps": 5}])
def test_it_is_exact_where_fedprox_and_fedavg_stall(report: str, how: dict):
    path = iterates(FedDyn(report=report, **how), PROBLEM, 500)
    assert distance(PROBLEM, path[-1]) < 1e-12
    stalled = iterates(ol.methods.FedProx(mu=4.5, solver="exact"), PROBLEM, 500)[-1]
    assert distance(PROBLEM, stalled) > 0.1


@pytest.mark.parametrize("how", [{"solver": "exact"}, {"local_steps": 5}])
def test_it_is_exact_with_three_clients_of_eight_a_round(how: dict):
    path = iterates(FedDyn(cohort=3, **how), PROBLEM, 800, evaluate_every=800)
    assert distance(PROBLEM, path[-1]) < 1e-6


def test_a_small_alpha_on_logistic_regression_converges_too():
    p = mixed()
    x = ol.run(FedDyn(alpha=0.05, solver="exact"), p, rounds=400, live=False).x
    assert float((x - p.x_star).norm()) < 1e-10  # the optimum of the weighted sum


@pytest.mark.parametrize("cohort", [None, 2])
def test_unequal_weights_lead_to_the_weighted_optimum(cohort):
    p = weighted(ol.problems.quadratics(n=4, d=5, L=10, mu=1), w=[1, 2, 3, 4])
    run = ol.run(FedDyn(solver="exact", cohort=cohort), p, rounds=600, live=False)
    assert distance(p, run.x) < 1e-8


@pytest.mark.parametrize("alpha", [None, 0.5, 30.0])
def test_with_exact_solutions_the_rate_of_douglas_rachford_holds(alpha):
    """sum_i w_i |x + h_i/alpha - x* - grad f_i(x*)/alpha|^2 shrinks by ((1 + delta)/2)^2 in every round."""
    p = weighted(ol.problems.quadratics(n=4, d=6, L=30, mu=1, L_spread=3), w=[1, 2, 3, 4])
    method = FedDyn(solver="exact", **({} if alpha is None else {"alpha": alpha})).resolve(p)
    run = ol.run(method, p, rounds=0, live=False)
    target = p.x_star + p.grad(p.x_star) / method.alpha
    psi = []
    for _ in range(40):
        z = run.state.x + run.federation.memory.h / method.alpha
        psi.append(float(p.weights @ ((z - target) ** 2).sum(1)))
        run.advance(1)
    rate = method.rate(p)
    assert 0 < rate < 1
    assert all(b <= rate * a * (1 + 1e-9) for a, b in itertools.pairwise(psi) if b > 1e-20 * psi[0])


def test_the_theory_alpha_is_the_one_with_the_best_rate():
    p = ol.problems.quadratics(n=4, d=6, L=30, mu=1)
    rates = {a: FedDyn(alpha=a, solver="exact", lr=0.1).rate(p) for a in np.geomspace(0.5, 60, 41)}
    best = FedDyn(solver="exact").resolve(p)
    assert best.alpha == pytest.approx(np.sqrt(30)) and best.rate(p) <= min(rates.values()) + 1e-12
    assert FedDyn().resolve(p).rate(p) is None and FedDyn(cohort=2, solver="exact").resolve(p).rate(p) is None


def test_without_known_constants_alpha_is_the_papers():
    p = ol.problems.classification("digits", model="mlp", clients=4)
    assert FedDyn(lr=0.1).resolve(p).alpha == 0.01


def test_an_empty_cohort_changes_nothing_and_a_cohort_of_one_is_enough():
    p = ol.problems.quadratics(n=4, d=5, L=10, mu=1)
    poisson = FedDyn(cohort=ol.federation.Poisson(0.3))
    path = iterates(poisson, p, 3, randomness=ol.Scripted(cohorts=[[1], [], [0]]))
    assert (path[1] == path[2]).all() and (path[2] != path[3]).any()
    assert distance(p, iterates(FedDyn(cohort=1, solver="exact"), p, 2000, evaluate_every=2000)[-1]) < 1e-6


def test_a_client_that_vanished_keeps_its_last_word():
    """The others end where their gradients cancel its stale h_i, which was 0."""
    p = ol.problems.quadratics(n=4, d=5, L=10, mu=1)
    run = ol.run(FedDyn(solver="exact"), p, rounds=600, fleet=never_again(1, 4), live=False)
    assert (run.federation.memory.h[1] == 0).all()
    assert float(p.grad(run.x)[[0, 2, 3]].sum(0).abs().max()) < 1e-8


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"alpha": 0}, "alpha=0"),
        ({"local_steps": 0}, "local_steps=0"),
        ({"local_epochs": 0}, "local_epochs=0"),
        ({"report": "server"}, "choose one of 'clients', 'cloud'"),
        ({"cohort": ol.federation.Importance([0.25] * 4, 2)}, "may draw a client twice"),
    ],
)
def test_bad_input_gets_a_sentence(how: dict, words: str):
    with pytest.raises(ValueError, match=words):
        ol.run(FedDyn(**{"lr": 0.1, **how}), ol.problems.quadratics(n=4, d=2), rounds=1, live=False)


def test_exact_solutions_need_hessians():
    p = ol.problems.classification("digits", model="mlp", clients=2)
    with pytest.raises(ol.errors.OutsideAssumptions, match="needs Hessians"):
        ol.run(FedDyn(lr=0.1, solver="exact"), p, rounds=1, live=False)


def test_the_traffic_is_fedavgs():
    run = ol.run(FedDyn(), ol.problems.quadratics(n=3, d=7), rounds=2, live=False)
    assert run.history.bits_up.tolist() == run.history.bits_down.tolist() == [0, 224, 448]
    assert torch.equal(run.state.mean, run.x)
