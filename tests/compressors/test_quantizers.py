"""Quantisers entry by entry, and the Elias lengths of the literature."""

from __future__ import annotations

from math import floor, log2

import pytest
import torch

from octolab.compressors import QSGD, Natural, NaturalDithering, SignNorm, UniformQuantizer


def gamma(v: int) -> int:
    return 2 * floor(log2(v)) + 1


def elias_by_hand(codes: list[int], coding: str) -> int:
    if coding == "elias-dense":
        return 32 + sum(gamma(abs(c) + 1) + (c != 0) for c in codes)
    places = [j for j, c in enumerate(codes) if c]
    gaps = [j - i for i, j in zip([-1, *places], places, strict=False)]
    return (
        32
        + gamma(len(places) + 1)
        + sum(gamma(g) + 1 + gamma(abs(codes[j])) for g, j in zip(gaps, places, strict=True))
    )


@pytest.mark.parametrize("coding", ["elias-dense", "elias-sparse"])
@pytest.mark.parametrize("levels", [1, 2, 7, 1000])
def test_elias_bits_are_the_formula_on_the_codes(coding, levels, draws, normals):
    p = QSGD(levels, coding=coding)(normals(6, 50), draws(6))
    assert p.bits.tolist() == [elias_by_hand(row, coding) for row in p.codes.tolist()]
    assert len({int(b) for b in p.bits}) > 1  # actual bits, not expected ones


def test_measured_costs_of_gaussian_vectors(draws, normals):
    """Specification, d = 10^4: s = 1: ~0.11 bit an entry (76 nonzeros); s = 100: 2.7, variance 0.17."""
    d, m = 10_000, 20
    x = normals(m, d)
    one = QSGD(1, coding="elias-sparse")(x, draws(m))
    nonzeros = float(x.abs().sum(1).div(x.norm(dim=1)).mean())  # E nnz = |x|_1/|x|_2, about sqrt(2 d/pi) = 79.8
    assert float((one.codes != 0).sum(1).double().mean()) == pytest.approx(nonzeros, abs=5 * (nonzeros / m) ** 0.5)
    assert 0.10 < float(one.bits.double().mean()) / d < 0.13
    many = QSGD(100, coding="elias-sparse")(x, draws(m))
    assert float(many.bits.double().mean()) / d == pytest.approx(2.7, abs=0.05)
    error = (many.dense() - x).pow(2).sum(1) / x.pow(2).sum(1)
    assert float(error.mean()) == pytest.approx(0.17, abs=0.005)


def test_qsgd_by_hand(given):
    x = torch.tensor([[3.0, -4.0, 0.0]])  # norm 5; two levels: 1.2 and 1.6
    y = QSGD(2)(x, given(1, uniforms=torch.tensor([[0.79, 0.39, 0.99]])))
    assert y.dense().tolist() == [[2.5, -2.5, 0.0]]
    y = QSGD(2)(x, given(1, uniforms=torch.tensor([[0.81, 0.41, 0.99]])))
    assert y.dense().tolist() == [[5.0, -5.0, 0.0]]
    assert y.bits.tolist() == [32 + 3 * 3]


def test_bits_an_entry():
    assert QSGD.with_bits(8) == QSGD(127) and QSGD(127).bits(100) == 32 + 800
    assert QSGD.with_bits(2).bits(100) == 32 + 200
    assert UniformQuantizer(4).bits(100) == 64 + 400
    assert SignNorm().bits(100) == 132 and Natural().bits(100) == 900
    assert NaturalDithering(3).bits(100) == 32 + 300
    assert QSGD(3, coding="elias-dense").bits(100) is None


def test_natural_by_hand(given):
    x = torch.tensor([[1.25, -3.0, 0.0, 2.0]])  # up with probability 1/4, 1/2, -, 0
    low = Natural()(x, given(1, uniforms=torch.tensor([[0.25, 0.5, 0.0, 0.0]])))
    high = Natural()(x, given(1, uniforms=torch.tensor([[0.24, 0.49, 0.0, 0.0]])))
    assert low.dense().tolist() == [[1.0, -2.0, 0.0, 2.0]]
    assert high.dense().tolist() == [[2.0, -4.0, 0.0, 2.0]]


def test_natural_below_float32s_exponents_is_still_unbiased(given):
    tiny = torch.full((1, 4), 2.0**-128, dtype=torch.float64)  # a quarter of the smallest power
    y = Natural()(tiny, given(1, uniforms=torch.tensor([[0.0, 0.24, 0.25, 0.9]], dtype=torch.float64)))
    assert y.dense().tolist() == [[2.0**-126, 2.0**-126, 0.0, 0.0]]


def test_natural_dithering_levels_are_halved(draws, normals):
    x = normals(50, 30)
    y = NaturalDithering(3)(x, draws(50)).dense() / x.norm(dim=1, keepdim=True)
    # the rows' norms are summed in another order here, so compare to rounding
    near = (y.abs().unsqueeze(-1) - torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)).abs().amin(-1)
    assert near.max() < 1e-14


def test_uniform_quantiser_by_hand(given):
    x = torch.tensor([[0.0, 1.0, 3.0]])  # 2 bits: the grid is 0, 1, 2, 3
    assert UniformQuantizer(2)(x, given(1, uniforms=torch.zeros(1, 3))).dense().tolist() == [[0.0, 1.0, 3.0]]
    x = torch.tensor([[0.0, 1.25, 3.0]])
    assert UniformQuantizer(2)(x, given(1, uniforms=torch.full((1, 3), 0.8))).dense().tolist() == [[0.0, 2.0, 3.0]]
