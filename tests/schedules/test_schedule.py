"""Schedules: their values by hand, theory inside them, and steps that are none refused in words."""

from __future__ import annotations

import math

import pytest
import torch

from octolab.params import Theory
from octolab.schedules import Constant, Cosine, InverseSqrt, OfRound, Step, Warmup, as_schedule


def test_values_by_hand():
    cosine = Cosine(2.0, rounds=4, floor=1.0)
    assert [round(cosine(t), 12) for t in (0, 2, 4, 9)] == [2.0, 1.5, 1.0, 1.0]
    assert math.isclose(cosine(1), 1.5 + math.sqrt(0.5) / 2)
    assert [Step(1.0, every=3, factor=0.5)(t) for t in (0, 2, 3, 6)] == [1.0, 1.0, 0.5, 0.25]
    assert [InverseSqrt(2.0)(t) for t in (0, 3)] == [2.0, 1.0]
    assert [Warmup(Cosine(1.0, rounds=2), rounds=1)(t) for t in range(4)] == [0.5, 1.0, 0.5, 0.0]
    assert Constant(0.3)(10**9) == 0.3


def test_theory_inside_a_schedule_is_resolved_wherever_it_stands():
    nested = Warmup(Cosine(Theory(2), rounds=10), rounds=3)
    assert nested.theoretical and not Cosine(1.0, rounds=3).theoretical
    assert nested.resolve(lambda theory: 0.25 * theory.multiplier) == Warmup(Cosine(0.5, rounds=10), rounds=3)
    with pytest.raises(ValueError, match=r"Theory\(\) has no value without a method and a problem"):
        Cosine(Theory(), rounds=5)(0)


def test_numbers_theory_and_functions_are_schedules_too():
    assert as_schedule(0.1) == Constant(0.1) and as_schedule(Theory()) == Constant(Theory())
    assert as_schedule(lambda t: 1 / (t + 1))(3) == 0.25
    assert Warmup(0.1, rounds=2).schedule == Constant(0.1)
    with pytest.raises(ValueError, match="lr='fast': give a number > 0, Theory"):
        as_schedule("fast")


@pytest.mark.parametrize("value", [0.0, -0.1, math.nan, math.inf, "x", True])
def test_a_round_without_a_step_is_named(value):
    with pytest.raises(ValueError, match="in round 7: a step size is a finite number > 0"):
        OfRound(lambda t: value).at(7)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Cosine(0, rounds=3), "Cosine: lr=0"),
        (lambda: Cosine(0.1, rounds=0), "rounds=0: give a number in [1, inf), a whole number"),
        (lambda: Cosine(0.1, rounds=2.5), "rounds=2.5"),
        (lambda: Cosine(0.1, rounds=3, floor=0.2), "floor=0.2: give a number from 0 to lr=0.1"),
        (lambda: Step(0.1, every=True), "every=True"),
        (lambda: Step(0.1, every=2, factor=-1), "factor=-1"),
        (lambda: InverseSqrt(math.nan), "lr=nan"),
        (lambda: Warmup("x", rounds=2), "Warmup: schedule='x'"),
        (lambda: OfRound(3), "give a function of the round"),
    ],
)
def test_nonsense_gets_a_sentence(make, words):
    with pytest.raises(ValueError) as error:
        make()
    assert words in str(error.value)


def test_a_function_that_fails_in_round_0_is_a_sentence():
    with pytest.raises(ValueError, match=r"fails in round 0 \(ZeroDivisionError.*rounds are 0, 1, 2"):
        OfRound(lambda t: 0.1 / t).at(0)
    assert OfRound(lambda t: torch.tensor(0.5)).at(3) == 0.5
