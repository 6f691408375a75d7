"""TopK's selection and tie rule, PermK's joint identity by enumeration, the numbers of the literature."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from octolab.compressors import QSGD, BlockTopK, Bucketed, Natural, PermK, PerTensor, RandK, TopK, TopKQSGD
from octolab.compressors.selection import largest


def by_stable_sort(x, k):
    """The definition: the first k of a stable sort of -|x|, positions ascending."""
    return torch.sort(-x.abs(), dim=1, stable=True).indices[:, :k].sort(dim=1).values


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (7, 40), (300, 501)])
def test_selection_is_the_stable_sort_whatever_the_ties(shape, dtype, normals):
    x = normals(*shape)
    for values in (x, (3 * x).round(), torch.zeros(shape), torch.ones(shape), x.sign() * (x.abs() > 1)):
        for k in {1, 2, shape[1] // 3, shape[1] - 1, shape[1]} - {0}:
            if k <= shape[1]:
                values = values.to(dtype)
                assert torch.equal(largest(values, k), by_stable_sort(values, k))


def test_ties_that_balance_over_neighbouring_rows_are_seen():
    """A row with a tie too many and one with a NaN too few make the right total; each is settled alone."""
    x = torch.tensor([[1.0, 1.0, 1.0, 0.0], [torch.nan, 2.0, 1.0, 0.0]])
    assert largest(x, 2).tolist() == [[0, 1], [0, 1]]
    assert largest(x.flip(0), 2).tolist() == [[0, 1], [0, 1]]


def test_selection_of_views_does_not_depend_on_the_layout(normals):
    x = normals(40, 6).t()
    assert torch.equal(largest(x, 4), largest(x.contiguous(), 4))


def test_ties_go_to_the_lowest_index():
    assert TopK(2)(torch.tensor([1.0, -1.0, 1.0, -1.0] * 10)).indices.tolist() == [0, 1]
    assert BlockTopK(20, 1)(torch.ones(40)).indices.tolist() == [0, 20]


def test_a_share_is_rounded_and_at_least_one():
    assert TopK(0.05).kept(100) == 5 and TopK(0.001).kept(100) == 1 and RandK(0.29).kept(10) == 3
    assert TopK(1.0).kept(7) == 7


def test_one_percent_of_a_million_costs_what_the_specification_says():
    d, k = 10**6, 10**4
    assert TopK(k, index="list").bits(d) == TopK(k).bits(d) == 520_000 == k * (32 + 20)
    assert TopK(k, index="bitmap").bits(d) == 1_320_000
    assert TopK(k, index="none").bits(d) == RandK(k).bits(d) == 320_000
    assert TopK(k, index="enum").bits(d) == pytest.approx(400_000, rel=0.01)


def test_eight_bits_of_ten_percent_is_18_times_and_not_40():
    d = 10**6
    assert 32 * d / TopKQSGD(0.1, 127).bits(d) == pytest.approx(17.8, abs=0.05)


def test_everything_is_sent_where_that_is_no_dearer():
    d = 1000  # the bitmap costs 1000 bits, so from k = d - 31 on (32 (d - k) <= 1000) dense is cheaper
    x = torch.arange(1.0, d + 1)
    assert TopK(968).kept(d) == 968 and TopK(969).kept(d) == d
    assert torch.equal(TopK(969)(x).dense(), x) and TopK(969).alpha(d) == 1.0 and TopK(969).bits(d) == 32 * d
    assert TopK(969, index="none").kept(d) == 969


def test_blocks_cost_local_positions():
    assert BlockTopK(256, 2).bits(1024) == 8 * (32 + 8)
    assert BlockTopK(256, 2).bits(1025) == 9 * (32 + 8)  # the last block has one entry
    assert BlockTopK(256, 2).alpha(1024) == 2 / 256


def test_per_tensor_keeps_something_of_every_layer_and_global_topk_does_not():
    x = torch.cat([torch.full((10,), 100.0), torch.full((10,), 0.01)])
    per_layer = PerTensor(TopK(0.2)).for_layers([(5, 2), (10,)])
    assert per_layer(x).dense()[10:].count_nonzero() == 2
    assert TopK(0.2)(x).dense()[10:].count_nonzero() == 0


def test_per_tensor_must_be_bound():
    with pytest.raises(ValueError, match=r"for_layers\(shapes\)"):
        PerTensor(TopK(0.2))(torch.ones(4))
    with pytest.raises(ValueError, match="12 entries together, the vector has 5"):
        PerTensor(TopK(0.2)).for_layers([(3, 4)])(torch.ones(5))


def test_randk_then_natural_costs_nine_bits_a_value():
    assert (RandK(10) | Natural()).bits(100) == 90


# -- PermK ---------------------------------------------------------------------------------------------------
def every_message(a, given):
    """PermK's dense messages (m, d) for every outcome of the shared permutation."""
    n, d = a.shape
    size = n * -(-d // n) if d >= n else d * -(-n // d)
    for p in permutations(range(size)):
        yield PermK()(a, given(n, permutation=list(p))).dense()


@pytest.mark.parametrize(("n", "d"), [(2, 4), (3, 6), (2, 3), (4, 5), (4, 2), (6, 3), (3, 2), (5, 3), (1, 4), (3, 1)])
def test_permk_is_unbiased_and_keeps_its_joint_identity_exactly(n, d, given, normals):
    a = normals(n, d)
    mean, first, errors, own = a.mean(0), 0.0, [], []
    for y in every_message(a, given):
        first = first + y
        errors.append((y.mean(0) - mean).pow(2).sum())
        own.append((y - a).pow(2).sum(1))
    torch.testing.assert_close(first / len(errors), a, rtol=1e-12, atol=1e-12)
    A, B = PermK().joint(d, n)
    exact = A * a.pow(2).sum(1).mean() - B * mean.pow(2).sum()
    torch.testing.assert_close(torch.stack(errors).mean(), exact, rtol=1e-10, atol=1e-12)
    each = torch.stack(own).mean(0) / a.pow(2).sum(1)
    torch.testing.assert_close(each, torch.full_like(each, PermK(n=n).omega(d)), rtol=1e-10, atol=1e-12)
    if d >= n:
        assert A == B == float(n > 1)
    elif n % d == 0 and d > 1:
        assert A == B == pytest.approx((d - 1) / (n - 1))


def test_permk_makes_no_error_where_all_clients_agree(draws, normals):
    for n, d in ((5, 20), (5, 23)):  # d >= n, divisible or not
        a = normals(1, d).expand(n, d)
        torch.testing.assert_close(PermK()(a, draws(n)).mean(), a[0], rtol=1e-12, atol=1e-12)


def test_permk_of_a_chunk_is_the_chunk_of_permk(given, normals):
    a, p = normals(4, 8), torch.randperm(8, generator=torch.Generator().manual_seed(0))
    whole = PermK()(a, given(4, permutation=p)).dense()
    half = PermK()(a[2:], given(2, permutation=p, slots=[2, 3], cohort_size=4)).dense()
    assert torch.equal(half, whole[2:])


def test_permk_costs_the_values_alone(draws, normals):
    assert PermK()(normals(4, 8), draws(4)).bits.tolist() == [64] * 4
    assert int(PermK()(normals(4, 9), draws(4)).bits.sum()) == 9 * 32
    assert PermK(n=4).bits(8) == 64 and PermK(n=4).bits(9) is None and PermK(n=4).expected_bits(9) == 72
    assert PermK(n=9).bits(3) == 32


def test_permk_refuses_another_cohort(draws):
    with pytest.raises(ValueError, match="n is 3, but the cohort has 4"):
        PermK(n=3)(torch.ones(4, 8), draws(4))


# -- what fields may hold ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TopK(0), r"TopK: k=0: give a count \(int >= 1\) or a share"),
        (lambda: TopK(-0.1), "k=-0.1"),
        (lambda: TopK(1.5), "k=1.5"),
        (lambda: TopK(True), "k=True"),
        (lambda: RandK(0), "RandK: k=0"),
        (lambda: TopK(1, index="free"), "index='free': choose one of 'auto'"),
        (lambda: TopK(9)(torch.ones(5)), "k is 9, but there are only 5 entries"),
        (lambda: RandK(9)(torch.ones(5)), "k is 9, but there are only 5 entries"),
        (lambda: BlockTopK(4, 5), r"BlockTopK: k=5: give a whole number in 1..4"),
        (lambda: QSGD(0), "QSGD: levels=0"),
        (lambda: QSGD(2.5), "QSGD: levels=2.5"),
        (lambda: QSGD(2, norm=3), "norm=3: choose one of 2, 'inf'"),
        (lambda: QSGD(2, coding="huffman"), "coding='huffman'"),
        (lambda: QSGD.with_bits(1), "use SignNorm"),
        (lambda: Bucketed(QSGD(1), 0), "Bucketed: size=0"),
        (lambda: Bucketed("TopK"), "give a compressor"),
        (lambda: TopK(1)(torch.ones(5).long()), r"takes reals of shape \(d,\) or \(m, d\)"),
        (lambda: TopK(1)(torch.ones(2, 2, 2)), r"takes reals of shape"),
        (lambda: PermK(0), "PermK: n=0"),
    ],
)
def test_bad_fields_get_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()
