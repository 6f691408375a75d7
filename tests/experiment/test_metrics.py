"""Metrics of a run: in the history, per client, as stop rules; and what happens when one of them fails."""

import numpy as np
import pytest
from sklearn import metrics as sk

import octolab as ol
from octolab.experiment.launch import prepare
from octolab.metrics import NAMED, PerClient, Scored, metrics_of

QUIET = {"live": False}


@pytest.fixture(scope="module")
def digits():
    return ol.problems.classification("digits", model="logistic", clients=5, split=ol.data.Dirichlet(alpha=0.3))


@pytest.fixture(scope="module")
def two():
    return ol.problems.classification("breast-cancer", model="logistic", clients=4)


def of_model(problem, x, **kwargs):
    return problem.test_scores(x, **kwargs)


def test_named_metrics_are_scikit_learns(digits):
    run = ol.run(
        "fedavg", digits, rounds=3, metrics=["accuracy", "f1", "auroc", "average_precision", "log_loss"], **QUIET
    )
    s, last = of_model(digits, run.x), run.history.iloc[-1]
    p = np.exp(s.scores - s.scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    truth = np.eye(10)[s.labels]
    assert last.accuracy == digits.evaluate(run.x)["accuracy"] == sk.accuracy_score(s.labels, s.scores.argmax(1))
    assert last.f1 == pytest.approx(sk.f1_score(s.labels, s.scores.argmax(1), average="macro"), abs=1e-12)
    assert last.auroc == pytest.approx(sk.roc_auc_score(s.labels, p, multi_class="ovr"), abs=1e-12)
    assert last.average_precision == pytest.approx(sk.average_precision_score(truth, p, average="macro"), abs=1e-12)
    assert last.log_loss == pytest.approx(sk.log_loss(s.labels, p), abs=1e-12)


def test_two_classes_have_one_score(two):
    run = ol.run("gd", two, rounds=5, metrics=["f1", "auroc", "balanced_accuracy"], **QUIET)
    s, last = of_model(two, run.x), run.history.iloc[-1]
    assert s.scores.ndim == 1 and set(s.labels) == {0, 1}
    assert last.f1 == pytest.approx(sk.f1_score(s.labels, s.scores > 0), abs=1e-12)
    assert last.auroc == pytest.approx(sk.roc_auc_score(s.labels, s.scores), abs=1e-12)
    assert last.balanced_accuracy == pytest.approx(sk.balanced_accuracy_score(s.labels, s.scores > 0), abs=1e-12)


def test_a_network_and_a_regression_have_metrics_too():
    net = ol.problems.classification("digits", model="mlp", clients=3)
    run = ol.run(ol.methods.FedAvg(lr=0.1), net, rounds=1, metrics="accuracy", **QUIET)
    assert run.history.accuracy.iloc[-1] == net.evaluate(run.x)["accuracy"]
    s = Scored(np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0]), np.zeros(3), 1)
    found = {m.name: m.measure(s)[m.name] for m in metrics_of(["mae", "mse", "rmse", "r2"])}
    assert found["mae"] == 1.0 and found["mse"] == 5 / 3 and found["rmse"] ** 2 == pytest.approx(5 / 3)
    assert found["r2"] == pytest.approx(sk.r2_score(s.labels, s.scores))


def half(labels, scores):
    """Zero for everybody."""
    return 0.5


half.greater_is_better = False


def test_a_function_of_ones_own_is_a_column(digits):
    run = ol.run("fedavg", digits, rounds=2, metrics=[half], until={"half": 0.5}, **QUIET)
    assert run.history.half.tolist() == [0.5] and run.round == 0  # less is better, and 0.5 is reached at once
    with pytest.raises(ValueError, match="'half' is a function of your own"):
        ol.from_spec(run.spec)
    assert ol.from_spec(run.spec, metrics=[half]).settings.metrics == run.settings.metrics


def test_named_metrics_are_part_of_the_spec_and_runs_without_them_have_the_spec_of_before(digits, tmp_path):
    with_them = prepare("fedavg", digits, rounds=6, metrics=["f1", PerClient("auroc")]).advance(3)
    assert with_them.spec["settings"]["metrics"] == ["f1", {"per_client": "auroc"}]
    assert "metrics" not in prepare("fedavg", digits, rounds=6).spec["settings"]
    with_them.save(tmp_path / "a")
    assert ol.resume(tmp_path / "a").history.equals(with_them.finish().history)


def test_per_client_leaves_out_and_counts_clients_with_one_class(digits):
    run = ol.run("fedavg", digits, rounds=2, metrics=[PerClient("auroc")], **QUIET)
    s, last = of_model(digits, run.x, by_client=True), run.history.iloc[-1]
    one = [len(np.unique(s.of(k).labels)) < 2 for k in range(s.clients)]
    each = run.client_metrics()["auroc"]
    assert np.isnan(each).tolist() == one and last.client_auroc_left_out == sum(one)
    assert last.client_auroc == pytest.approx(np.nanmean(each)) and last.client_auroc_worst10 == np.nanmin(each)


def test_clients_without_samples_and_with_one_class_by_hand():
    scores = np.array([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0]])
    s = Scored(np.array([0, 1, 0]), scores, np.array([0, 0, 2]), 3)
    (metric,) = metrics_of([PerClient("f1")])
    assert metric.measure(s) == {"client_f1": 1.0, "client_f1_worst10": 1.0, "client_f1_left_out": 2.0}


