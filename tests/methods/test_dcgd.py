"""DCGD: exact identities, its floor, and what a biased compressor without memory does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.compressors import QSGD, Identity, Natural, PermK, RandK, TopK
from octolab.errors import AssumptionWarning
from tests.methods.by_hand import close, gradients, iterates, mean, permutations, rand
from tests.methods.test_sgd import logistic, sample_gradient

DCGD = ol.methods.DCGD


def test_the_algorithm_box_with_given_permutations():
    p = ol.problems.quadratics(n=3, d=6, L=8, seed=1)
    given, grad, x, lr = permutations(20, 3, 6), gradients(p), np.zeros(6), 0.02
    path = [x]
    for pi in given:
        x = x - lr * mean([rand(grad[i](x), 2, pi[i]) for i in range(3)])
        path.append(x)
    close(iterates(DCGD(RandK(2), lr=lr), p, 20, randomness=ol.Scripted(permutations=given)), path)


def test_with_minibatches_it_is_qsgd():
    problem, a, y = logistic(sizes=(6, 6, 6))
    batches = [[[0, 5], [4, 1], [2, 3]], [[1, 2], [0, 3], [5, 4]]]
    uniforms = list(np.random.default_rng(0).uniform(size=(2, 3, 3)))
    x = np.zeros(3)
    path = [x]
    for rows, u in zip(batches, uniforms, strict=True):
        sent = []
        for i in range(3):
            g = sample_gradient(a[i], y[i], x, rows[i])
            size = np.linalg.norm(g)
            sent.append(size * np.sign(g) * np.floor(4 * np.abs(g) / size + u[i]) / 4)
        x = x - 0.3 * mean(sent)
        path.append(x)
    script = ol.Scripted(batches=batches, uniforms=uniforms)
    close(iterates(DCGD(QSGD(4), lr=0.3, batch_size=2), problem, 2, randomness=script), path)


def test_it_is_diana_that_never_learns_a_shift():
    p = ol.problems.quadratics(n=4, d=6)
    scripts = [ol.Scripted(permutations=permutations(30, 4, 6)) for _ in range(2)]
    diana = iterates(ol.methods.DIANA(RandK(2), alpha=0.0, lr=0.03), p, 30, randomness=scripts[0])
    close(iterates(DCGD(RandK(2), lr=0.03), p, 30, randomness=scripts[1]), diana, 1e-12)


def test_uncompressed_it_is_gradient_descent_and_so_it_is_with_permk_where_clients_agree():
    p = ol.problems.quadratics(n=4, d=6)
    close(iterates(DCGD(Identity(), lr=0.05), p, 30), iterates(ol.methods.GD(lr=0.05), p, 30), 1e-12)
    same = ol.problems.Tridiagonal(d=12, n=4, noise=0)
    close(iterates(DCGD(PermK(4), lr=0.5), same, 30), iterates(ol.methods.GD(lr=0.5), same, 30), 1e-12)


def test_the_theory_values():
    p = ol.problems.quadratics(n=10, d=20, L=50)
    assert DCGD(RandK(4)).resolve(p).lr == pytest.approx(1 / (p.L + 2 * p.L_max * 4 / 10))
    assert DCGD(PermK(10)).resolve(p).lr == pytest.approx(1 / (p.L + 2 * p.L_max))  # its joint constant, 1
    assert DCGD(Identity()).resolve(p).rate(p) == pytest.approx(1 - p.mu / p.L)
    assert DCGD(RandK(4)).resolve(p).rate(p) is None  # a floor
    same = ol.problems.Quadratics(p.A[:1].repeat(10, 1, 1).numpy(), p.b[:1].repeat(10, 1).numpy())
    m = DCGD(RandK(4)).resolve(same)
    assert m.rate(same) == pytest.approx(1 - m.lr * same.mu)


@pytest.mark.slow
@pytest.mark.parametrize("Q", [RandK(4), Natural()], ids=repr)
def test_it_falls_linearly_to_the_floor_of_its_theorem_and_no_further(Q):
    """E|x_t - x*|^2 <= (1 - lr mu)^t |x0 - x*|^2 + 2 lr omega/(n mu) mean|grad f_i(x*)|^2; a mean of 20 seeds."""
    p = ol.problems.quadratics(n=10, d=20, L=20, mu=1, seed=0)
    own = float((p.grad(p.x_star) ** 2).sum(1).mean())
    ends = {30: [], 400: []}
    for seed in range(20):
        run = ol.run(DCGD(Q), p, rounds=400, seed=seed, keep="x", evaluate_every=400, live=False)
        for t, found in ends.items():
            found.append(float(((run.iterates[t] - p.x_star) ** 2).sum()))
    floor = 2 * run.method.lr * Q.omega(20) / (10 * p.mu) * own
    for t, found in ends.items():
        assert np.mean(found) <= (1 - run.method.lr * p.mu) ** t * float((p.x_star**2).sum()) + floor
    assert np.mean(ends[400]) > floor / 50  # it stalls; DIANA would be at 1e-6 and falling


def test_top1_without_memory_multiplies_the_error_by_1_plus_11_lr_over_6_where_ef21_converges():
    """f_i = <a_i, x>^2 + |x|^2/4 (Beznosikov et al.): whatever the step, it diverges."""
    a = np.array([[-3.0, 2, 2], [2, -3, 2], [2, 2, -3]])
    p = ol.problems.Quadratics(2 * np.einsum("ni,nj->nij", a, a) + np.eye(3) / 2, np.zeros((3, 3)), x0=np.ones(3))
    for lr in (0.001, 0.1):
        with pytest.warns(AssumptionWarning, match="nobody remembers"):
            x = iterates(DCGD(TopK(1), lr=lr), p, 50)
        close(x, np.outer((1 + 11 * lr / 6) ** np.arange(51), np.ones(3)), 1e-12)
    ef21 = iterates(ol.methods.EF21(TopK(1)), p, 3000)
    assert np.abs(ef21[-1]).max() < 1e-6


def test_a_biased_compressor_has_no_theory_step():
    with pytest.warns(AssumptionWarning), pytest.raises(ValueError, match=r"give lr=\.\.\. as a number, or use EF21"):
        DCGD(TopK(1)).resolve(ol.problems.quadratics())


def test_it_costs_what_the_compressor_says():
    run = ol.run(DCGD(QSGD(1), lr=0.01), ol.problems.quadratics(n=3, d=20), rounds=4, live=False)
    assert run.history.bits_up.tolist() == [72 * t for t in range(5)]  # 32 + 2 d
    assert run.history.bits_down.tolist() == [640 * t for t in range(5)]
    assert torch.isfinite(run.x).all()
