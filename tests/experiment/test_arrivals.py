"""The events of a run, what they say of its devices, and their replay."""

import numpy as np
import pytest

import octolab as ol
from octolab.federation import Fleet, LogNormal

M = ol.methods
PROBLEM = ol.problems.Tridiagonal(d=6, n=8, noise=0.05)
FLEET = Fleet(seconds=np.linspace(1, 4, 8), jitter=LogNormal(0.5), up=500.0, latency=0.01, dropout=0.2, timeout=30.0)
METHODS = [M.ASGD(lr=0.05), M.Ringmaster(lr=0.05, R=4), M.Ringmaster(lr=0.05, R=3, variant="stop")]


def finished(method, **settings):
    return ol.run(method, PROBLEM, rounds=150, keep="x", **({"fleet": FLEET, "live": False} | settings))


@pytest.mark.parametrize("method", METHODS, ids=["asgd", "ignore", "stop"])
def test_a_record_replays_to_the_same_trajectory_also_from_its_file(method, tmp_path):
    run = finished(method)
    path = run.export(tmp_path / "events.csv")
    for events in (run.events, path):
        again = ol.replay(events, method, PROBLEM, rounds=150, keep="x", live=False)
        assert (again.iterates == run.iterates).all() and (again.history.time == run.history.time).all()
        assert again.events.equals(run.events) and again.staleness.equals(run.staleness)
        if method is not METHODS[2]:  # what a cancelled job had sent of its reply is not in the record
            assert again.history.bits_up.equals(run.history.bits_up)


def test_events_and_staleness_count_every_arrival_once():
    run = finished(METHODS[1])
    events, staleness, history = run.events, run.staleness, run.history
    assert list(events.columns) == ["time", "client", "kind", "version"] and events.time.is_monotonic_increasing
    assert staleness.accepted.sum() + staleness.rejected.sum() == 150 == events.kind.isin(["done", "ignored"]).sum()
    assert (staleness.delay[staleness.accepted > 0] < 4).all()
    assert staleness.accepted.sum() >= history.accepted.astype(float).sum() >= staleness.accepted.sum() - 1
    every = np.repeat(staleness.delay, staleness.accepted + staleness.rejected)
    assert sorted(every) == sorted(history.delay.dropna().astype(int))


def test_latencies_and_losses_by_hand():
    fleet = Fleet(seconds=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    run = finished(METHODS[0], fleet=fleet)
    seconds = [fleet.seconds[int(i)] for i in run.events.client]
    assert run.latency_percentiles == {f"p{q}": np.percentile(seconds, q) for q in (50, 90, 99)}
    assert run.dropout_rate == 0.0
    lossy = finished(METHODS[0])
    assert lossy.dropout_rate == pytest.approx(0.2, abs=0.06)


def test_synchronous_runs_have_latencies_and_losses_too():
    run = ol.run("gd", PROBLEM, rounds=50, fleet=Fleet(seconds=2.0, up=1e3, dropout=0.3), live=False)
    assert run.latency_percentiles["p50"] == pytest.approx(2 + 6 * 32 / 1e3)
    assert run.dropout_rate == pytest.approx(0.3, abs=0.08) and run.staleness.empty
    with pytest.raises(ValueError, match="no asynchronous run"):
        ol.replay(ol.run("gd", PROBLEM, rounds=3, live=False).events, "gd", PROBLEM, live=False)


def test_a_resumed_run_has_all_its_events(tmp_path):
    whole, run = finished(METHODS[1]), ol.run(METHODS[1], PROBLEM, rounds=60, fleet=FLEET, live=False)
    again = ol.resume(run.save(tmp_path / "run.octo"), rounds=150)
    assert again.events.equals(whole.events) and again.dropout_rate == whole.dropout_rate


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns="kind"), "lack the column kind"),
        (lambda t: t.assign(time=-1.0), "time=-1.0"),
        (lambda t: t.assign(client=99), "client 99: there are 8"),
        (lambda t: t.assign(kind="lost"), "kind='lost'"),
    ],
)
def test_bad_records_get_a_sentence(change, words):
    events = finished(METHODS[0]).events
    with pytest.raises(ValueError, match=words):
        ol.replay(change(events), METHODS[0], PROBLEM, rounds=3, live=False)
