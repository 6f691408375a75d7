"""Messages: exact bits, real bytes, arithmetic, rows."""

from __future__ import annotations

import json
from itertools import combinations
from math import ceil, comb, log2

import numpy as np
import pytest
import torch

from octolab.payloads import (
    Blocks,
    Buckets,
    Bundle,
    Dense,
    Gated,
    Grid,
    LowRank,
    Masked,
    Payload,
    Quantized,
    Rescaled,
    Scalars,
    Sparse,
    Symmetric,
    as_payload,
    index_bits,
    ordered_sum,
    upper,
)
from octolab.payloads.bitstream import BitReader, enum_bits, pack, subset_rank, subset_unrank

X = torch.tensor([[1.5, 0.0, -2.0, 0.25, 7.0, 0.1], [0.0, -1.0, 0.5, 3.0, 0.0, -0.3]], dtype=torch.float32)
I = torch.tensor([[4, 0], [3, 1]])
SPARSE = Sparse(X.gather(1, I), I, 6)
PAYLOADS = [
    Dense(X),
    Dense(torch.stack([X, 2 * X, -X]), axes=2),
    Masked(X, torch.tensor([True, False, True, False, False, True])),
    Masked(X, X > 0.2),
    Scalars(torch.tensor([0.5, -3.25])),
    Scalars(torch.tensor([True, False, True])),
    Scalars(torch.tensor([3, -70000])),
    *(Sparse(X.gather(1, I), I, 6, index) for index in ("auto", "list", "bitmap", "enum", "none")),
    Sparse(X.gather(1, I), torch.tensor([[1, 4], [0, 5]]), 6, "list", blocks=(3, 1)),
    Sparse(torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([[1, 4], [2, 0]]), 6, count=torch.tensor([2, 1])),
    Sparse(
        torch.tensor([[1.0, 2.0], [0.0, 0.0]]),
        torch.tensor([[1, 4], [0, 0]]),
        6,
        "none",
        count=torch.tensor([2, 0]),
    ),
    Sparse(Quantized(torch.tensor([[1, -1], [0, 1]]), torch.ones(2, 1), Grid("linear", 1)), I, 6, "list"),
    Quantized(torch.tensor([[0, 1, 3], [3, 0, 0]]), torch.tensor([[-1.0, 2.0], [0.5, 0.5]]), Grid("affine", 3)),
    Quantized(torch.tensor([[0, -127, 130], [1, 254, -1]]), torch.zeros(2, 0), Grid("natural")),
    Quantized(torch.tensor([[0, -2, 1], [0, 0, 0]]), torch.tensor([[2.0], [0.0]]), Grid("dyadic", 2), "elias-sparse"),
    LowRank(X.reshape(2, 3, 2), None, torch.tensor([[1.0, -2.0], [0.5, 3.0]])),
    LowRank(X.reshape(2, 3, 2), X[:, :4].reshape(2, 2, 2)),
    Symmetric(Dense(X)),
    Symmetric(SPARSE),
    Rescaled(SPARSE, 0.5),
    Gated(SPARSE, torch.tensor([False, True])),
    Gated(SPARSE, torch.tensor([False, False])),
    Blocks((SPARSE, Dense(X), Gated(Dense(X), torch.tensor([True, False])))),
    Buckets(Dense(X.reshape(4, 3)), 2),
    Bundle(Dense(torch.cat([X, X])), torch.tensor([0, 2, 2, 0]), 3),
    Bundle(SPARSE, torch.tensor([1, 0]), 2),
]
everyone = pytest.mark.parametrize("p", PAYLOADS, ids=lambda p: type(p).__name__)


@everyone
def test_bytes_are_as_long_as_the_bits_and_decode_to_the_message(p):
    assert [len(b) for b in p.encode()] == [ceil(b / 8) for b in p.bits.tolist()]
    back = Payload.decode(p.encode(), json.loads(json.dumps(p.meta)))
    assert torch.equal(back.dense(), p.dense()) and back.dense().dtype == p.dense().dtype
    assert torch.equal(back.bits, p.bits)


