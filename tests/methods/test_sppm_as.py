"""SPPM-AS against its algorithm box, its constants by enumeration, its bound exactly, and the U-shape of its cost."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.errors import OutsideAssumptions, UnknownConstant
from octolab.experiment.launch import prepare
from octolab.federation import Block, Cyclic, Full, Importance, Nice, Poisson, Stratified, Weighted
from octolab.methods.theory.arbitrary_sampling import (
    constants,
    exchanges,
    gamma_for,
    mu_as,
    neighbourhood,
    sigma2_as,
)
from tests.methods.by_hand import close, gradients, iterates

SPPMAS = ol.methods.SPPMAS
BLOCKS = ([0, 1, 2], [3, 4], [5])
Q = np.array([0.1, 0.3, 0.2, 0.15, 0.05, 0.2])
SAMPLINGS = {
    "full": Full(),
    "nonuniform": Importance(Q.tolist()),
    "nice": Nice(3),
    "block": Block(BLOCKS, q=[0.5, 0.3, 0.2]),
    "stratified": Stratified(BLOCKS),
}


def problem(**changes) -> ol.problems.Quadratics:
    return ol.problems.quadratics(**{"n": 6, "d": 5, "L": 20, "L_spread": 4, "eigenbasis": "random"} | changes)


def cohorts(sampler, n: int = 6) -> list[tuple[float, tuple[int, ...]]]:
    """Every cohort that can come, with its probability."""
    if isinstance(sampler, Full):
        return [(1.0, tuple(range(n)))]
    if isinstance(sampler, Nice):
        every = list(combinations(range(n), sampler.m))
        return [(1 / len(every), c) for c in every]
    if isinstance(sampler, Importance):
        return [(float(np.prod(np.asarray(sampler.q)[list(c)])), c) for c in product(range(n), repeat=sampler.m)]
    if isinstance(sampler, Block):
        return [(q, tuple(b)) for q, b in zip(sampler.q, sampler.blocks, strict=True)]
    if isinstance(sampler, Stratified):
        return [(float(np.prod([1 / len(b) for b in sampler.blocks])), c) for c in product(*sampler.blocks)]
    p = sampler.probabilities(n)
    every = [c for k in range(n + 1) for c in combinations(range(n), k)]
    return [(float(np.prod([p[i] if i in c else 1 - p[i] for i in range(n)])), c) for c in every]


def cohort_function(p: ol.problems.Quadratics, sampler, members) -> tuple[np.ndarray, np.ndarray]:
    """(A, b) of f_C = sum over C of w_i f_i/p_i; p_i is counted as often as a client was drawn."""
    w = p.weights.numpy() / sampler.expected(p.n)
    return sum(w[i] * p.A[i].numpy() for i in members), sum(w[i] * p.b[i].numpy() for i in members)


def prox(p, sampler, members, x: np.ndarray, gamma: float) -> np.ndarray:
    A, b = cohort_function(p, sampler, members)
    return np.linalg.solve(A + np.eye(p.d) / gamma, b + x / gamma)


# -- the algorithm box -----------------------------------------------------------------------------------------------
def test_the_box_with_given_cohorts_of_unequal_size():
    """Block sampling with unequal blocks, three gradient rounds per cohort, weights 1/(n p_i) and never 1/|C|."""
    p, sampler, lr, gamma = problem(), Block(BLOCKS, q=[0.5, 0.3, 0.2]), 0.01, 2.0
    grad, prob = gradients(p), sampler.probabilities(6)
    given = [[3, 4], [0, 1, 2], [5], [0, 1, 2]]
    x = np.zeros(5)
    path = [x]
    for members in given:
        z = x
        for _ in range(3):
            z = z - lr * (sum(grad[i](z) / (6 * prob[i]) for i in members) + (z - x) / gamma)
        x = z
        path.append(x)
    method = SPPMAS(cohort=sampler, gamma=gamma, lr=lr, solver="gd", local_rounds=3)
    close(iterates(method, p, 4, randomness=ol.Scripted(cohorts=given)), path)


def test_conjugate_gradients_by_hand():
    p, gamma, given = problem(), 3.0, [[0, 2, 5], [1, 2, 3]]
    x = np.ones(5)
    path = [x]
    for members in given:
        A, b = cohort_function(p, Nice(3), members)
        H, s = A + np.eye(5) / gamma, np.zeros(5)
        r = -(A @ x - b)
        v = r
        for _ in range(3):  # K = 4: one gradient, three products
            a = r @ r / (v @ H @ v)
            s, new = s + a * v, r - a * H @ v
            v, r = new + (new @ new) / (r @ r) * v, new
        x = x + s
        path.append(x)
    method = SPPMAS(cohort=3, gamma=gamma, solver="cg", local_rounds=4)
    close(iterates(method, p, 2, x0=np.ones(5), randomness=ol.Scripted(cohorts=given)), path)


@pytest.mark.parametrize("solver", ["gd", "lbfgs", "nonlinear-cg", "cg"])
def test_one_round_is_the_plain_cohort_gradient_step(solver: str):
    """The prox term vanishes at z = x, so gamma does not matter."""
    p, given, lr = problem(), [[0, 2, 5], [1, 3, 4]], 0.02
    x = np.zeros(5)
    path = [x]
    for members in given:
        A, b = cohort_function(p, Nice(3), members)
        x = x - lr * (A @ x - b)
        path.append(x)
    method = SPPMAS(cohort=3, gamma=7.0, lr=lr, solver=solver, local_rounds=1)
    close(iterates(method, p, 2, randomness=ol.Scripted(cohorts=given)), path)


@pytest.mark.parametrize("name", SAMPLINGS)
def test_cg_with_d_plus_one_rounds_is_the_exact_prox(name: str):
    p, sampler, gamma = problem(), SAMPLINGS[name], 1.5
    drawn = [sampler.draw(6, ol.Randomness(0), t).tolist() for t in range(5)]
    x = np.zeros(5)
    path = [x]
    for members in drawn:
        x = prox(p, sampler, members, x, gamma)
        path.append(x)
    close(iterates(SPPMAS(cohort=sampler, gamma=gamma, solver="cg", local_rounds=6), p, 5), path, 1e-9)


@pytest.mark.parametrize("solver, rounds", [("lbfgs", 30), ("nonlinear-cg", 40), ("gd", 3000)])
def test_every_solver_finds_the_prox(solver: str, rounds: int):
    p = problem()
    method = SPPMAS(cohort=3, gamma=1.0, solver=solver, local_rounds=rounds)
    exact = SPPMAS(cohort=3, gamma=1.0, solver="cg", local_rounds=6)
    close(iterates(method, p, 3), iterates(exact, p, 3), 1e-7)


def test_the_gradient_solvers_find_the_prox_of_a_logistic_cohort():
    """At the prox, sum over C of w_i/p_i grad f_i(z) + (z - x)/gamma = 0; the weights are those of the examples."""
    p = ol.problems.classification("breast-cancer", clients=6)
    members = torch.from_numpy(Nice(3).draw(6, ol.Randomness(0), 0))
    slope = lambda z: (p.weights[members, None] / 0.5 * p.grad(z)[members]).sum(0)  # noqa: E731
    for solver, rounds in (("lbfgs", 30), ("nonlinear-cg", 60)):
        run = ol.run(SPPMAS(cohort=3, gamma=5.0, solver=solver, local_rounds=rounds), p, rounds=1, live=False)
        assert float((slope(run.x) + run.x / 5.0).norm()) < 1e-8 * float(slope(p.x0).norm())


def test_with_everybody_and_a_huge_gamma_one_step_is_enough():
    p = problem()
    run = ol.run(SPPMAS(cohort=None, gamma=1e12, solver="cg", local_rounds=6), p, rounds=1, live=False)
    close(run.x, p.x_star, 1e-9)


def test_one_client_drawn_uniformly_is_the_stochastic_proximal_point_method():
    p = problem()
    given = [[4], [1], [1], [0]]
    x = np.zeros(5)
    path = [x]
    for (i,) in given:  # f_C = f_i
        x = np.linalg.solve(p.A[i].numpy() + np.eye(5) / 0.5, p.b[i].numpy() + x / 0.5)
        path.append(x)
    method = SPPMAS(cohort=Importance([1 / 6] * 6), gamma=0.5, solver="cg", local_rounds=8)
    close(iterates(method, p, 4, randomness=ol.Scripted(cohorts=given)), path, 1e-9)


# -- theory ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "sampler", [*SAMPLINGS.values(), Poisson(0.4), Poisson([0.2, 1.0, 0.5, 1.0, 0.9, 0.3]), Importance(Q.tolist(), m=2)]
)
@pytest.mark.parametrize("weights", [None, np.array([1, 2, 3, 4, 5, 6]) / 21])
def test_mu_and_sigma_squared_are_those_of_enumeration(sampler, weights):
    rng = np.random.default_rng(1)
    mu_i, G = rng.uniform(0.5, 2, 6), rng.normal(size=(6, 4))
    w = np.full(6, 1 / 6) if weights is None else weights
    G -= w @ G  # the weighted gradients sum to zero at x*
    e = sampler.expected(6)
    seen = cohorts(sampler)
    assert sum(chance for chance, _ in seen) == pytest.approx(1)
    assert mu_as(sampler, mu_i, weights) == pytest.approx(
        min(sum(w[i] * mu_i[i] / e[i] for i in c) for chance, c in seen if chance > 0)
    )
    enumerated = sum(
        chance * np.sum(np.square(sum((w[i] * G[i] / e[i] for i in c), np.zeros(4)))) for chance, c in seen
    )
    assert sigma2_as(sampler, G, weights) == pytest.approx(enumerated)
    unbiased = sum(chance * sum((w[i] * G[i] / e[i] for i in c), np.zeros(4)) for chance, c in seen)
    assert np.abs(unbiased).max() < 1e-14


@pytest.mark.parametrize("name", SAMPLINGS)
@pytest.mark.parametrize("gamma", [0.05, 1.0, 30.0])
def test_the_bound_holds_for_the_five_samplings(name: str, gamma: float):
    """E|x_t - x*|^2 by the exact recursion over all cohorts, no chance left: its ratio to the bound is at most 1."""
    p, sampler = problem(spread=0.5), SAMPLINGS[name]
    star, (mu, sigma2) = p.x_star.numpy(), constants(p, sampler)
    maps = []
    for chance, members in cohorts(sampler):
        A, b = cohort_function(p, sampler, members)
        M = np.linalg.inv(np.eye(5) + gamma * A)
        maps.append((chance, M, M @ (gamma * (b - A @ star))))  # x - x* becomes M (x - x*) + c
    mean, second = -star, np.outer(star, star)
    start = star @ star
    for t in range(1, 60):
        cross = sum(q * np.outer(M @ mean, c) for q, M, c in maps)
        second = sum(q * (M @ second @ M.T + np.outer(c, c)) for q, M, c in maps) + cross + cross.T
        mean = sum(q * (M @ mean + c) for q, M, c in maps)
        bound = (1 + gamma * mu) ** (-2 * t) * start + neighbourhood(gamma, mu, sigma2)
        assert np.trace(second) <= bound * (1 + 1e-9) + 1e-28, (t, np.trace(second) / bound)


def test_gamma_from_theory_leaves_half_of_eps():
    p = problem()
    mu, sigma2 = constants(p, Nice(3))
    gamma = gamma_for(1e-3, mu, sigma2)
    assert neighbourhood(gamma, mu, sigma2) == pytest.approx(5e-4)
    method = SPPMAS(cohort=3, gamma=ol.Theory(), eps=1e-3, solver="cg", local_rounds=6).resolve(p)
    assert method.gamma == pytest.approx(gamma)
    assert method.rate(p) is None  # it leads to a neighbourhood, not to the optimum
    T = exchanges(1e-3, 1.0, gamma, mu)
    assert (1 + gamma * mu) ** (-2 * T) <= 5e-4 < (1 + gamma * mu) ** (-2 * (T - 1))
    assert gamma_for(1e-3, mu, 0.0) == pytest.approx(1e6 / mu)  # nothing to fear


def test_the_solvers_own_step_is_one_over_the_smoothness_of_the_worst_cohort():
    p = problem()
    worst = max(p.L_i[list(c)].sum() / 3 for _, c in cohorts(Nice(3)))
    assert SPPMAS(cohort=3, gamma=2.0).resolve(p).lr == pytest.approx(1 / (worst + 0.5))


# -- what it costs ---------------------------------------------------------------------------------------------------
def five_kinds(spread: float = 0.1, within: float = 0.03, rotation: float = 0.0) -> ol.problems.Quadratics:
    """n=10, d=20, kappa 300: five kinds of client, two of each.

    spread, within: how far apart the minimisers are between and within kinds. rotation: of the kinds' eigenvectors.
    """
    rng = np.random.default_rng(0)
    basis, centre = np.linalg.qr(rng.normal(size=(20, 20)))[0], rng.normal(size=20)
    A, b = [], []
    for _ in range(5):
        values = np.clip(np.geomspace(1, 300, 20) * np.exp(0.3 * rng.normal(size=20)), 1, 300)
        kind = centre + spread * rng.normal(size=20)
        own = np.linalg.qr(basis + rotation * rng.normal(size=(20, 20)))[0]
        H = (own * values) @ own.T
        for _ in range(2):
            A.append((H + H.T) / 2)
            b.append(A[-1] @ (kind + within * rng.normal(size=20)))
    return ol.problems.Quadratics(A, b)


@pytest.fixture(scope="module")
def kinds() -> ol.problems.Quadratics:
    return five_kinds()


@pytest.fixture(scope="module")
def strata(kinds) -> Stratified:
    return Stratified.by_gradients(kinds, 5)


def cohorts_needed(method: ol.Method, p, budget: int = 300, seeds: int = 3) -> float:
    """Median number of steps to |x - x*|^2 <= 5e-3 |x0 - x*|^2."""
    needed, goal = [], 5e-3 * float(((p.x0 - p.x_star) ** 2).sum())
    for seed in range(seeds):
        run = prepare(method, p, rounds=budget, seed=seed, evaluate_every=10**6).advance(1)
        while float(((run.x - p.x_star) ** 2).sum()) > goal and run.round < budget:
            run.advance(1)
        needed.append(run.round if run.round < budget else np.inf)
    return float(np.median(needed))


def total(p, cohort, gamma: float) -> dict[int, float]:
    """TK by K."""
    make = lambda K: SPPMAS(cohort=cohort, gamma=gamma, local_rounds=K, solver="cg")  # noqa: E731
    return {K: K * cohorts_needed(make(K), p) for K in (2, 3, 5, 7, 10, 14, 20)}


def test_clustering_the_gradients_finds_the_kinds_and_stratifying_by_them_lowers_the_variance(kinds, strata):
    """The specification has sigma2 = 12 stratified and 158 with nice cohorts of the same size."""
    assert strata.blocks == ([0, 1], [2, 3], [4, 5], [6, 7], [8, 9])
    (_, stratified), (_, nice) = constants(kinds, strata), constants(kinds, 5)
    assert stratified < nice / 5


def test_the_total_cost_is_u_shaped_in_k_and_the_best_k_grows_with_gamma(kinds, strata):
    """The specification: gamma .1: 358, 147, 80 (K=5), 91, 120, 240; gamma 1: best 14 (28)."""
    small, large = total(kinds, strata, 0.1), total(kinds, strata, 1.0)
    best_small, best_large = min(small, key=small.__getitem__), min(large, key=large.__getitem__)
    assert best_small == 5 and small[2] > small[3] > small[5] < small[7] < small[10] < small[20]
    assert best_large > best_small and large[best_large] <= 0.6 * small[best_small]
    assert large[2] > 3 * large[best_large] < large[20] * 3
    squeezed = total(kinds, Nice(5), 0.1)
    assert min(squeezed.values()) < 0.4 * squeezed[2]  # the specification: 76 % less than with K = 2


def cheapest(p) -> tuple[float, float, float]:
    """Rounds of tuned local gradient descent; squeezed cohorts: flat cost TK, and hierarchical cost (0.05 K + 1) T."""
    strata = Stratified.by_gradients(p, 5)
    grid = [(lr, k) for lr in (1e-3, 2e-3, 4e-3, 6e-3) for k in (1, 5, 20)]
    local = min(
        cohorts_needed(ol.methods.FedAvg(lr=lr, local_steps=k, cohort=strata), p, 100, seeds=1) for lr, k in grid
    )
    make = lambda K: SPPMAS(cohort=strata, gamma=100.0, local_rounds=K, solver="cg")  # noqa: E731
    needed = {K: cohorts_needed(make(K), p) for K in (10, 14, 20)}
    return local, min(K * T for K, T in needed.items()), min((0.05 * K + 1) * T for K, T in needed.items())


def test_it_beats_tuned_local_gradient_descent_where_clients_drift():
    """The specification: 14 against 22 rounds (36 % less), hierarchical 1.7 against 23.1 (93 % less)."""
    local, flat, hierarchical = cheapest(five_kinds(spread=0.2, within=0.06, rotation=0.1))
    assert flat <= 0.64 * local and hierarchical <= 0.07 * 1.05 * local


def test_where_clients_hardly_drift_only_the_hierarchy_pays(kinds):
    """Local steps are free there, and TK counts every exchange."""
    local, flat, hierarchical = cheapest(kinds)
    assert local < flat and hierarchical <= 0.5 * 1.05 * local


def test_cohort_and_global_rounds_are_counted_apart_and_cost_adds_them_up():
    p = problem()
    method = SPPMAS(cohort=3, local_rounds=4, solver="gd", c1=0.05, c2=1.0)
    run = ol.run(method, p, rounds=5, live=False)
    assert (run.history.cohort_rounds[1:] == 4 * np.arange(1, 6)).all()
    assert (run.history.global_rounds[1:] == np.arange(1, 6)).all()
    assert np.allclose(run.history.cost[1:].astype(float), (0.05 * 4 + 1) * np.arange(1, 6))
    sent = 5 * 4 * 3 * 32 * p.d / 6  # each of the K rounds asks each of the 3 members, on average over 6 clients
    assert run.history.bits_up.iloc[-1] == run.history.bits_down.iloc[-1] == sent
    assert run.history.gradients.iloc[-1] == 5 * 4 * 3 / 6


# -- edges -----------------------------------------------------------------------------------------------------------
def test_an_empty_poisson_cohort_changes_nothing_and_costs_nothing():
    p = problem()
    run = ol.run(
        SPPMAS(cohort=Poisson(0.5)), p, rounds=2, live=False, randomness=ol.Scripted(cohorts=[[], [1, 2]]), keep="x"
    )
    assert torch.equal(run.iterates[0], run.iterates[1]) and not torch.equal(run.iterates[1], run.iterates[2])
    assert run.history.cost[1] == 0 and run.history.bits_up[1] == 0


def test_cohorts_of_one_work():
    p = problem(spread=0)
    run = ol.run(SPPMAS(cohort=1, gamma=10.0, solver="cg", local_rounds=6), p, rounds=30, live=False)
    close(run.x, p.x_star, 1e-6)  # the clients share their minimiser, so a single one knows it


def test_a_cohort_that_loses_a_member_goes_home_with_what_it_has():
    p = problem(spread=0)
    method = SPPMAS(cohort=3, gamma=1.0, solver="cg", local_rounds=6)
    run = ol.run(method, p, rounds=300, live=False, fleet=ol.Fleet(dropout=0.2), evaluate_every=300)
    spent = run.history.cohort_rounds.dropna().diff().dropna()
    assert spent.min() <= 2 and spent.max() == 6
    close(run.x, p.x_star, 1e-6)


def test_a_client_drawn_twice_counts_twice_and_is_asked_once():
    p, sampler = problem(), Importance(Q.tolist(), m=2)
    method = SPPMAS(cohort=sampler, gamma=2.0, solver="cg", local_rounds=6)
    run = ol.run(method, p, rounds=1, live=False, randomness=ol.Scripted(cohorts=[[3, 3]]))
    close(run.x, prox(p, sampler, (3, 3), np.zeros(5), 2.0), 1e-9)
    assert run.federation.ledger.per_client("replies")[3] == 6


@pytest.mark.filterwarnings("ignore::octolab.errors.AssumptionWarning")
def test_networks_train_with_adam_and_refuse_hessian_products():
    p = ol.problems.classification("digits", model="mlp", clients=6)
    with pytest.warns(ol.errors.AssumptionWarning, match="strong convexity"):
        run = ol.run(SPPMAS(solver="adam", lr=0.01, batch_size=32, gamma=100.0), p, rounds=10, live=False)
    assert run.history.loss.iloc[-1] < 0.6 * run.history.loss[0]
    with pytest.raises(OutsideAssumptions, match="Hessian-vector products"):
        SPPMAS(solver="cg", lr=0.1).resolve(p)
    with pytest.raises(UnknownConstant, match="adam"):
        SPPMAS(solver="adam").resolve(problem())


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: SPPMAS(local_rounds=0), r"local_rounds=0: give a number in \[1"),
        (lambda: SPPMAS(gamma=0.0), r"gamma=0.0: give a number in \(0"),
        (lambda: SPPMAS(cohort=Cyclic(2)).resolve(problem()), "drawn afresh"),
        (lambda: SPPMAS(cohort=Weighted(Q.tolist(), 2)).resolve(problem()), "no closed inclusion probabilities"),
        (lambda: SPPMAS(cohort=Stratified(([0, 1], [1, 2, 3, 4, 5]))).resolve(problem()), "exactly once"),
        (lambda: SPPMAS(cohort=Importance([0.5, 0.5, 0, 0, 0, 0])).resolve(problem()), "never drawn"),
        (lambda: SPPMAS(cohort=Poisson(0.5), gamma=ol.Theory()).resolve(problem()), "Poisson cohorts may be empty"),
        (lambda: SPPMAS(cohort=7).resolve(problem()), "only 6 clients"),
    ],
)
def test_bad_input_gets_a_sentence(make, words: str):
    with pytest.raises(ValueError, match=words):
        make()
