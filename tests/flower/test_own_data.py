"""Data of one's own: they stay on their nodes, and the numbers are those of the same data in one place."""

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.experiment.launch import prepare
from octolab.flower.own_data import OwnData

pytestmark = pytest.mark.flower
CLIENTS = 3


def module():
    return ol.problems.MLP(6, 8, 3, seed=5)


def arrays(client):
    rng = np.random.default_rng(client)
    size = 20 + 7 * client
    x = rng.normal(size=(size, 6)).astype("float32")
    return x, (x[:, :3].argmax(1) + client) % 3


def hook(client, clients):
    if client is None:
        return OwnData(module(), clients)
    return OwnData(module(), clients, client, *arrays(client), test=arrays(client + 10))


def gathered():
    """The same data in one place, as nobody would have them outside a laboratory."""
    parts = [arrays(i) for i in range(CLIENTS)]
    return ol.problems.Network(
        module(), features=[x for x, _ in parts], labels=[y for _, y in parts], weights="examples"
    )


METHODS = {
    "fedavg": ol.methods.FedAvg(lr=0.1, local_epochs=2, batch_size=8),
    "fedavg, some clients": ol.methods.FedAvg(lr=0.1, local_steps=3, batch_size=8, cohort=2),
    "scaffold": ol.methods.SCAFFOLD(lr=0.1, local_steps=2),
    "ef21": ol.methods.EF21(lr=0.1),
}


@pytest.mark.parametrize("name", list(METHODS))
def test_data_that_stay_on_their_nodes_give_the_numbers_of_gathered_data(name):
    """Samples per client are learnt from the nodes, so weights and minibatches are the same draws."""
    method = METHODS[name]
    here = ol.run(method, gathered(), rounds=6, executor="loop", keep="x", live=False)
    there = ol.run(method, hook(None, CLIENTS), rounds=6, on=ol.flower.InProcess(data=hook), keep="x", live=False)
    assert torch.equal(here.iterates, there.iterates)
    assert here.recorder.rows == there.recorder.rows


def test_the_server_without_data_evaluates_by_asking_the_clients():
    method = METHODS["fedavg"]
    here = ol.run(method, gathered(), rounds=3, live=False)
    there = ol.run(method, hook(None, CLIENTS), rounds=3, on=ol.flower.InProcess(data=hook), live=False)
    assert there.history.loss.to_numpy() == pytest.approx(here.history.loss.to_numpy(), rel=1e-6)
    assert there.history.accuracy.between(0, 1).all()
    assert here.federation.ledger.total("down") == there.federation.ledger.total("down")


def test_data_of_ones_own_do_not_run_where_they_are_not():
    with pytest.raises(ValueError, match=r"these are not this node's data.*every client is a node"):
        ol.run(METHODS["fedavg"], hook(1, CLIENTS), rounds=1, live=False)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"client": 0}, "a node gives client, features and labels; the server none"),
        ({"client": 3, "features": np.ones((2, 6)), "labels": np.zeros(2)}, "clients are numbered 0 to 2"),
        ({"weights": "loud"}, "weights='loud': choose 'examples' or 'uniform'"),
        ({"clients": 0}, "clients=0: give a whole number >= 1"),
    ],
)
def test_a_data_hooks_mistakes_are_said_in_words(wrong, words):
    with pytest.raises(ValueError, match=words):
        OwnData(**{"module": module(), "clients": CLIENTS, **wrong})


def test_own_data_do_not_go_to_a_superlink_by_themselves():
    with pytest.raises(ValueError, match="export the app"):
        prepare(METHODS["fedavg"], gathered(), rounds=1, on=ol.flower.SuperLink("127.0.0.1:1", insecure=True))
