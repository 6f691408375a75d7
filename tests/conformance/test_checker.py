"""The public checker: it lets a good method of yours pass, and says in a sentence what a bad one breaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import pytest
import torch

import octolab as ol
from octolab.methods import Method, param
from octolab.payloads import Dense
from octolab.testing import PROMISES, NotApplicable, Report, check_method

PROBLEM = ol.problems.quadratics(n=5, d=6)


class State(NamedTuple):
    x: torch.Tensor
    g: torch.Tensor


@dataclass(frozen=True, repr=False)
class Mine(Method):
    """Mine: gradient descent with the clients' last gradients kept.

    Paper: A Method of Mine
    Authors: A. Nobody
    Venue: a notebook
    arXiv: none
    Solves: nothing new
    Use: in this test
    Avoid: elsewhere
    Assumes: f is L-smooth
    Algorithm:
        x <- x - lr * mean g_i
    Up: d numbers
    Down: d numbers
    Step size: none
    """

    slug = "mine"
    lr: float = param(0.05, "step size", gt=0)

    def init(self, fed):
        return State(fed.x0, fed.call(self.client, fed.x0).weighted_sum())

    def step(self, fed, s):
        x = s.x - self.lr * s.g
        return State(x, s.g + fed.call(self.client, x).weighted_sum())

    def client(self, cohort, x):
        g = cohort.grad(x)
        old = cohort.memory.g if "g" in cohort.memory else cohort.zeros()
        cohort.memory.g = g
        return g - old


def test_a_method_of_your_own_passes_and_gets_a_report():
    report = check_method(Mine(), PROBLEM)
    assert isinstance(report, Report) and {line[1] for line in report.lines} == set(PROMISES)
    assert {name for _, name, what, _ in report.lines if what != "kept"} == {"keeps_to_assumptions", "page", "theory"}
    assert "keeps its promises" in str(report) and "the server's g is the mean of the clients' g" in str(report)


def test_it_checks_on_the_three_standard_problems_by_default():
    report = check_method(Mine())
    assert {line[0] for line in report.lines} == {"quadratics", "logistic", "network"}


def test_a_class_is_not_a_method():
    with pytest.raises(ValueError, match="an instance"):
        check_method(Mine)


class Dice(Mine):
    """Draws from the global generator."""

    def client(self, cohort, x):
        return super().client(cohort, x) + torch.randn(cohort.m, cohort.d, dtype=torch.float64)


class Crowd(Mine):
    """A client's result depends on who else is computed in the same pass."""

    def client(self, cohort, x):
        g = super().client(cohort, x)
        return g + 1e-6 * g.abs().max()


class Forgetful(Mine):
    """Keeps something outside its state."""

    seen: ClassVar[list[int]] = []

    def step(self, fed, s):
        self.seen.append(1)
        s = super().step(fed, s)
        return s._replace(x=s.x * (1 + 1e-9 * len(self.seen)))


class Hasty(Mine):
    """The server takes an average over those who replied for the mean of everybody's memory."""

    def step(self, fed, s):
        x = s.x - self.lr * s.g
        return State(x, s.g + fed.call(self.client, x).mean())


class Cheap(Dense):
    """A message that claims to be lighter than its bytes."""

    def _cost(self):
        return super()._cost() // 2


class Liar(Mine):
    def client(self, cohort, x):
        return Cheap(super().client(cohort, x))


class Uphill(Mine):
    def step(self, fed, s):
        return super().step(fed, s._replace(g=-s.g))


@dataclass(frozen=True, repr=False)
class Careless(Mine):
    """Mine: no card worth the name."""

    lr: float = 0.05


@pytest.mark.parametrize(
    "bad, promise, words",
    [
        (Dice, "repeats", "two runs with seed 3 are not the same"),
        (Crowd, "one_by_one", "executor='loop'"),
        (Forgetful, "repeats", "not the same"),
        (Forgetful, "resumes", "is another"),
        (Forgetful, "forks", "is not the uninterrupted run"),
        (Hasty, "drop_outs", "not true that the server's g is the mean of the clients' g"),
        (Liar, "bits", "encodes to"),
        (Uphill, "descends", "the loss went from"),
        (Careless, "card", "lacks title"),
    ],
)
def test_a_broken_promise_is_told_in_a_sentence(bad, promise: str, words: str):
    with pytest.raises(AssertionError, match=words):
        PROMISES[promise](bad(), PROBLEM)


def test_the_checker_names_method_problem_and_promise():
    with pytest.raises(
        AssertionError, match=r"Hasty on Quadratics breaks 'drop_outs' \(Devices that drop out lose nothing"
    ):
        check_method(Hasty(), PROBLEM)


def test_a_method_without_declared_ranges_is_told_how_to_declare_them():
    with pytest.raises(NotApplicable, match="use param"):
        PROMISES["refuses_bad_values"](Careless(), PROBLEM)


def test_a_method_registered_for_the_session_is_found_by_its_slug():
    assert ol.methods.register(Mine) is Mine
    try:
        assert ol.methods.get("mine") is Mine and "mine" in ol.methods.slugs()
        assert ol.run("mine", PROBLEM, rounds=2, live=False).status == "finished"
    finally:
        ol.rooms.forget("methods", "mine")