@everyone
def test_a_row_is_the_message_of_that_client(p):
    assert len(p) == p.shape[0] == p.dense().shape[0] and tuple(p.dense().shape) == p.shape
    for i in range(len(p)):
        one = p[i]
        assert not one.stacked and torch.equal(one.dense(), p.dense()[i])
        assert isinstance(one.bits, int) and one.bits == int(p.bits[i])
        assert len(one.encode()) == ceil(one.bits / 8)
        assert torch.equal(one.stack().dense(), p.dense()[i : i + 1])
        assert torch.equal(Payload.decode(one.encode(), one.meta).dense(), one.dense())
    assert torch.equal(p[-1].dense(), p.dense()[-1])
    with pytest.raises(IndexError, match="does not exist"):
        p[len(p)]


@everyone
def test_select_and_cat_keep_rows_in_order(p):
    rows = torch.tensor([1, 0, 1])
    assert torch.equal(p.select(rows).dense(), p.dense()[rows])
    assert torch.equal(p.select(rows).bits, p.bits[rows])
    joined = type(p).cat([p[:1], p[1:]])
    assert torch.equal(joined.dense(), p.dense()) and torch.equal(joined.bits, p.bits)


@everyone
def test_sum_adds_the_rows(p):
    w = torch.linspace(-1, 2, len(p))
    dense = p.dense().to(torch.float32)
    torch.testing.assert_close(p.sum().to(torch.float32), dense.sum(0))
    torch.testing.assert_close(p.sum(w).float(), (dense * w.reshape(-1, *[1] * (dense.dim() - 1))).sum(0))
    with pytest.raises(ValueError, match="one weight per message"):
        p.sum(torch.ones(len(p) + 1))


@everyone
def test_paper_bits_leave_out_positions_and_nothing_else(p):
    assert torch.equal(p.paper_bits, p.bits - p.index_bits)
    if isinstance(p, (Dense, Scalars, Quantized, LowRank, Masked)):
        assert not p.index_bits.any()


def test_arithmetic_with_tensors_gives_tensors():
    for p in (SPARSE, Dense(X), Rescaled(SPARSE, 2.0)):
        t, dense = torch.arange(12.0).reshape(2, 6), p.dense()
        assert torch.equal(t + p, t + dense) and torch.equal(p + t, t + dense)
        assert torch.equal(t - p, t - dense) and torch.equal(p - t, dense - t)
        assert torch.equal(2 * p, 2 * dense) and torch.equal(p * 0.5, dense / 2) and torch.equal(p / 2, dense / 2)
        assert torch.equal(p + p, 2 * dense) and torch.equal(p - p, 0 * dense)
        assert torch.equal(torch.ones(6) + p, 1 + dense)  # a shared vector meets every row
        memory = t.clone()
        before = memory
        memory += p
        assert torch.equal(memory, t + dense)
        memory -= p
        assert torch.equal(memory, t) and torch.equal(before, t)  # the old tensor is left as it was


def test_mixed_precision_is_promoted_as_tensors_are():
    t = torch.zeros(2, 6, dtype=torch.float64)
    assert (t + SPARSE).dtype == torch.float64 and torch.equal(t + SPARSE, t + SPARSE.dense())


def test_sums_do_not_depend_on_the_number_of_threads():
    x = torch.randn(37, 5003, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    try:
        totals = []
        for n in (1, 2, 4):
            torch.set_num_threads(n)
            totals.append(ordered_sum(x, torch.linspace(0, 1, 37)))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(totals[0], totals[1]) and torch.equal(totals[0], totals[2])
    by_hand = torch.zeros(5003)
    for row, w in zip(x, torch.linspace(0, 1, 37), strict=True):
        by_hand = by_hand + row * w
    assert torch.equal(totals[0], by_hand)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(9,), (9, 1), (0, 4), (3, 0), (40, 3), (7, 2, 3), (300, 70)])
