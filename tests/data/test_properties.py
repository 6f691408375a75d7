"""However data are split: every sample has one owner, nobody is left with nothing, and the split's spec gives it again."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import octolab as ol

pytestmark = pytest.mark.slow
FIXED = settings(deadline=None, derandomize=True, max_examples=60)
DIGITS = ol.data.load("digits")
SPLITS = st.one_of(
    st.just(ol.data.IID()),
    st.floats(0.05, 10).map(lambda alpha: ol.data.Dirichlet(alpha=alpha)),
    st.integers(1, 4).map(lambda k: ol.data.Shards(per_client=k)),
)


@FIXED
@given(SPLITS, st.integers(1, 40), st.integers(0, 10**6))
def test_every_sample_has_one_owner(split, clients, seed):
    try:
        partition = split.split(DIGITS, clients, seed=seed)
    except ValueError as error:
        assume("clients" not in str(error))
        raise
    owned = np.concatenate([*partition.train, *partition.test])
    assert len(np.unique(owned)) == len(owned) and set(owned.tolist()) <= set(range(len(DIGITS.x)))
    assert (partition.sizes > 0).all() and len(partition.train) == clients
    again = ol.data.split_from_spec(partition.spec["split"]).split(DIGITS, clients, seed=seed)
    assert all(np.array_equal(a, b) for a, b in zip(partition.train, again.train, strict=True))
