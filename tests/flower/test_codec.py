"""Bytes on the wire: payloads are what the ledger charges, arguments and memory come back as they went."""

import math

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.federation import Each
from octolab.flower.codec import Down, pack, pack_rows, read_down, unpack, unpack_rows
from octolab.payloads import Bundle, Dense, Gated, LowRank, Scalars

C = ol.compressors


def messages() -> dict:
    """One client's message of every kind, stacked."""
    x = torch.randn(1, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draws = ol.Randomness(0).draws(1)
    made = {
        "dense": Dense(x),
        "matrix": Dense(x.view(1, 5, 8), axes=2),
        "real": Scalars(x[:, 0]),
        "count": Scalars(torch.tensor([7])),
        "coin": Scalars(torch.tensor([True])),
        "topk": C.TopK(3)(x, draws),
        "randk": C.RandK(4)(x, draws),
        "qsgd": C.QSGD(4)(x, draws),
        "natural": C.Natural()(x, draws),
        "silent": Gated(Dense(x), torch.tensor([False])),
        "low rank": LowRank(x.view(1, 8, 5)[:, :, :1], None, x[:, :1]),
        "bundle": Bundle(Dense(torch.cat([x, x])), torch.tensor([0, 0]), 1),
        "rank": C.RankR(1)(torch.eye(6, dtype=torch.float64)[None] + 0.1, draws),
    }
    return made


@pytest.mark.parametrize("name", list(messages()))
def test_in_float32_the_bytes_are_the_payloads_own_encoding(name):
    payload = messages()[name]
    data, meta = pack(payload, "float32")
    assert data == payload[0].encode()
    assert len(data) == math.ceil(int(payload.bits[0]) / 8)
    back = unpack(data, meta, "float32")
    assert back.dense().dtype == payload.dense().dtype
    assert torch.allclose(back.dense().double(), payload.dense().double(), rtol=1e-6, atol=1e-30)
    assert back.bits.tolist() == payload.bits.tolist()


@pytest.mark.parametrize("name", list(messages()))
def test_exactly_means_the_same_object_bit_for_bit(name):
    payload = messages()[name]
    back = unpack(*pack(payload, "exact"), "exact")
    assert type(back) is type(payload)
    assert torch.equal(back.dense(), payload.dense())
    assert back.bits.tolist() == payload.bits.tolist()
    assert torch.equal(back.sum(), payload.sum())


@pytest.mark.parametrize("wire", ["float32", "exact"])
def test_arguments_come_back_as_they_went(wire):
    sent = (
        torch.arange(4.0, dtype=torch.float64),
        torch.tensor([[3, -5]]),
        torch.tensor([True, False]),
        None,
        (True, 0.25, 7),
        [np.float64(2.0), np.int64(3)],
        C.TopK(2)(torch.arange(6.0)),
        torch.zeros(0),
    )
    down = Down(sent, wire)
    x, whole, coins, nothing, trio, pair, sparse, empty = read_down(down.tree, down.of(0), wire)
    assert torch.equal(x, sent[0]) and x.dtype == torch.float64
    assert torch.equal(whole, sent[1]) and torch.equal(coins, sent[2]) and nothing is None
    assert trio == (True, 0.25, 7) and pair == [2.0, 3] and empty.shape == (0,)
    assert torch.equal(sparse.dense(), sent[6].dense()) and not sparse.stacked


def test_in_float32_what_goes_down_is_as_long_as_it_is_charged():
    fed = ol.Federation(ol.problems.quadratics(n=3, d=4, L=10, mu=1))
    for sent in [(torch.zeros(9),), (0.5, 3), (C.TopK(1)(torch.ones(100)),), (torch.zeros(2), True)]:
        down = Down(sent, "float32")
        parts = [fed.size_of(value) for value in sent]
        assert [len(b) for b in down.of(0)] == [math.ceil(bits / 8) for bits in parts]


def test_each_client_gets_its_own_row():
    values = torch.arange(6.0).view(3, 2)
    down = Down((Each(values), torch.ones(1)), "float32")
    for slot in range(3):
        own, shared = read_down(down.tree, down.of(slot), "float32")
        assert torch.equal(own, values[slot : slot + 1]) and torch.equal(shared, torch.ones(1))


def test_whole_numbers_that_do_not_fit_get_a_sentence():
    with pytest.raises(ValueError, match="32 bits"):
        Down((2**40,), "float32")
    with pytest.raises(ValueError, match="32 bits"):
        Down((torch.tensor([2**40]),), "float32")
    with pytest.raises(TypeError, match="Cannot send a str"):
        Down(("x",), "float32")


def test_a_message_that_was_cut_short_is_noticed():
    data, meta = pack(Dense(torch.ones(1, 4)), "float32")
    with pytest.raises(ValueError, match="12 bytes came where 16"):
        unpack(data[:-4], meta, "float32")


def test_memory_survives_its_bytes():
    x = torch.randn(1, 3, dtype=torch.float64)
    rows = {"g": x, "same": x, "count": torch.tensor([[2]]), "wide": torch.ones(1).expand(1, 1)}
    back = unpack_rows(pack_rows(rows))
    assert all(torch.equal(back[k], v) and back[k].dtype == v.dtype for k, v in rows.items())
    assert unpack_rows(pack_rows({})) == {}