def test_sums_run_in_row_order_whatever_the_layout(shape, dtype):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
    by_hand = torch.zeros(shape[1:], dtype=dtype)
    for row in x:
        by_hand = by_hand + row
    assert torch.equal(ordered_sum(x), by_hand)
    assert torch.equal(ordered_sum(torch.stack([x, x], -1)[..., 0]), by_hand)  # rows that lie apart
    if x.dim() == 2:
        assert torch.equal(ordered_sum(x.T.contiguous().T), by_hand)


def test_adding_quantised_messages_block_by_block_changes_nothing():
    m, d, draw = 90, 2003, torch.Generator().manual_seed(2)  # three blocks
    codes, weights = torch.randint(-9, 10, (m, d), generator=draw, dtype=torch.int32), torch.rand(m, generator=draw)
    for kind, levels, scales in (
        ("linear", 9, 1),
        ("dyadic", 9, 1),
        ("natural", 1, 0),
        ("affine", 18, 2),
        ("sign", 1, 1),
    ):
        own = codes.abs() % 2 if kind == "sign" else codes.abs() if kind == "affine" else codes
        p = Quantized(own, torch.rand(m, scales, generator=draw), Grid(kind, levels))
        assert torch.equal(p.sum(), ordered_sum(p.dense()))
        assert torch.equal(p.sum(weights), ordered_sum(p.dense(), weights))


