"""Memory that is used again: only when nobody holds it, and never with anything of it seen."""

from __future__ import annotations

import gc

import numpy as np
import torch

import octolab as ol
from octolab.federation.buffers import ALIGNED, KEPT, LARGE, Buffers

SHAPE = (4, LARGE // 8)  # float32: twice what counts as large


def place(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def test_memory_comes_back_once_nobody_holds_it():
    buffers = Buffers()
    one = buffers.empty(SHAPE, torch.float32)
    where, view = place(one), one[1:]
    del one
    assert place(buffers.empty(SHAPE, torch.float32)) != where, "a view still holds it"
    held = view.numpy()
    del view
    assert place(buffers.empty(SHAPE, torch.float32)) != where, "a NumPy array still holds it"
    del held
    gc.collect()
    assert place(buffers.empty((SHAPE[1], 2), torch.float64)) == where


def test_small_ones_and_empty_ones_are_torchs_own():
    buffers = Buffers()
    for shape in ((), (0, 5), (3, 0), (10, 10)):
        assert buffers.empty(shape, torch.float64).shape == shape
    assert buffers._kept == []


def test_what_is_given_is_aligned_and_of_the_kind_that_was_asked_for():
    buffers = Buffers()
    for dtype in (torch.float32, torch.float64, torch.int64, torch.bool, torch.bfloat16):
        tensor = buffers.empty((LARGE + 3, 3), dtype)
        assert tensor.dtype == dtype and tensor.shape == (LARGE + 3, 3) and tensor.is_contiguous()
        assert tensor.data_ptr() % ALIGNED == 0
        del tensor


def test_no_more_is_kept_than_is_of_use():
    buffers = Buffers()
    held = [buffers.empty((LARGE + k,), torch.uint8) for k in range(KEPT + 3)]
    assert len(buffers._kept) == KEPT
    held.clear()
    buffers.empty((2 * LARGE,), torch.uint8)
    assert len(buffers._kept) == 1, "free ones that do not fit are given back"


def test_replies_that_somebody_keeps_are_not_written_over():
    problem = ol.problems.Quadratics(np.ones((60, 1, 1)), np.ones((60, 1)))
    fed = ol.Federation(problem, executor=16)

    def client(cohort, x):
        return x.expand(cohort.m, LARGE // 400) + torch.from_numpy(cohort.ids)[:, None]

    def call(value):
        return fed.call(client, torch.full((1,), value, dtype=torch.float64))

    first = call(0.5)
    kept, where = first.stack(), place(first.stack())
    before = kept.clone()
    for value in (1.5, 2.5, 3.5):
        assert float(call(value).stack()[59, 0]) == 59 + value
    assert torch.equal(kept, before)
    del first, kept
    assert place(call(4.5).stack()) == where
