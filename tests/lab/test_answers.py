"""What a classifier answers, in the dashboard's model panel: the numbers are those of the run's own module."""

import numpy as np
import pytest
import torch
from torch import nn

import octolab as ol
from octolab.lab.dashboard import StaticDashboard
from octolab.lab.dashboard.panels.answers import answers
from octolab.metrics import Scored

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4))
TAGS = np.array(["ant", "bee", "cow"])[(X @ RNG.normal(size=(4, 3))).argmax(1)]


def scored(labels, scores):
    return Scored(np.array(labels), np.array(scores, dtype=float), np.zeros(len(labels), dtype=int), 1)


def test_numbers_by_class_and_calibration_by_hand():
    chances = [[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.6, 0.4, 0.0], [0.9, 0.1, 0.0], [0.0, 1.0, 0.0]]
    said = answers(scored([0, 0, 1, 0, -100], np.log(np.array(chances) + 1e-12)))
    assert said.confusion.tolist() == [[2, 1, 0], [1, 0, 0], [0, 0, 0]]  # -100 is ignored
    assert np.allclose(said.recall, [2 / 3, 0, np.nan], equal_nan=True)
    assert np.allclose(said.precision, [2 / 3, 0, np.nan], equal_nan=True)
    sure, so, error = said.calibration()
    assert np.allclose(sure, [0.6, 0.8, 0.9]) and np.allclose(so, [0, 0, 1])
    assert error == pytest.approx((0.6 + 0.8 + 2 * 0.1) / 4)


def test_one_output_is_a_score():
    assert np.allclose(answers(scored([1, 0], [np.log(3), -np.log(3)])).confidence, 0.75)
    assert answers(scored([0.5, 1.5], [0.1, 0.2])) is None  # a regression
    assert answers(scored([[0, 1], [1, 1]], [[0.1, 0.2], [0.3, 0.4]])) is None  # several labels a sample


@pytest.mark.parametrize("model", ["logistic", "module"])
def test_the_model_panel_shows_what_the_module_says(model):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        given = "logistic" if model == "logistic" else nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    problem = ol.problems.classification((X, TAGS), given, clients=4, test_share=0.3)
    run = ol.run(ol.methods.FedAvg(lr=0.3), problem, rounds=5)
    charts = {c.key: c for c in StaticDashboard({"a": run}).charts("model")}
    rows = np.concatenate(problem.partition.test)
    code = {"ant": 0, "bee": 1, "cow": 2}
    is_so, said = np.array([code[t] for t in TAGS[rows]]), run.predict(X[rows])
    assert list(charts["recall"].marks[0].x) == ["ant", "bee", "cow"]
    for k in range(3):
        assert charts["recall"].marks[0].y[k] == pytest.approx((said[is_so == k] == k).mean())
        assert charts["confusion"].marks[0].z[k].tolist() == pytest.approx(
            [(said[is_so == k] == j).mean() for j in range(3)]
        )
    assert charts["calibration"].marks[0].x.min() >= 1 / 3 and len(charts["calibration"].marks) == 2


def test_other_problems_have_no_such_charts():
    run = ol.run("gd", ol.problems.quadratics(n=3, d=4), rounds=3)
    assert not {"recall", "confusion", "calibration"} & {c.key for c in StaticDashboard({"a": run}).charts("model")}
