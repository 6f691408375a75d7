"""Masked sums: exact under any drop-out that is allowed, and single messages that tell nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.randomness import Randomness
from octolab.trust.secure_sum import SecureSum, TooFewReports, interpolated

SOURCE = Randomness(3)


def rows(m: int = 5, d: int = 4) -> torch.Tensor:
    return torch.randn(m, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("here", [h for r in (4, 5) for h in itertools.combinations(range(5), r)], ids=str)
def test_the_sum_is_exact_whoever_of_the_allowed_drops_out(here):
    secure, x = SecureSum(bits=40), rows()
    got = secure.total(x[list(here)], SOURCE, slots=here, m=5)
    whole = (x[list(here)] * secure.scale).round().sum(0) / secure.scale
    assert torch.equal(got, whole)
    assert float((got - x[list(here)].sum(0)).abs().max()) <= len(here) / (2 * secure.scale)


def test_without_recovery_one_drop_out_leaves_garbage():
    secure, x = SecureSum(bits=40), rows()
    messages = secure.masked(x, SOURCE)[:4]
    garbage = secure.decode(messages.sum(0) & (2**40 - 1))
    assert float((garbage - x[:4].sum(0)).abs().max()) > 1e3


def test_too_few_reports_are_refused():
    with pytest.raises(TooFewReports, match=r"3 of 5 clients reported, and 4 must"):
        SecureSum().total(rows()[:3], SOURCE, slots=(0, 1, 2), m=5)


def test_a_single_message_is_uniform_whatever_it_says():
    secure = SecureSum(bits=16, scale=2.0**8)
    masked = secure.masked(torch.zeros(3, 20_000, dtype=torch.float64), SOURCE)
    for message in masked:
        counts = np.bincount(message >> 12, minlength=16)  # sixteen cells
        assert ((counts - 1250) ** 2 / 1250).sum() < 37.7  # chi squared, 15 degrees of freedom, p = 0.001
    assert len({m.tobytes() for m in masked}) == 3


def test_what_would_run_over_is_said():
    with pytest.raises(ValueError, match=r"SecureSum\(bits=8, scale=65536\): 5 values up to"):
        SecureSum(bits=8).total(rows(), SOURCE)


def test_shares_give_the_secret_back_and_fewer_do_not():
    points = [(x, (5 + 2 * x + 7 * x * x)) for x in (1, 2, 3, 4)]
    assert interpolated(points[:3]) == interpolated(points[1:]) == 5
    assert interpolated(points[:2]) != 5


def test_its_traffic_is_numbers_keys_and_shares():
    up, down = ol.trust.SecureSum(bits=20).traffic(m=10, d=100, dropped=2)
    assert up == 20 * 100 + 256 + 9 * 256 + 2 * 256 and down == 2 * 9 * 256
