"""A card's plain maths as LaTeX: balanced, nothing lost, for every card there is."""

from __future__ import annotations

import re

import pytest

import octolab as ol
from octolab.lab.latex import GREEK, algorithm, formula, latex, prose, tokens

CARDS = ol.methods.cards()
PARTS = ("algorithm", "assumes", "step_size", "up", "down", "unconfirmed")
LINES = [(c.slug, line) for c in CARDS for part in PARTS for line in getattr(c, part).splitlines()]


def balanced(text):
    """Whether dollars pair up and braces close inside each pair."""
    pieces = re.split(r"(?<!\\)\$", text)
    assert len(pieces) % 2 == 1, f"an odd number of dollars: {text}"
    for piece in pieces[1::2]:
        depth = 0
        for sign in re.sub(r"\\[{}]", "", piece):
            depth += (sign == "{") - (sign == "}")
            assert depth >= 0, f"closed before it opened: {piece}"
        assert depth == 0, f"never closed: {piece}"
        assert piece.strip(), f"empty maths in {text}"
    return pieces


@pytest.mark.parametrize("slug", [c.slug for c in CARDS])
def test_every_card_is_balanced(slug):
    for name, line in LINES:
        if name == slug:
            balanced(latex(line))


@pytest.mark.parametrize("slug", [c.slug for c in CARDS])
def test_no_card_loses_a_letter_or_a_number(slug):
    for name, line in LINES:
        if name != slug:
            continue
        assert "".join(t.source for t in tokens(line)) == line
        for token in tokens(line):
            assert token.kind == "space" or token.latex.strip(), f"{token} says nothing in {line!r}"
        out = latex(line)
        for word in re.findall(r"\d+(?:\.\d+)?", line):
            assert word in out, f"{word} of {line!r} is lost in {out!r}"
        kept = re.sub(r"\\([A-Za-z]+)|[^A-Za-z]", lambda m: m[1] or "", out)
        for letter in re.findall(r"(?<![A-Za-z])[b-zB-Z](?![A-Za-z])", line):
            assert letter in kept, f"{letter} of {line!r} is lost in {out!r}"


@pytest.mark.parametrize("slug", [c.slug for c in CARDS])
def test_every_card_as_html_holds_no_mark_up_of_its_own(slug):
    card = next(c for c in CARDS if c.slug == slug)
    html = algorithm(card.algorithm) + prose(card.assumes)
    assert "<script" not in html and not re.search(r"<(?!/?div)", html)
    assert html.count("margin-left") == len([line for line in card.algorithm.splitlines() if line.strip()])


@pytest.mark.parametrize("slug", [c.slug for c in CARDS])
def test_every_theorem_is_balanced_latex(slug):
    balanced(next(c for c in CARDS if c.slug == slug).theorem)


@pytest.mark.parametrize(
    ("plain", "wanted"),
    [
        ("x <- x - lr * g", r"$x \leftarrow x - \mathrm{lr} \cdot g$"),
        ("grad f_i(x*)", r"$\nabla f_{i} ( x^{\star} )$"),
        ("c_i+ - c_i", r"$c_{i}^{+} - c_{i}$"),
        ("x_{k+1} = x_k - lr_k g", r"$x_{k + 1} = x_{k} - \mathrm{lr}_{k} g$"),
        ("sends x, then y", "sends $x$, then $y$"),
        ("sqrt(lr mu)", r"$\sqrt{\mathrm{lr} \, \mu}$"),
        ("E|C(v) - v|^2 <= omega |v|^2", r"$\mathbb{E} | C ( v ) - v |^{2} \le \omega | v |^{2}$"),
        ("f_i is L_i-smooth", "$f_{i}$ is $L_{i}$-smooth"),
        ("f is mu-strongly convex", r"$f$ is $\mu$-strongly convex"),
        ("f + s/2 <g, v>", r"$f + s / 2 \langle g , v \rangle$"),
        ("[H]_mu^-1 g", r"$[ H ]_{\mu}^{- 1} g$"),
        ("server_lr * mean c_i", r"$\mathrm{server\_lr} \cdot \operatorname{mean} c_{i}$"),
        ("the mean of what came", "the mean of what came"),
        ("client i: (a step)", "client $i$: (a step)"),
        ("EF21's, that it was", "EF21's, that it was"),
        ("d x d numbers", r"$d \times d$ numbers"),
        ("x_{k - delay}", r"$x_{k - \text{delay}}$"),
        ("1e-7 and 0.05", r"$1 \cdot 10^{-7}$ and $0.05$"),
        ("costs $5", r"costs $\$ 5$"),
    ],
)
def test_what_a_line_becomes(plain, wanted):
    assert latex(plain) == wanted


def test_a_name_of_a_hyperparameter_as_a_formula():
    assert formula("lr") == r"\mathrm{lr}"
    assert formula("alpha") == r"\alpha"
    assert all(formula(g) == f"\\{g}" for g in GREEK)
    assert formula("local_steps") == r"\mathrm{local\_steps}"
