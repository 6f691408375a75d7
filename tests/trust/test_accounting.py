"""Epsilons against published ones, and what may not be accounted."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest

import octolab as ol

accounting = ol.trust.accounting

TABLE = [  # q, z, T, delta, eps by PLD, eps by RDP: add-or-remove-one
    (1, 1.0, 1, 1e-5, 4.3772, 4.7285),
    (1, 4.0, 10, 1e-5, 3.3414, 3.6171),
    (1, 10.0, 100, 1e-5, 4.3772, 4.7285),
    (0.01, 1.0, 1000, 1e-5, 1.8282, 2.1014),
    (0.01, 4.0, 10000, 1e-5, 0.9470, 1.0355),
    (0.1, 1.0, 100, 1e-5, 7.0466, 7.9039),
    (0.1, 2.0, 100, 1e-5, 2.3374, 2.5806),
    (0.05, 0.8, 200, 1e-4, 6.4726, 7.5100),
    (0.2, 3.0, 300, 1e-6, 6.1162, 6.5588),
    (0.5, 5.0, 50, 1e-3, 2.1044, 2.4038),
    (5000 / 763430, 1.0, 5000, 1e-9, 3.8988, 4.1833),
    (256 / 60000, 1.1, 14062, 1e-5, 2.3817, 2.5966),
    (0.1, 0.5, 20, 1e-3, 9.9873, 12.5607),
    (0.3, 1.5, 30, 1e-2, 3.1084, 3.8457),
]


def rows(table):
    return pytest.mark.parametrize("row", table, ids=lambda row: f"q={row[0]:.3g},z={row[1]:g},T={row[2]}")


@rows(TABLE[1:3] + TABLE[6:7])
def test_the_table(row):
    check(row)


@pytest.mark.slow
@rows(TABLE)
def test_the_whole_table(row):
    check(row)


def check(row) -> None:
    q, z, steps, delta, pld, rdp = row
    assert accounting.epsilon(z, q, steps, delta) == pytest.approx(pld, rel=1e-3)
    assert accounting.epsilon(z, q, steps, delta, accountant="rdp") == pytest.approx(rdp, rel=1e-3)


def test_one_gaussian_is_its_closed_form():
    """delta(eps) = Phi(-eps/mu + mu/2) - e^eps Phi(-eps/mu - mu/2), mu = sqrt(T)/z."""
    phi, mu = NormalDist().cdf, math.sqrt(10) / 4
    e = accounting.epsilon(4.0, steps=10)
    assert phi(-e / mu + mu / 2) - math.exp(e) * phi(-e / mu - mu / 2) == pytest.approx(1e-5, rel=1e-2)


def test_many_gaussians_are_one_of_less_noise():
    assert accounting.epsilon(10.0, steps=100) == pytest.approx(accounting.epsilon(1.0), rel=1e-6)


def test_replacing_one_moves_a_sum_twice_as_far():
    for accountant, value in (("pld", 9.9973), ("rdp", accounting.epsilon(0.5, accountant="rdp"))):
        assert accounting.epsilon(1.0, adjacency="replace-one", accountant=accountant) == pytest.approx(value, rel=1e-3)


def test_cohorts_of_fixed_size_are_not_accounted_as_poisson():
    fixed = accounting.epsilon(
        4.0, steps=100, accountant="rdp", adjacency="replace-one", sampling="fixed-size", clients=100, cohort=10
    )
    assert fixed == pytest.approx(
        5.379, rel=1e-3
    )  # the library's 2.0: it counts in what a replaced unit moves, twice C
    assert fixed > 4 * accounting.epsilon(4.0, 0.1, 100, accountant="rdp")


def test_the_noise_for_a_target_is_enough_and_hardly_more():
    z = accounting.noise_for(epsilon=2, delta=1e-5, sample_rate=0.1, steps=100)
    assert z == pytest.approx(2.2477, rel=1e-3)
    assert accounting.epsilon(z, 0.1, 100) <= 2 < accounting.epsilon(z * 0.999, 0.1, 100)


def test_steps_within_a_budget():
    """The organisations of the specification, by RDP: q=0.2, S=1.5, delta=1e-3."""
    for z, budget, rounds in ((3.0, 1, 21), (1.5, 4, 44)):
        found = accounting.steps_within(budget, z, 0.2, 1e-3, accountant="rdp")
        spent = [accounting.epsilon(z, 0.2, t, 1e-3, accountant="rdp") for t in (found, found + 1)]
        assert spent[0] <= budget < spent[1]
        assert found == pytest.approx(rounds, rel=0.05)  # theirs on whole orders alone


def test_no_noise_is_no_privacy_and_no_release_costs_nothing():
    assert accounting.epsilon(0.0) == math.inf
    assert accounting.epsilon(1.0, steps=0) == 0.0
    assert accounting.zcdp(0.0) == math.inf and accounting.epsilon_of_zcdp(math.inf) == math.inf


def test_zcdp():
    assert accounting.zcdp(1.0) == 0.5
    assert accounting.epsilon_of_zcdp(0.5, 1e-5) == pytest.approx(0.5 + 2 * math.sqrt(0.5 * math.log(1e5)))
    assert accounting.epsilon_of_zcdp(accounting.zcdp(1.0)) > accounting.epsilon(1.0)  # an upper bound


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"noise_multiplier": -1.0}, "noise_multiplier=-1.0: give a number >= 0"),
        ({"noise_multiplier": 1.0, "sample_rate": 0}, r"sample_rate=0.0: give a probability in \(0, 1\]"),
        ({"noise_multiplier": 1.0, "steps": 1.5}, "steps=1.5: give a whole number >= 0"),
        ({"noise_multiplier": 1.0, "delta": 0}, "delta=0.0: give a number in"),
        ({"noise_multiplier": 1.0, "accountant": "magic"}, "accountant='magic': choose 'pld' or 'rdp'"),
        ({"noise_multiplier": 1.0, "adjacency": "nobody"}, "adjacency='nobody': choose"),
        (
            {"noise_multiplier": 1.0, "sample_rate": 0.1, "adjacency": "replace-one"},
            "'replace-one' with Poisson sampling: no accountant here covers it",
        ),
        (
            {"noise_multiplier": 1.0, "sampling": "fixed-size"},
            "is covered by accountant='rdp' and adjacency='replace-one'",
        ),
    ],
)
def test_what_cannot_be_accounted_is_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        accounting.epsilon(**arguments)


def test_a_guarantee_says_all_that_it_depends_on():
    text = repr(accounting.Guarantee(1.5, 1e-5, 100, 1.0, 0.1, "poisson", "add-or-remove-one", "pld"))
    for word in ("(1.5, 1e-05)-DP", "one client", "add-or-remove-one", "100 releases", "multiplier 1", "0.1", "PLD"):
        assert word in text
