"""L, L_i, mu, x_star and f_star are what they claim to be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from octolab.problems import Quadratics, quadratics


def hessians(problem, x):
    return problem.hessian(x).double().numpy()


def test_quadratics_and_the_tridiagonal_reach_their_constants(constant_curvature, at):
    problem = constant_curvature
    H = hessians(problem, at(problem))
    assert np.allclose(problem.L_i, np.linalg.eigvalsh(H)[:, -1], rtol=1e-12)
    assert np.allclose(problem.mu_i, np.linalg.eigvalsh(H)[:, 0], rtol=1e-10)
    mean = np.einsum("n,nij->ij", problem.weights.numpy(), H)
    assert pytest.approx(np.linalg.eigvalsh(mean)[-1], rel=1e-12) == problem.L
    assert problem.mu == pytest.approx(np.linalg.eigvalsh(mean)[0], rel=1e-10)


def test_no_curvature_leaves_its_bounds(problem):
    if not problem.has_hessian:
        assert problem.L is None and problem.L_i is None and problem.x_star is None and problem.f_star is None
        assert "unknown" in problem.constants_note
        return
    rng = np.random.default_rng(0)
    for scale in (0.0, 0.1, 3.0):
        H = hessians(problem, torch.from_numpy(scale * rng.normal(size=problem.d)))
        values = np.linalg.eigvalsh(H)
        assert (np.abs(values).max(1) <= problem.L_i * (1 + 1e-12)).all()
        mean = np.linalg.eigvalsh(np.einsum("n,nij->ij", problem.weights.numpy(), H))
        assert np.abs(mean).max() <= problem.L * (1 + 1e-12)
        if problem.mu is not None:
            assert mean.min() >= problem.mu * (1 - 1e-12)
            assert (values.min(1) >= problem.mu_i * (1 - 1e-12)).all()


def test_binary_logistic_reaches_its_bound_at_the_origin(binary):
    problem = binary
    values = np.linalg.eigvalsh(hessians(problem, problem.x0))
    assert np.allclose(values.max(1), problem.L_i, rtol=1e-12)  # sigma'' is largest at margin 0, so is x^2/(1+x^2)


def test_means_of_the_constants(problem):
    if problem.L_i is None:
        assert problem.L_mean is None and problem.L_max is None and problem.L_qm is None
        return
    w = problem.weights.numpy()
    assert problem.L_mean == pytest.approx((w * problem.L_i).sum())
    assert problem.L_max == problem.L_i.max()
    assert problem.L <= problem.L_mean * (1 + 1e-12) <= problem.L_qm * (1 + 2e-12)


def test_the_gradient_vanishes_at_the_minimiser(problem):
    if problem.x_star is None:
        assert not problem.strongly_convex
        return
    assert float(problem.gradient(problem.x_star).norm()) < 1e-13
    assert problem.f_star == pytest.approx(problem.value(problem.x_star))
    for seed in range(3):
        step = torch.from_numpy(np.random.default_rng(seed).normal(size=problem.d)) * 1e-3
        assert problem.value(problem.x_star + step) > problem.f_star
    assert problem.with_dtype(torch.float32).x_star.dtype == torch.float32


def test_a_large_softmax_is_solved_by_conjugate_gradients():
    from octolab.problems import Softmax

    rng = np.random.default_rng(0)
    p = Softmax([rng.normal(size=(20, 400)) for _ in range(3)], [rng.integers(0, 4, 20) for _ in range(3)], 4, 0.1)
    assert p.d == 1604 and float(p.gradient(p.x_star).norm()) < 1e-12


def test_rank_deficient_and_unbounded_quadratics():
    flat = Quadratics([[[1.0, 0.0], [0.0, 0.0]]], [[2.0, 0.0]])
    assert flat.convex and not flat.strongly_convex and flat.mu == 0 and flat.f_star == pytest.approx(-2)
    assert Quadratics([[[1.0, 0.0], [0.0, 0.0]]], [[2.0, 1.0]]).x_star is None  # no minimiser: f falls for ever


def test_a_nonconvex_quadratic_has_no_mu_and_says_so():
    p = Quadratics([np.diag([2.0, -1.0])], [[0.0, 0.0]])
    assert p.L == 2 and p.mu is None and p.x_star is None and not p.convex and not p.strongly_convex
    assert "not convex" in p.constants_note and p.mu_i[0] == -1


def test_clients_may_be_nonconvex_where_their_mean_is_not():
    p = Quadratics([np.diag([3.0, -1.0]), np.diag([-1.0, 3.0])], np.zeros((2, 2)))
    assert p.strongly_convex and p.mu == pytest.approx(1) and (p.mu_i == -1).all()


def test_the_variance_of_one_sample_stays_below_its_bound(linear, at):
    problem, point = linear, at(linear)
    for i, size in enumerate(problem.sizes):
        each = torch.cat([problem.grad(point, slice(i, i + 1), problem.as_batch([[j]])) for j in range(size)])
        assert float(((each - each.mean(0)) ** 2).sum(1).mean()) <= problem.sigma_sq
    assert problem.variance(None) == 0 and problem.variance(4) == problem.sigma_sq / 4


@pytest.mark.parametrize("basis", ["shared", "random"])
def test_generated_quadratics_have_the_spectrum_that_was_asked_for(basis):
    p = quadratics(n=5, d=7, L=50, mu=2, spread=0.5, eigenbasis=basis, seed=3)
    assert np.allclose(p.L_i, 50) and np.allclose(p.mu_i, 2)
    assert p.L <= 50 * (1 + 1e-12) and p.mu >= 2 * (1 - 1e-12)
    if basis == "shared":
        A = p.A
        assert float((A[0] @ A[1] - A[1] @ A[0]).abs().max()) < 1e-11 and pytest.approx(50) == p.L


def test_spreads_of_generated_quadratics():
    together = quadratics(n=4, d=6, spread=0.0, seed=1)
    own = np.linalg.solve(together.A.numpy(), together.b.numpy()[..., None])[..., 0]
    assert np.allclose(own, together.x_star.numpy())
    wide = quadratics(n=400, d=3, spread=2.0, seed=1)
    own = np.linalg.solve(wide.A.numpy(), wide.b.numpy()[..., None])[..., 0]
    assert own.std(0) == pytest.approx(np.full(3, 2.0), rel=0.15)  # 400 draws: 4 standard errors
    apart = quadratics(n=3, d=6, L=100, mu=1, L_spread=100)
    assert np.allclose(apart.L_i, [1, 10, 100]) and np.allclose(apart.L_i / apart.mu_i, 100)
    assert torch.equal(quadratics(seed=4).A, quadratics(seed=4).A)
    assert not torch.equal(quadratics(seed=4).A, quadratics(seed=5).A)
