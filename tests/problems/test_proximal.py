"""Exact local solutions: the gradient of the subproblem vanishes, client by client."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.problems import proximal
from octolab.problems.proximal import prox


@pytest.mark.parametrize("kind", ["quadratics", "tridiagonal", "logistic", "nonconvex logistic", "softmax"])
@pytest.mark.parametrize("mu", [0.3, 5.0])
@pytest.mark.parametrize("cohort", [None, slice(1, 3), torch.tensor([3, 0])])
def test_the_subproblems_gradient_vanishes(kind, sizes, problem, at, mu, cohort):
    if kind == "nonconvex logistic":
        mu += 1.0  # its curvature is at least -1/2 times the regulariser's weight
    m, x = problem.count(cohort), at(problem)
    tilt = torch.from_numpy(np.random.default_rng(0).normal(size=(m, problem.d)))
    y, taken = prox(problem, x, cohort, mu, tilt)
    assert float((problem.grad(y, cohort) - tilt + mu * (y - x)).abs().max()) < 1e-13 * (1 + float(tilt.abs().max()))
    assert taken.shape == (m,) and int(taken.max()) < 20


def test_on_quadratics_a_newton_step_and_one_for_rounding_are_the_closed_form():
    p, x = ol.problems.quadratics(n=3, d=4), torch.ones(4, dtype=torch.float64)
    y, taken = prox(p, x, None, 2.0)
    expected = [
        np.linalg.solve(A + 2 * np.eye(4), b + 2 * x.numpy()) for A, b in zip(p.A.numpy(), p.b.numpy(), strict=True)
    ]
    assert np.allclose(y, expected, rtol=1e-13, atol=1e-13) and taken.tolist() == [2, 2, 2]


def test_without_a_proximal_term_it_is_the_clients_own_optimum_from_afar():
    p = ol.problems.classification("breast-cancer", clients=4)
    y, _ = prox(p, torch.full((p.d,), 30.0, dtype=torch.float64), None, 0.0)
    assert float(p.grad(y).abs().max()) < 1e-13


def test_in_single_precision_it_is_exact_to_single_precision():
    p = ol.problems.classification("breast-cancer", clients=4)
    twin = p.with_dtype(torch.float32)
    (y, _), (z, taken) = prox(p, p.x0, None, 0.01), prox(twin, twin.x0, None, 0.01)
    assert torch.allclose(z.double(), y, rtol=1e-4, atol=1e-4) and int(taken.max()) < 20


def test_clients_come_in_blocks_and_the_blocks_do_not_matter(monkeypatch):
    p, x = ol.problems.classification("breast-cancer", clients=5), torch.zeros(30, dtype=torch.float64)
    whole, taken = prox(p, x, None, torch.linspace(0.01, 1, 5))
    monkeypatch.setattr(proximal, "HELD", 2 * p.d * p.d * 8)  # two at a time
    again, also = prox(p, x, None, torch.linspace(0.01, 1, 5))
    assert torch.allclose(again, whole, rtol=1e-12, atol=1e-13) and torch.equal(taken, also)


def test_a_subproblem_without_a_minimiser_is_refused_in_words():
    p = ol.problems.Quadratics(np.array([np.diag([1.0, -2.0])]), np.ones((1, 2)))
    with pytest.raises(ValueError, match=r"Client 0's subproblem is not strongly convex.*larger mu"):
        prox(p, p.x0, None, 1.0)
    y, _ = prox(p, p.x0, None, 3.0)
    assert np.allclose(y, [[1 / 4, 1]])


def test_a_problem_without_hessians_says_so():
    p = ol.problems.classification("digits", model="mlp", clients=2)
    with pytest.raises(ValueError, match="gives no Hessians"):
        prox(p, p.x0, None, 1.0)
