"""EF21 against its algorithm box; its theorems; what it equals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.compressors import Compressor, Identity, TopK
from octolab.methods.communication.ef21 import xi
from octolab.payloads import Dense
from tests.methods.by_hand import close, gap_to, gradients, iterates, mean, top


@dataclass(frozen=True, repr=False)
class EvenPlaces(Compressor):
    """A fixed mask: additive, homogeneous and deterministic."""

    deterministic, homogeneous = True, True

    def compress(self, x, draws):
        return Dense(x * (torch.arange(x.shape[1]) % 2 == 0))

    def alpha(self, d):
        return 0.5  # not contractive in truth: only identities are tested with it

    def bits(self, d):
        return 32 * d


@pytest.mark.parametrize("start", ["gradient", "compressed", "zero"])
def test_the_algorithm_box(start: str):
    p = ol.problems.quadratics(n=4, d=6, L=8, seed=1)
    grad, x, lr = gradients(p), np.zeros(6), 0.03
    g = [{"gradient": v(x), "compressed": top(v(x), 2), "zero": np.zeros(6)}[start] for v in grad]
    path = [x]
    for _ in range(25):
        x = x - lr * mean(g)
        g = [g[i] + top(grad[i](x) - g[i], 2) for i in range(4)]
        path.append(x)
    close(iterates(ol.methods.EF21(compressor=TopK(2), lr=lr, start=start), p, 25), path)


def test_two_rounds_by_hand():
    """One client, f = x^2/2 - x + y^2 - 4 y, Top1, lr = 1/2, from 0: g = (-1, -4), x = (1/2, 2)."""
    p = ol.problems.Quadratics([np.diag([1.0, 2.0])], [[1.0, 4.0]])
    # grad(1/2, 2) = (-1/2, 0); the change (1/2, 4) sends 4: g = (-1, 0); x = (1, 2); grad = (0, 0) ...
    close(iterates(ol.methods.EF21(compressor=TopK(1), lr=0.5), p, 3), [[0, 0], [0.5, 2], [1, 2], [1, 2]], 1e-15)


def test_with_the_identity_it_is_gradient_descent_with_step_one_over_L():
    p = ol.problems.quadratics(n=4, d=6)
    method = ol.methods.EF21(compressor=Identity())
    assert method.resolve(p).lr == pytest.approx(1 / p.L)
    close(iterates(method, p, 30), iterates(ol.methods.GD(), p, 30), 1e-12)


def test_with_a_fixed_mask_it_is_classic_error_feedback():
    p = ol.problems.quadratics(n=4, d=6)
    old = iterates(ol.methods.EF14(compressor=EvenPlaces(), lr=0.05), p, 30)
    close(iterates(ol.methods.EF21(compressor=EvenPlaces(), lr=0.05, start="compressed"), p, 30), old, 1e-12)


def test_the_servers_g_is_the_mean_of_the_clients():
    p = ol.problems.quadratics(n=7, d=12)
    run = ol.run(ol.methods.EF21(compressor=TopK(1)), p, rounds=200, live=False)
    close(run.state.g, run.federation.memory.g.mean(0), 1e-12)


def test_the_step_size_is_the_theorems():
    p = ol.problems.quadratics(n=7, d=12, L=9)
    alpha = 1 / 12
    theta = 1 - np.sqrt(1 - alpha)
    assert xi(alpha) == pytest.approx(np.sqrt((1 - alpha) / theta / theta))
    assert xi(1.0) == 0
    for smoothness, M in (("mean", p.L_mean), ("quadratic", p.L_qm)):
        lr = ol.methods.EF21(compressor=TopK(1), smoothness=smoothness).resolve(p).lr
        assert lr == pytest.approx(1 / (p.L + M * xi(alpha)))


@pytest.mark.parametrize("start", ["gradient", "zero"])
@pytest.mark.parametrize("k", [1, 4])
def test_the_nonconvex_theorem_holds(k: int, start: str):
    """mean |grad f(x_t)|^2 <= 2 (f(x0) - f*)/(lr T) + G0/(theta T), here on a nonconvex logistic loss."""
    rng = np.random.default_rng(0)
    a = [rng.normal(size=(20, 12)) + 0.5 * i for i in range(5)]
    p = ol.problems.Logistic(a, [np.sign(rng.normal(size=20)) for _ in range(5)], nonconvex=0.1)
    T = 400
    run = ol.run(ol.methods.EF21(compressor=TopK(k), start=start), p, rounds=T, evaluate_every=1, live=False)
    theta = 1 - np.sqrt(1 - TopK(k).alpha(12))
    G0 = 0 if start == "gradient" else float((p.grad(p.x0) ** 2).sum(1).mean())
    bound = 2 * p.value(p.x0) / (run.method.lr * T) + G0 / (theta * T)  # f >= 0
    assert run.history.grad_norm_sq[:-1].mean() <= bound


def test_under_strong_convexity_it_converges_at_the_pl_rate():
    """lr = min(1/(L + sqrt2 M xi), theta/(2 mu)): f - f* + (lr/theta) G contracts by 1 - lr mu."""
    p = ol.problems.quadratics(n=5, d=10, L=10, mu=1, seed=2)
    alpha, T = 3 / 10, 1500
    theta = 1 - np.sqrt(1 - alpha)
    lr = min(1 / (p.L + np.sqrt(2) * p.L_mean * xi(alpha)), theta / (2 * p.mu))
    run = ol.run(ol.methods.EF21(compressor=TopK(3), lr=lr), p, rounds=T, evaluate_every=T, live=False)
    G = float(((run.federation.memory.g - p.grad(run.x)) ** 2).sum(1).mean())
    assert gap_to(p, run.x) + lr / theta * G <= (1 - lr * p.mu) ** T * gap_to(p, p.x0) * (1 + 1e-6) + 1e-25


def test_it_sends_k_numbers_and_their_places():
    run = ol.run(ol.methods.EF21(compressor=TopK(2)), ol.problems.quadratics(n=3, d=20), rounds=3, live=False)
    once, each = 32 * 20, 2 * 32 + 2 * 5  # a list of two places of five bits is cheaper than a bitmap of 20
    assert run.history.bits_up.tolist() == [once + each * t for t in range(4)]
    assert run.history.paper_bits_up.tolist() == [once + 64 * t for t in range(4)]
    cheap = ol.run(
        ol.methods.EF21(compressor=TopK(2), start="zero"),
        ol.problems.quadratics(n=3, d=20),
        rounds=3,
        live=False,
    )
    assert cheap.history.bits_up.tolist() == [each * t for t in range(4)]


def test_weights_are_those_of_the_objective():
    p = ol.problems.Quadratics(
        *(a.numpy() for a in (ol.problems.quadratics(n=3, d=5).A, ol.problems.quadratics(n=3, d=5).b)),
        weights=[1, 2, 5],
    )
    close(
        iterates(ol.methods.EF21(compressor=Identity(), lr=0.05), p, 20),
        iterates(ol.methods.GD(lr=0.05), p, 20),
        1e-12,
    )
    assert gap_to(p, iterates(ol.methods.EF21(compressor=TopK(1)), p, 3000)[-1]) < 1e-12


@pytest.mark.parametrize("smoothness", ["mean", "quadratic"])
@pytest.mark.parametrize("multiplier, k, L", [(1, 1, 40.0), (1, 3, 10.0), (0.5, 1, 10.0)])
def test_its_rate_bounds_the_lyapunov_function(multiplier: float, k: int, L: float, smoothness: str):
    """f - f* + (lr/(2 theta q)) G contracts by max(1 - lr mu, 1 - theta (1 - q)) in every round; both parts occur."""
    p = ol.problems.quadratics(n=5, d=10, L=L, mu=1, L_spread=8, seed=2)
    run = ol.run(
        ol.methods.EF21(compressor=TopK(k), lr=ol.Theory(multiplier), smoothness=smoothness, start="zero"),
        p,
        rounds=0,
        live=False,
    )
    method, alpha = run.method, k / 10
    theta, M = 1 - np.sqrt(1 - alpha), p.L_mean if smoothness == "mean" else p.L_qm
    q = (method.lr * M * xi(alpha)) ** 2 / (1 - method.lr * p.L)
    weight = torch.from_numpy(M / p.L_i) if smoothness == "mean" else torch.ones(5)

    def psi() -> float:
        errors = ((run.federation.memory.g - p.grad(run.x)) ** 2).sum(1)
        return gap_to(p, run.x) + method.lr / (2 * theta * q) * float((weight * errors).mean())

    rate = method.rate(p)
    assert rate == pytest.approx(max(1 - method.lr * p.mu, 1 - theta * (1 - q))) and 0 < rate < 1
    before = psi()
    for _ in range(300):
        run.advance()
        now = psi()
        assert now <= rate * before * (1 + 1e-9) + 1e-18
        before = now


def test_its_rate_is_gradient_descents_without_compression_and_none_where_nothing_is_proved():
    p = ol.problems.quadratics(n=4, d=6)
    rate = lambda **kw: ol.methods.EF21(**kw).resolve(p).rate(p)  # noqa: E731
    assert rate(compressor=Identity()) == pytest.approx(1 - p.mu / p.L)
    assert rate(compressor=TopK(1), lr=ol.Theory(3)) is None and rate(compressor=Identity(), lr=2 / p.L) is None
    nonconvex = ol.problems.Quadratics([np.diag([1.0, -1.0])], [[0.0, 0.0]])
    assert ol.methods.EF21(compressor=TopK(1)).resolve(nonconvex).rate(nonconvex) is None
    network = ol.problems.classification("digits", model="mlp", clients=4)
    assert ol.methods.EF21(lr=0.1).resolve(network).rate(network) is None
