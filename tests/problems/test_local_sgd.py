"""Local training is what its definition says, on every problem and every tier."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from octolab.problems import Batch

OPTIONS = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "prox": {"prox": 0.7},
    "correction": {"correction": True},
    "own steps": {"lr": True},
    "everything": {"momentum": 0.5, "prox": 0.7, "correction": True, "lr": True},
}


def by_hand(problem, x, ids, lr, steps, batch=None, momentum=0.0, prox=0.0, correction=None):
    """One client after the other, one step after the other."""
    out = []
    for k, i in enumerate(ids):
        start = x if x.dim() == 1 else x[k]
        y, v, rate = start, 0, lr if isinstance(lr, float) else float(lr[k])
        for t in range(steps):
            b = None
            if batch is not None:
                index = batch.index[t, k] if batch.mask is None else batch.index[t, k][batch.mask[t, k]]
                if len(index) == 0:
                    continue
                b = Batch(index[None], None, None)
            g = problem.grad(y, slice(i, i + 1), b)[0]
            v = momentum * v + g + (0 if correction is None else correction[k])
            y = y - rate * (v + prox * (y - start))
        out.append(y)
    return torch.stack(out)


def arguments(problem, name, m):
    rng = np.random.default_rng(7)
    given = dict(OPTIONS[name])
    if given.get("correction"):
        given["correction"] = torch.from_numpy(rng.normal(size=(m, problem.d)))
    given["lr"] = torch.from_numpy(rng.uniform(0.01, 0.1, m)) if given.get("lr") else 0.05
    return given


def schedule(problem, ids, steps, kind):
    """Batches of 3: all whole, the last short, or clients that rest at first, in between and at the end."""
    rng = np.random.default_rng(8)
    index = torch.from_numpy(rng.integers(0, problem.sizes[ids][None, :, None], (steps, len(ids), 3)))
    if kind == "whole":
        return Batch(index, None, None)
    mask = torch.ones(steps, len(ids), 3, dtype=torch.bool)
    mask[-1, :, 2] = False
    if kind == "resting":
        mask[2:, 0], mask[1, 1], mask[0, 2] = False, False, False
        mask[1, 2, 1:] = False
    return Batch(index * mask, mask, None)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("cohort", [None, slice(1, 4), torch.tensor([2, 0, 3])])
def test_full_batches(problem, point, name, cohort):
    ids = torch.arange(problem.n)[slice(None) if cohort is None else cohort].tolist()
    given = arguments(problem, name, len(ids))
    y = problem.local_sgd(point, cohort, steps=4, **given)
    assert torch.allclose(y, by_hand(problem, point, ids, steps=4, **given), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("batches", ["whole", "short", "resting"])
def test_minibatches(sampled, name, batches):
    problem, ids = sampled, [2, 0, 3]
    x = torch.from_numpy(np.random.default_rng(4).normal(size=(3, problem.d)))
    given = arguments(problem, name, 3)
    batch = schedule(problem, ids, 5, batches)
    y = problem.local_sgd(x, torch.tensor(ids), steps=5, batch=batch, **given)
    assert torch.allclose(y, by_hand(problem, x, ids, steps=5, batch=batch, **given), rtol=1e-12, atol=1e-13)


def test_the_start_is_left_alone(problem, point):
    before = point.clone()
    problem.local_sgd(point, None, lr=0.1, steps=2, momentum=0.5)
    assert torch.equal(point, before)


def test_no_step_is_no_move(problem, point):
    assert torch.equal(problem.local_sgd(point, None, lr=0.1, steps=0), point.expand(problem.n, -1))
