"""A training loop of one's own: one loop, in this process, in virtual time, and on nodes."""

import numpy as np
import pytest
import torch
from torch import nn

import octolab as ol
from octolab.flower.own_loop import OwnLoop
from octolab.testing.sameness import difference

pytestmark = pytest.mark.flower
CLIENTS = 3


def module():
    return ol.problems.MLP(6, 8, 3, seed=5)


def arrays(client):
    rng = np.random.default_rng(client)
    size = 20 + 7 * client
    x = rng.normal(size=(size, 6)).astype("float32")
    return x, (x[:, :3].argmax(1) + client) % 3


def gathered():
    """The same data in one place, as nobody would have them outside a laboratory."""
    parts = [arrays(i) for i in range(CLIENTS)]
    return ol.problems.Network(
        module(), features=[x for x, _ in parts], labels=[y for _, y in parts], weights="examples"
    )


def loop(client):
    """Three plain SGD steps in PyTorch's own words."""
    x, y = (torch.from_numpy(a) for a in arrays(client))

    def train_locally(state):
        net = module()
        net.load_state_dict(state)
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(net(x), y)
            loss.backward()
            optimiser.step()
        return net.state_dict(), len(x), {"loss": loss.item()}

    return train_locally


def looped(**more):
    return OwnLoop(module(), CLIENTS, [loop(i) for i in range(CLIENTS)], **more)


def loop_hook(client, clients):
    return OwnLoop(module(), clients) if client is None else OwnLoop(module(), clients, loop(client))


FEDAVG = ol.methods.FedAvg(lr=1.0, local_epochs=1)


def test_a_loop_of_ones_own_is_fedavgs_local_step():
    """The built-in loop with the same step does the same, to float32's rounding."""
    own = ol.run(FEDAVG, looped(), rounds=5, keep="x", live=False)
    built_in = ol.run(ol.methods.FedAvg(lr=0.1, local_steps=3), gathered(), rounds=5, keep="x", live=False)
    assert torch.allclose(own.iterates, built_in.iterates, atol=1e-6)


def test_it_is_the_same_loop_in_all_worlds():
    here = ol.run(FEDAVG, looped(), rounds=4, executor="loop", keep="x", live=False)
    virtual = ol.run(FEDAVG, looped(), rounds=4, keep="x", fleet=ol.Fleet(seconds=[1.0, 2.0, 5.0]), live=False)
    nodes = ol.run(
        FEDAVG, loop_hook(None, CLIENTS), rounds=4, keep="x", on=ol.flower.InProcess(data=loop_hook), live=False
    )
    assert virtual.history.time.iloc[-1] > here.history.time.iloc[-1]
    assert torch.equal(here.iterates, virtual.iterates) and torch.equal(here.iterates, nodes.iterates)
    assert here.history.loss.dropna().tolist() == nodes.history.loss.dropna().tolist()
    assert difference(here, nodes) == ""


def test_robust_aggregators_and_attackers_meet_a_loop_of_ones_own_too():
    robust = ol.methods.FedAvg(lr=1.0, local_epochs=1, aggregator=ol.aggregators.CoordinateMedian())
    run = ol.run(robust, looped(), rounds=3, attack=ol.attacks.SignFlip(clients=(0,)), on="flower", live=False)
    assert run.status == "finished" and run.history.loss.notna().any()


def test_the_servers_own_evaluation_sees_a_state_dict():
    def evaluate(state):
        return {"accuracy": float(state["0.weight"].shape[0] == 8)}

    run = ol.run(FEDAVG, looped(evaluate=evaluate), rounds=2, live=False)
    assert run.history.accuracy.tolist() == [1.0] * 3


def test_samples_are_learnt_from_the_loops_or_given():
    assert looped().sizes.tolist() == [20, 27, 34]
    assert looped(samples=[20, 27, 34]).weights.tolist() == looped().weights.tolist()
    assert looped(weights="uniform").weights.tolist() == [1 / 3] * 3


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda state: state, "return .state_dict, n, metrics."),
        (lambda state: ({}, 3, {}), "lacks '0.weight'"),
        (lambda state: (state, 0, {}), "n=0: the number of samples"),
        (lambda state: ({**state, "0.bias": torch.ones(9)}, 3, {}), "lacks '0.bias', or it has another shape"),
    ],
)
def test_what_a_loop_returns_wrongly_is_said_in_words(returned, words):
    with pytest.raises(ValueError, match=words):
        ol.run(FEDAVG, OwnLoop(module(), CLIENTS, returned), rounds=1, live=False)


def test_a_loop_whose_samples_change_is_noticed():
    with pytest.raises(ValueError, match="trained on 20 samples and 19 were announced"):
        ol.run(FEDAVG, looped(samples=[19, 27, 34]), rounds=1, live=False)


@pytest.mark.parametrize(
    "method, words",
    [
        (ol.methods.EF21(lr=0.1), "gives no gradients"),
        (ol.methods.SCAFFOLD(lr=0.1), "cannot apply the method's correction"),
        (ol.methods.FedAvg(lr=0.1, local_steps=(1, 2, 3)), "cannot apply the method's number of local steps of each"),
    ],
)
def test_methods_that_need_more_than_a_loop_say_so(method, words):
    with pytest.raises(ValueError, match=words):
        ol.run(method, looped(), rounds=1, live=False)


def test_a_number_of_loops_that_does_not_fit_is_said_in_words():
    with pytest.raises(ValueError, match="2 loops for 3 clients"):
        OwnLoop(module(), 3, [loop(0), loop(1)])
