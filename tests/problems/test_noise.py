"""Quadratics' gradient noise and the tridiagonal problem of the asynchronous papers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from octolab.problems import Quadratics, Tridiagonal, quadratics
from octolab.randomness import Randomness


def dense(d):
    return (2 * np.eye(d) - np.eye(d, k=1) - np.eye(d, k=-1)) / 4


@pytest.mark.parametrize("d", [1, 2, 7])
def test_the_stencil_is_the_matrix(d):
    p, x = Tridiagonal(d=d, n=3, noise=0.0), torch.from_numpy(np.random.default_rng(0).normal(size=d))
    b = np.zeros(d)
    b[0] = -1 / 4
    q = Quadratics(np.tile(dense(d), (3, 1, 1)), np.tile(b, (3, 1)))
    assert torch.allclose(p.grad(x), q.grad(x), atol=1e-15)
    assert torch.allclose(p.loss(x), q.loss(x), atol=1e-15)
    assert torch.allclose(p.hessian(x), q.A, atol=1e-16)
    assert pytest.approx(q.L) == p.L and p.mu == pytest.approx(q.mu) and p.f_star == pytest.approx(q.f_star)
    assert torch.allclose(p.x_star, q.x_star) and q.homogeneous and p.homogeneous


def test_the_papers_constants():
    p = Tridiagonal(d=1729, n=6174)
    assert p.x0[0] == 1729**0.5 and p.x0[1:].abs().max() == 0
    assert p.sigma_sq == pytest.approx(0.01**2 * 1729)
    assert pytest.approx(1.0, abs=1e-5) == p.L and 0 < p.mu < 1e-6
    assert float(p.gradient(p.x_star).norm()) < 1e-14


@pytest.mark.parametrize("kind", ["scalar", "iid"])
@pytest.mark.parametrize("make", [Tridiagonal, quadratics])
def test_noise_has_mean_zero_and_the_promised_variance(kind, make):
    n, d = 4000, 5
    p = make(d=d, n=n, noise=0.3, noise_kind=kind)
    x = p.x0
    exact = p.grad(x)
    batch = p.draw_batch(1, None, Randomness(0).draws(n))
    noise = p.grad(x, None, batch) - exact
    assert float(noise.mean().abs()) < 4 * 0.3 / n**0.5
    assert float((noise**2).sum(1).mean()) == pytest.approx(p.sigma_sq, rel=5 * (2 / n) ** 0.5)
    spread = (noise - noise[:, :1]).abs().max()
    assert (spread < 1e-12) == (kind == "scalar")
    larger = p.grad(x, None, p.draw_batch(torch.full((n,), 9), None, Randomness(0).draws(n))) - exact
    assert torch.allclose(3 * larger, noise, atol=1e-12)  # the mean of 9 noises
    assert torch.equal(p.grad(x, None, batch), p.grad(x, None, batch))


def test_a_batch_without_noise_is_the_exact_gradient():
    p = Tridiagonal(d=5, n=3, noise=0.0)
    assert torch.equal(p.grad(p.x0, None, p.draw_batch(1, None, Randomness(0).draws(3))), p.grad(p.x0))


def test_one_function_is_stored_once():
    p = Tridiagonal(d=1000, n=10_000)
    held = [v for v in vars(p).values() if isinstance(v, torch.Tensor)]
    assert max(v.numel() for v in held) <= 10_000  # weights and x0; no (n, d), no (d, d)
