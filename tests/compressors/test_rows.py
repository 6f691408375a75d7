"""Compressors with their own share for every client, against brute force; and the exact division among layers."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch

from octolab.compressors import TopK, catalog
from octolab.compressors.knapsack import knapsack
from octolab.compressors.rows import (
    LEVELS,
    SHARES,
    BalancedTopK,
    FittedTopKQSGD,
    LayerTopK,
    RowTopK,
    best_pairs,
    k_within,
    topk_bits,
)
from octolab.compressors.selection import energies, largest, largest_each
from octolab.payloads import Payload, index_bits
from octolab.randomness import Draws, Randomness

K = torch.tensor([1, 7, 3, 40, 2, 22])
FREE = torch.tensor([0.0, 50.0, 500.0, 5e4, float("inf"), 3.0], dtype=torch.float64)
BUDGET = torch.tensor([1.0, 120.0, 260.0, 700.0, float("inf"), 340.0], dtype=torch.float64)
MAKE = {
    "RowTopK": lambda r: RowTopK(K[r]),
    "RowTopK, told in front": lambda r: RowTopK(K[r], told=False),
    "RowTopK, free positions": lambda r: RowTopK(K[r], index="none"),
    "BalancedTopK": lambda r: BalancedTopK(FREE[r], low=2),
    "FittedTopKQSGD": lambda r: FittedTopKQSGD(BUDGET[r]),
    "LayerTopK": lambda r: LayerTopK(BUDGET[r], (30, 8, 2)),
}
everyone = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
ALL = slice(None)


# -- counts -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("d", [1, 2, 7, 50, 200])
def test_k_within_is_the_largest_k_whose_message_fits(d: int):
    bits = topk_bits(d)
    assert bits.tolist() == [32 * k + index_bits("auto", d, k) for k in range(1, d + 1)]
    for budget in range(0, 32 * d + 60, 3):
        fitting = [k for k in range(1, d) if bits[k - 1] <= budget]
        assert k_within(budget, d) == (d if budget >= 32 * d else max(fitting, default=0))


def test_ties_go_to_the_lowest_index_in_every_row():
    x = torch.tensor([[1.0, -1, 1, 1], [2, 1, 2, 2], [0, 0, 0, 0]])
    kept = largest_each(x, torch.tensor([2, 2, 3]))
    assert kept.int().tolist() == [[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_row_is_topk_with_its_own_k(normals, dtype):
    x = normals(6, 40).to(dtype).round(decimals=1)  # many ties
    p = RowTopK(K)(x)
    for i, k in enumerate(K.tolist()):
        alone = TopK(k)(x[i])
        assert torch.equal(p.dense()[i], alone.dense()) and p[i].bits == alone.bits
        assert torch.equal(p.kept[i].nonzero()[:, 0], largest(x[i : i + 1], min(k, 40))[0])


def test_energies_are_captured_shares(normals):
    x = normals(3, 9)
    E = energies(x)
    for k in range(1, 10):
        np.testing.assert_allclose(
            E[:, k - 1], (TopK(k, index="none")(x).dense() ** 2).sum(1) / (x**2).sum(1), rtol=1e-12
        )
    assert (E[:, -1] == 1).all() and (energies(torch.zeros(1, 4)) == 1).all()


# -- messages -----------------------------------------------------------------------------------------------
@everyone
def test_bytes_are_as_long_as_the_bits_and_give_the_message_back(make, draws, normals):
    x = normals(6, 40).float()
    x[2], x[5, ::3] = 0.0, 1.0
    p = make(ALL)(x, draws(6))
    assert [len(b) for b in p.encode()] == [-(-int(b) // 8) for b in p.bits]
    back = Payload.decode(p.encode(), json.loads(json.dumps(p.meta)))
    assert torch.equal(back.dense(), p.dense()) and torch.equal(back.bits, p.bits)
    assert torch.equal(back.kept, p.kept)


@everyone
def test_stacked_equals_row_by_row_bit_for_bit(make, normals):
    source, x = Randomness(3), normals(6, 40)
    p = make(ALL)(x, source.draws(6))
    for i in range(6):
        one = make(slice(i, i + 1))(x[i : i + 1], Draws(source, np.array([i]), 0, slots=np.array([i]), cohort_size=6))
        assert torch.equal(one.dense()[0], p.dense()[i])
        assert int(one.bits[0]) == p[i].bits and one.encode()[0] == p[i].encode()


@everyone
def test_select_cat_and_sum_agree_with_the_dense_rows(make, draws, normals):
    p = make(ALL)(normals(6, 40), draws(6))
    joined = type(p).cat([p[:2], p[2:]])
    assert torch.equal(joined.dense(), p.dense()) and torch.equal(joined.bits, p.bits)
    assert torch.equal(p[torch.tensor([4, 0])].dense(), p.dense()[[4, 0]])
    torch.testing.assert_close(p.sum(), p.dense().sum(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(p + normals(6, 40), p.dense() + normals(6, 40), rtol=0, atol=0)


@everyone
def test_the_remark_alpha_is_the_realised_one_and_at_least_the_promise(make, draws, normals):
    x, c = normals(6, 40), make(ALL)
    p = c(x, draws(6))
    realised = 1 - ((p.dense() - x) ** 2).sum(1) / (x**2).sum(1)
    torch.testing.assert_close(p.alpha, realised, rtol=1e-10, atol=1e-12)
    if c.deterministic:
        assert float(p.alpha.min()) >= c.alpha(40) - 1e-12


@everyone
def test_zero_gives_zero_and_a_diverging_client_stays_visible(make, draws):
    x = torch.zeros(6, 40)
    assert torch.equal(make(ALL)(x, draws(6)).dense(), x)
    x[:, 3] = torch.nan
    p = make(ALL)(x, draws(6))
    assert (~torch.isfinite(p.dense())).any(1).all() and len(p.encode()) == 6


def test_counts_that_the_server_assigned_cost_nothing(normals):
    told, found = RowTopK(K)(normals(6, 40)), RowTopK(K, told=False)(normals(6, 40))
    assert (found.bits - told.bits == 6).all()  # ceil(log2 41)
    assert torch.equal(told.paper_bits, 32 * told.counts[:, 0])
    assert told.counts[3, 0] == 40 and told.bits[3] == 32 * 40  # everything: no positions


# -- rules --------------------------------------------------------------------------------------------------
def test_balanced_takes_the_k_with_most_energy_per_second(normals):
    x, low = normals(6, 40) * torch.logspace(0, 2, 40), 2
    counts = BalancedTopK(FREE, low)(x).counts[:, 0].tolist()
    for i, free in enumerate(FREE.tolist()):
        squares = np.sort(x[i].numpy() ** 2)[::-1]
        worth = [
            squares[:k].sum() / squares.sum() / (1.0 if np.isinf(free) else free + 32 * k + index_bits("auto", 40, k))
            for k in range(low, 41)
        ]
        k = low + int(np.argmax(worth))
        assert counts[i] == (40 if 32 * k + index_bits("auto", 40, k) >= 32 * 40 else k)


def test_slow_links_and_skewed_vectors_send_less(normals):
    even, skewed = normals(1, 200).sign(), normals(1, 200) * torch.logspace(0, 3, 200)
    sent = lambda x, free: int(BalancedTopK(torch.tensor([free]))(x).counts)  # noqa: E731
    assert sent(skewed, 10.0) < sent(skewed, 1e4) < sent(skewed, float("inf"))
    assert sent(skewed, 100.0) < sent(even, 100.0) == 200


def test_pairs_of_k_and_levels_against_trying_all(normals):
    E = energies(normals(4, 30))
    budget = [1, 130, 300, 10**6]
    k, s = best_pairs(E, budget, header=9)
    for i, room in enumerate(np.array(budget) - 9):
        options = [(E[i, 0], 1, 0)]
        for n in range(1, 31):
            if 32 * n + index_bits("auto", 30, n) <= room:
                options.append((E[i, n - 1], n, 0))
            for levels in LEVELS:
                bits = 32 + n * int(np.ceil(np.log2(2 * levels + 1))) + index_bits("auto", 30, n)
                if bits <= room:
                    options.append((E[i, n - 1] / (1 + min(n / levels**2, np.sqrt(n) / levels)), n, levels))
        best = max(options, key=lambda o: o[0])
        assert (best[1], best[2]) == (k[i], s[i])


def test_the_specifications_example_of_260_bits():
    """d = 50: 22 values of 8 bits keep 0.90 of a Gaussian vector's energy, 6 reals 0.45 (about: it is one vector)."""
    E = energies(torch.from_numpy(np.random.default_rng(0).standard_normal((20, 50))))
    k, s = best_pairs(E, [260] * 20)
    assert ((k == 22) & (s == 127)).mean() >= 0.9 and k_within(260, 50) == 6
    kept = E[:, 21] / (1 + np.sqrt(22) / 127 * min(1, np.sqrt(22) / 127))
    assert abs(kept.mean() - 0.90) < 0.03 and abs(E[:, 5].mean() - 0.45) < 0.08


