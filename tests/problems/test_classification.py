"""Problems from data sets: the right model, honest weights and metrics, and a spec that rebuilds them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from octolab import data
from octolab.problems import (
    Logistic,
    Network,
    Softmax,
    Tridiagonal,
    classification,
    from_spec,
    language,
    quadratics,
)

SPLIT = data.Dirichlet(alpha=0.3)


def test_two_classes_are_logistic_and_more_are_softmax():
    p = classification("breast-cancer", clients=5)
    assert isinstance(p, Logistic) and p.d == 30 and p.dtype == torch.float64 and p.l2 == 1e-3
    q = classification("digits", clients=5, split=SPLIT)
    assert isinstance(q, Softmax) and q.d == 10 * 65 and q.n == 5


def test_weights_by_examples_make_f_the_pooled_loss():
    p = classification("digits", clients=6, split=SPLIT, l2=0.0)
    assert np.allclose(p.weights.numpy(), p.sizes / p.sizes.sum())
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=p.d))
    held, W = data.load("digits"), x.view(10, 65)
    rows = np.concatenate([p.partition.train[i] for i in range(6)])
    scores = torch.from_numpy(held.x[rows]).double() @ W[:, :-1].T + W[:, -1]
    assert p.value(x) == pytest.approx(float(nn.functional.cross_entropy(scores, torch.from_numpy(held.y[rows]))))
    assert classification("digits", clients=6, split=SPLIT, weights="uniform").weights[0] == 1 / 6


@pytest.mark.parametrize("model", ["logistic", "mlp", "cnn"])
def test_accuracy_is_counted_on_the_test_parts(model):
    p = classification("digits", model, clients=4, split=SPLIT, dtype="float64")
    held = data.load("digits")
    x = p.x0 + torch.from_numpy(np.random.default_rng(0).normal(size=p.d)) / 10

    def right(x, features, labels):
        if model == "logistic":
            W = x.view(10, 65)
            scores = torch.from_numpy(features).double() @ W[:, :-1].T + W[:, -1]
        else:
            nn.utils.vector_to_parameters(x, p.module.parameters())
            shape = (len(features), 1, 8, 8) if model == "cnn" else (len(features), 64)
            scores = p.module(torch.from_numpy(features).double().reshape(shape))
        return float((scores.argmax(1).numpy() == labels).mean())

    assert p.evaluate(x)["accuracy"] == pytest.approx(right(x, held.x_test, held.y_test))
    parts = [p.partition.client(i, held)[2:] for i in range(4)]
    own = [right(x, *part) for part in parts]
    assert np.allclose(p.client_metrics(x)["accuracy"], own)
    assert np.allclose(p.client_metrics(x, torch.tensor([2, 0]))["accuracy"], [own[2], own[0]])
    personal = torch.stack([x, p.x0])
    expected = [right(x, *parts[1]), right(p.x0, *parts[3])]
    assert np.allclose(p.client_metrics(personal, torch.tensor([1, 3]))["accuracy"], expected)
    assert np.allclose(p.client_metrics(x)["loss"], p.loss(x).numpy())


def test_a_client_without_test_samples_has_no_accuracy():
    x, y = [np.eye(2), np.eye(2)], [np.array([1, -1])] * 2
    p = Logistic(x, y, 0.1, test=[(np.eye(2), np.array([1, -1])), (np.zeros((0, 2)), np.zeros(0))])
    accuracy = p.client_metrics(torch.tensor([1.0, -1.0], dtype=torch.float64))["accuracy"]
    assert accuracy[0] == 1 and np.isnan(accuracy[1])
    assert p.evaluate(p.x0)["accuracy"] == 0.5


def test_your_own_module_and_images():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 26 * 26, 10))
    p = classification("fashion-mnist-7k", module, clients=20, split=SPLIT)
    assert isinstance(p, Network) and p.kernel_for(5).name == "stacked" and p.X.shape[1:] == (1, 28, 28)
    with pytest.raises(ValueError, match="own module"):
        from_spec(p.spec)


def same(p, q):
    x = p.x0 + 0.01
    assert type(p) is type(q) and p.dtype == q.dtype and torch.equal(p.x0, q.x0) and torch.equal(p.weights, q.weights)
    assert torch.equal(p.grad(x), q.grad(x)) and p.spec == q.spec


@pytest.mark.parametrize(
    "make",
    [
        lambda: quadratics(n=3, d=4, L=7, mu=2, spread=0.3, L_spread=5, eigenbasis="random", seed=9, noise=0.1),
        lambda: quadratics(n=3, d=4).with_dtype(torch.float32),
        lambda: Tridiagonal(d=9, n=4, noise=0.2, noise_kind="iid"),
        lambda: classification("breast-cancer", clients=3, nonconvex=0.1, l2=0.0, weights=[1, 2, 3]),
        lambda: classification(data.load("digits", test_share=0.3), clients=4, split=SPLIT, seed=5),
        lambda: classification("digits", "mlp", clients=4, split=data.Shards(2), seed=5, hidden=(8, 9)),
        lambda: classification("digits", "cnn", clients=4, dtype="float64"),
        lambda: language(clients=3, samples=2, width=16, heads=2, blocks=1, context=32),
    ],
)
def test_a_spec_rebuilds_its_problem_exactly(make):
    p = make()
    same(p, from_spec(json.loads(json.dumps(p.spec))))


def test_other_data_under_the_same_name_are_noticed():
    spec = classification("digits", clients=3).spec
    spec["dataset"] = {**spec["dataset"], "sha256": "0" * 64}
    with pytest.raises(ValueError, match="is not the spec's"):
        from_spec(spec)


def test_language_predicts_characters_of_natural_clients():
    p = language(clients=3, samples=4, width=16, heads=2, blocks=1)
    assert p.n == 3 and p.Y.shape[1] == 64 and (p.sizes <= 4).all() and p.kernel_for(3).name == "batched"
    seen = p.evaluate(p.x0)
    assert seen["loss"] == pytest.approx(np.log(71), rel=0.1) and 0 <= seen["accuracy"] < 0.2
    assert p.value(p.x0 - 0.5 * p.gradient(p.x0)) < seen["loss"]
    assert p.client_metrics(p.x0)["accuracy"].shape == (3,)


def test_training_a_network_helps():
    p = classification("digits", "mlp", clients=8, split=SPLIT)
    x = p.x0
    for _ in range(20):
        x = (p.weights.to(p.dtype)[:, None] * p.local_sgd(x, None, lr=0.5, steps=5)).sum(0)
    assert p.evaluate(x)["accuracy"] > 0.85
