"""The names that others rely on take their arguments by place and by name, and a table becomes a module in a few lines."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import octolab as ol

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 3)), RNG.integers(0, 2, 60)
WHO, GROUP = np.arange(60) % 4, np.arange(60) % 2
TABLE = pd.DataFrame(
    {"a": X[:, 0], "b": X[:, 1], "city": np.array(["x", "y", "z"])[WHO % 3], "who": WHO, "g": GROUP, "y": Y}
)


def same(one, other):
    assert (
        np.array_equal(one.x, other.x) and np.array_equal(one.y, other.y) and np.array_equal(one.clients, other.clients)
    )


def test_data_by_place_and_by_name():
    test = (X[:5], Y[:5])
    names = {"X": X, "y": Y, "clients": WHO, "groups": GROUP, "names": ["a", "b", "c"], "test": test}
    same(ol.data.from_arrays(*names.values()), ol.data.from_arrays(**names))
    columns = {"target": "y", "client": "who", "groups": "g", "categorical": "one-hot", "missing": "median+flag"}
    same(ol.data.from_frame(TABLE, *columns.values()), ol.data.from_frame(df=TABLE, **columns))
    assert ol.data.load(name="nycflights").n_clients == 1000


def test_problems_and_runs_by_place_and_by_name(tmp_path):
    module = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    options = {"target": "y", "client": "who", "batchnorm": "averaged", "buffers": "averaged", "validation_share": 0.2}
    table = TABLE.drop(columns="g")
    one, other = (
        ol.problems.classification(table, module, **options),
        ol.problems.classification(table, model=module, **options),
    )
    assert torch.equal(one.x0, other.x0) and one.spec == other.spec and len(one.validation)
    run = ol.run(ol.methods.FedAvg(lr=0.1), one, rounds=2, keep=("best", "x"))
    folder = run.save_model(tmp_path / "model")
    for out in (
        run.module(),
        run.module(personal=None),
        run.module(None),
        ol.load_model(folder),
        ol.load_model(folder=folder),
    ):
        assert isinstance(out, nn.Module) and torch.equal(out[0].weight, run.state_dict()["0.weight"])
    for start in (run.module(), run.state_dict()):
        assert torch.equal(ol.run(ol.methods.FedAvg(lr=0.1), one, rounds=0, x0=start).x, run.x)
    assert isinstance(ol.models.with_group_norm(module=module)[1], nn.GroupNorm)
    assert run.predict(np.zeros((3, 5), "f4")).shape == (3,) and run.best.module() is not None


def test_regression_by_place_and_by_name():
    data = (X, X @ [1.0, 2.0, 3.0])
    one = ol.problems.regression(data, "linear", target=None, loss="squared", clients=4)
    other = ol.problems.regression(data, model="linear", clients=4)
    assert torch.equal(one.x_star, other.x_star) and one.L == other.L
    assert one.x_star[:3].tolist() == pytest.approx([1, 2, 3])
    kept = {"buffers": "local", "batchnorm": "local"}
    network = ol.problems.Network(nn.Linear(3, 1), nn.HuberLoss(), [X], [data[1]], **kept)
    assert network.d == 4