def test_a_fitted_message_keeps_to_its_budget(draws, normals):
    budget = torch.tensor([60.0, 100, 260, 900, 2000, 1e9])
    p = FittedTopKQSGD(budget)(normals(6, 60), draws(6))
    assert (p.bits <= budget).all() and (p.bits[:3] > 0.5 * budget[:3]).all()


def test_scaled_quantisation_is_contractive_on_average(normals):
    """E|C(x) - x|^2 = (1 - E_k/(1 + omega)) |x|^2 at most; 400 draws."""
    x, budget = normals(1, 30), torch.tensor([150.0])
    k, s = best_pairs(energies(x), [150], header=9)
    assert s[0] > 0
    errors = [float(((FittedTopKQSGD(budget)(x, Randomness(t).draws(1)).dense() - x) ** 2).sum()) for t in range(400)]
    omega = min(k[0] / s[0] ** 2, np.sqrt(k[0]) / s[0])
    bound = (1 - energies(x)[0, k[0] - 1] / (1 + omega)) * float((x**2).sum())
    assert np.mean(errors) <= bound + 3 * np.std(errors) / 20


def test_the_knapsack_is_exact():
    rng = np.random.default_rng(1)
    for _ in range(30):
        error, cost = rng.random((4, 4, 3)), rng.integers(1, 30, (4, 3))
        budget = rng.integers(1, 90, 4)
        chosen = knapsack(error, cost, budget)
        for i in range(4):
            room = max(budget[i], cost.min(1).sum())  # where nothing fits: the cheapest
            ways = [
                w for w in itertools.product(range(3), repeat=4) if sum(cost[j, o] for j, o in enumerate(w)) <= room
            ]
            least = min(sum(error[i, j, o] for j, o in enumerate(w)) for w in ways)
            assert sum(cost[j, o] for j, o in enumerate(chosen[i])) <= room
            assert sum(error[i, j, o] for j, o in enumerate(chosen[i])) == pytest.approx(least, rel=1e-12)


def test_too_many_layers_to_be_exact_get_a_sentence(monkeypatch):
    monkeypatch.setitem(knapsack.__globals__, "MOST", 10_000)
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="too many to be exact"):
        knapsack(rng.random((20, 40, 6)), rng.integers(1, 10**6, (40, 6)), np.full(20, 2 * 10**7))


def test_layers_share_a_budget_by_what_they_lose(normals):
    """The layer that holds the energy gets the bits: 1707 of them for half of its entries, the rest for five others."""
    x = torch.cat([100 * normals(1, 100), normals(1, 100, seed=1)], dim=1)
    budget = 2000.0
    p = LayerTopK(torch.tensor([budget]), (100, 100))(x)
    first, second = p.counts[0].tolist()
    assert (first, second) == (50, 5) and float(p.bits[0]) <= budget
    assert all(k / 100 in SHARES for k in (first, second))


def test_they_are_no_part_of_the_catalogue():
    assert not {"RowTopK", "BalancedTopK", "FittedTopKQSGD", "LayerTopK"} & set(catalog().name)