def test_a_bundle_adds_a_clients_messages_and_their_bits():
    bundle = Bundle(Dense(torch.ones(3, 2)), torch.tensor([0, 0, 2]), m=4)
    assert bundle.dense().tolist() == [[2.0, 2.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    assert bundle.bits.tolist() == [128, 0, 64, 0]
    assert bundle[1].encode() == b"" and bundle[0].bits == 128


# -- positions -----------------------------------------------------------------------------------------------
def test_index_costs():
    assert index_bits("list", 100, 3) == 21 and index_bits("bitmap", 100, 3) == 100
    assert index_bits("auto", 100, 3) == 21 and index_bits("auto", 100, 50) == 100
    assert index_bits("enum", 100, 3) == ceil(log2(comb(100, 3)))
    assert index_bits("none", 100, 3) == 0
    assert all(index_bits(code, 5, 5) == 0 for code in ("auto", "list", "bitmap", "enum"))
    assert index_bits("list", 1, 1) == 0


@pytest.mark.parametrize(("d", "k"), [(1, 1), (6, 0), (6, 1), (6, 3), (6, 6), (9, 4)])
def test_subsets_are_numbered_one_to_one(d, k):
    ranks = [subset_rank(np.array(c, dtype=np.int64), d) for c in combinations(range(d), k)]
    assert sorted(ranks) == list(range(comb(d, k)))
    for c, rank in zip(combinations(range(d), k), ranks, strict=True):
        assert tuple(subset_unrank(rank, d, k)) == c
    assert max(ranks).bit_length() <= enum_bits(d, k)


def test_large_subsets_travel_as_one_big_number():
    d, k = 2000, 150
    indices = torch.sort(torch.randperm(d, generator=torch.Generator().manual_seed(3))[:k]).values
    p = Sparse(torch.arange(1.0, k + 1), indices, d, "enum")
    assert p.bits == 32 * k + enum_bits(d, k) and torch.equal(Payload.decode(p.encode(), p.meta).dense(), p.dense())


def test_unsorted_positions_are_sorted_for_the_wire():
    p = Sparse(torch.tensor([1.0, 2.0]), torch.tensor([5, 2]), 6, "bitmap")
    assert torch.equal(Payload.decode(p.encode(), p.meta).dense(), p.dense())


def test_fields_of_any_width_are_read_back():
    values, widths = np.array([5, 0, 1, 2**40 + 3, 1]), np.array([3, 0, 1, 41, 64])
    bits = pack(values, widths)
    reader = BitReader(np.packbits(bits).tobytes())
    assert [int(reader.big(int(w))) for w in widths] == values.tolist()


def test_a_short_message_is_refused():
    p = Dense(torch.ones(4))
    with pytest.raises(ValueError, match="cut short"):
        Payload.decode(p.encode()[:-1], p.meta)
    with pytest.raises(ValueError, match="payload kind 'Nope'"):
        Payload.decode(b"", {"kind": "Nope"})


# -- kinds ---------------------------------------------------------------------------------------------------
def test_scalars_cost_32_bits_and_bools_one():
    assert Scalars(torch.tensor([1.0, 2.0])).bits.tolist() == [32, 32]
    assert Scalars(torch.tensor([True, False])).bits.tolist() == [1, 1]
    assert Scalars(torch.tensor(2.5)).bits == 32
    assert Scalars(torch.tensor([True, True, False])).sum() == 2
    with pytest.raises(ValueError, match="does not fit in 32 bits"):
        Scalars(torch.tensor(2**40)).encode()


def test_reals_cost_32_bits_whatever_the_simulation_uses():
    assert Dense(X.double()).bits.tolist() == Dense(X).bits.tolist() == [192, 192]
    x = torch.tensor([1 / 3], dtype=torch.float64)
    back = Payload.decode(Dense(x).encode(), Dense(x).meta).dense()
    assert back.dtype == torch.float64 and torch.equal(back, x.float().double())


def test_symmetric_matrices_cost_half():
    m = torch.tensor([[1.0, 2.0], [2.0, 5.0]])
    p = Symmetric(Dense(upper(m)))
    assert torch.equal(p.dense(), m) and p.bits == 96


def test_as_payload():
    assert as_payload(SPARSE) is SPARSE
    assert as_payload(torch.ones(3)).bits == 96 and not as_payload(torch.ones(3)).stacked
    assert len(as_payload(torch.ones(2, 3))) == 2 and as_payload(torch.ones(2, 3, 3)).order == 2
    assert as_payload(torch.tensor(1.0)).bits == 32
    with pytest.raises(TypeError, match="cannot be sent: give a tensor or a payload, no str"):
        as_payload("x")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Sparse(torch.ones(2), torch.tensor([1]), 5), "one index per value"),
        (lambda: Sparse(torch.ones(2), torch.tensor([0, 1], dtype=torch.int32), 5), "give int64"),
        (lambda: Sparse(torch.ones(3), torch.tensor([0, 1, 2]), 2), "at most d"),
        (lambda: Sparse(torch.ones(1), torch.tensor([0]), 2, "zip"), "choose one of auto"),
        (lambda: Masked(torch.ones(3), torch.ones(3)), "bool tensor"),
        (lambda: Quantized(torch.tensor([1]), torch.ones(1), Grid("linear"), "zip"), "coding is 'zip'"),
        (
            lambda: Quantized(torch.tensor([1]), torch.ones(1), Grid("sign"), "elias-dense"),
            "needs signed levels",
        ),
        (lambda: Quantized(torch.tensor([1]), torch.ones(1), Grid("cubic")), "grid is 'cubic'"),
        (lambda: Symmetric(Dense(torch.ones(4))), r"no d\(d\+1\)/2"),
        (lambda: Scalars(torch.ones(2, 2)), "use Dense for vectors"),
        (lambda: Bundle(Dense(torch.ones(2, 2)), torch.tensor([0]), 1), "one client per row"),
        (lambda: Bundle(Dense(torch.ones(1, 2)), torch.tensor([3]), 2), r"outside 0..1"),
        (lambda: Payload.cat([]), "at least one"),
        (lambda: Payload.cat([Dense(X), SPARSE]), "one kind, given Dense, Sparse"),
    ],
)
def test_bad_payloads_get_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()
