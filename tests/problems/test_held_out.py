"""The test part is checked exactly like the training part."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from octolab.data.errors import DataWarning
from octolab.problems import Logistic, Network, Softmax

RNG = np.random.default_rng(0)
X = [RNG.normal(size=(m, 4)).astype("f4") for m in (7, 12)]
C = [RNG.integers(0, 3, m) for m in (7, 12)]
SIGNS = [np.where(c > 0, 1, -1) for c in C]

MAKERS = {
    "network": (lambda **more: Network(nn.Linear(4, 3), "cross_entropy", X, C, **more), C),
    "softmax": (lambda **more: Softmax(X, C, 3, **more), C),
    "logistic": (lambda **more: Logistic(X, SIGNS, **more), SIGNS),
}
BAD = {
    "one label missing": (lambda x, y: (x, y[:-1]), "not equally many"),
    "nan": (lambda x, y: (x * np.nan, y), "inf or nan"),
    "a feature too few": (lambda x, y: (x[:, :3], y), "Both must be alike"),
    "labels out of range": (lambda x, y: (x, y + 7), "run from|needs -1"),
    "labels that are not whole": (lambda x, y: (x, y + 0.5), "whole numbers"),
    "text": (lambda x, y: (x, np.array(["a"] * len(y))), "text"),
    "no pair": (lambda x, y: x, "give a pair"),
}


@pytest.mark.parametrize("whole", [False, True], ids=["by client", "global"])
@pytest.mark.parametrize("fault", BAD)
@pytest.mark.parametrize("kind", MAKERS)
def test_a_test_part_that_does_not_fit_is_refused(kind, fault, whole):
    make, y = MAKERS[kind]
    spoil, words = BAD[fault]
    pair = spoil(X[0], y[0])
    with pytest.raises(ValueError, match=words):
        make(global_test=pair) if whole else make(test=[pair, (X[1], y[1])])


@pytest.mark.parametrize("kind", MAKERS)
def test_a_test_part_on_another_scale_is_warned_of(kind):
    make, y = MAKERS[kind]
    with pytest.warns(DataWarning, match="two scales"):
        make(test=[(255 * x, t) for x, t in zip(X, y, strict=True)])


@pytest.mark.parametrize("kind", MAKERS)
def test_column_labels_mean_what_flat_ones_mean(kind):
    make, y = MAKERS[kind]
    p = make(test=list(zip(X, y, strict=True)))
    q = make(test=[(x, t[:, None]) for x, t in zip(X, y, strict=True)])
    x = torch.linspace(-1, 1, p.d, dtype=p.dtype)
    assert p.test_metrics(x) == q.test_metrics(x)
    assert p.client_accuracy(x).tolist() == q.client_accuracy(x).tolist()
