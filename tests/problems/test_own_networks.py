"""Networks over a user's own targets: real ones, several labels; a validation part."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import octolab as ol
from octolab.data import DataWarning
from octolab.problems import LeastSquares, Network, classification, regression

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 4))


@pytest.mark.parametrize("loss", ["squared", "absolute", "huber", nn.SmoothL1Loss()])
@pytest.mark.parametrize("model", ["linear", "mlp", nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)), nn.Linear(3, 1)])
def test_networks_and_other_losses(model, loss):
    x = RNG.normal(size=(60, 3))
    p = regression((x, x @ [1, 2, 3]), model, loss=loss, clients=3, hidden=(5,))
    assert isinstance(p, LeastSquares if (model, loss) == ("linear", "squared") else Network)
    run = ol.run(ol.methods.FedAvg(lr=0.05, local_steps=5), p, rounds=3, live=False)
    assert run.history.loss.iloc[-1] < run.history.loss.iloc[0] and run.history.mse.notna().all()


def test_several_targets_take_a_network():
    p = regression((RNG.normal(size=(60, 3)), RNG.normal(size=(60, 2))), clients=3)
    assert isinstance(p, Network) and p.d == 8 and set(p.test_metrics(p.x0)) == {"mse", "mae", "r2"}


def test_several_labels_get_a_score_each():
    rows = (RNG.random((90, 3)) < 0.4).astype(int)
    for model in ("logistic", "mlp", nn.Linear(4, 3)):
        p = classification((X, rows), model, clients=3, l2=0.0, test_share=0.0, weights="examples")
        assert isinstance(p, Network)
        module = p.module
        nn.utils.vector_to_parameters(p.x0, module.parameters())
        right = nn.functional.binary_cross_entropy_with_logits(
            module(torch.tensor(X).float()), torch.tensor(rows).float()
        )
        assert p.value(p.x0) == pytest.approx(right.item(), rel=1e-5)
    p = classification((X, rows), clients=3)
    scores = p.module(torch.tensor(X[np.concatenate(p.partition.test)]).float()) > 0
    assert p.test_metrics(p.x0)["accuracy"] == pytest.approx(
        float((scores.numpy() == rows[np.concatenate(p.partition.test)]).mean())
    )


def test_identifiers_that_float32_cannot_tell_apart_are_warned_of():
    ids = [RNG.integers(10**9, 2 * 10**9, (m, 4)) for m in (7, 12)]
    with pytest.warns(DataWarning, match="float32 cannot tell"):
        Network(nn.Linear(4, 3), "cross_entropy", ids, [np.arange(m) % 3 for m in (7, 12)])


def test_a_network_has_a_validation_part_too():
    y = np.arange(90) % 3
    plain, p = (classification((X, y), "mlp", clients=5, validation_share=share) for share in (0.0, 0.25))
    assert p.sizes.sum() + len(p.validation) == plain.sizes.sum()
    found = p.evaluate(p.x0)
    module, held = p.module, p.validation
    nn.utils.vector_to_parameters(p.x0, module.parameters())
    scores = module(held.X)
    assert found["validation_loss"] == pytest.approx(nn.functional.cross_entropy(scores, held.Y).item(), rel=1e-5)
    assert found["validation_accuracy"] == pytest.approx((scores.argmax(1) == held.Y).double().mean().item())
