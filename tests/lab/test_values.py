"""Things show their present values: as cards in notebooks, with what the user set marked, and as text."""

from __future__ import annotations

import ast
import re

import pytest

import octolab as ol
from octolab.lab import values

M, C = ol.methods, ol.compressors


@pytest.fixture(scope="module")
def problem():
    return ol.problems.quadratics(n=4, d=6, L=10, mu=1, seed=0)


@pytest.fixture(scope="module")
def digits():
    return ol.problems.classification("digits", clients=5)


def rows(html: str, mark: str) -> list[str]:
    """The names in a card's rows with this mark."""
    return re.findall(rf"<tr{mark}><td>(\w+)</td>", html)


def test_a_methods_card_marks_what_is_set_and_only_that():
    html = M.EF21(lr=0.25)._repr_html_()
    assert rows(html, " class=octo-set") == ["lr"] and "compressor" in rows(html, "")
    assert rows(M.EF21()._repr_html_(), " class=octo-set") == []
    assert "ol.methods.EF21(lr=0.25)</code><button" in html and "Richtárik" in html


def test_a_run_says_what_theory_gives_on_its_problem(problem):
    run = ol.run(M.EF21(lr=ol.Theory(2)), problem, rounds=1)
    number = f"{run.method.lr:.4g}"
    assert f"theory: lr = {number}" in repr(run)
    assert f"<td>{number} = Theory(2)</td>" in run._repr_html_()
    assert "theory:" not in repr(ol.run(M.EF21(lr=0.1), problem, rounds=1))


def test_a_schedule_of_theory_shows_the_step_of_the_round(problem):
    run = ol.run(M.GD(lr=ol.schedules.Step(ol.Theory(), every=1, factor=0.5)), problem, rounds=3)
    assert f"theory: lr = {run.method.lr:.4g}" in repr(run) and run.method.lr == pytest.approx(0.1 / 4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: C.TopK(0.25), ["TopK", "0.25", "ol.compressors.TopK(0.25)"]),
        (lambda: ol.Fleet(seconds=[1.0, 2.0]), ["seconds", "ol.Fleet("]),
        (lambda: ol.federation.Nice(3), ["Nice", "ol.federation.Nice(3)"]),
        (lambda: ol.schedules.Cosine(0.1, rounds=5), ["Cosine", "ol.schedules.Cosine(0.1"]),
        (lambda: ol.local.SGD(momentum=0.9), ["SGD", "ol.local.SGD(momentum=0.9)"]),
        (lambda: ol.data.Dirichlet(alpha=0.25), ["Dirichlet", "ol.data.Dirichlet(alpha=0.25)"]),
        (lambda: ol.aggregators.CoordinateMedian(), ["CoordinateMedian"]),
        (lambda: ol.data.load("digits"), ["samples", "CC BY 4.0", "ol.data.load('digits')"]),
    ],
)
def test_every_kind_of_thing_has_a_card_with_the_text_that_makes_it(make, words):
    html = make()._repr_html_().replace("&#x27;", "'")
    assert not [word for word in words if word not in html]
    assert "<script" not in html


def test_a_problems_card_has_its_constants(problem, digits):
    html = problem._repr_html_()
    assert "<td>L</td><td>10</td>" in html and "<td>kappa</td><td>10</td>" in html
    assert f"{digits.sizes.sum():,}" in digits._repr_html_() and "ol.problems.from_spec(" in digits._repr_html_()


def test_what_a_problems_card_copies_makes_the_problem_again(problem):
    code = re.search(r'octo-python">(.*?)</code>', problem._repr_html_()).group(1).replace("&quot;", '"')
    inside = code.removeprefix("ol.problems.from_spec(").removesuffix(")")
    assert ol.problems.from_spec(ast.literal_eval(inside)).spec == problem.spec


def test_cards_take_the_colours_of_the_notebook():
    css = values.sheet()
    assert "--jp-content-font-color1" in css and "--vscode-editor-foreground" in css
    assert re.search(
        r'jp-theme-light="false".*?svg \[stroke=\'#000000\'\]\{stroke:#F2F2F2\}', css
    )  # black lines stand out


def test_a_comparison_tests_the_first_method_against_the_others(digits):
    methods = {"a": M.FedAvg(cohort=2, lr=0.1), "b": M.FedAvg(cohort=2, lr=0.01)}
    found = ol.compare(methods, digits, rounds=4, seeds=(0, 1, 2))
    (test,) = found.tests
    assert (test.first, test.second, test.seeds) == ("a", "b", 3) and test.difference < 0
    assert str(test) in repr(found) and "paired t-test" in found._repr_html_()
    assert ol.compare(methods, digits, rounds=1).tests == []


def test_what_has_no_randomness_is_said_beside_the_chart_too(problem):
    found = ol.compare(["gd"], problem, rounds=2, seeds=(0, 1))
    assert found.tests == [] and "nothing random was left" in found._repr_html_()
