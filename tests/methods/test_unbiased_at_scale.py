"""A thousand clients with 7,850 numbers each: unbiased compression and local training run stacked."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

import octolab as ol


@cache
def softmax() -> ol.problems.Softmax:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((1000, 4, 784), dtype=np.float32), rng.integers(0, 10, (1000, 4))
    return ol.problems.Softmax(list(x), list(y), 10, l2=1e-3, dtype=torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("slug", ["dcgd", "compressed-scaffnew", "locodl", "bicolor", "fedcomloc"])
def test_it_runs(slug: str):
    problem = softmax()
    numbers = {} if slug == "dcgd" else {"p": 0.5}
    script = ol.Scripted(coins=[0, 1, 0, 1])
    run = ol.run(ol.methods.get(slug)(lr=0.05, **numbers), problem, rounds=4, live=False, randomness=script)
    assert run.status == "finished" and problem.d == 7850 and run.x.dtype == torch.float32
    assert run.metrics()["loss"] < 1.01 * problem.value(problem.x0) and bool((run.x != 0).any())
    assert float(run.history.bits_up.iloc[-1]) < (4 if slug == "dcgd" else 2) * 32 * 7850 / 2
