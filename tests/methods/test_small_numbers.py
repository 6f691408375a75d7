"""Methods on an example small enough to do in one's head.

TWO: f_1 = x^2 - x and f_2 = 2 x^2 - 5 x, gradients 2 x - 1 and 4 x - 5, optimum 1.
ONE: a single client with f = x^2/2 - x + y^2 - 4 y, gradient (x - 1, 2 y - 4), optimum (1, 2).
"""

from __future__ import annotations

import numpy as np
import pytest

import octolab as ol
from octolab.compressors import RandK, TopK
from tests.methods.by_hand import close, iterates

TWO = ol.problems.Quadratics([[[2.0]], [[4.0]]], [[1.0], [5.0]])
ONE = ol.problems.Quadratics([np.diag([1.0, 2.0])], [[1.0, 4.0]])
M = ol.methods
SPEEDS = ol.Fleet(seconds=[1.0, 2.0])

EXAMPLES = [
    # the mean gradient is 3 x - 3
    (M.GD(lr=0.1), TWO, [0, 0.3, 0.51], {}),
    # one client at a time: -1 at 0, then 0.4 - 5 at 0.1
    (M.SGD(lr=0.1, cohort=1), TWO, [0, 0.1, 0.56], {"cohorts": [[0], [1]]}),
    # clients go 0, 0.1, 0.18 and 0, 0.5, 0.8
    (M.FedAvg(lr=0.1, local_steps=2), TWO, [0, 0.49], {}),
    # as FedAvg, then c_1 = -0.9, c_2 = -4, c = -2.45: clients go 0.49, 0.647, 0.7726 and 0.49, 0.639, 0.7284
    (M.SCAFFOLD(lr=0.1, local_steps=2), TWO, [0, 0.49, 0.7505], {}),
    # ... which is what Scaffnew with p = 1/2 does if every second step communicates (h_1 = 1.55 = -h_2)
    (M.Scaffnew(lr=0.1, p=0.5), TWO, [0, 0, 0.49, 0.49, 0.7505], {"coins": [0, 1, 0, 1]}),
    # the message (-1/2, -2) sends -2 and keeps -1/2, which joins the next -1/2
    (M.EF14(lr=0.5, compressor=TopK(1)), ONE, [[0, 0], [0, 2], [1, 2], [1, 2]], {}),
    # g = (-1, -4); at (1/2, 2) the change (1/2, 4) sends 4, so g = (-1, 0)
    (M.EF21(lr=0.5, compressor=TopK(1)), ONE, [[0, 0], [0.5, 2], [1, 2], [1, 2]], {}),
    # g = -3; client 1 alone brings -0.4 for its -1, then client 2 alone -2.72 for its -5
    (M.EF21PP(lr=0.1, cohort=1), TWO, [0, 0.3, 0.57, 0.726], {"cohorts": [[0], [1], [0]]}),
    # sends (-2, 0), h = (-1, 0); sends (0, -8), h = (-1, -4); sends (1.5, 0)
    (
        M.DIANA(lr=0.25, alpha=0.5, compressor=RandK(1)),
        ONE,
        [[0, 0], [0.5, 0], [0.75, 2], [0.625, 3]],
        {"permutations": [[0, 1], [1, 0], [0, 1]]},
    ),
    # g = (-1, -4); the change (1/4, 2) sends (0, 4): g = (-1, 0); then the full gradient (-1/2, -2)
    (
        M.MARINA(lr=0.25, p=0.5, compressor=RandK(1)),
        ONE,
        [[0, 0], [0.25, 1], [0.5, 1], [0.625, 1.5]],
        {"coins": [0, 1, 1], "permutations": [[1, 0]]},
    ),
    # the mean Hessian is 3: one Newton step
    (M.FedNL(), TWO, [0, 1, 1], {}),
    # no layers: Adam, whose first step is adam_lr against the sign
    (M.Muon(adam_lr=0.25, batch_size=None), ONE, [[0, 0], [0.25, 0.25]], {}),
    # arrivals: client 1 at 1 s and 2 s, client 2 at 2 s with its -5 from 0, client 1 at 3 s from 0.18
    (M.ASGD(lr=0.1), TWO, [0, 0.1, 0.18, 0.68, 0.744], {"fleet": SPEEDS}),
    # ... but client 2's gradient is two versions old
    (M.Ringmaster(lr=0.1, R=2), TWO, [0, 0.1, 0.18, 0.18, 0.244], {"fleet": SPEEDS}),
    # without noise and compression: gradient descent
    (M.Shadowheart(lr=0.1, s=0.0, compressor=RandK(1)), TWO, [0, 0.3, 0.51], {}),
]


@pytest.mark.filterwarnings("ignore::octolab.errors.AssumptionWarning")
@pytest.mark.parametrize("method, problem, path, world", EXAMPLES, ids=lambda v: getattr(v, "slug", ""))
def test_the_numbers_done_in_ones_head(method: ol.Method, problem, path, world: dict):
    expected = np.array(path, dtype=float).reshape(len(path), -1)
    fleet = world.get("fleet")
    script = ol.Scripted(**{k: v for k, v in world.items() if k != "fleet"})
    tol = 1e-7 if method.slug == "muon" else 1e-14  # Adam's 1e-8 in the denominator
    close(iterates(method, problem, len(path) - 1, randomness=script, fleet=fleet), expected, tol)
