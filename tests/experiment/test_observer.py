"""What a run sees of its own model: right, thin, and without any influence on the run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.experiment import observer
from octolab.experiment.launch import prepare

M = ol.methods


@pytest.fixture(scope="module")
def network():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 5)).astype("float32"), rng.integers(0, 3, 60)
    return ol.problems.Network(ol.problems.MLP(5, 4, 3), features=np.split(x, 6), labels=np.split(y, 6))


def test_norms_per_layer_are_those_of_the_kept_iterates(network):
    run = ol.run(M.FedAvg(lr=0.1, local_epochs=1, batch_size=5), network, rounds=12, evaluate_every=3, keep="x")
    rounds, weights, updates = run.observer.norms()
    assert rounds.tolist() == [0, 3, 6, 9, 12]
    for at, (number, w, u) in enumerate(zip(rounds.astype(int), weights, updates, strict=True)):
        for k, part in enumerate(network.layers(run.iterates[number]).values()):
            assert w[k] == pytest.approx(float(part.norm()), rel=1e-6)
        if at:
            moved = network.layers(run.iterates[number] - run.iterates[number - 3])
            assert u == pytest.approx([float(v.norm()) / 3 for v in moved.values()], rel=1e-5)
    assert np.isnan(updates[0]).all() and run.observer.layers == [q.name for q in network.layout]


def test_long_runs_keep_few_snapshots(network, monkeypatch):
    monkeypatch.setattr(observer, "MOST", 20)
    run = ol.run(M.FedAvg(lr=0.01, local_epochs=1, batch_size=5), network, rounds=300, evaluate_every=1)
    rounds, _, _ = run.observer.norms()
    assert 10 <= len(rounds) <= 21 and len(set(np.diff(rounds))) == 1


def test_models_of_one_layer_are_watched_only_while_somebody_looks():
    problem = ol.problems.quadratics(n=4, d=6, L=10, mu=1, seed=0)
    run = prepare("gd", problem, rounds=10).advance(4)
    assert len(run.observer.norms()[0]) == 0
    run.observer.watch()
    run.advance(4)
    assert run.observer.norms()[0].tolist() == [4, 5, 6, 7]


def test_clients_are_measured_at_an_evaluation_after_somebody_asked(network):
    run = prepare(M.FedAvg(lr=0.1, local_epochs=1, batch_size=5), network, rounds=10, evaluate_every=2).advance(4)
    assert run.observer.clients == []
    run.observer.ask()
    run.advance(1)
    assert [c.round for c in run.observer.clients] == [4]
    run.advance(2)
    assert len(run.observer.clients) == 1  # asked once
    assert run.observer.clients[0].values["loss"].shape == (6,)


def test_a_run_has_the_same_numbers_with_and_without(network):
    method = M.FedAvg(lr=0.1, local_epochs=1, batch_size=5, cohort=3)
    plain, watched = (prepare(method, network, rounds=8, seed=4) for _ in range(2))
    watched.observer.watch()
    for _ in range(9):
        watched.observer._answered = -1e9  # as if the last answer were long ago
        watched.observer.ask()
        watched.advance()
    plain.finish()
    assert torch.equal(plain.x, watched.x) and len(watched.observer.clients) == 9
    assert plain.history.equals(watched.history)
