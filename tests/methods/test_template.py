"""The page to start from is a method that keeps every promise, and gradient descent."""

from __future__ import annotations

import sys
import types

import pytest
import torch

import octolab as ol
from octolab import rooms


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "my_method.py"
    path.write_text(ol.methods.template("my-method", show=False), encoding="utf-8")
    module = types.ModuleType("my_method")
    module.__file__ = str(path)
    sys.modules["my_method"] = module
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), module.__dict__)
    yield module.MyMethod
    rooms.forget("methods", "my-method")
    del sys.modules["my_method"]


def test_the_page_to_start_from_keeps_every_promise(mine):
    ol.testing.check_method(mine())


def test_it_is_gradient_descent(mine):
    problem = ol.problems.quadratics(n=4, d=6, L=10, mu=1, seed=0)
    assert torch.equal(ol.run(mine(), problem, rounds=20).x, ol.run("gd", problem, rounds=20).x)


def test_it_is_printed_and_a_bad_name_is_refused(capsys):
    page = ol.methods.template("mine")
    assert capsys.readouterr().out.strip() == page.strip() and 'slug = "mine"' in page
    with pytest.raises(ValueError, match="lower case letters"):
        ol.methods.template("My Method")
