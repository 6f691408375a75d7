"""The timeline: what every device was doing when, in virtual seconds."""

from __future__ import annotations

import numpy as np

import octolab as ol
from octolab.federation import timeline


def problem():
    return ol.problems.quadratics(n=3, d=4, seed=0)


def test_a_call_is_receive_compute_send_by_hand():
    fleet = ol.Fleet(seconds=[1.0, 2.0, 3.0], up=64.0, down=128.0, latency=0.5)
    run = ol.run(ol.methods.GD(lr=0.1), problem(), rounds=2, fleet=fleet, live=False)
    first = run.federation.timeline.segments()[:3]
    assert first["client"].tolist() == [0, 1, 2] and first["start"].tolist() == [0.0, 0.0, 0.0]
    assert np.allclose(first["received"], 128 / 128 + 0.5)
    assert np.allclose(first["computed"], 1.5 + np.array([1, 2, 3]))
    assert np.allclose(first["end"], first["computed"] + 128 / 64 + 0.5)
    assert set(first["state"]) == {"done"}
    second = run.federation.timeline.segments()[3:6]
    assert np.allclose(second["start"], first["end"].max())  # the barrier


def test_replies_know_how_long_their_upload_took():
    fleet, seen = ol.Fleet(up=np.array([32.0, 64.0, 128.0])), []

    class Watching(ol.methods.GD):
        def step(self, fed, s):
            replies = fed.call(self.client, s.x)
            seen.append(replies.seconds)
            return type(s)(x=s.x - self.lr * replies.mean())

    ol.run(Watching(lr=0.1), problem(), rounds=1, fleet=fleet, live=False)
    assert np.allclose(seen[-1], 128 / np.array([32, 64, 128]))


def test_the_dropped_and_the_late_are_told_apart_and_do_not_count_as_answers():
    fleet = ol.Fleet(seconds=[1.0, 1.0, 9.0], dropout=[0.0, 1.0, 0.0])
    run = ol.run(ol.methods.FedAvg(lr=0.1, local_steps=1), problem(), rounds=3, fleet=fleet, deadline=5, live=False)
    states = run.federation.timeline.segments()["state"].reshape(3, 3)
    assert (states == ["done", "dropped", "late"]).all()
    assert run.federation.ledger.per_client("replies").tolist() == [3, 0, 0]


def test_ignored_and_cancelled_jobs_show_as_such():
    homogeneous = ol.problems.Tridiagonal(d=8, n=4, noise=0.01)
    fleet = ol.Fleet(seconds=[1.0, 1.0, 1.0, 25.0])
    run = ol.run(ol.methods.Ringmaster(R=2, lr=0.1), homogeneous, rounds=200, fleet=fleet, live=False)
    segments = run.federation.timeline.segments()
    assert set(segments["state"]) == {"done", "ignored"}
    assert set(segments[segments["state"] == "ignored"]["client"]) >= {3}
    assert (run.history["accepted"].astype(float).sum()) == (segments["state"] == "done").sum()


def test_only_the_newest_segments_are_kept(monkeypatch):
    monkeypatch.setattr(timeline, "MOST", 10)
    run = ol.run(ol.methods.GD(lr=0.1), problem(), rounds=20, fleet=ol.Fleet(latency=0.1), live=False)
    segments = run.federation.timeline.segments()
    assert 0 < len(segments) <= 10 and segments["end"].max() == run.federation.now


def test_devices_that_are_all_alike_leave_no_trace():
    assert len(ol.run(ol.methods.GD(lr=0.1), problem(), rounds=5, live=False).federation.timeline) == 0


def test_no_work_takes_no_time_even_on_a_device_that_never_answers(recwarn):
    problem = ol.problems.quadratics(n=3, d=4, seed=0)
    fleet = ol.Fleet(seconds=[1.0, 1.0, np.inf])
    run = ol.run("scaffold", problem, rounds=3, fleet=fleet, live=False)
    assert (
        not recwarn.list
        and run.history.time.tolist() == sorted(run.history.time)
        and np.isfinite(run.history.time).all()
    )
    assert fleet.compute(np.array([0, 1, 0]), np.arange(3), 0, ol.federation.Randomness(0)).tolist() == [0, 1, 0]
