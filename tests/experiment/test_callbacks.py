"""Callbacks hear of a run, may end it, and never break it; streams and trackers get every row once."""

import csv
import io
import json
import logging
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.experiment.callbacks.callback import Callbacks, View
from octolab.experiment.launch import prepare

QUIET = {"live": False}


@pytest.fixture
def problem():
    return ol.problems.quadratics(n=5, d=3, L=10, mu=1, seed=0)


class Listener:
    """Writes down what it hears; stops in round `stop`."""

    def __init__(self, stop=None):
        self.heard, self.stop = [], stop

    def on_start(self, run):
        self.heard.append(("start", run.round))

    def on_round(self, run):
        self.heard.append(("round", run.round))
        return "stop" if run.round == self.stop else None

    def on_evaluate(self, run):
        self.heard.append(("evaluate", run.round))

    def on_end(self, run):
        self.heard.append(("end", run.status))


def test_what_is_heard_and_when(problem):
    listener = Listener()
    ol.run("gd", problem, rounds=3, evaluate_every=2, callbacks=[listener], **QUIET)
    assert listener.heard == [
        *[("start", -1), ("evaluate", 0), ("round", 1), ("round", 2), ("evaluate", 2)],
        *[("round", 3), ("evaluate", 3), ("end", "finished")],
    ]


def test_a_callback_may_have_some_hooks_only_and_end_the_run(problem):
    class Two:
        def on_evaluate(self, run):
            return "stop" if run.round >= 2 else None

    run = ol.run("gd", problem, rounds=9, callbacks=[Listener(stop=2), Two()], **QUIET)
    assert run.status == "stopped" and run.round == 2
    assert run.stop_reason == "Listener in round 2, Two in round 2"
    assert run.finish().round == 3  # a run that was stopped goes on, until one asks again


def test_an_error_in_a_callback_is_said_once_and_ends_nothing(problem, caplog):
    class Broken:
        def on_round(self, run):
            raise KeyError("mine")

    listener = Listener()
    with caplog.at_level(logging.INFO, "octolab"), pytest.warns(RuntimeWarning, match="Broken.on_round failed") as seen:
        run = ol.run("gd", problem, rounds=5, callbacks=[Broken(), listener], **QUIET)
    assert run.status == "finished" and ("end", "finished") in listener.heard
    assert sum("Broken" in str(w.message) for w in seen) == 1
    assert [r.message for r in caplog.records if "GD" in r.message] == [
        "GD: starts at round -1",
        "GD: finished at round 5",
    ]


def test_a_slow_callback_is_said_once(problem):
    now = [0.0]

    class Slow:
        def on_round(self, run):
            now[0] += 4.0

    calls = Callbacks(prepare("gd", problem, rounds=5), [Slow()], clock=lambda: now[0])
    calls.start()
    with pytest.warns(RuntimeWarning, match="Slow takes 100% of the run's time") as seen:
        for k in range(1, 5):
            calls.round(k, evaluated=False)
    assert len(seen) == 1


def test_a_view_shows_and_sets_nothing(problem):
    run = prepare("gd", problem, rounds=5).advance(3)
    view = View(run)
    view.x.zero_()
    assert view.round == 2 and run.x.abs().sum() > 0 and view.row["round"] == 2 and "loss" in view.row
    with pytest.raises(AttributeError, match="sets nothing"):
        view.status = "finished"
    with pytest.raises(AttributeError, match="has no 'federation'"):
        _ = view.federation


@pytest.mark.parametrize("bad", [3, Listener, object()])
def test_what_is_no_callback_gets_a_sentence(problem, bad):
    with pytest.raises(ValueError, match="has none of on_start"):
        ol.run("gd", problem, callbacks=[bad], **QUIET)


# -- early stopping and the best ---------------------------------------------------------------------------------------
def falling(values):
    """A problem whose loss takes these values."""

    class Given(type(ol.problems.quadratics(n=2, d=2))):
        def evaluate(self, x):
            return {"loss": next(it), "grad_norm_sq": 1.0}

    it, made = iter(values), ol.problems.quadratics(n=2, d=2)
    made.__class__ = Given
    return made


def test_early_stopping_counts_evaluations_without_a_gain():
    values = [5, 4, 4.5, 3, 3.5, 3.2, 3.1, 1, 0]
    run = ol.run("gd", falling(values), rounds=8, callbacks=[ol.EarlyStopping(patience=3)], **QUIET)
    assert run.round == 6 and run.stop_reason == "EarlyStopping in round 6"
    run = ol.run("gd", falling(values), rounds=8, callbacks=[ol.EarlyStopping("loss", 2, least_gain=1.5)], **QUIET)
    assert run.round == 2


