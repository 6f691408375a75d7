"""Personal models in a run's history: judged on each client's own data, beside the common model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.problems.scoring import TestPart

COLUMNS = {
    "personal_loss", "personal_accuracy", "personal_accuracy_worst10", "client_accuracy", "client_accuracy_worst10",
}  # fmt: skip
METHODS = [ol.methods.get(s) for s in ("flix", "scafflix", "ditto", "pfedme", "apfl", "local-only")]
QUICK = {"pfedme": {"outer_steps": 2, "inner_steps": 2}, "flix": {"own_steps": 2}, "scafflix": {"own_steps": 2}}


def digits(model="logistic", **more):
    return ol.problems.classification("digits", model, clients=6, split=ol.data.Dirichlet(0.3), l2=0.01, **more)


@pytest.mark.parametrize("kind", METHODS)
def test_personal_models_stand_beside_the_common_one(kind):
    p = digits()
    run = ol.run(kind(**QUICK.get(kind.slug, {})), p, rounds=4, evaluate_every=2, live=False)
    own, common = run.client_metrics(personal=True), run.client_metrics()
    models = run.method.personal(run.federation, run.state)
    assert models.shape == (6, p.d)
    last = run.history.iloc[-1]
    for name, each in (("personal_accuracy", own["accuracy"]), ("client_accuracy", common["accuracy"])):
        assert each.shape == (6,)
        assert last[name] == pytest.approx(np.nanmean(each))
        assert last[f"{name}_worst10"] == pytest.approx(np.nanmin(each))  # of six clients, the worst one
    assert last.personal_loss == pytest.approx(float(p.weights.numpy() @ own["loss"]))
    assert run.history[sorted(COLUMNS)].notna().all(axis=1).tolist() == [True, False, True, False, True]


def test_methods_and_problems_without_personal_models_or_tests_pay_and_show_nothing(monkeypatch):
    p = ol.problems.quadratics(n=4, d=5)
    monkeypatch.setattr(type(p), "client_metrics", None)  # nobody asks for it
    run = ol.run("gd", p, rounds=2, live=False)
    assert not {c for c in run.history if c.startswith(("personal", "client_"))}
    with pytest.raises(ValueError, match="GD makes no personal models: leave out personal=True"):
        run.client_metrics(personal=True)
    monkeypatch.undo()
    run = ol.run("ditto", p, rounds=2, live=False)
    assert [c for c in run.history if c.startswith(("personal", "client_"))] == ["personal_loss"]


def test_evaluation_is_free_of_charge_and_changes_no_number():
    p = digits()
    often, once = (
        ol.run(ol.methods.Ditto(batch_size=8), p, rounds=6, evaluate_every=k, live=False, seed=4) for k in (1, 6)
    )
    assert torch.equal(often.x, once.x) and often.history.gradients.equals(once.history.gradients)
    assert often.history.bits_down.equals(once.history.bits_down)


def test_a_share_of_one_is_the_common_model():
    last = ol.run(ol.methods.FLIX(alpha=1.0), digits(), rounds=5, live=False).history.iloc[-1]
    assert last.personal_accuracy == last.client_accuracy and last.personal_loss == pytest.approx(last.loss)


def test_clients_without_test_samples_do_not_count():
    rng = np.random.default_rng(0)
    X, y = [rng.normal(size=(9, 3)) for _ in range(12)], [np.sign(rng.normal(size=9)) for _ in range(12)]
    tests = [(X[i], y[i]) if i % 3 else (X[i][:0], y[i][:0]) for i in range(12)]
    run = ol.run("local-only", ol.problems.Logistic(X, y, l2=0.1, test=tests), rounds=20, live=False)
    each = run.client_metrics(personal=True)["accuracy"]
    assert np.isnan(each).tolist() == [i % 3 == 0 for i in range(12)]
    assert run.history.personal_accuracy.iloc[-1] == pytest.approx(np.nanmean(each))
    nobody = ol.problems.Logistic(X, y, l2=0.1, test=[(x[:0], y[:0]) for x, y in tests])
    assert "personal_accuracy" not in ol.run("local-only", nobody, rounds=1, live=False).history


@pytest.mark.parametrize("where", ["logistic", "softmax", "mlp", "cnn"])
def test_personal_accuracy_is_that_of_one_model_after_the_other(where: str, monkeypatch):
    """Stacked in blocks, whatever their size."""
    p = digits(where, dtype="float64") if where in ("mlp", "cnn") else digits()
    if where == "logistic":
        p = ol.problems.classification("breast-cancer", clients=7, split=ol.data.Dirichlet(0.3))
    x = p.x0 + torch.from_numpy(np.random.default_rng(1).normal(size=(p.n, p.d))) / 5
    one_by_one = np.array([p.client_accuracy(x[i])[i] for i in range(p.n)])
    assert len(set(one_by_one)) > 2
    for most in (1, 500, 2**20):
        monkeypatch.setattr("octolab.problems.scoring.AT_ONCE", most)
        assert np.allclose(p.client_accuracy(x), one_by_one, equal_nan=True)
    some = torch.tensor([4, 0, 2])
    assert np.allclose(p.client_accuracy(x[some], some), one_by_one[some], equal_nan=True)


def test_text_is_judged_by_the_share_of_right_letters():
    p = ol.problems.language("shakespeare", clients=3)
    x = p.x0 + torch.randn(3, p.d, generator=torch.Generator().manual_seed(0)).to(p.dtype)
    right = p.client_accuracy(x)
    assert right == pytest.approx([p.client_accuracy(x[i])[i] for i in range(3)]) and 0 < right.max() < 1


def test_blocks_hold_clients_of_like_size():
    held = [5, 40, 0, 9, 10, 41, 1]
    part = TestPart([(np.zeros((k, 2)), np.zeros(k)) for k in held], torch.float64)
    blocks = [[held[i] for i in b.tolist()] for b in part._blocks(part.counts)]
    assert blocks == [[41, 40], [10, 9, 5], [1]]


@pytest.mark.parametrize("kind", METHODS)
def test_a_thousand_clients_train_side_by_side(kind):
    """n = 1,000, d = 7,850: no Python loop over clients."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(1000, 2, 784)).astype(np.float32), rng.integers(0, 10, size=(1000, 2))
    test = [(X[i, :1], y[i, :1]) for i in range(1000)]
    p = ol.problems.Softmax(list(X), list(y), 10, l2=0.01, test=test, dtype=torch.float32)
    calls: list[int] = []
    given = {**QUICK.get(kind.slug, {}), "lr": 0.001}
    if kind.slug in ("ditto", "apfl", "local-only"):
        given["local_steps"] = 2
    method = kind(**given)
    grad, local = type(p).grad, type(p).local_sgd
    counted = type("Counted", (type(p),), {
        "grad": lambda self, *a, **k: (calls.append(1), grad(self, *a, **k))[1],
        "local_sgd": lambda self, *a, **k: (calls.append(1), local(self, *a, **k))[1],
    })  # fmt: skip
    p.__class__ = counted
    run = ol.run(method, p, rounds=2, evaluate_every=2, live=False)
    assert run.status == "finished" and p.d == 7850 and run.history.personal_accuracy.notna().sum() == 2
    assert 0 < len(calls) < 400  # chunks, not clients
