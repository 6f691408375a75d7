"""alpha and omega: unbiasedness and variance by Monte Carlo within five standard errors, and worst cases."""

from __future__ import annotations

from math import sqrt

import pytest
import torch

from octolab.compressors import (
    QSGD,
    Bernoulli,
    BlockTopK,
    Bucketed,
    Identity,
    LinfDithering,
    Natural,
    NaturalDithering,
    PermK,
    PerTensor,
    RandK,
    Scaled,
    SignNorm,
    TopK,
    TopKQSGD,
    UniformQuantizer,
)

N, D = 20_000, 12
SIGMAS = 5  # a normal error beyond five standard errors: 6e-7 a coordinate

UNBIASED = [
    Identity(),
    RandK(0.25),
    RandK(11),
    QSGD(1),
    QSGD(5),
    QSGD(3, norm="inf"),
    QSGD(2, coding="elias-sparse"),
    LinfDithering(),
    UniformQuantizer(1),
    UniformQuantizer(3),
    Natural(),
    NaturalDithering(1),
    NaturalDithering(4),
    Bernoulli(0.3, QSGD(4), scaled=True),
    RandK(0.5) | Natural(),
    RandK(0.5) | QSGD(2),
    Bucketed(QSGD(2), 5),
    PerTensor(RandK(0.5)).for_layers([(4, 2), (4,)]),
]
VECTORS = {
    "normal": torch.randn(D, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
    "constant": torch.full((D,), -0.75, dtype=torch.float64),
    "one-hot": torch.eye(D, dtype=torch.float64)[3] * 5,
    "two-sided": torch.tensor([-1.0] + [0.0] * (D - 2) + [1.0], dtype=torch.float64),
    "geometric": 0.5 ** torch.arange(D, dtype=torch.float64),
    "between powers": torch.full((D,), 1.5, dtype=torch.float64) * 2.0 ** torch.arange(-6, 6, dtype=torch.float64),
}


def sample(c, x, draws):
    """N independent messages C(x), dense (N, d)."""
    return c(x.expand(N, -1), draws(N)).dense()


@pytest.mark.parametrize("c", UNBIASED, ids=repr)
@pytest.mark.parametrize("name", VECTORS)
def test_unbiased_compressors_have_mean_x_and_variance_at_most_omega(c, name, draws):
    x = VECTORS[name]
    assert c.unbiased
    y = sample(c, x, draws)
    error = SIGMAS * y.std(0) / sqrt(N)
    assert ((y.mean(0) - x).abs() <= error + 1e-12 * x.abs().max()).all()
    relative = (y - x).pow(2).sum(1) / x.pow(2).sum()
    slack = SIGMAS * relative.std() / sqrt(N)
    assert relative.mean() <= c.omega(D) + slack + 1e-12


@pytest.mark.parametrize("c", [RandK(3), RandK(3, scaled=False)], ids=repr)
def test_randk_attains_its_constant_on_every_vector(c, draws):
    x = VECTORS["normal"]
    relative = (sample(c, x, draws) - x).pow(2).sum(1) / x.pow(2).sum()
    exact = c.omega(D) if c.scaled else 1 - c.alpha(D)
    assert abs(relative.mean() - exact) <= SIGMAS * relative.std() / sqrt(N)


def test_natural_attains_one_eighth_midway_on_a_log_scale(draws):
    """(a - 2^e)(2^{e+1} - a)/a^2 is largest, 1/8, at a = (4/3) 2^e."""
    x = torch.full((D,), 4 / 3, dtype=torch.float64)
    relative = (sample(Natural(), x, draws) - x).pow(2).sum(1) / x.pow(2).sum()
    assert abs(relative.mean() - 1 / 8) <= SIGMAS * relative.std() / sqrt(N)


def test_one_bit_uniform_quantiser_nearly_attains_its_bound(draws):
    x = VECTORS["two-sided"]  # d - 2 entries midway: variance (d - 2) of |x|^2 = 2
    relative = (sample(UniformQuantizer(1), x, draws) - x).pow(2).sum(1) / x.pow(2).sum()
    assert torch.equal(relative, torch.full((N,), (D - 2) / 2, dtype=torch.float64))
    assert UniformQuantizer(1).omega(D) == D / 2


def test_qsgd_variance_is_the_rounding_variance(draws):
    """E|Q(x) - x|^2 = (|x|/s)^2 sum_j f_j (1 - f_j), f_j the fraction of s|x_j|/|x|."""
    x, s = VECTORS["normal"], 3
    fraction = (s * x.abs() / x.norm()) % 1
    exact = (x.norm() / s) ** 2 * (fraction * (1 - fraction)).sum()
    error = (sample(QSGD(s), x, draws) - x).pow(2).sum(1)
    assert abs(error.mean() - exact) <= SIGMAS * error.std() / sqrt(N)


CONTRACTIVE = [
    TopK(0.25),
    TopK(1),
    BlockTopK(5, 2),
    RandK(0.25, scaled=False),
    SignNorm(),
    Bernoulli(0.4, TopK(3)),
    Scaled(RandK(0.25)),
    Scaled(QSGD(1)),
    TopKQSGD(0.5, 2),
    TopKQSGD(0.5, 4, scaled=False),
    TopK(0.5) | Natural(),
    TopK(0.5) | SignNorm(),
    Natural(),
    RandK(8),
    Bucketed(TopK(2), 5),
    PerTensor(TopK(0.5)).for_layers([(9,), (3,)]),
]


@pytest.mark.parametrize("c", CONTRACTIVE, ids=repr)
@pytest.mark.parametrize("name", VECTORS)
def test_contractive_compressors_keep_alpha_of_the_energy(c, name, draws):
    x = VECTORS[name]
    relative = (sample(c, x, draws) - x).pow(2).sum(1) / x.pow(2).sum()
    slack = SIGMAS * relative.std() / sqrt(N)
    assert relative.mean() <= 1 - c.alpha(D) + slack + 1e-12


@pytest.mark.parametrize("c", [TopK(3), TopK(0.5), BlockTopK(4, 1), BlockTopK(6, 3), TopK(2, index="enum")], ids=repr)
def test_constant_magnitudes_attain_the_alpha_of_topk(c):
    x = torch.tensor([1.0, -1.0] * 6, dtype=torch.float64)
    error = (c(x).dense() - x).pow(2).sum() / x.pow(2).sum()
    assert float(error) == pytest.approx(1 - c.alpha(D), abs=1e-15)


def test_signnorm_alpha_is_attained_in_the_limit_of_one_hot_vectors():
    x = VECTORS["one-hot"]
    realised = 1 - (SignNorm()(x).dense() - x).pow(2).sum() / x.pow(2).sum()
    assert float(realised) == pytest.approx(SignNorm().alpha(D), abs=1e-15)


def test_scaling_an_unbiased_compressor_gives_one_over_one_plus_omega():
    for c in (RandK(3), QSGD(2), Natural(), PermK(n=4)):
        assert Scaled(c).alpha(D) == 1 / (1 + c.omega(D)) and Scaled(c).omega(D) is None


def test_unscaled_topk_qsgd_needs_w_below_one():
    k, d = 16, 100
    assert TopKQSGD(k, 2, scaled=False).alpha(d) is None  # w = min(16/4, 4/2) = 2
    assert TopKQSGD(k, 8, scaled=False).alpha(d) == pytest.approx(k / d * (1 - 16 / 64))
    assert TopKQSGD(k, 2).alpha(d) == pytest.approx(k / d / 3)


def test_composition_multiplies_one_plus_omega():
    assert 1 + (RandK(0.1) | Natural()).omega(100) == pytest.approx(10 * 9 / 8)
    assert 1 + Bernoulli(0.25, Natural(), scaled=True).omega(100) == pytest.approx(4 * 9 / 8)
    assert Bernoulli(0.25, TopK(10)).alpha(100) == pytest.approx(0.025)
    assert (RandK(0.1) | SignNorm()).alpha(100) is None  # a scaled subset before a biased compressor: no such constant


def test_bucketing_bounds_omega_by_the_bucket():
    assert QSGD(127).omega(10**6) == pytest.approx(7.874, abs=1e-3)
    assert Bucketed(QSGD(127), 512).omega(10**6) == pytest.approx(512 / 127**2)
    assert Bucketed(QSGD(127), 512).bits(10**6) == 1954 * 32 + 8 * 10**6  # ceil(d/512) norms


def test_uniform_quantiser_sends_constant_vectors_exactly(draws):
    x = torch.full((3, 9), 0.1)
    assert torch.equal(UniformQuantizer(2)(x, draws(3)).dense(), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_powers_of_two_pass_natural_unchanged(dtype, draws):
    x = torch.tensor([[2.0**-126, -(2.0**-20), 1.0, -2.0, 2.0**127, 0.0]], dtype=dtype)
    assert torch.equal(Natural()(x, draws(1)).dense(), x)


def test_homogeneous_compressors_commute_with_positive_factors(normals, draws):
    x, t = normals(4, 16), 3.7
    for c in [*CONTRACTIVE, *UNBIASED, BlockTopK(4), LinfDithering(3)]:
        if not c.homogeneous or isinstance(c, PerTensor):
            continue
        a, b = c(t * x, draws(4)).dense(), t * c(x, draws(4)).dense()
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12, msg=repr(c))
    assert not Natural().homogeneous and not (TopK(2) | Natural()).homogeneous
