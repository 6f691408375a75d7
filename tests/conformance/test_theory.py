"""Theory values and stated rates, with other compressors and settings than the defaults, under unequal weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.compressors import Bernoulli, Bucketed, Compressor, Identity, Natural, PermK, RandK, Scaled, TopK
from octolab.errors import OutsideAssumptions, UnknownConstant
from octolab.federation import Cyclic, Importance, Reshuffled
from octolab.testing.problems import quiet
from octolab.testing.theory import WEIGHTS, theory

M = ol.methods
STATED = [
    M.DCGD(Identity()),
    M.DIANA(PermK()),
    M.DIANA(RandK(1)),
    M.DIANA(RandK(3) | Natural()),
    M.DIANA(Bernoulli(0.3, RandK(3), scaled=True)),
    M.EF21(Scaled(RandK(2))),
    M.EF21(start="zero", smoothness="quadratic"),
    M.EF21BC(TopK(3), TopK(3)),
    M.FedAvg(local_steps=1, server_lr=0.7),
    M.FedDyn(solver="exact"),
    M.FLIX(alpha=0.3),
    M.LoCoDL(PermK()),
    M.LoCoDL(RandK(2)),
    M.MARINA(PermK()),
    M.MARINA(RandK(1)),
    M.Scafflix(alpha=0.3),
    M.SCAFFOLD(local_steps=2, cohort=3),
    M.SGD(batch_size=None),
]


@pytest.mark.parametrize("method", STATED, ids=repr)
def test_a_stated_rate_is_kept_to_2_percent_whatever_the_weights(method: ol.Method):
    remark = theory(method, None)
    assert remark is not None and remark.count("<=") == len(WEIGHTS), remark


@pytest.mark.parametrize("method", [M.DCGD(PermK()), M.DCGD(RandK(1)), M.CompressedScaffnew()], ids=repr)
def test_where_no_rate_is_proved_for_weights_it_converges_and_states_none(method: ol.Method):
    assert "no rate stated" in (theory(method, None) or "")


@pytest.mark.parametrize("method", [M.RRCLI(batch_size=None), M.SPPMAS(), M.EF21Plus(Scaled(RandK(2)))], ids=repr)
def test_no_rate_is_stated_where_only_a_neighbourhood_or_nothing_is_proved(method: ol.Method):
    p = ol.problems.quadratics(n=6, d=5)
    with quiet():
        assert method.resolve(p).proved_rate(p) is None


@pytest.mark.parametrize("cohort", [Cyclic(3), Reshuffled(2)], ids=repr)
@pytest.mark.parametrize("method", [M.EF21PP, M.EF21W, M.SCAFFOLD])
def test_cohorts_that_depend_on_those_before_have_no_step_from_theory(method: type[ol.Method], cohort: object):
    p = ol.problems.quadratics(n=6, d=5)
    with pytest.raises(UnknownConstant, match=r"drawn afresh.*Give lr"):
        method(cohort=cohort).resolve(p)
    assert method(cohort=cohort, lr=0.01).resolve(p).proved_rate(p) is None


@pytest.mark.parametrize("method", [M.EF21PP, M.EF21W, M.SCAFFOLD, M.FedDyn])
def test_a_client_that_changes_its_memory_comes_once_a_round(method: type[ol.Method]):
    with pytest.raises(OutsideAssumptions, match="twice"):
        method(cohort=Importance([0.25] * 4, 2)).resolve(ol.problems.quadratics(n=4, d=5))


COMPRESSORS = {
    "PermK": lambda n: PermK(),
    "RandK": lambda n: RandK(2),
    "chain": lambda n: PermK(n) | Natural(),
    "coin": lambda n: Bernoulli(0.5, PermK(n), scaled=True),
    "buckets": lambda n: Bucketed(RandK(1), 2),
}


@pytest.mark.parametrize(("n", "d"), [(3, 9), (6, 6), (7, 3), (12, 6)])
@pytest.mark.parametrize("make", COMPRESSORS.values(), ids=COMPRESSORS)
def test_the_variance_of_a_weighted_mean_is_at_most_mean_omega(make: Callable[[int], Compressor], n: int, d: int):
    rng, C, times = np.random.default_rng(n + d), make(n), 300
    weights = torch.from_numpy(rng.dirichlet(np.full(n, 0.5)))
    v = torch.from_numpy(rng.normal(size=(n, d)) * rng.uniform(0.1, 3, size=(n, 1)))
    v[weights.argmax()] *= 5 / float(weights.max())  # nearly all of it from the heaviest
    draws = [ol.Randomness(0).draws(n, event=t) for t in range(times)]
    errors = [float(((weights @ (C(v, each).dense() - v)) ** 2).sum()) for each in draws]
    bound = C.mean_omega(d, weights) * float(weights @ (v**2).sum(1))
    assert np.mean(errors) <= bound * (1 + 4 / np.sqrt(times))
    equal = torch.full((n,), 1 / n)
    assert C.mean_omega(d, equal) <= C.mean_omega(d, weights) * (1 + 1e-9)
