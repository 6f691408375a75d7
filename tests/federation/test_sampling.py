"""Samplers choose with the probabilities they declare."""

import numpy as np
import pytest

import octolab as ol
from octolab.federation import Block, Cyclic, Full, Importance, Nice, Poisson, Randomness, Stratified, Weighted
from octolab.federation.sampling import Filled, ParticipationFloor, Reshuffled, as_blocks, as_sampler, must_come

BLOCKS = ([0, 1, 2], [3, 4], [5])
BLOCKS3 = ([0, 1], [2, 3], [4, 5])


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
        Reshuffled(2),
        Reshuffled(4),
        Filled([1, 4], 3),
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


def test_blocks_may_be_given_by_their_number():
    assert [b.tolist() for b in as_blocks(3, 7)] == [[0, 1, 2], [3, 4], [5, 6]]
    for by_number, by_name in (
        (Cyclic(3), Cyclic(BLOCKS3)),
        (Block(3), Block(BLOCKS3)),
        (Stratified(3), Stratified(BLOCKS3)),
    ):
        assert (by_number.probabilities(6) == by_name.probabilities(6)).all()
        assert all(
            by_number.draw(6, Randomness(0), t).tolist() == by_name.draw(6, Randomness(0), t).tolist()
            for t in range(20)
        )


def test_expected_counts_a_client_as_often_as_it_is_drawn():
    sampler, counts = Importance([0.1, 0.1, 0.2, 0.2, 0.3, 0.1], m=3), np.zeros(6)
    for t in range(4000):
        np.add.at(counts, sampler.draw(6, Randomness(0), t), 1)
    assert np.abs(counts / 4000 - sampler.expected(6)).max() < 5 * np.sqrt(3 * 0.3 * 0.7 / 4000)
    assert (Nice(2).expected(6) == Nice(2).probabilities(6)).all()


def test_reshuffled_cohorts_hold_everybody_once_per_turn_in_a_new_order():
    sampler, orders = Reshuffled(4), set()
    assert sampler.period(10) == 3
    for turn in range(20):
        cohorts = [sampler.draw(10, Randomness(0), 3 * turn + r) for r in range(3)]
        assert sorted(np.concatenate(cohorts).tolist()) == list(range(10)) and [len(c) for c in cohorts] == [4, 4, 2]
        orders.add(str(cohorts))
    assert len(orders) > 15


def test_only_turns_have_a_period():
    assert (Full().period(6), Cyclic(3).period(6), Cyclic(3, m=2).period(6), Cyclic(3, m=1).period(6)) == (
        1,
        3,
        3,
        None,
    )
    assert Nice(2).period(6) is None and Poisson(0.5).period(6) is None


def test_filled_keeps_the_members_and_draws_the_others_by_weight():
    """P(2 comes beside 0) for weights 1, 1, 3 among those left: 3/5."""
    sampler = Filled([0], 2, q=[9, 1, 3, 1])
    cohorts = [sampler.draw(4, Randomness(0), t).tolist() for t in range(4000)]
    assert all(c[0] == 0 and len(c) == 2 for c in cohorts)
    assert abs(np.mean([2 in c for c in cohorts]) - 0.6) < 5 * np.sqrt(0.24 / 4000)


@pytest.mark.parametrize(
    ("n", "m", "k", "rounds"), [(20, 3, 10, 100), (6, 2, 3, 9), (7, 3, 1, 3), (5, 5, 4, 4), (9, 2, 0, 5)]
)
def test_a_participation_floor_is_met_in_every_window_whatever_the_weights(n: int, m: int, k: int, rounds: int):
    for q in (None, np.geomspace(1, 1e6, n)):
        sampler = ParticipationFloor(m, at_least=k, rounds=rounds, q=q)
        for window in range(3):
            cohorts = [sampler.draw(n, Randomness(4), window * rounds + t) for t in range(rounds)]
            assert all(len(np.unique(c)) == m for c in cohorts)
            assert np.bincount(np.concatenate(cohorts), minlength=n).min() >= k


