"""A trained module comes out of a run, predicts, is saved and loaded, and starts another."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

import octolab as ol

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 4)).astype("f4"), np.arange(60) % 3


def run_of(module, rounds=3, **options):
    problem = ol.problems.classification((X, Y), module, clients=4, validation_share=0.2)
    return ol.run(ol.methods.FedAvg(lr=0.1), problem, rounds=rounds, **options)


def test_the_module_is_the_users_with_the_models_weights():
    run = run_of(nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.2), nn.ReLU(), nn.Linear(5, 3)))
    module = run.module()
    assert [type(part) for part in module] == [nn.Linear, nn.Dropout, nn.ReLU, nn.Linear] and not module.training
    assert torch.equal(nn.utils.parameters_to_vector(module.parameters()), run.x)
    scores = module(torch.tensor(X)).detach().numpy()
    assert (run.predict(X) == scores.argmax(1)).all() and np.allclose(run.predict(X, scores=True), scores)
    again = ol.run(ol.methods.FedAvg(lr=0.1), run.problem, rounds=0, x0=run.state_dict())
    assert torch.equal(again.x, run.x)
    assert torch.equal(ol.run(ol.methods.FedAvg(lr=0.1), run.problem, rounds=0, x0=module).x, run.x)
    assert again.spec["x0"]


def test_a_saved_folder_is_tensors_and_a_card(tmp_path):
    run = run_of(nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)))
    folder = run.save_model(tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["card.json", "model.safetensors"]
    loaded = ol.load_model(folder)
    assert torch.equal(loaded(torch.tensor(X)), run.module()(torch.tensor(X)))
    assert json.loads((tmp_path / "model" / "card.json").read_text())["round"] == 3


def test_a_class_of_ones_own_is_given_to_be_filled(tmp_path):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 3)

        def forward(self, x):
            return self.a(x)

    run = run_of(Own())
    folder = run.save_model(tmp_path / "own")
    with pytest.raises(ValueError, match="class of your own"):
        ol.load_model(folder)
    assert torch.equal(ol.load_model(folder, Own()).a.weight, run.module().a.weight)
    with pytest.raises(ValueError, match="does not fit"):
        ol.load_model(folder, nn.Linear(2, 2))


def test_linear_models_are_torch_layers():
    run = ol.run("fedavg", ol.problems.classification((X, Y), clients=4), rounds=2)
    scores = run.module()(torch.tensor(X, dtype=run.x.dtype))
    assert (run.predict(X) == scores.argmax(1).numpy()).all()
    with pytest.raises(ValueError, match="no module"):
        ol.run("gd", ol.problems.quadratics(n=2, d=3), rounds=1).module()


def test_the_best_model_is_judged_on_validation_data():
    run = run_of(nn.Linear(4, 3), rounds=6, keep=("best", "x"))
    values = run.history.validation_accuracy
    assert run.best.value == values.max() and run.best.round == values.idxmax()
    assert torch.equal(run.best.x, run.iterates[run.best.round])
    assert torch.equal(run.best.module().weight.flatten(), run.best.x[:12])
    with pytest.raises(ValueError, match="validation_share"):
        ol.run("fedavg", ol.problems.classification((X, Y), clients=4), rounds=1, keep="best")
    with pytest.raises(ValueError, match="keep='all'"):
        run_of(nn.Linear(4, 3), keep="all")


def test_the_best_model_goes_on_with_a_resumed_run(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    problem = ol.problems.classification((X, Y), module, clients=4, validation_share=0.2, batchnorm="averaged")
    make = lambda **o: ol.run(ol.methods.FedAvg(lr=2.0, batch_size=6), problem, seed=2, keep="best", **o)  # noqa: E731
    whole, file = make(rounds=8), tmp_path / "run.octo"
    make(rounds=min(7, whole.best.round + 1), checkpoint=file)  # the file remembers it
    opened, resumed = ol.load_run(file, problem=problem), ol.resume(file, rounds=8, problem=problem)
    for run in (opened, resumed):
        assert (run.best.round, run.best.value) == (whole.best.round, whole.best.value)
        for name, tensor in whole.best.state_dict().items():
            assert torch.equal(run.best.state_dict()[name], tensor)


def test_a_start_brings_its_running_statistics_and_no_other_backbone(tmp_path):
    module = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    module[3].bias.requires_grad_(False)
    problem = ol.problems.classification((3 * X + 1, Y), module, clients=4, batchnorm="averaged")
    run = ol.run(ol.methods.FedAvg(lr=0.1), problem, rounds=3)
    onward = ol.run(ol.methods.FedAvg(lr=0.1), problem, rounds=1, x0=run.module(), checkpoint=tmp_path / "a.octo")
    assert onward.history.loss.iloc[0] == pytest.approx(run.history.loss.iloc[-1], rel=1e-6)
    again = ol.from_spec(onward.spec, problem=problem).finish()
    assert again.history.loss.tolist() == onward.history.loss.tolist()
    other = run.state_dict()
    other["3.bias"] = other["3.bias"] + 1
    with pytest.raises(ValueError, match=r"'3\.bias', which .* does not train, with other values"):
        ol.run(ol.methods.FedAvg(lr=0.1), problem, rounds=1, x0=other)


def test_new_samples_are_as_wide_as_the_old_ones():
    run = ol.run("fedavg", ol.problems.classification((X, Y), clients=4), rounds=1)
    with pytest.raises(ValueError, match="4 features"):
        run.predict(X[:, :3])


def test_what_makes_no_personal_models_says_so():
    run = run_of(nn.Linear(4, 3))
    with pytest.raises(ValueError, match="no personal models"):
        run.module(personal=0)
    ditto = ol.run(ol.methods.Ditto(lr=0.1), run.problem, rounds=1)
    assert not torch.equal(ditto.module(personal=0).weight, ditto.module(personal=1).weight)
