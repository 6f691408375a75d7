"""Flower's simulation runtime: the nodes live in Ray's processes, the numbers are the same, nothing is left running."""

import importlib.util
import threading

import flwr.simulation
import numpy as np
import pytest
import torch
from flwr.app import Context, RecordDict

import octolab as ol
from octolab.flower.grid import InProcessGrid
from octolab.testing.sameness import difference
from tests.flower.cases import CASES, run

pytestmark = pytest.mark.flower
RAY = ol.flower.Simulation(wire="exact")


@pytest.mark.slow
def test_methods_from_specs_give_the_same_bits():
    here, there = run("ef21", 5, executor="loop"), run("ef21", 5, on=RAY)
    assert difference(here, there) == ""  # memory too: it came home before Ray ended
    assert there.world.traffic.total("payload_up") > 0
    import ray

    assert not ray.is_initialized()


@pytest.mark.slow
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


# -- a runtime that breaks -------------------------------------------------------------------------------------------
class Silent(InProcessGrid):
    """Nodes that are listed and never answer, as while Ray has not started."""

    def push_messages(self, messages):
        ids = list(super().push_messages(messages))
        self._replies.clear()
        return ids


class Breaking(InProcessGrid):
    """Nodes that answer until the runtime breaks, in round 3."""

    broken = threading.Event()

    def push_messages(self, messages):
        messages = list(messages)
        ids = list(super().push_messages(messages))
        self.count = getattr(self, "count", 0) + 1
        if self.count > 4:
            self._replies.clear()
            self.broken.set()
        return ids


def runtime(grid, until, reason):
    """What stands in for `run_simulation`: it hands the grid over, and some time later it breaks as flwr does."""

    def run_simulation(server_app, client_app, num_supernodes, **_):
        given = grid(client_app, num_supernodes)
        context = Context(1, 0, {}, RecordDict(), {})
        threading.Thread(target=server_app, args=(given, context), daemon=True).start()
        until.wait(60)
        try:
            raise reason
        except Exception as error:
            raise RuntimeError("An error was encountered. Ending simulation.") from error

    return run_simulation


NO_START = TimeoutError("Timed out waiting for file /tmp/ray/session/node_ip_address.json")


def test_ray_that_cannot_start_is_reported_at_once_in_its_own_words(monkeypatch):
    """Not as missing SuperNodes, five minutes later: patience is never waited for."""
    now = threading.Event()
    now.set()
    monkeypatch.setattr(flwr.simulation, "run_simulation", runtime(Silent, now, NO_START))
    with pytest.raises(ol.errors.OctolabError, match=r"runtime broke: TimeoutError: Timed out waiting for file"):
        run("ef21", 2, on=ol.flower.Simulation(patience=1e6, timeout=1e6))


def test_a_runtime_that_breaks_in_mid_run_is_reported_at_once(monkeypatch):
    reason = MemoryError("the worker died")
    monkeypatch.setattr(flwr.simulation, "run_simulation", runtime(Breaking, Breaking.broken, reason))
    with pytest.raises(RuntimeError, match=r"runtime broke: MemoryError: the worker died.*on='flower' runs the same"):
        run("ef21", 9, on=ol.flower.Simulation(patience=1e6, timeout=1e6))


def test_without_ray_the_sentence_names_the_extra(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else find(name, *rest))
    with pytest.raises(ImportError, match=r"needs Ray, which is not installed: pip install 'octolab\[flower\]'"):
        run("ef21", 2, on=ol.flower.Simulation())