@pytest.mark.parametrize("bad", [lambda labels, scores: 1 / 0, lambda labels, scores: float("nan")])
def test_a_metric_that_fails_is_named_once_and_the_run_goes_on(digits, bad):
    bad.__name__ = "mine"
    with pytest.warns(RuntimeWarning, match=r"The metric 'mine' (raised ZeroDivisionError|gave NaN)") as seen:
        run = ol.run("fedavg", digits, rounds=3, metrics=["f1", bad], **QUIET)
    assert run.status == "finished" and run.history.mine.isna().all() and run.history.f1.notna().all()
    assert sum("'mine' raised" in str(w.message) for w in seen) <= 1


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        (["acuracy"], "Did you mean accuracy"),
        ([3], "metrics=3"),
        (["f1", "f1"], "written twice"),
        ([lambda labels, scores: 0.0], "named functions"),
    ],
)
def test_what_is_no_metric_gets_a_sentence(digits, metrics, words):
    with pytest.raises(ValueError, match=words):
        ol.run("fedavg", digits, metrics=metrics, **QUIET)


def test_a_problem_without_test_samples_refuses_metrics():
    with pytest.raises(ValueError, match="has no test samples"):
        ol.run("gd", ol.problems.quadratics(n=3, d=2), metrics="accuracy", **QUIET)


def test_until_takes_any_evaluated_column_and_names_the_nearest(digits):
    run = ol.run("fedavg", digits, until={"accuracy": 0.5}, **QUIET)
    assert run.history.accuracy.iloc[-1] >= 0.5 > run.history.accuracy.iloc[-2]
    assert ol.from_spec(run.spec).settings.until == run.settings.until
    with pytest.raises(ValueError, match="Did you mean accuracy"):
        ol.run("fedavg", digits, until={"acuracy": 0.5}, **QUIET)
    with pytest.raises(ValueError, match="accuracy='high': give a number"):
        ol.run("fedavg", digits, until={"accuracy": "high"}, **QUIET)


@pytest.mark.parametrize(
    ("method", "wanted", "words"),
    [
        ("ditto", "personal_acuracy", "Did you mean personal_accuracy"),
        ("fedavg", "client_acuracy", "Did you mean client_accuracy"),
        ("fedavg", "personal_accuracy", "evaluates no such column"),  # FedAvg makes no personal models
    ],
)
def test_misspelt_columns_of_clients_get_the_nearest_name_too(digits, method, wanted, words):
    with pytest.raises(ValueError, match=words):
        ol.run(method, digits, until={wanted: 0.9}, metrics="accuracy", **QUIET)


def test_every_metric_is_in_the_history_per_client_too(digits):
    run = ol.run("fedavg", digits, rounds=1, metrics=["accuracy", "f1", half], **QUIET)
    s, last = of_model(digits, run.x, by_client=True), run.history.iloc[-1]
    each = run.client_metrics()
    for name in ("accuracy", "f1"):
        assert last[f"client_{name}"] == pytest.approx(np.nanmean(each[name]))
        assert last[f"client_{name}_worst10"] == pytest.approx(np.nanmin(each[name]))
    assert last.client_f1_left_out == sum(len(np.unique(s.of(k).labels)) < 2 for k in range(5))
    assert last.client_half == 0.5 and not run.greater_is_better("client_half") and run.greater_is_better("client_f1")
    reached = ol.run("fedavg", digits, until={"client_f1": 0.3}, metrics="f1", **QUIET)
    assert reached.history.client_f1.iloc[-1] >= 0.3


@pytest.mark.parametrize("classes", [2, 4])
def test_all_clients_at_once_are_scikit_learns_client_by_client(classes):
    rng = np.random.default_rng(1)
    labels, owner = rng.integers(0, classes, 60), np.sort(rng.integers(0, 7, 60))
    scores = rng.normal(size=60) if classes == 2 else rng.normal(size=(60, classes))
    owner[owner == 3] = 4  # nobody's
    labels[owner == 5] = 1  # one class only
    s = Scored(labels, scores, owner, 7)
    for name in ("accuracy", "f1", "precision", "recall", "balanced_accuracy"):
        (metric,) = metrics_of(name)
        found = metric.by_client(s)
        for k in range(7):
            own = s.of(k)
            known = k != 3 and (name == "accuracy" or k != 5)
            wanted = NAMED[name](own.labels, own.scores) if known else np.nan
            assert found[k] == pytest.approx(wanted, nan_ok=True, abs=1e-12), (name, k)


def test_what_fails_on_some_clients_is_left_out_there_only(digits):
    held = np.bincount(of_model(digits, digits.x0, by_client=True).owner, minlength=5)

    def spread(labels, scores):
        if len(labels) < held.max():
            raise ValueError("too few samples")
        return float(scores.std())

    last = ol.run("fedavg", digits, rounds=1, metrics=[spread], **QUIET).history.iloc[-1]
    few = (held < held.max()).sum()
    assert 0 < few < 5 and last.client_spread_left_out == few and np.isfinite(last.client_spread)


def test_every_name_is_a_function_of_its_own_name():
    for name, function in NAMED.items():
        assert function.__name__ == name or (name, function.__name__) == ("roc_auc", "auroc")