def test_favourites_get_what_the_floor_leaves():
    """n=20, m=3, T=100, k=10: the specification counts 43, 44, 43 and 17 times 10."""
    sampler = ParticipationFloor(3, at_least=10, rounds=100, q=[1e9] * 3 + [1.0] * 17)
    counts = np.bincount(np.concatenate([sampler.draw(20, Randomness(0), t) for t in range(100)]), minlength=20)
    assert sorted(counts[:3].tolist()) == [43, 43, 44] and counts[3:].tolist() == [10] * 17


def test_a_timetable_is_a_function_of_seed_and_event():
    """Any event first, another seed between, a sampler that has seen nothing: always the same cohort."""
    used = ParticipationFloor(2, at_least=2, rounds=8)
    there = [used.draw(6, Randomness(1), t).tolist() for t in range(16)]
    used.draw(6, Randomness(2), 3)
    back = [used.draw(6, Randomness(1), t).tolist() for t in reversed(range(16))]
    assert there == back[::-1] == [ParticipationFloor(2, 2, 8).draw(6, Randomness(1), t).tolist() for t in range(16)]
    assert there[:8] != there[8:]


def test_who_must_come():
    assert must_come(np.array([0, 2, 1, 3]), left=3, m=2, at_least=3).tolist() == [0, 2]  # 6 needs, 4 places later
    assert must_come(np.array([0, 0, 1, 3]), left=4, m=2, at_least=3).tolist() == [0, 1]  # 8 needs, 6 later
    assert must_come(np.array([0, 0, 0, 0]), left=7, m=2, at_least=3).tolist() == []  # 12 needs, 12 places later on
    assert must_come(np.array([0, 3, 3, 3]), left=2, m=2, at_least=3).tolist() == [0]  # too late, but as well as can be


def test_strata_are_found_by_clustering_gradients():
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.arange(3), 4)
    b = 5 * np.eye(3)[kinds] + 0.1 * rng.normal(size=(12, 3))
    order = rng.permutation(12)
    problem = ol.problems.Quadratics(np.tile(np.eye(3), (12, 1, 1)), b[order])
    sampler = Stratified.by_gradients(problem, 3)
    sampler.check(12)
    assert all(len(set(kinds[order][list(block)])) == 1 for block in sampler.blocks) and len(sampler.blocks) == 3
    with pytest.raises(ValueError, match="12 clients make 1 to 12 blocks"):
        Stratified.by_gradients(problem, 13)


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
        (lambda: Poisson(0.0), r"p=0.0: give a number in \(0, 1\]"),
        (lambda: Importance([0.5, 0.6]), "sum to 1"),
        (lambda: Weighted([1.0, 0.0], m=2).check(2), "positive weight"),
        (lambda: Stratified(([0, 1], [1])).check(3), "exactly once"),
        (lambda: Stratified(([0, 1, 2], [])).check(3), "none may be empty"),
        (lambda: Block(4).check(3), "3 clients make 1 to 3 blocks"),
        (lambda: Block(BLOCKS, q=[0.5, 0.5]).check(6), "3 probabilities > 0"),
        (lambda: Block(BLOCKS, q=[0.5, 0.5, 0.0]).check(6), "3 probabilities > 0"),
        (lambda: Cyclic(2, m=4).check(6), "smallest group has 3"),
        (lambda: Reshuffled(7).check(6), "only 6 clients"),
        (lambda: ParticipationFloor(2, at_least=3, rounds=8).check(6), "promised 0 to 2"),
        (lambda: ParticipationFloor(6, at_least=3, rounds=2).check(6), "promised 0 to 2"),
        (lambda: ParticipationFloor(2, 1, 5, q=[1, 2]).check(6), "6 weights > 0"),
        (lambda: ParticipationFloor(2, 1, 5).probabilities(6), "depend on who came before"),
        (lambda: Filled([0], 2, q=[1, 2, 3]).probabilities(3), "leave q out"),
        (lambda: as_sampler("all"), "give None"),
    ],
)
def test_bad_samplers_get_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()