def test_early_stopping_knows_what_more_means():
    digits = ol.problems.classification("digits", model="logistic", clients=3)
    run = ol.run("fedavg", digits, rounds=200, callbacks=[ol.EarlyStopping("accuracy", patience=5)], **QUIET)
    a = run.history.accuracy.to_numpy()
    assert run.round < 200 and a[-6] == a.max() > a[:-6].max() and (a[-5:] <= a[-6]).all()


def test_a_resumed_run_stops_where_the_uninterrupted_one_did(tmp_path):
    digits = ol.problems.classification("digits", model="logistic", clients=3)
    stop = lambda: [ol.EarlyStopping("accuracy", patience=5)]  # noqa: E731
    whole = ol.run("fedavg", digits, rounds=200, callbacks=stop(), **QUIET)
    prepare("fedavg", digits, rounds=200).advance(whole.round - 2).save(tmp_path / "a")
    resumed = ol.resume(tmp_path / "a", callbacks=stop())
    assert resumed.round == whole.round and resumed.history.equals(whole.history)
    assert ol.resume(tmp_path / "a", callbacks=stop()).round == whole.round  # it has waited long enough already
    assert ol.resume(tmp_path / "a", rounds=whole.round + 3).round == whole.round + 3  # without it, it goes on


def test_early_stopping_on_a_column_that_is_not_there_names_the_nearest(problem):
    with pytest.warns(RuntimeWarning, match="evaluates no 'los'. Did you mean loss"):
        ol.run("gd", problem, rounds=2, callbacks=[ol.EarlyStopping("los")], **QUIET)
    with pytest.raises(ValueError, match="patience=0"):
        ol.EarlyStopping(patience=0)


def test_the_best_model_is_kept_and_a_worse_one_never_overwrites_it(tmp_path):
    best = ol.callbacks.KeepBest("loss", tmp_path / "best")
    ol.run("gd", falling([5, 4, 1, 3, 2]), rounds=4, callbacks=[best], **QUIET)
    assert best.round == 2 and best.value == 1 and best.x.shape == (2,)
    run = prepare("gd", ol.problems.quadratics(n=2, d=2), rounds=30).advance(20)
    (tmp_path / "best").unlink()
    run.listen([best]).advance(1)
    run.finish()
    assert best.value == run.history.loss.min() and ol.load_run(tmp_path / "best").round == best.round


# -- streams -----------------------------------------------------------------------------------------------------------
def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_jsonl_holds_every_row_once_and_a_resumed_run_writes_its_whole_history(problem, tmp_path):
    path = tmp_path / "GD-0.jsonl"
    made = ol.callbacks.JSONL(tmp_path / "{name}-{seed}.jsonl")
    run = ol.run("gd", problem, rounds=7, evaluate_every=3, callbacks=[made], **QUIET)
    rows = rows_of(path)
    assert [row["round"] for row in rows] == list(range(8))
    assert [row.get("loss") for row in rows if "loss" in row] == run.history.loss.dropna().tolist()
    run.save(tmp_path / "a")
    ol.resume(tmp_path / "a", rounds=9, callbacks=[ol.callbacks.JSONL(path)])
    assert [row["round"] for row in rows_of(path)] == list(range(10))


def test_rows_go_in_batches_and_none_is_lost(problem):
    now, batches = [0.0], []

    class Batches(ol.callbacks.Stream):
        def write(self, rows):
            batches.append([int(row["round"]) for row in rows])
            now[0] += 0.001

        def on_round(self, run):
            now[0] += 0.04
            super().on_round(run)

    ol.run("gd", problem, rounds=9, callbacks=[Batches(clock=lambda: now[0])], **QUIET)
    assert [k for batch in batches for k in batch] == list(range(10))
    assert max(map(len, batches)) == 3 and len(batches) == 4


