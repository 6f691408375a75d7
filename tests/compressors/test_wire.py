"""Every compressor, many lengths: bits are the bytes, the bytes are the message, stacked equals single."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from octolab.compressors import (
    QSGD,
    Bernoulli,
    BlockTopK,
    Bucketed,
    Compressor,
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
    catalog,
    from_spec,
)
from octolab.payloads import Payload
from octolab.randomness import Draws, Randomness

COMPRESSORS = [
    Identity(),
    TopK(0.1),
    TopK(0.1, index="list"),
    TopK(0.1, index="bitmap"),
    TopK(0.3, index="enum"),
    TopK(1, index="none"),
    TopK(1.0),
    BlockTopK(4),
    BlockTopK(8, 3),
    RandK(0.2),
    RandK(1, scaled=False),
    RandK(1.0),
    PermK(),
    QSGD(4),
    QSGD(1, coding="elias-sparse"),
    QSGD(100, coding="elias-dense"),
    LinfDithering(),
    LinfDithering(3, coding="elias-sparse"),
    UniformQuantizer(1),
    UniformQuantizer(16),
    Natural(),
    NaturalDithering(4),
    NaturalDithering(20, coding="elias-dense"),
    SignNorm(),
    Bernoulli(0.5),
    Bernoulli(0.5, TopK(0.2, index="enum")),
    Bernoulli(0.5, RandK(0.2), scaled=True),
    TopKQSGD(0.1, 7),
    TopKQSGD(0.1, 7, scaled=False, coding="elias-sparse"),
    BlockTopK(8, 2) | Natural(),
    RandK(0.2) | Natural(),
    TopK(0.5) | RandK(0.5) | Natural(),
    Bucketed(QSGD(7), 8),
    Bucketed(RandK(0.25), 8),
    Bucketed(TopK(3), 8),
    Bucketed(Bernoulli(0.5, Natural()), 4),
    Bernoulli(0.5, Bucketed(QSGD(3), 4)),
    PerTensor(TopK(2)),
    Scaled(QSGD(3)),
]
MAY_OMIT = ("Bernoulli", "RandK", "PermK")  # may not send a given entry at all
everyone = pytest.mark.parametrize("c", COMPRESSORS, ids=repr)
lengths = pytest.mark.parametrize("d", [1, 2, 8, 13, 100])


def bound(c: Compressor, d: int) -> Compressor:
    return c.for_layers([(d,)] if d < 3 else [(1,), (d // 2,), (1, d - 1 - d // 2)])


@everyone
@lengths
def test_bytes_are_as_long_as_the_bits_say_and_give_the_message_back(c, d, draws, normals):
    c, m = bound(c, d), 5
    x = normals(m, d).float()
    x[1] = 0.0
    x[2] = -1.5
    p = c(x, draws(m))
    dense = p.dense()
    assert dense.shape == x.shape and dense.dtype == x.dtype
    assert [8 * len(b) for b in p.encode()] == [-(-int(b) // 8) * 8 for b in p.bits]
    back = Payload.decode(p.encode(), json.loads(json.dumps(p.meta)))
    assert torch.equal(back.dense(), dense)  # float32 reals travel without loss
    assert torch.equal(back.bits, p.bits)


@everyone
@lengths
def test_declared_bits_are_the_messages_bits(c, d, draws, normals):
    c = bound(c, d)
    if c.bits(d) is not None:
        assert c(normals(4, d), draws(4)).bits.tolist() == [c.bits(d)] * 4


@everyone
@lengths
def test_float64_keeps_its_precision_here_and_travels_as_float32(c, d, draws, normals):
    c = bound(c, d)
    p = c(normals(3, d), draws(3))
    assert p.dense().dtype == torch.float64
    back = Payload.decode(p.encode(), p.meta).dense()
    # one rounding of each real, 2^-24 relative, and at most two of them (low and high) in an entry
    scale = p.dense().abs().amax(1, keepdim=True) + normals(3, d).abs().amax(1, keepdim=True)
    assert ((back - p.dense()).abs() <= 2**-21 * scale).all()


@everyone
def test_zero_gives_zero(c, draws):
    x = torch.zeros(3, 13)
    assert torch.equal(bound(c, 13)(x, draws(3)).dense(), x)


@everyone
@lengths
def test_stacked_equals_row_by_row_bit_for_bit(c, d, normals):
    c, m, x = bound(c, d), 6, normals(6, d).float()
    source = Randomness(3)
    p = c(x, source.draws(m))
    for i in range(m):
        alone = Draws(source, np.array([i]), 0, slots=np.array([i]), cohort_size=m)
        one = c(x[i], alone)
        assert torch.equal(one.dense(), p.dense()[i])
        assert one.bits == p[i].bits == int(p.bits[i])
        assert one.encode() == p[i].encode()


@everyone
def test_select_cat_and_sum_agree_with_the_dense_rows(c, draws, normals):
    c, x = bound(c, 13), normals(5, 13)
    p, w = c(x, draws(5)), torch.tensor([0.5, 0.0, 2.0, -1.0, 3.0], dtype=torch.float64)
    dense = p.dense()
    assert torch.equal(p.select(torch.tensor([4, 0])).dense(), dense[[4, 0]])
    assert torch.equal(p[torch.tensor([True, False, True, False, False])].dense(), dense[[0, 2]])
    joined = type(p).cat([p[:2], p[2:]])
    assert torch.equal(joined.dense(), dense) and torch.equal(joined.bits, p.bits)
    torch.testing.assert_close(p.sum(), dense.sum(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(p.sum(w), w @ dense, rtol=1e-12, atol=1e-12)
    t = normals(5, 13, seed=9)
    torch.testing.assert_close(t + p, t + dense, rtol=0, atol=1e-15)
    torch.testing.assert_close(t - p, t - dense, rtol=0, atol=1e-15)
    assert torch.equal(p - t, dense - t) and torch.equal(2 * p, 2 * dense) and torch.equal(-p, -dense)


@pytest.mark.parametrize("c", [c for c in COMPRESSORS if not isinstance(c, PermK)], ids=repr)
def test_an_empty_cohort_sends_nothing(c, draws):
    c = bound(c, 13)
    p = c(torch.zeros(0, 13), draws(0))
    assert len(p) == 0 and p.bits.shape == (0,) and torch.equal(p.sum(), torch.zeros(13))


@everyone
def test_spec_is_json_and_gives_an_equal_compressor(c):
    assert from_spec(json.loads(json.dumps(c.spec))) == c
    bound_one = bound(c, 13)
    assert from_spec(json.loads(json.dumps(bound_one.spec))) == bound_one


@pytest.mark.parametrize("c", [c for c in COMPRESSORS if not any(n in repr(c) for n in MAY_OMIT)], ids=repr)
def test_not_finite_inputs_stay_visible(c, draws):
    """A diverging run must be seen by the receiver: NaN never turns into an innocent number."""
    x = torch.ones(1, 13)
    x[0, 4] = torch.nan
    p = bound(c, 13)(x, draws(1))
    assert not torch.isfinite(p.dense()).all() and len(p.encode()[0]) == -(-int(p.bits) // 8)


def test_repeated_calls_without_draws_differ():
    x = torch.ones(100)
    assert not torch.equal(RandK(0.1)(x).dense(), RandK(0.1)(x).dense())


def test_draws_for_another_number_of_clients_are_refused(draws):
    with pytest.raises(ValueError, match="3 clients and 2 rows"):
        RandK(0.5)(torch.ones(2, 4), draws(3))


def test_catalogue_has_every_compressor_with_one_line():
    entries = list(catalog().itertuples())
    assert {"TopK", "RandK", "PermK", "QSGD", "Natural", "RankR", "Chain", "Identity"} <= {e.name for e in entries}
    assert all(e.summary and "\n" not in e.summary for e in entries)
    assert not any(e.name.startswith("_") or e.name in ("Compressor", "Sparsifier") for e in entries)


def test_repr_shows_only_what_differs():
    assert repr(TopK(0.05)) == "TopK(0.05)"
    assert repr(TopK(0.05, index="none")) == "TopK(0.05, index='none')"
    assert repr(RandK(3) | Natural()) == "RandK(3) | Natural()"
    assert TopK(0.05).spec == {"kind": "TopK", "k": 0.05}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"kind": "Top"}, "There is no compressor 'Top'. Did you mean TopK"),
        ({"k": 3}, "dict with a kind"),
        ({"kind": "TopK"}, "has the fields k, index"),
        ({"kind": "TopK", "k": 1, "q": 2}, "has the fields k, index; given k, q"),
    ],
)
def test_bad_specs_are_explained(spec, words):
    with pytest.raises(ValueError, match=words):
        from_spec(spec)
