"""What a module or its data would make silently wrong is refused in words, when the problem is made."""

import numpy as np
import pytest
import torch
from torch import nn

import octolab as ol
from octolab.problems import Network

RNG = np.random.default_rng(0)
X, Y = [RNG.normal(size=(6, 4)) for _ in range(3)], [RNG.integers(0, 3, 6) for _ in range(3)]
CODES = [RNG.integers(0, 5, (6, 4)) for _ in range(3)]


class Doubling(nn.Linear):
    def forward(self, x):
        return super().forward(x.mul_(2))


def test_a_hook_on_a_gradient_is_no_part_of_a_copied_module():
    for register in (nn.Parameter.register_hook, nn.Parameter.register_post_accumulate_grad_hook):
        module = nn.Linear(4, 3)
        register(module.weight, lambda g: g)
        with pytest.raises(ValueError, match="hook on its gradient"):
            Network(module, "cross_entropy", X, Y)


def test_inputs_are_not_changed_in_place():
    for module in (Doubling(4, 3), nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3))):
        with pytest.raises(ValueError, match="changes its input in place"):
            Network(module, "cross_entropy", X, Y)
    Network(nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 3)), "cross_entropy", X, Y)


@pytest.mark.parametrize("where", ["training", "test"])
def test_words_that_the_module_does_not_know_are_found_wherever_they_are(where):
    module = nn.Sequential(nn.Embedding(5, 2), nn.Flatten(), nn.Linear(8, 3))
    strange = [c.copy() for c in CODES]
    strange[1][3, 2] = 5
    given = (strange, Y) if where == "training" else (CODES, Y)
    test = list(zip(strange, Y, strict=True)) if where == "test" else None
    with pytest.raises(ValueError, match="index out of range"):
        Network(module, "cross_entropy", *given, test=test)


def test_there_is_a_test_part_for_every_client():
    with pytest.raises(ValueError, match="1 parts for 3 clients"):
        Network(nn.Linear(4, 3), "cross_entropy", X, Y, test=[(X[0], Y[0])])
    with pytest.raises(ValueError, match="2 parts for 3 clients"):
        ol.problems.Softmax(X, Y, 3, test=[(X[0], Y[0]), (X[1], Y[1])])


def test_a_module_of_float64_stays_one():
    assert Network(nn.Linear(4, 3).double(), "cross_entropy", X, Y).dtype == torch.float64
    assert Network(nn.Linear(4, 3).half(), "cross_entropy", X, Y).dtype == torch.float32
    data = (np.concatenate(X), np.concatenate(Y))
    assert ol.problems.classification(data, nn.Linear(4, 3).double(), clients=3).x0.dtype == torch.float64


def test_sparse_gradients_of_embeddings_are_dense_ones():
    slopes = []
    for sparse in (False, True):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = nn.Sequential(nn.Embedding(5, 2, sparse=sparse), nn.Flatten(), nn.Linear(8, 3))
        p = Network(module, "cross_entropy", CODES, Y)
        slopes.append((p.grad(p.x0), ol.run(ol.methods.FedAvg(lr=0.1), p, rounds=2).x))
    for one, other in zip(*slopes, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
