"""All data in one place: SGD on the pool, with the objective's weights and a federated round's work."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import octolab as ol
from tests.methods.by_hand import close, gap_to, iterates
from tests.methods.local_by_hand import mixed
from tests.methods.test_sgd import sample_gradient

Centralised, FedAvg = ol.methods.Centralised, ol.methods.FedAvg


def test_with_all_data_a_round_is_some_steps_of_gradient_descent():
    for p in (ol.problems.quadratics(n=4, d=5), mixed()):
        close(iterates(Centralised(lr=0.05, local_steps=4), p, 5), iterates(ol.methods.GD(lr=0.05), p, 20)[::4], 1e-13)


def test_the_algorithm_box_with_given_batches():
    p = mixed(sizes=(5, 2, 9))
    signed, w = [p.data.client(i) for i in range(3)], p.weights.numpy()
    batches = [[[0, 4], [1], [7, 3]], [[2], [0, 1], [8, 8]], [[1, 1], [0], [5]]]
    x, path = np.zeros(4), [np.zeros(4)]
    for rows in batches:  # rows of the data are y_ij a_ij
        g = sum(w[i] * sample_gradient(signed[i], np.ones(len(signed[i])), x, rows[i]) for i in range(3))
        x = x - 0.3 * g
        path.append(x)
    method = Centralised(lr=0.3, local_steps=1, batch_size=2)
    close(iterates(method, p, 3, randomness=ol.Scripted(batches=batches)), path)


def test_its_gradients_are_unbiased_for_the_weighted_objective():
    p, steps = mixed(sizes=(3, 8, 2)), []
    for seed in range(600):
        run = ol.run(Centralised(lr=1.0, local_steps=1, batch_size=1), p, rounds=1, seed=seed, live=False)
        steps.append((p.x0 - run.x).numpy())
    spread = np.std(steps, axis=0) / np.sqrt(600)
    assert (np.abs(np.mean(steps, axis=0) - p.gradient(p.x0).numpy()) < 4 * spread).all()


@pytest.mark.parametrize("batch_size", [None, 3])
def test_a_round_is_as_much_work_as_fedavgs_and_takes_no_bits(batch_size):
    p = mixed(sizes=(5, 4, 9))
    ours, theirs = (
        ol.run(kind(lr=0.1, local_steps=6, batch_size=batch_size), p, rounds=4, live=False)
        for kind in (Centralised, FedAvg)
    )
    for column in ("gradients", "samples"):
        assert (ours.federation.ledger.per_client(column) == theirs.federation.ledger.per_client(column)).all()
    assert (ours.history[["bits_up", "bits_down"]] == 0).all().all()


def test_its_machine_is_as_fast_as_all_devices_together():
    p = ol.problems.quadratics(n=3, d=2)
    time = lambda fleet: ol.run(Centralised(lr=0.1), p, rounds=2, fleet=fleet, live=False).history.time.iloc[-1]  # noqa: E731
    assert time(ol.Fleet(seconds=2.0, latency=9.0)) == pytest.approx(20)
    assert time(ol.Fleet(seconds=[1.0, 2.0, 2.0])) == pytest.approx(10 * 3 / 2)
    assert time(ol.Fleet(seconds=0.0)) == 0


def test_the_rate_holds():
    p = ol.problems.quadratics(n=4, d=6, L=20, mu=1)
    method = Centralised(local_steps=3).resolve(p)
    rate, path = method.rate(p), iterates(method, p, 40)
    assert rate == pytest.approx((1 - p.mu / p.L) ** 3)
    gaps = [gap_to(p, x) for x in path]
    assert all(b <= rate * a * (1 + 1e-9) for a, b in itertools.pairwise(gaps) if b > 1e-20)
    assert Centralised(batch_size=2).resolve(p).rate(p) is None and Centralised(lr=1.0).rate(p) is None


def test_noise_of_quadratics_is_averaged_over_the_clients():
    p = ol.problems.quadratics(n=50, d=3, noise=2.0)
    run = ol.run(Centralised(lr=1.0, local_steps=1, batch_size=4), p, rounds=1, live=False)
    away = run.x + p.gradient(p.x0)
    assert 0 < float(away.norm()) < 4 * 2.0 / np.sqrt(4 * 50) * np.sqrt(3)
    assert run.x.dtype == torch.float64


@pytest.mark.parametrize(("name", "bad"), [("local_steps", 0), ("batch_size", 0), ("lr", 0)])
def test_bad_input_names_field_and_value(name: str, bad: int):
    with pytest.raises(ValueError, match=f"Centralised: {name}={bad}"):
        Centralised(**{name: bad})
