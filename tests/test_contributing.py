"""CONTRIBUTING's page of a method is a real one, and not one that the catalogue has already."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

import octolab as ol
from octolab.compressors import Identity, RandK
from tests.methods.by_hand import close, gradients, iterates, mean, permutations, rand

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "contributed_page.py"
    path.write_text(re.search(r"````python\n(.*?)````", TEXT, re.DOTALL)[1], encoding="utf-8")
    spec = importlib.util.spec_from_file_location("contributed_page", path)
    sys.modules["contributed_page"] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules["contributed_page"]


def test_the_method_in_contributing_keeps_every_promise(page):
    ol.testing.check_method(page.RandDIANA())
    assert page.RandDIANA.slug not in ol.methods.slugs() and page.RandDIANA().card.theorem


def test_the_method_in_contributing_does_what_its_card_says(page):
    p = ol.problems.quadratics(n=3, d=6, L=8, seed=1)
    coins, grad, x, h, lr = [0, 1, 0, 0, 1, 0], gradients(p), p.x0.numpy(), [p.x0.numpy()] * 3, 0.02
    given = permutations(coins.count(0), 3, 6)
    use, path = iter(given), [x]
    for coin in coins:
        change, server = [grad[i](x) - h[i] for i in range(3)], mean(h)
        if coin:
            h = [h[i] + change[i] for i in range(3)]
        else:
            pi = next(use)
            change = [rand(change[i], 2, pi[i]) for i in range(3)]
        x = x - lr * (server + mean(change))
        path.append(x)
    method = page.RandDIANA(compressor=RandK(2), lr=lr, p=0.3)
    close(iterates(method, p, 6, randomness=ol.Scripted(coins=coins, permutations=given)), path)
    gd = iterates(ol.methods.GD(lr=lr), p, 20)
    close(iterates(page.RandDIANA(compressor=Identity(), lr=lr), p, 20), gd, 1e-12)
    assert page.RandDIANA().resolve(p).rate(p) == pytest.approx(1 - page.RandDIANA().resolve(p).lr * p.mu)
