"""Everybody alone: the clients' own optima, and no traffic."""

from __future__ import annotations

import numpy as np
import pytest

import octolab as ol
from tests.methods.by_hand import close, gradients
from tests.methods.local_by_hand import mixed, never_again, train

LocalOnly = ol.methods.LocalOnly


def models(run) -> np.ndarray:
    return run.method.personal(run.federation, run.state).numpy()


def test_every_client_goes_its_own_way():
    p = ol.problems.quadratics(n=4, d=5, L=8)
    own = [np.zeros(5)] * 4
    for _ in range(6):  # momentum is new in every round
        own = [train(g, x, 0.03, 3, momentum=0.5) for g, x in zip(gradients(p), own, strict=True)]
    run = ol.run(LocalOnly(lr=0.03, local_steps=3, momentum=0.5), p, rounds=6, live=False)
    close(models(run), own)
    close(run.x, sum(own) / 4)


@pytest.mark.parametrize("how", [{"local_steps": 50}, {"solver": "exact"}])
def test_it_ends_at_the_clients_own_optima_and_their_mean_is_not_the_optimum(how: dict):
    p = ol.problems.quadratics(n=4, d=5, L=10, mu=1)
    run = ol.run(LocalOnly(**how), p, rounds=10, live=False)
    own = [np.linalg.solve(A, b) for A, b in zip(p.A.numpy(), p.b.numpy(), strict=True)]
    close(models(run), own)
    assert float((run.x - p.x_star).norm()) > 0.1


def test_it_takes_the_same_batches_and_gradients_as_fedavg_in_its_first_round():
    """With equal sizes and one client the two are one method, for ever."""
    p, how = mixed(), {"lr": 0.1, "local_epochs": 3, "batch_size": 2, "cohort": 2}
    alone, together = (ol.run(kind(**how), p, rounds=8, live=False) for kind in (LocalOnly, ol.methods.FedAvg))
    for column in ("gradients", "samples"):
        assert (alone.federation.ledger.per_client(column) == together.federation.ledger.per_client(column)).all()
    single = ol.problems.quadratics(n=1, d=4)
    a, b = (ol.run(kind(lr=0.05), single, rounds=5, live=False) for kind in (LocalOnly, ol.methods.FedAvg))
    close(a.x, b.x, 1e-15)


def test_nothing_is_sent():
    run = ol.run(LocalOnly(lr=0.1, batch_size=2), mixed(), rounds=5, live=False)
    assert (run.history[["bits_up", "bits_down"]] == 0).all().all()


def test_it_starts_where_the_run_starts():
    p = ol.problems.quadratics(n=3, d=4)
    run = ol.run(LocalOnly(lr=0.05), p, rounds=0, x0=np.full(4, 2.0), live=False)
    assert (models(run) == 2).all()


def test_a_client_that_is_gone_and_an_empty_cohort_stay_where_they_are():
    p = ol.problems.quadratics(n=4, d=5)
    run = ol.run(LocalOnly(lr=0.05), p, rounds=5, fleet=never_again(2, 4), live=False)
    assert (models(run)[2] == 0).all() and (models(run)[[0, 1, 3]] != 0).all()
    poisson = LocalOnly(lr=0.05, cohort=ol.federation.Poisson(0.5))
    run = ol.run(poisson, p, rounds=1, live=False, randomness=ol.Scripted(cohorts=[[]]))
    assert (models(run) == 0).all()


def test_bad_input_gets_a_sentence():
    with pytest.raises(ValueError, match="local_steps=0"):
        LocalOnly(local_steps=0)
    with pytest.raises(ol.errors.OutsideAssumptions, match="needs Hessians"):
        ol.run(
            LocalOnly(lr=0.1, solver="exact"), ol.problems.classification("digits", model="mlp", clients=2), rounds=1
        )