def test_csv_takes_columns_that_come_late(problem, tmp_path):
    class Late(ol.methods.GD):
        slug = ""

        def step(self, fed, s):
            if fed.counters["calls"] == 4:
                fed.log(late=1.5)
            return super().step(fed, s)

    ol.run(Late(), problem, rounds=6, callbacks=[ol.callbacks.CSV(tmp_path / "a.csv")], **QUIET)
    with open(tmp_path / "a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(float(row["round"])) for row in rows] == list(range(7))
    assert [row["late"] for row in rows if row["late"]] == ["1.5"]


def test_two_runs_do_not_share_a_file(problem, tmp_path):
    made = ol.callbacks.JSONL(tmp_path / "a")
    first = ol.run("gd", problem, rounds=2, callbacks=[made], **QUIET)
    with pytest.warns(RuntimeWarning, match="another run's rows already"):
        ol.run("gd", problem, rounds=2, seed=1, callbacks=[made], **QUIET)
    assert first.round == 2


def test_a_bar_shows_the_rounds_and_the_loss(problem):
    screen = io.StringIO()
    ol.run("gd", problem, rounds=4, callbacks=[ol.callbacks.ProgressBar("mine", delay=0, file=screen)], **QUIET)
    assert "mine" in screen.getvalue() and "/4" in screen.getvalue()


# -- trackers ----------------------------------------------------------------------------------------------------------
def test_tensorboard_holds_every_round(problem, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = ol.run("gd", problem, rounds=6, callbacks=[ol.callbacks.TensorBoard(tmp_path)], **QUIET)
    found = EventAccumulator(str(tmp_path / "GD-0"))
    found.Reload()
    assert [e.step for e in found.Scalars("loss")] == list(range(7))
    assert np.allclose([e.value for e in found.Scalars("loss")], run.history.loss, rtol=1e-6)


@pytest.mark.slow
def test_weights_and_biases_offline(problem, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    run = ol.run("gd", problem, rounds=4, callbacks=[ol.callbacks.WandB("octotest", dir=str(tmp_path))], **QUIET)
    (written,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    kept = written.read_bytes()  # records with their values as JSON text
    assert all(json.dumps(loss).encode() in kept for loss in run.history.loss)


@pytest.mark.slow
def test_trackio_on_this_machine(tmp_path):
    """In a process of its own: Trackio reads where it keeps its data when it is imported."""
    pytest.importorskip("trackio")
    code = (
        "import octolab as ol\n"
        "ol.run('gd', ol.problems.quadratics(n=3, d=2), rounds=4, live=False, callbacks=[ol.callbacks.Trackio('octotest')])"
    )
    env = {**os.environ, "TRACKIO_DIR": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-W", "error::RuntimeWarning", "-c", code], env=env, check=True, timeout=300)
    with closing(sqlite3.connect(tmp_path / "octotest.db")) as kept:
        assert kept.execute("select step from metrics order by step").fetchall() == [(k,) for k in range(5)]


def test_mlflow_in_a_folder(problem, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    uri = (tmp_path / "mlruns").as_uri()
    run = ol.run("gd", problem, rounds=4, callbacks=[ol.callbacks.MLflow("octolab-test", uri)], **QUIET)
    client = mlflow.tracking.MlflowClient(uri)
    (found,) = client.search_runs([client.get_experiment_by_name("octolab-test").experiment_id])
    history = client.get_metric_history(found.info.run_id, "loss")
    assert [m.value for m in sorted(history, key=lambda m: m.step)] == run.history.loss.tolist()
    assert found.data.params["seed"] == "0" and found.info.status == "FINISHED"


@pytest.mark.parametrize("name", ["TensorBoard", "WandB", "Trackio", "MLflow"])
def test_a_tracker_that_is_not_installed_says_what_to_install(name, monkeypatch):
    tracker = getattr(ol.callbacks, name)
    monkeypatch.setitem(sys.modules, tracker.library, None)
    with pytest.raises(ImportError, match=f"{name} needs the package .*pip install {tracker.package}"):
        tracker()


def test_provenance_is_beside_the_spec(problem, tmp_path):
    run = prepare("gd", problem, rounds=2)
    before = run.spec["hash"]
    found = run.provenance
    assert {"octolab", "commit", "python", "torch", "numpy", "cpu", "threads", "data"} <= set(found)
    assert run.spec["hash"] == before and "provenance" not in run.spec
    json.dumps(found)
    digits = ol.problems.classification("digits", clients=3)
    assert len(prepare("fedavg", digits).provenance["data"]["sha256"]) == 64


class Stops:
    """Asks for the end in a round."""

    def __init__(self, when):
        self.when = when

    def on_round(self, run):
        return "stop" if run.round >= self.when else None


def test_two_callbacks_that_stop_are_both_named(problem):
    run = ol.run("gd", problem, rounds=9, callbacks=[Stops(3), Stops(3), Stops(5)], live=False)
    assert run.round == 3 and run.stop_reason == "Stops in round 3, Stops in round 3"


def test_a_run_is_resumed_with_other_callbacks(problem, tmp_path):
    ol.run("gd", problem, rounds=9, callbacks=[Stops(3)], checkpoint=str(tmp_path / "a"), live=False)
    on = ol.resume(tmp_path / "a", callbacks=[Stops(6)])
    assert on.round == 6 and on.stop_reason == "Stops in round 6"
    whole = ol.resume(tmp_path / "a")
    assert whole.round == 9 and whole.stop_reason is None
    assert torch.equal(whole.x, ol.run("gd", problem, rounds=9, live=False).x)


@pytest.mark.slow
def test_a_tracking_server_that_is_not_there_is_said_and_the_run_goes_on(problem, monkeypatch):
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "")  # so that they are as before afterwards
        monkeypatch.delenv(name)
    with pytest.warns(RuntimeWarning, match=r"MLflow\.on_start failed .*the run goes on without it"):
        run = ol.run("gd", problem, rounds=3, callbacks=[ol.callbacks.MLflow(uri="http://127.0.0.1:9")], live=False)
    assert run.status == "finished" and run.round == 3
