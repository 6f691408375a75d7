"""Staleness policies: their values by hand, and nonsense refused."""

from __future__ import annotations

import math

import pytest

from octolab.staleness import Constant, DelayAdaptive, Exponential, Hinge, Polynomial, Reject


def test_values_by_hand():
    assert [Constant()(d) for d in (0, 9)] == [1.0, 1.0]
    assert [Polynomial(0.5)(d) for d in (0, 3, 8)] == [1.0, 0.5, 1 / 3]
    assert Polynomial(1.0)(4) == 0.2  # the product's "exponential decay" 1/(1 + age)
    assert [Hinge(10, 4)(d) for d in (4, 5, 6)] == [1.0, 1 / 11, 1 / 21]
    assert Exponential(0.5)(2) == math.exp(-1)
    assert [DelayAdaptive()(d, n=4) for d in (4, 8)] == [1.0, 0.5]
    assert [Reject(5)(d) for d in (5, 6)] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Reject(-1), "threshold=-1"),
        (lambda: Reject(2.5), "threshold=2.5"),
        (lambda: Polynomial(math.nan), "a=nan"),
        (lambda: Hinge(b=-1), "b=-1"),
        (lambda: Exponential("x"), "a='x'"),
    ],
)
def test_nonsense_gets_a_sentence(make, words):
    with pytest.raises(ValueError) as error:
        make()
    assert words in str(error.value)
