"""EF21-W: other weights, the same iterates, and a step that is up to sqrt(n) times larger."""

from __future__ import annotations

import numpy as np
import pytest

import octolab as ol
from octolab.compressors import Identity, RandK, SignNorm, TopK
from octolab.errors import AssumptionWarning, UnknownConstant
from octolab.methods.communication.ef21 import linear_rate, xi
from tests.methods.by_hand import close, gradients, iterates, top


def uneven(n: int = 6, **options) -> ol.problems.Quadratics:
    return ol.problems.quadratics(n=n, d=8, L=8, L_spread=50, seed=1, **options)


@pytest.mark.parametrize("start", ["gradient", "compressed", "zero"])
def test_the_algorithm_box(start: str):
    p = uneven()
    grad, x, lr, n = gradients(p), np.zeros(8), 0.03, 6
    w = p.L_i / p.L_i.sum()
    v = [grad[i](x) / (n * w[i]) for i in range(n)]
    g = [{"gradient": v[i], "compressed": top(v[i], 2), "zero": 0 * v[i]}[start] for i in range(n)]
    path = [x]
    for _ in range(25):
        x = x - lr * sum(w[i] * g[i] for i in range(n))
        g = [g[i] + top(grad[i](x) / (n * w[i]) - g[i], 2) for i in range(n)]
        path.append(x)
    close(iterates(ol.methods.EF21W(compressor=TopK(2), lr=lr, start=start), p, 25), path)


@pytest.mark.parametrize("C", [TopK(1), TopK(3), SignNorm(), RandK(2, scaled=False)], ids=repr)
def test_with_a_positively_homogeneous_compressor_iterates_and_bits_are_ef21s(C):
    p = uneven()
    runs = [
        ol.run(m(compressor=C, lr=0.02), p, rounds=60, keep="x", live=False)
        for m in (ol.methods.EF21W, ol.methods.EF21)
    ]
    close(runs[0].iterates, runs[1].iterates, 1e-10)
    assert runs[0].history.bits_up.equals(runs[1].history.bits_up)


def test_weights_of_the_objective_are_kept():
    p = ol.problems.Quadratics(uneven().A.numpy(), uneven().b.numpy(), weights=[1, 2, 3, 4, 5, 6])
    gd = iterates(ol.methods.GD(lr=0.05), p, 20)
    close(iterates(ol.methods.EF21W(compressor=Identity(), lr=0.05), p, 20), gd, 1e-12)
    ef21 = iterates(ol.methods.EF21(compressor=TopK(2), lr=0.02), p, 20)
    close(iterates(ol.methods.EF21W(compressor=TopK(2), lr=0.02), p, 20), ef21, 1e-10)


def test_only_the_ratios_of_the_L_i_matter():
    p = uneven()
    times = ol.methods.EF21W(lr=0.02, L_i=tuple(7 * p.L_i))
    close(iterates(times, p, 30), iterates(ol.methods.EF21W(lr=0.02), p, 30), 1e-12)


def test_equal_L_i_make_it_ef21():
    p = ol.problems.quadratics(n=4, d=6)
    assert np.ptp(p.L_i) < 1e-9
    close(iterates(ol.methods.EF21W(), p, 30), iterates(ol.methods.EF21(), p, 30), 1e-12)


def test_both_steps_side_by_side_at_most_sqrt_n_apart():
    p = uneven(20)
    method = ol.methods.EF21W(compressor=TopK(1))
    steps = method.steps(p)
    assert steps["mean"] == method.resolve(p).lr == pytest.approx(1 / (p.L + p.L_mean * xi(1 / 8)))
    assert steps["quadratic"] == pytest.approx(1 / (p.L + p.L_qm * xi(1 / 8)))
    assert 1 < steps["mean"] / steps["quadratic"] <= np.sqrt(20)
    resolved = method.resolve(p)
    assert resolved.rate(p) == pytest.approx(linear_rate(resolved.lr, p.L, p.L_mean, 1 / 8, p.mu))


def one_large(n: int = 100, d: int = 20) -> ol.problems.Quadratics:
    """L_1 = 1000, all other L_i = 1."""
    rng = np.random.default_rng(0)
    L = np.r_[1000.0, np.ones(n - 1)]
    values = np.exp(rng.uniform(np.log(0.1), 0, (n, d)))
    values[:, 0] = 1
    basis = np.linalg.qr(rng.normal(size=(n, d, d)))[0]
    A = (basis * (values * L[:, None])[:, None, :]) @ basis.transpose(0, 2, 1)
    return ol.problems.Quadratics((A + A.transpose(0, 2, 1)) / 2, np.einsum("nij,nj->ni", A, rng.normal(size=(n, d))))


def test_the_headline_a_step_8_9_times_larger_and_as_many_fewer_rounds():
    """n = 100, one L_i = 1000: the specification has L_AM = 11.0, L_QM = 100, a ratio of 8.9, 206 rounds to > 2000."""
    p = one_large()
    assert p.L_mean == pytest.approx(10.99) and p.L_qm == pytest.approx(100, rel=1e-3)
    steps = ol.methods.EF21W(compressor=TopK(1)).steps(p)
    assert steps["mean"] / steps["quadratic"] == pytest.approx(8.9, abs=0.05)
    target = ol.Until(loss=p.f_star + 1e-3 * (p.value(p.x0) - p.f_star))
    rounds = {
        M: ol.run(ol.methods.EF21W(compressor=TopK(1), smoothness=M), p, rounds=20_000, until=target, live=False).round
        for M in ("mean", "quadratic")
    }
    assert rounds["quadratic"] > 2000 and rounds["quadratic"] > 7 * rounds["mean"]


def test_with_cohorts_it_is_ef21_pp():
    p = uneven()
    method = ol.methods.EF21W(compressor=TopK(2), cohort=3)
    pp = ol.methods.EF21PP(compressor=TopK(2), cohort=3)
    assert method.resolve(p).lr == pytest.approx(pp.resolve(p).lr)
    close(iterates(method, p, 40), iterates(pp, p, 40), 1e-10)


def test_with_batches_it_is_ef21_sgd():
    p = uneven(noise=1.0)
    method = ol.methods.EF21W(compressor=TopK(2), lr=0.01, batch_size=2)
    close(
        iterates(method, p, 40), iterates(ol.methods.EF21SGD(compressor=TopK(2), lr=0.01, batch_size=2), p, 40), 1e-10
    )
    assert method.resolve(p).rate(p) is None


def test_on_a_network_the_L_i_are_unknown_and_it_says_so():
    p = ol.problems.classification("digits", model="mlp", clients=4)
    with pytest.raises(UnknownConstant, match="lr=Theory"), pytest.warns(AssumptionWarning):
        ol.methods.EF21W().resolve(p)
    with pytest.warns(AssumptionWarning, match=r"L_i of .* are unknown.*this is EF21.*Give L_i="):
        run = ol.run(ol.methods.EF21W(lr=0.1), p, rounds=5, keep="x", live=False)
    close(run.iterates, iterates(ol.methods.EF21(lr=0.1), p, 5), 1e-6)


@pytest.mark.parametrize("bad", [(1.0, 2.0), (1.0, -1.0, 1.0), (1.0, 0.0, 1.0), (1.0, np.inf, 1.0)], ids=str)
def test_bad_L_i_get_a_sentence(bad: tuple):
    with pytest.raises(ValueError, match=r"L_i=.*give 3 numbers > 0"):
        ol.methods.EF21W(L_i=bad).resolve(ol.problems.quadratics(n=3, d=4))
