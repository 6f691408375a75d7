"""Robust aggregators: identities that hold exactly, and what a minority of liars can do to each."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from octolab.trust.aggregators import CoordinateMedian, Mean, TrimmedMean

RULES = [Mean(), CoordinateMedian(), TrimmedMean(b=2)]
rules = pytest.mark.parametrize("rule", RULES, ids=repr)


def rows(n: int, d: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def same(n: int) -> torch.Tensor:
    return torch.full((n,), 1 / n, dtype=torch.float64)


def equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, rtol=0, atol=1e-12)


@rules
def test_agreement_if_all_say_the_same_that_is_the_answer(rule):
    assert equal(rule(rows(1).expand(7, -1), same(7)), rows(1)[0])


@rules
@pytest.mark.parametrize("n", [6, 7])
def test_the_order_of_the_rows_does_not_matter(rule, n: int):
    assert equal(rule(rows(n)[torch.tensor(np.random.default_rng(0).permutation(n))], same(n)), rule(rows(n), same(n)))


@rules
@pytest.mark.parametrize("n", [6, 7])
def test_a_shift_and_a_scale_of_all_rows_shift_and_scale_the_answer(rule, n: int):
    shift = rows(1, seed=9)[0]
    assert equal(rule(rows(n) + shift, same(n)), rule(rows(n), same(n)) + shift)
    assert equal(rule(3 * rows(n), same(n)), 3 * rule(rows(n), same(n)))
    assert equal(rule(-rows(n), same(n)), -rule(rows(n), same(n)))


@pytest.mark.parametrize("n", [1, 4, 7])
def test_trimming_nobody_is_the_mean(n: int):
    assert equal(TrimmedMean(b=0)(rows(n), same(n)), Mean()(rows(n), same(n)))


@pytest.mark.parametrize("n", [1, 3, 7])
def test_trimming_all_but_the_middle_is_the_median(n: int):
    assert equal(TrimmedMean(b=(n - 1) // 2)(rows(n), same(n)), CoordinateMedian()(rows(n), same(n)))


def test_trimming_more_than_there_is_trims_as_much_as_it_can():
    for n in (3, 4):
        assert equal(TrimmedMean(b=5)(rows(n), same(n)), CoordinateMedian()(rows(n), same(n)))


@pytest.mark.parametrize("n", [5, 8])
def test_the_median_and_the_trimmed_mean_are_numpys(n: int):
    x = rows(n).numpy()
    assert equal(CoordinateMedian()(rows(n), same(n)), torch.from_numpy(np.median(x, 0)))
    assert equal(TrimmedMean(b=1)(rows(n), same(n)), torch.from_numpy(np.sort(x, 0)[1:-1].mean(0)))


def test_the_mean_weighs_clients_as_the_objective_does():
    w = torch.tensor([1.0, 2, 5], dtype=torch.float64)
    assert equal(Mean()(rows(3), w), (w @ rows(3)) / 8)


@pytest.mark.parametrize(
    "rule, stands",
    [(Mean(), False), (CoordinateMedian(), True), (TrimmedMean(b=5), True), (TrimmedMean(b=4), False)],
    ids=repr,
)
def test_five_of_twenty_can_move_a_rule_arbitrarily_far_only_if_it_is_not_made_for_five(rule, stands: bool):
    lies = rows(20)
    lies[:5] = 1e9
    error = float((rule(lies, same(20)) - lies[5:].mean(0)).abs().max())
    assert (error < 3) == stands


def test_the_lessons_of_the_error_table():
    """15 good rows N(2, I), 5 sign flips, d = 50: |answer - mean of the good|; specified 6.82, 3.34, 3.64."""
    good = 2 + rows(15, 50)
    flipped = torch.cat([good, -(2 + rows(5, 50, seed=1))])
    error = {
        rule: float((rule(flipped, same(20)) - good.mean(0)).norm())
        for rule in (Mean(), CoordinateMedian(), TrimmedMean(b=5))
    }
    mean, median, trimmed = error.values()
    assert median < 0.6 * mean and trimmed < 0.6 * mean
    honest = {
        rule: float((rule(torch.cat([good, 2 + rows(5, 50, seed=1)]), same(20)) - good.mean(0)).norm())
        for rule in error
    }
    assert honest[Mean()] < honest[CoordinateMedian()]  # robustness has a price


def test_a_negative_trim_is_refused():
    with pytest.raises(ValueError, match=r"b=-1: give a number in \[0, inf\)"):
        TrimmedMean(b=-1)
