"""The first mistakes in a method of one's own: each is a sentence with the line to change."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch

import octolab as ol
from octolab.errors import MethodMistake


class Own(ol.methods.Method):
    """Gradient descent with a plain tensor as its state."""

    lr: float = 0.05

    def init(self, fed):
        return fed.x0

    def step(self, fed, x):
        return x - self.lr * fed.call(self.client, x).mean()

    def client(self, cohort, x):
        return cohort.grad(x)


def run(cls, rounds=2):
    return ol.run(cls(), ol.problems.quadratics(n=4, d=3), rounds=rounds)


def test_a_plain_tensor_is_a_state():
    gd = ol.run(ol.methods.GD(lr=0.05), ol.problems.quadratics(n=4, d=3), rounds=5)
    assert torch.equal(run(Own, 5).x, gd.x)


def test_missing_hooks_are_named_with_the_line_to_add():
    class NoStep(ol.methods.Method):
        """No step."""

        def init(self, fed):
            return fed.x0

    class NoInit(ol.methods.Method):
        """No init."""

        step = Own.step

    with pytest.raises(MethodMistake, match=r"NoStep has no step\. Add to the class:  def step\(self, fed, x\)"):
        run(NoStep)
    with pytest.raises(MethodMistake, match=r"NoInit has no init\. Add to the class:  def init\(self, fed\)"):
        run(NoInit)


def no_mean(self, fed, x):
    return x - self.lr * fed.call(self.client, x)


def in_place(self, fed, x):
    x -= self.lr * fed.call(self.client, x).mean()
    return x


def nothing(self, fed, x):
    self.lr * fed.call(self.client, x).mean()


def short(self, fed, x):
    return x[:2] - self.lr * fed.call(self.client, x).mean()[:2]


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (no_mean, r"fed\.call\(\.\.\.\)\.mean\(\)"),
        (in_place, r"x = x - self\.lr \* g  instead of  x -= self\.lr \* g"),
        (nothing, "End it with `return`"),
        (short, r"has shape \(2,\); it has to be a tensor of shape \(3,\)"),
    ],
)
def test_a_wrong_step_is_told_the_line(step, words):
    with pytest.raises(MethodMistake, match=words):
        run(type("Wrong", (Own,), {"step": step, "__doc__": "Wrong.", "__annotations__": {}}))


@pytest.mark.parametrize("client", [lambda self, cohort, x: x, lambda self, cohort, x: cohort.grad(x)[:, :2]])
def test_a_client_function_of_the_wrong_shape_is_told_the_line(client):
    with pytest.raises(MethodMistake, match=r"return cohort\.grad\(x\)"):
        run(type("Wrong", (Own,), {"client": client, "__doc__": "Wrong.", "__annotations__": {}}))


def test_a_field_that_no_file_can_hold_is_named():
    class State(NamedTuple):
        x: torch.Tensor
        note: object

    class Odd(Own):
        """A state with an object in it."""

        def init(self, fed):
            return State(fed.x0, object())

        def step(self, fed, s):
            return State(s.x - self.lr * fed.call(self.client, s.x).mean(), s.note)

    with pytest.warns(UserWarning, match=r"s\.note is a object, which no run file can hold"):
        run(Odd)


def test_an_unregistered_slug_says_how_to_register():
    with pytest.raises(ValueError, match=r"write @ol\.methods\.register above its class"):
        ol.run("my-method", ol.problems.quadratics(n=4, d=3), rounds=1)
