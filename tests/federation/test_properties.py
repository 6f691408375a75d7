"""Whatever is sampled: cohorts are ascending client numbers, the same at the same address, and as large as was said."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from octolab.federation.sampling import Cyclic, Importance, Nice, Poisson, Stratified, Weighted
from octolab.randomness import Randomness

pytestmark = pytest.mark.slow
FIXED = settings(deadline=None, derandomize=True, max_examples=150)


@st.composite
def samplers(draw):
    n = draw(st.integers(1, 60))
    q = np.array(draw(st.lists(st.floats(0.01, 1), min_size=n, max_size=n)))
    m, blocks = draw(st.integers(1, n)), draw(st.integers(1, n))
    kinds = [
        Nice(m),
        Poisson(draw(st.floats(0.01, 1))),
        Importance(tuple(q / q.sum()), m),
        Weighted(tuple(q / q.sum()), m),
    ]
    return n, draw(st.sampled_from([*kinds, Stratified(blocks), Cyclic(blocks)]))


@FIXED
@given(samplers(), st.integers(0, 10**6), st.integers(0, 2**31))
def test_cohorts_are_client_numbers_and_depend_on_their_address_alone(drawn, event, seed):
    n, sampler = drawn
    try:
        sampler.check(n)
    except ValueError:
        assume(False)
    cohort = sampler.draw(n, Randomness(seed), event)
    assert np.array_equal(cohort, sampler.draw(n, Randomness(seed), event))
    assert ((cohort >= 0) & (cohort < n)).all() and (np.diff(cohort) >= 0).all()
    if isinstance(sampler, Nice):
        assert len(set(cohort.tolist())) == len(cohort) == sampler.m


@FIXED
@given(st.integers(1, 50), st.integers(1, 300), st.integers(0, 10**9), st.integers(0, 10**6))
def test_a_subset_is_distinct_and_a_clients_draws_do_not_depend_on_the_others(clients, size, seed, event):
    k = max(1, size // 3)
    draws = Randomness(seed).draws(clients, event).subset(size, k, "demo")
    assert draws.shape == (clients, k) and int(draws.min()) >= 0 and int(draws.max()) < size
    assert all(len(set(row)) == k for row in draws.tolist())
    alone = Randomness(seed).draws([clients - 1], event).subset(size, k, "demo")
    assert alone.tolist() == draws[-1:].tolist()
