"""Rules that look at whole rows, and rules before rules: identities, and a second implementation by brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.federation.rule import RuleContext
from octolab.trust.aggregators import (
    ARC,
    NNM,
    Bucketing,
    Bulyan,
    CenteredClipping,
    Clipping,
    CoordinateMedian,
    GeometricMedian,
    Krum,
    Mean,
    MultiKrum,
    TrimmedMean,
)

N, D = 11, 5
RULES = [
    GeometricMedian(iterations=50, nu=1e-9),
    Krum(f=2),
    MultiKrum(f=2, m=4),
    Bulyan(f=2),
    NNM(f=2),
    NNM(f=2, then=TrimmedMean(b=2)),
    ARC(f=2, then=Mean()),
    CenteredClipping(tau=1.0, iterations=50),
]
rules = pytest.mark.parametrize("rule", RULES, ids=repr)


def rows(n: int = N, d: int = D, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def same(n: int = N) -> torch.Tensor:
    return torch.full((n,), 1 / n, dtype=torch.float64)


def equal(a: torch.Tensor, b: torch.Tensor, atol: float = 1e-10) -> bool:
    return torch.allclose(a, b, rtol=0, atol=atol)


# -- a second implementation, row by row in NumPy -----------------------------------------------------------------------
def by_hand_scores(x: np.ndarray, f: int) -> list[float]:
    distances = [sorted(float(((a - b) ** 2).sum()) for j, b in enumerate(x) if j != i) for i, a in enumerate(x)]
    return [sum(d[: max(1, len(x) - f - 2)]) for d in distances]


def by_hand_krum(x: np.ndarray, f: int, m: int) -> np.ndarray:
    return x[np.argsort(by_hand_scores(x, f), kind="stable")[:m]].mean(0)


def by_hand_bulyan(x: np.ndarray, f: int) -> np.ndarray:
    left, chosen = list(range(len(x))), []
    while len(chosen) < len(x) - 2 * f:
        chosen.append(left.pop(int(np.argmin(by_hand_scores(x[left], f)))))
    out = []
    for column in x[chosen].T:
        near = sorted(column, key=lambda v, c=column: abs(v - np.median(c)))
        out.append(np.mean(near[: len(chosen) - 2 * f]))
    return np.array(out)


def by_hand_nnm(x: np.ndarray, f: int) -> np.ndarray:
    mixed = [x[np.argsort([((a - b) ** 2).sum() for b in x])[: len(x) - f]].mean(0) for a in x]
    return np.median(mixed, axis=0)


def by_hand_rfa(x: np.ndarray, iterations: int, nu: float) -> np.ndarray:
    z = np.zeros(x.shape[1])
    for _ in range(iterations):
        b = 1 / np.maximum(nu, np.linalg.norm(x - z, axis=1))
        z = (b[:, None] * x).sum(0) / b.sum()
    return z


def by_hand_clipping(x: np.ndarray, tau: float, iterations: int) -> np.ndarray:
    v = np.zeros(x.shape[1])
    for _ in range(iterations):
        steps = [(a - v) * min(1, tau / max(np.linalg.norm(a - v), 1e-300)) for a in x]
        v = v + np.mean(steps, axis=0)
    return v


@pytest.mark.parametrize("n", [11, 12])
def test_every_rule_is_what_a_loop_over_rows_computes(n: int):
    x = rows(n).numpy()
    for rule, expected in (
        (Krum(f=2), by_hand_krum(x, 2, 1)),
        (MultiKrum(f=2, m=4), by_hand_krum(x, 2, 4)),
        (Bulyan(f=2), by_hand_bulyan(x, 2)),
        (NNM(f=2), by_hand_nnm(x, 2)),
        (GeometricMedian(), by_hand_rfa(x, 8, 0.1)),
        (CenteredClipping(tau=0.7), by_hand_clipping(x, 0.7, 3)),
    ):
        assert equal(rule(rows(n), same(n)), torch.from_numpy(np.asarray(expected))), rule


# -- identities ---------------------------------------------------------------------------------------------------------
@rules
def test_if_all_agree_that_is_the_answer(rule):
    assert equal(rule(rows(1).expand(N, -1), same()), rows(1)[0], 1e-7)


@rules
def test_the_order_of_the_rows_does_not_matter(rule):
    order = torch.from_numpy(np.random.default_rng(1).permutation(N))
    assert equal(rule(rows()[order], same()), rule(rows(), same()))


@pytest.mark.parametrize("rule", [Krum(f=2), MultiKrum(f=2, m=4), Bulyan(f=2), NNM(f=2)], ids=repr)
def test_a_shift_of_all_rows_shifts_the_answer(rule):
    shift = 100 * rows(1, seed=9)[0]
    assert equal(rule(rows() + shift, same()), rule(rows(), same()) + shift)


def test_the_geometric_median_is_where_the_unit_vectors_cancel():
    z = GeometricMedian(iterations=2000, nu=1e-12)(rows(), same())
    away = rows() - z
    assert float((away / away.norm(dim=1, keepdim=True)).sum(0).norm()) < 1e-9


def test_limits_in_which_a_rule_is_the_mean():
    mean = rows().mean(0)
    for rule in (
        MultiKrum(f=2, m=N),
        CenteredClipping(tau=1e9, iterations=1),
        Bucketing(s=N, then=CoordinateMedian()),
        Bucketing(s=1, then=Mean()),
        NNM(f=0, then=CoordinateMedian()),
        Clipping(tau=1e9),
        ARC(f=0, then=Mean()),
    ):
        assert equal(rule(rows(), same()), mean), rule


def test_clipping_cuts_long_rows_and_leaves_short_ones():
    x = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]], dtype=torch.float64)
    assert equal(Clipping(tau=1.0)(x, same(3)), torch.tensor([0.3, 0.4], dtype=torch.float64))


def test_adaptive_clipping_cuts_the_longest_to_the_length_of_the_next():
    x = torch.diag(torch.arange(1.0, 6.0)).double()  # lengths 1 to 5; f=1 of 5: floor(2 * 1/5 * 4) = 1 is cut, to 4
    assert equal(ARC(f=1, then=Mean())(x, same(5)), torch.tensor([1.0, 2, 3, 4, 4], dtype=torch.float64) / 5)


def test_buckets_follow_the_permutation_that_is_drawn():
    order = np.random.default_rng(3).permutation(N)
    draws = ol.Scripted(permutations=[order]).draws([0])
    got = Bucketing(s=2)(rows(), same(), RuleContext(draws))
    means = [rows()[torch.from_numpy(order[a : a + 2])].mean(0) for a in range(0, N, 2)]
    assert equal(got, torch.from_numpy(np.median(torch.stack(means), axis=0)))


def test_centred_clipping_goes_on_from_its_last_answer():
    context, rule = RuleContext(), CenteredClipping(tau=0.5, iterations=1)
    first = rule(rows(), same(), context)
    assert equal(rule(rows(), same(), context), CenteredClipping(tau=0.5, iterations=2)(rows(), same()))
    assert not equal(first, context.kept["centre"])


@pytest.mark.parametrize("rule", [Krum(f=4), MultiKrum(f=4), Bulyan(f=2)], ids=repr)
def test_too_few_rows_are_said_with_how_many_are_needed(rule):
    with pytest.raises(ValueError, match=r"needs \d+ replies or more, and 6 came: ask more clients"):
        rule(rows(6), same(6))


def test_columns_in_blocks_are_the_columns_at_once(monkeypatch):
    whole = CoordinateMedian()(rows(7, 100), same(7))
    monkeypatch.setattr("octolab.federation.rule.BLOCK", 7 * 13)
    assert torch.equal(CoordinateMedian()(rows(7, 100), same(7)), whole)


def test_five_far_liars_of_twenty_leave_nearest_neighbour_mixing_with_the_exact_mean_of_the_others():
    good = 2 + rows(15, 50)
    for lies in (-(2 + rows(5, 50, seed=1)), -10 * good.mean(0).expand(5, -1), 50 * rows(5, 50, seed=2)):
        x = torch.cat([good, lies])
        assert equal(NNM(f=5)(x, same(20)), good.mean(0), 1e-9)
        assert float((Krum(f=5)(x, same(20)) - good.mean(0)).norm()) > 3  # Krum pays a client's whole variance


@pytest.mark.parametrize("rule", [CoordinateMedian(), TrimmedMean(b=1), Bulyan(f=1), NNM(f=1)], ids=repr)
def test_a_rule_leaves_the_rows_as_they_are(rule):
    for x in (rows(7, 1), rows(7, 5)):
        before = x.clone()
        rule(x, same(7))
        assert torch.equal(x, before)


# -- in a run -----------------------------------------------------------------------------------------------------------
def test_what_a_rule_remembers_is_saved_with_the_run(tmp_path):
    problem = ol.problems.quadratics(n=6, d=4, seed=1)
    method = ol.methods.FedAvg(lr=0.1, local_steps=1, aggregator=CenteredClipping(tau=0.05, iterations=1))
    whole = ol.run(method, problem, rounds=12, live=False)
    half = ol.run(method, problem, rounds=6, live=False)
    again = ol.load_run(half.save(tmp_path / "half.run")).advance(6)
    assert torch.equal(whole.x, again.x)
    assert not torch.equal(whole.x, ol.run(method, problem, rounds=6, x0=half.x, live=False).x)  # it did remember


def test_a_reply_that_is_not_finite_is_left_out_and_counted():
    class Broken(ol.attacks.SignFlip):
        def __call__(self, context):
            return context.own * float("nan")

    problem = ol.problems.quadratics(n=7, d=4, spread=0.1, seed=1)
    method = ol.methods.FedAvg(lr=0.1, local_steps=1, aggregator=CoordinateMedian())
    run = ol.run(method, problem, rounds=5, live=False, attack=Broken(clients=(2,)))
    assert run.status == "finished" and run.history["rejected"].iloc[1:].eq(1).all()


def test_a_rule_of_ones_own_takes_two_arguments_or_three():
    problem = ol.problems.quadratics(n=4, d=3, seed=1)
    for rule in (lambda rows, weights: rows.mean(0), lambda rows, weights, context: rows.mean(0)):
        method = ol.methods.FedAvg(lr=0.1, local_steps=1, aggregator=rule)
        assert ol.run(method, problem, rounds=2, live=False).round == 2


@pytest.mark.parametrize(
    "rule", [Bucketing(s=3, then=NNM(f=1, then=Krum(f=0))), ARC(f=1, then=GeometricMedian())], ids=repr
)
def test_rules_in_rules_are_written_and_read(rule):
    from octolab.notation import json

    read = json.from_json(json.to_json(rule), "aggregators")
    assert read == rule


def test_no_subset_of_liars_of_the_size_it_is_made_for_moves_a_rule_far():
    for liars in itertools.islice(itertools.combinations(range(N), 2), 0, 55, 9):
        x = rows()
        x[list(liars)] = 1e6
        for rule in (Krum(f=2), MultiKrum(f=2, m=4), Bulyan(f=2), NNM(f=2)):
            assert float(rule(x, same()).abs().max()) < 4, (rule, liars)
