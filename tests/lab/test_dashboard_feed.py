"""What a dashboard reads: thinned as it grows, never the whole record again, and the same numbers as the history."""

from __future__ import annotations

import numpy as np
import pytest

import octolab as ol
from octolab.experiment.launch import prepare
from octolab.experiment.record import COUNTED
from octolab.lab.dashboard.feed import Feed, Thinned
from octolab.lab.dashboard.segments import STATES, Segments, segments
from octolab.lab.dashboard.view import View, middle

M = ol.methods


@pytest.fixture(scope="module")
def problem():
    return ol.problems.quadratics(n=4, d=6, L=10, mu=1, seed=0)


class Counting:
    """A list that says how often it was looked into."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.looks = 0

    def row(self, k):
        self.looks += 1
        return (float(k), self.values[k])


@pytest.mark.parametrize("step", [1, 7, 1000, 100_000])
def test_a_hundred_thousand_rows_are_at_most_two_thousand_points_evenly_strided(step):
    source, thinned = Counting(), Thinned(2, most=2000)
    for length in range(step, 100_001, step):
        source.values.extend(range(len(source.values), length))
        thinned.grow(length, source.row)
        if length % (step * 97) == 0:
            assert len(thinned.rows) <= 2001
    rows = thinned.rows[:, 0]
    last = len(source.values) - 1
    assert rows[0] == 0 and rows[-1] == last and len(rows) <= 2001
    kept = rows[:-1] if rows[-1] % thinned.stride else rows
    assert (np.diff(kept) == thinned.stride).all() and len(kept) >= 900


def test_a_look_at_a_long_record_reads_only_what_is_new():
    source, thinned = Counting(), Thinned(2, most=100)
    source.values = list(range(10_000))
    thinned.grow(10_000, source.row)
    source.looks = 0
    for length in range(10_001, 10_301):
        source.values.append(length)
        thinned.grow(length, source.row)
    assert source.looks <= 300 * (1 + 1 / thinned.stride) + 2  # the newest each time, and every stride-th for good
    source.looks = 0
    assert not thinned.grow(len(source.values), source.row) and source.looks == 0


def test_what_was_handed_out_does_not_change_as_more_comes():
    source, thinned = Counting(), Thinned(2, most=8)
    source.values = list(range(30))
    thinned.grow(30, source.row)
    before = thinned.rows
    copy = before.copy()
    source.values += list(range(50))
    thinned.grow(80, source.row)
    assert np.array_equal(before, copy)


def test_a_record_that_was_put_back_is_read_again(problem):
    source, thinned = Counting(), Thinned(2, most=8)
    source.values = list(range(30))
    thinned.grow(30, source.row)
    thinned.grow(5, source.row)
    assert thinned.rows[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_feeds_hold_what_the_history_holds(problem):
    run = prepare("gd", problem, rounds=50, evaluate_every=7)
    feed = Feed(run)
    for _ in range(10):
        run.advance(5)
        assert feed.read()
    assert not feed.read()
    history = run.history
    assert np.array_equal(feed.counted.rows, history[list(COUNTED)].to_numpy(dtype=float))
    seen = history.loss.notna()
    assert np.array_equal(feed.values("loss")[:, -1], history.loss[seen])
    assert np.array_equal(feed.values("loss")[:, 0], history["round"][seen])


def test_yes_and_no_become_the_share_of_yes_so_far():
    problem = ol.problems.Tridiagonal(d=4, n=9, noise=0.01)
    fleet = ol.Fleet(seconds=np.sqrt(np.arange(1, 10)))
    run = prepare(M.Ringmaster(R=2, lr=0.01), problem, rounds=300, fleet=fleet)
    feed = Feed(run, most=50)
    for _ in range(6):
        run.advance(50)
        feed.read()
    accepted = np.array(run.recorder.sparse["accepted"][1], dtype=float)
    share = np.cumsum(accepted) / np.arange(1, len(accepted) + 1)
    rows = feed.values("accepted")
    where = rows[:, 0].astype(int) - int(run.recorder.sparse["accepted"][0][0])
    assert 0 < accepted.mean() < 1
    assert np.allclose(rows[:, -1], share[where], rtol=1e-14)
    assert feed.is_share("accepted") and not feed.is_share("delay")
    assert feed.logged == ["delay", "accepted", "version"]


def test_words_in_the_log_are_left_to_the_history(problem):
    run = prepare("gd", problem, rounds=3)
    run.recorder.sparse["note"] = ([0], ["hello"])
    run.recorder.sparse["odd"] = ([0, 1], [1.0, "oops"])
    run.advance(3)
    feed = Feed(run)
    feed.read()
    assert "note" not in feed.logged and np.isnan(feed.values("odd")[1, -1])


def test_several_seeds_are_a_median_and_a_band_at_the_rounds_they_share():
    rounds = [np.arange(5.0), np.arange(5.0), np.arange(3.0)]
    ys = [np.arange(5.0), np.arange(5.0) + 2, np.arange(3.0) + 1]
    x, y, low, high = middle(rounds, rounds, ys)
    assert x.tolist() == [0, 1, 2, 3, 4]
    assert y.tolist() == [1, 2, 3, 4, 5] and low.tolist() == [0, 1, 2, 3, 4] and high.tolist() == [2, 3, 4, 5, 6]


def test_seeds_that_were_thinned_differently_meet_at_the_coarser_rounds():
    fine, coarse = np.arange(0.0, 101), np.arange(0.0, 101, 4)
    x, y, low, high = middle([fine, coarse], [fine, coarse], [fine, coarse])
    assert np.array_equal(x, coarse) and np.array_equal(low, high) and np.array_equal(y, coarse)


def test_bands_agree_with_the_curves_of_compare(problem):
    from octolab.experiment import curves

    method = M.DIANA(compressor=ol.compressors.RandK(0.5), lr=0.01)
    runs = [ol.run(method, problem, rounds=30, seed=s) for s in range(3)]
    view = View({"EF21": runs}, "bits_up")
    view.read()
    band, line = view.curves("loss")
    wanted = curves.line("EF21", runs, "bits_up", "loss")
    for mine, theirs in ((line.x, wanted.x), (line.y, wanted.y), (band.low, wanted.low), (band.high, wanted.high)):
        assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("axis", ["round", "bits_up", "bits_total", "time", "gradients"])
def test_every_axis_is_that_of_the_history(problem, axis):
    from octolab.experiment import curves

    run = ol.run("ef21", problem, rounds=9)
    view = View({"a": [run]}, axis)
    view.read()
    assert np.array_equal(view.curves("loss")[0].x, curves.x_values(run.history, axis))


def test_an_unknown_axis_is_refused(problem):
    with pytest.raises(ValueError, match="choose one of 'round', 'bits_up'"):
        View({}, "rounds")


# -- what devices did --------------------------------------------------------------------------------------------------
def whole(run):
    """The timeline at once: client, start, received, computed, end, state."""
    return run.federation.timeline.segments()


@pytest.mark.parametrize("method", ["ef21", "ringmaster"])
def test_segments_read_bit_by_bit_are_those_of_the_whole_timeline(method):
    problem = ol.problems.Tridiagonal(d=4, n=9, noise=0.01)
    fleet = ol.Fleet(seconds=np.sqrt(np.arange(1, 10)), up=1e3, dropout=0.2 if method == "ef21" else 0.0)
    made = M.EF21(lr=0.01) if method == "ef21" else M.Ringmaster(R=4, lr=0.01, variant="stop")
    run = prepare(made, problem, rounds=200, fleet=fleet)
    found = Segments()
    for _ in range(20):
        run.advance(10)
        found.read(run.federation.timeline, over=False)
    found.read(run.federation.timeline, over=True)
    wanted = whole(run)
    assert found.total == len(wanted) == found.held > 100
    assert np.array_equal(found.client, wanted["client"])
    assert np.array_equal(STATES[found.state], wanted["state"])
    for k, name in enumerate(("start", "received", "computed", "end")):
        assert np.array_equal(found.times[:, k], wanted[name])
    assert len(set(wanted["state"].tolist())) > 1  # there was something else than done


def test_only_the_newest_segments_are_held(monkeypatch):
    from octolab.lab.dashboard import segments as module

    monkeypatch.setattr(module, "MOST", 100)
    found = Segments()
    for k in range(50):
        found._add_call(np.arange(7), float(k), 0.0, 0.0, np.full(7, k + 1.0), None)
    assert found.total == 350 and found.held >= 100
    assert found.times[-1, 3] == 50.0 and (np.diff(found.times[:, 0]) >= 0).all()


def test_segments_are_read_once_per_news(problem):
    run = prepare("gd", problem, rounds=5, fleet=ol.Fleet(seconds=[1, 2, 3, 4])).advance(3)
    feed = Feed(run)
    feed.read()
    first = segments(feed)
    assert segments(feed) is first and first.held == len(run.federation.timeline)
