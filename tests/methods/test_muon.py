"""Muon: Newton-Schulz, and the step against a plain reference on a problem with layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.methods.adaptation.muon import newton_schulz
from octolab.problems import Layer
from tests.methods.by_hand import close, gradients, iterates


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(16, 64), (64, 16), (32, 32), (1, 9)], ids=str)
def test_newton_schulz_brings_singular_values_near_one(shape):
    """Those of at least 0.01 of the norm come to [0.68, 1.14]."""
    U = normal(*shape)
    before, after = torch.linalg.svdvals(U), torch.linalg.svdvals(newton_schulz(U))
    large = after[before >= 0.01 * U.norm()]
    assert len(large) and float(large.min()) >= 0.68 and float(large.max()) <= 1.14


def test_the_map_of_one_singular_value_stays_in_the_interval():
    s = torch.linspace(0.01, 1, 500, dtype=torch.float64)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    assert 0.68 <= float(s.min()) <= 0.685 and 1.13 <= float(s.max()) <= 1.135


def test_newton_schulz_keeps_singular_vectors():
    U = normal(6, 10)
    left, _, right = torch.linalg.svd(U, full_matrices=False)
    core = left.T @ newton_schulz(U) @ right.T
    close(core, torch.diag(core.diagonal()), 1e-12)


def test_newton_schulz_of_zero_is_zero():
    assert float(newton_schulz(torch.zeros(4, 7)).abs().max()) == 0


def test_newton_schulz_does_not_see_the_scale_and_commutes_with_the_transpose():
    U = normal(7, 5)
    close(newton_schulz(1000 * U), newton_schulz(U), 1e-7)  # up to the 1e-7 that guards the norm
    close(newton_schulz(U.T), newton_schulz(U).T, 1e-12)


class Layered(ol.problems.Quadratics):
    """A quadratic in the entries of a 2 x 3 matrix, a 4 x 1 x 1 kernel, an embedding, a head and a vector."""

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        roles = [
            ("W", (2, 3), "matrix"),
            ("K", (4, 1, 1), "conv"),
            ("E", (2, 2), "embedding"),
            ("H", (1, 2), "head"),
            ("b", (2,), "vector"),
        ]
        self.layout, at = [], 0
        for name, shape, role in roles:
            self.layout.append(Layer(name, shape, role, at, at + int(np.prod(shape))))
            at = self.layout[-1].stop
        assert at == self.d


def layered():
    q = ol.problems.quadratics(n=3, d=18, L=4, seed=1)
    return Layered(q.A.numpy(), q.b.numpy(), x0=np.linspace(-1, 1, 18))


def orthogonalised(U):
    """Five steps of the quintic, on the wide orientation."""
    X = U.T if U.shape[0] > U.shape[1] else U
    X = X / (np.linalg.norm(X) + 1e-7)
    for _ in range(5):
        A = X @ X.T
        X = 3.4445 * X + (-4.7750 * A + 2.0315 * A @ A) @ X
    return X.T if U.shape[0] > U.shape[1] else X


@pytest.mark.parametrize("nesterov", [True, False])
def test_the_algorithm_box_layer_by_layer(nesterov: bool):
    p, lr, beta, alr, wd, b1, b2 = layered(), 0.03, 0.9, 0.01, 0.1, 0.8, 0.95
    grad, x = gradients(p), p.x0.numpy()
    M, v = np.zeros(18), np.zeros(18)
    path = [x]
    for t in range(1, 16):
        G, new = sum(g(x) for g in grad) / 3, x.copy()
        for layer in p.layout:
            at = slice(layer.start, layer.stop)
            if layer.role in ("matrix", "conv"):
                M[at] = beta * M[at] + (1 - beta) * G[at]
                U = beta * M[at] + (1 - beta) * G[at] if nesterov else M[at]
                U = U.reshape(layer.shape[0], -1)
                scale = np.sqrt(max(1, U.shape[0] / U.shape[1]))
                new[at] = x[at] * (1 - lr * wd) - lr * scale * orthogonalised(U).ravel()
            else:
                M[at] = b1 * M[at] + (1 - b1) * G[at]
                v[at] = b2 * v[at] + (1 - b2) * G[at] ** 2
                new[at] = x[at] - alr * (M[at] / (1 - b1**t)) / (np.sqrt(v[at] / (1 - b2**t)) + 1e-8)
        x = new
        path.append(x)
    method = ol.methods.Muon(lr=lr, momentum=beta, adam_lr=alr, weight_decay=wd, beta1=b1, beta2=b2, nesterov=nesterov)
    close(iterates(method, p, 15), path)


def test_every_direction_of_a_matrix_moves_by_the_same_amount():
    """However the gradient is scaled, a matrix's first step has singular values lr x [0.68, 1.14]."""
    p = layered()
    path = iterates(ol.methods.Muon(lr=0.1), p, 1)
    steps = np.linalg.svd((path[1] - path[0])[:6].reshape(2, 3), compute_uv=False)
    assert (steps >= 0.068).all() and (steps <= 0.114).all()


def test_adams_first_step_is_lr_times_the_sign():
    p = layered()
    path = iterates(ol.methods.Muon(adam_lr=0.01), p, 1)
    close((path[1] - path[0])[10:], -0.01 * np.sign(p.gradient(p.x0).numpy()[10:]), 1e-7)


def test_without_layers_it_is_adam_and_an_empty_cohort_changes_nothing():
    p = ol.problems.quadratics(n=3, d=4)
    x = iterates(ol.methods.Muon(adam_lr=0.1, cohort=0.5), p, 2, randomness=ol.Scripted(cohorts=[[], [0, 1, 2]]))
    assert (x[1] == x[0]).all()
    close(x[2] - x[1], 0.1 * np.sign(-p.gradient(p.x0).numpy()), 1e-7)
