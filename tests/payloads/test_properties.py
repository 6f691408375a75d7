"""Whatever is sent: the bytes are the bits, and the way back gives what was sent, every real rounded to float32."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import octolab as ol
from octolab.payloads import Dense, Masked, Payload, Scalars, Sparse
from octolab.randomness import Randomness

pytestmark = pytest.mark.slow
FIXED = settings(deadline=None, derandomize=True, max_examples=60)
REALS = st.floats(-1e6, 1e6, width=32)
MATRICES = st.tuples(st.integers(1, 4), st.integers(1, 40)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=REALS)
)


def same_after_the_wire(payload):
    sent = payload.encode()
    assert [len(data) for data in sent] == [math.ceil(bits / 8) for bits in payload.bits.tolist()]
    back = Payload.decode(sent, json.loads(json.dumps(payload.meta))).dense()
    assert torch.equal(back.float(), payload.dense().float())


@FIXED
@given(MATRICES)
def test_dense_and_scalars_survive_the_wire(values):
    x = torch.from_numpy(values)
    same_after_the_wire(Dense(x))
    same_after_the_wire(Scalars(x[:, 0].clone()))


@FIXED
@given(MATRICES, st.data())
def test_masked_and_sparse_survive_the_wire(values, data):
    x, (m, d) = torch.from_numpy(values), values.shape
    mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=d, max_size=d)))
    same_after_the_wire(Masked(x, mask))
    k = data.draw(st.integers(1, d))
    index = torch.stack([torch.tensor(data.draw(st.permutations(range(d)))[:k]) for _ in range(m)])
    for code in ("auto", "list", "bitmap", "enum"):
        sparse = Sparse(x.gather(1, index), index, d, code)
        same_after_the_wire(sparse)
        assert torch.equal(sparse.dense().gather(1, index), x.gather(1, index))


COMPRESSORS = [
    ol.compressors.TopK(0.3),
    ol.compressors.RandK(0.3),
    ol.compressors.QSGD(4),
    ol.compressors.Natural(),
    ol.compressors.TopK(0.5) | ol.compressors.Natural(),
]


@FIXED
@given(MATRICES, st.sampled_from(COMPRESSORS), st.integers(0, 10**6))
def test_what_compressors_send_survives_the_wire(values, compressor, event):
    x = torch.from_numpy(values)
    same_after_the_wire(compressor(x, Randomness(0).draws(len(x), event)))


@FIXED
@given(MATRICES, st.data())
def test_the_sum_of_sparse_messages_is_the_sum_of_what_they_stand_for(values, data):
    x, (m, d) = torch.from_numpy(values).double(), values.shape
    k = data.draw(st.integers(1, d))
    index = torch.stack([torch.tensor(data.draw(st.permutations(range(d)))[:k]) for _ in range(m)])
    sparse = Sparse(x.gather(1, index), index, d)
    assert torch.allclose(sparse.sum(), sparse.dense().sum(0), rtol=1e-12, atol=1e-9)
