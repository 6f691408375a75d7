"""From a user's own data to a problem, in one line; a validation part beside the test part."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import octolab as ol
from octolab.problems import Logistic, Softmax, classification, regression

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 4))
Y = RNG.integers(0, 3, 90)
FRAME = pd.DataFrame(X, columns=list("abcd")).assign(
    kind=np.array(["ape", "bee", "cat"])[Y], site=RNG.integers(0, 5, 90)
)


def test_every_form_gives_the_same_problem():
    frame = FRAME.drop(columns="site").rename(columns={"kind": "label"})
    forms = [(X, Y), (torch.tensor(X), torch.tensor(Y)), TensorDataset(torch.tensor(X), torch.tensor(Y)), frame]
    made = [classification(form, clients=5) for form in forms]
    x = torch.linspace(-1, 1, made[0].d, dtype=torch.float64)
    for p in made:
        assert (
            isinstance(p, Softmax) and p.value(x) == made[0].value(x) and p.test_metrics(x) == made[0].test_metrics(x)
        )


def test_columns_are_named_and_natural_clients_found():
    p = classification(FRAME, target="kind", client="site")
    assert p.n == 5 and p.partition.client_names == ("0", "1", "2", "3", "4")
    p = classification(FRAME, target="kind", groups="site", clients=3)
    assert p.group_names == ("0", "1", "2", "3", "4") and [len(g) for g in p.groups] == p.sizes.tolist()
    with pytest.raises(ValueError, match="its columns are a, b, c, d, kind, site"):
        classification(FRAME)
    with pytest.raises(ValueError, match="no columns"):
        classification((X, Y), target="kind")


def test_two_classes_of_any_dtype_are_logistic():
    for y in ((Y > 0).astype("u1"), Y > 0, np.where(Y > 0, "yes", "no")):
        p = classification((X, y), clients=3)
        assert isinstance(p, Logistic) and p.value(p.x0) == pytest.approx(np.log(2))


@pytest.mark.parametrize(
    "make",
    [
        lambda **o: classification((X, Y), **o),
        lambda **o: classification((X, Y > 0), **o),
        lambda **o: regression((X, X[:, 0] + Y), **o),
    ],
)
def test_a_validation_part_is_held_back_from_each_clients_training_part(make):
    plain, p = make(clients=5, seed=3), make(clients=5, seed=3, validation_share=0.25)
    assert p.sizes.sum() + len(p.validation) == plain.sizes.sum() and p.validation.n == 5
    assert (p.validation.counts.numpy() == np.round(0.25 * plain.sizes)).all()
    assert p.test_metrics(p.x0) == plain.test_metrics(p.x0)  # the test part is as before
    found = p.evaluate(p.x0)
    assert "validation_loss" in found and len(found) == len(plain.evaluate(p.x0)) + 1 + len(p.test_metrics(p.x0))
    assert "validation_loss" not in plain.evaluate(p.x0)
    again = make(clients=5, seed=3, validation_share=0.25)
    assert torch.equal(again.validation.X, p.validation.X) and p.spec == again.spec != plain.spec


def test_validation_metrics_are_those_of_the_held_back_samples():
    p = classification((X, Y > 0), clients=5, validation_share=0.25, l2=0.0)
    x = torch.tensor([1.0, -2.0, 0.5, 0.1], dtype=torch.float64)
    margins = p.validation.X @ x * p.validation.Y
    found = p.validation_metrics(x)
    assert found["validation_loss"] == pytest.approx(float(torch.log1p(torch.exp(-margins)).mean()))
    assert found["validation_accuracy"] == pytest.approx(float((margins > 0).double().mean()))
    q = classification((X, Y), clients=5, validation_share=0.25)
    scores = q.validation.X @ q.x0.view(3, 5)[:, :4].T
    assert q.validation_metrics(q.x0)["validation_loss"] == pytest.approx(
        float(nn.functional.cross_entropy(scores, q.validation.Y))
    )


def test_a_validation_part_depends_on_seed_and_client_alone():
    sites = np.repeat(np.arange(5), 18)
    all_, some = (classification(ol.data.from_arrays(x, y, clients=c), validation_share=0.3, test_share=0.0)
                  for x, y, c in ((X, Y, sites), (X[:72], Y[:72], sites[:72])))  # fmt: skip
    assert all_.validation.counts[:4].tolist() == some.validation.counts.tolist() == [5] * 4


def test_a_module_takes_what_it_takes_without_a_channel_of_ours():
    x, y = RNG.normal(size=(40, 8, 8)).astype("f4"), np.arange(40) % 2

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.k, self.o = nn.Conv2d(1, 2, 3), nn.Linear(72, 2)

        def forward(self, x):
            return self.o(self.k(x.unsqueeze(1)).flatten(1))

    assert classification((x, y), Own(), clients=3).X.shape[1:] == (8, 8)
    plain = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2))
    assert classification((x, y), plain, clients=3).X.shape[1:] == (1, 8, 8)


def test_a_run_on_a_frame_records_validation(tmp_path):
    run = ol.run(
        "fedavg", classification(FRAME, target="kind", client="site", validation_share=0.2), rounds=2, live=False
    )
    assert {"accuracy", "validation_loss", "validation_accuracy"} <= set(run.history.columns)


def test_a_linear_model_comes_out_as_a_torch_layer():
    x = torch.tensor(X)
    for p in (
        classification((X, Y), clients=3),
        classification((X, Y > 0), clients=3),
        regression((X, X[:, 0]), clients=3),
    ):
        point = torch.linspace(-1, 1, p.d, dtype=torch.float64)
        layer, test = p.as_module(point), p._global_test
        said = p.test_scores(point).scores
        assert torch.allclose(layer(test.X).squeeze(-1), torch.from_numpy(said)) and len(layer(x)) == 90
    with pytest.raises(ValueError, match="a point, not the weights"):
        ol.problems.quadratics(n=2, d=3).as_module(torch.zeros(3))


def test_a_single_class_is_no_classification():
    with pytest.raises(ValueError, match="single class"):
        classification((X, np.zeros(90)), clients=3)
    with pytest.raises(ValueError, match="one-hot"):
        Softmax([X], [np.eye(3, dtype=int)[Y]])
