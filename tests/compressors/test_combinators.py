"""Chains and wrappers: what they refuse, and what they equal."""

from __future__ import annotations

import pytest
import torch

from octolab.compressors import (
    QSGD,
    Bernoulli,
    Bucketed,
    Chain,
    Identity,
    LinfDithering,
    Natural,
    NaturalDithering,
    PermK,
    PerTensor,
    RandK,
    RankR,
    Scaled,
    SignNorm,
    TopK,
    UniformQuantizer,
)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Scaled(TopK(1)), "biased; give an unbiased one"),
        (lambda: Scaled(SignNorm()), "biased"),
        (lambda: Bernoulli(0), r"p=0: give a number in \(0, 1\]"),
        (lambda: Bernoulli(1.2), "p=1.2"),
        (lambda: Bernoulli(0.5, TopK(1), scaled=True), "needs an unbiased compressor"),
        (lambda: QSGD(2) | TopK(1), "keeps no coordinates"),
        (lambda: TopK(1) | RankR(1), "a compressor of matrices"),
        (lambda: Bucketed(RankR(1)), "one of matrices"),
        (lambda: PerTensor(RankR(1)), "one of matrices"),
        (lambda: UniformQuantizer(0), r"bits_per_entry=0: give a number in \[1, 16\], a whole number"),
        (lambda: UniformQuantizer(17), "bits_per_entry=17"),
        (lambda: NaturalDithering(0), "levels=0"),
        (lambda: LinfDithering(0), "LinfDithering: levels=0"),
        (lambda: (PermK() | Natural())(torch.ones(2, 5)), "use a cohort whose size divides d"),
    ],
)
def test_misuse_gets_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_identity_first_changes_nothing(draws, normals):
    x = normals(3, 9)
    assert torch.equal((Identity() | QSGD(3))(x, draws(3)).dense(), QSGD(3)(x, draws(3)).dense())


def test_chains_associate():
    assert (TopK(0.5) | RandK(0.5)) | Natural() == TopK(0.5) | (RandK(0.5) | Natural())
    assert isinstance(TopK(0.5) | Natural(), Chain)


def test_scaled_divides_by_one_plus_omega(draws, normals):
    x = normals(3, 10)
    scaled, plain = Scaled(RandK(2))(x, draws(3)), RandK(2, scaled=False)(x, draws(3))
    torch.testing.assert_close(scaled.dense(), plain.dense(), rtol=1e-14, atol=0)
    assert torch.equal(scaled.bits, plain.bits)


def test_bernoulli_sends_all_or_nothing(given, normals):
    x = normals(3, 4)
    p = Bernoulli(0.5)(x, given(3, uniforms=torch.tensor([[0.49], [0.5], [0.0]])))
    assert p.bits.tolist() == [128, 0, 128] and p.encode()[1] == b""
    assert torch.equal(p.dense(), x * torch.tensor([[1.0], [0.0], [1.0]]))
    assert Bernoulli(0.25).expected_bits(4) == 32 and Bernoulli(0.25).bits(4) is None


def test_a_bucket_is_compressed_as_if_it_were_alone(normals):
    x = normals(3, 10)
    y = Bucketed(SignNorm(), 4)(x).dense()
    assert torch.equal(y[:, 4:8], SignNorm()(x[:, 4:8].contiguous()).dense())
    assert torch.equal(y[:, 8:], SignNorm()(x[:, 8:].contiguous()).dense())


def test_wrappers_bind_what_they_hold_to_the_layers():
    for c in (Bernoulli(0.5, PerTensor(TopK(0.5))), Scaled(PerTensor(RandK(0.5)))):
        assert c.for_layers([(3,), (2, 2)]).compressor.sizes == (3, 4)
    assert TopK(0.5).for_layers([(3,)]) == TopK(0.5)


def test_ternary_gradients_are_one_level_of_linf_dithering(draws, normals):
    x = normals(2, 8)
    y = LinfDithering()(x, draws(2)).dense()
    top = x.abs().amax(1, keepdim=True)
    assert torch.isin((y / top).flatten(), torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)).all()
    assert torch.equal(y, QSGD(1, norm="inf")(x, draws(2)).dense())
