"""Scores of yes and no, one or several a sample, as metrics read them: whatever loss trained the module."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score
from torch import nn

import octolab as ol

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4)).astype("f4")
SEVERAL = (X @ RNG.normal(size=(4, 3)) > 0.3).astype(int)
NAMES = ["f1", "auroc", "accuracy", "balanced_accuracy", "log_loss", "average_precision"]


def trained(module, loss, labels):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        problem = ol.problems.classification((X, labels), module(), loss=loss, clients=4, test_share=0.3)
    method = ol.methods.FedAvg(lr=0.5, local_steps=5)
    return ol.run(method, problem, rounds=5, metrics=[*NAMES, ol.metrics.PerClient("f1")]), np.concatenate(
        problem.partition.test
    )


def test_metrics_of_several_labels_are_means_over_the_labels():
    run, rows = trained(lambda: nn.Linear(4, 3), nn.BCEWithLogitsLoss(), SEVERAL)
    scores, last = run.predict(X[rows], scores=True), run.history.iloc[-1]
    assert last.f1 == pytest.approx(f1_score(SEVERAL[rows], scores > 0, average="macro"))
    assert last.auroc == pytest.approx(roc_auc_score(SEVERAL[rows], scores, average="macro"))
    assert last.accuracy == pytest.approx(((scores > 0) == SEVERAL[rows]).mean())
    assert np.isfinite(last[[*NAMES, "client_f1"]].astype(float)).all()


@pytest.mark.parametrize("loss", [nn.BCEWithLogitsLoss(), nn.BCELoss()])
def test_probabilities_are_judged_as_such(loss):
    last = nn.Sigmoid() if isinstance(loss, nn.BCELoss) else nn.Identity()
    run, rows = trained(lambda: nn.Sequential(nn.Linear(4, 1), last), loss, SEVERAL[:, 0])
    said, row = run.predict(X[rows]), run.history.iloc[-1]
    assert 0 < said.mean() < 1
    assert row.f1 == pytest.approx(f1_score(SEVERAL[rows, 0], said))
    assert row.accuracy == pytest.approx((said == SEVERAL[rows, 0]).mean())
    assert np.isfinite(row[[*NAMES, "client_f1"]].astype(float)).all()
