"""Flower's simulation runtime: the nodes live in Ray's processes, the numbers are the same, nothing is left running."""

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.testing.sameness import difference
from tests.flower.cases import CASES, run

pytestmark = [pytest.mark.flower, pytest.mark.slow]
RAY = ol.flower.Simulation(wire="exact")


def test_methods_from_specs_give_the_same_bits():
    here, there = run("ef21", 5, executor="loop"), run("ef21", 5, on=RAY)
    assert difference(here, there) == ""  # memory too: it came home before Ray ended
    assert there.world.traffic.total("payload_up") > 0
    import ray

    assert not ray.is_initialized()


def test_asynchronous_jobs_and_problems_of_given_arrays_do_too():
    """What no spec can say (arrays, pages of one's own) travels with the ClientApp."""
    rng = np.random.default_rng(0)
    A = np.eye(4) * 3.0
    problem = ol.problems.Quadratics([A] * 3, [rng.normal(size=4)] * 3, noise=0.1)
    method, fleet = ol.methods.ASGD(lr=0.05), ol.Fleet(seconds=[1.0, 2.0, 3.5])
    here = ol.run(method, problem, rounds=8, fleet=fleet, executor="loop", live=False)
    there = ol.run(method, problem, rounds=8, fleet=fleet, on=RAY, live=False)
    assert torch.equal(here.x, there.x)
    assert difference(here, there) == ""


def test_scripted_randomness_stays_in_this_process():
    method, problem, _ = CASES["ef21"]
    with pytest.raises(ValueError, match="Scripted randomness cannot be sent to other processes"):
        ol.run(method, problem(), rounds=1, on=RAY, randomness=ol.Scripted(coins=[1]), live=False)
