"""Samplers choose with the probabilities they declare."""

import numpy as np
import pytest

from octolab.federation import Block, Cyclic, Importance, Nice, Poisson, Randomness, Stratified, Weighted
from octolab.federation.sampling import as_sampler

BLOCKS = ([0, 1, 2], [3, 4], [5])


def frequencies(sampler, n=6, draws=4000):
    counts = np.zeros(n)
    for t in range(draws):
        counts[np.unique(sampler.draw(n, Randomness(0), t))] += 1
    return counts / draws


@pytest.mark.parametrize(
    "sampler",
    [
        Nice(2),
        Nice(0.5),
        Poisson(0.3),
        Poisson([0.1, 0.2, 0.3, 0.4, 0.5, 1.0]),
        Importance([0.1, 0.1, 0.2, 0.2, 0.3, 0.1], m=2),
        Block(BLOCKS, q=[0.5, 0.3, 0.2]),
        Stratified(BLOCKS),
    ],
)
def test_inclusion_probabilities(sampler):
    p = sampler.probabilities(6)
    error = np.abs(frequencies(sampler) - p)
    assert (error <= 5 * np.sqrt(p * (1 - p) / 4000) + 1e-12).all()


def test_weighted_without_replacement_is_successive_sampling():
    """P({0, 1}) for weights (.5, .3, .2): .5 * .3/.5 + .3 * .5/.7."""
    sampler = Weighted([0.5, 0.3, 0.2], m=2)
    hits = np.mean([sampler.draw(3, Randomness(0), t).tolist() == [0, 1] for t in range(4000)])
    exact = 0.5 * 0.3 / 0.5 + 0.3 * 0.5 / 0.7
    assert abs(hits - exact) < 5 * np.sqrt(exact * (1 - exact) / 4000)


def test_cyclic_visits_groups_in_order():
    sampler = Cyclic(BLOCKS)
    assert [sampler.draw(6, Randomness(0), t).tolist() for t in range(4)] == [[0, 1, 2], [3, 4], [5], [0, 1, 2]]


def test_poisson_cohorts_may_be_empty():
    sizes = [len(Poisson(0.2).draw(4, Randomness(0), t)) for t in range(100)]
    assert min(sizes) == 0


def test_one_million_devices():
    chosen = Nice(1000).draw(1_000_000, Randomness(0), 0)
    assert len(np.unique(chosen)) == 1000


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Nice(0), "whole number >= 1"),
        (lambda: Nice(1.5), "share of the clients"),
        (lambda: Nice(7).check(6), "there are only 6 clients"),
        (lambda: Poisson(0.0), r"lie in \(0, 1\]"),
        (lambda: Importance([0.5, 0.6]), "sum to 1"),
        (lambda: Weighted([1.0, 0.0], m=2).check(2), "positive weight"),
        (lambda: Stratified(([0, 1], [1])).check(3), "exactly once"),
        (lambda: as_sampler("all"), "give None"),
    ],
)
def test_bad_samplers_get_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()
