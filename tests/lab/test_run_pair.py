"""Runs behind the buttons: they start, stand still, step and end, and leave no thread behind."""

from __future__ import annotations

import threading
import time

import pytest

from octolab.lab.explorer.run_pair import RunPair
from octolab.lab.explorer.state import ExplorerState

NAMES = ("octolab-run", "octolab-lab", "octolab-dashboard")


def threads():
    return [t for t in threading.enumerate() if t.name in NAMES]


def wait(condition, seconds=300.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this took too long"
        time.sleep(0.005)


@pytest.fixture
def pair():
    made = []

    def make(*args, **more):
        made.append(RunPair(ExplorerState(*args, **more)))
        return made[-1]

    yield make
    for one in made:
        one.stop()
        one.join()
    assert threads() == []


def test_both_runs_reach_the_end(pair):
    s = pair("scaffold", "quadratics", rounds=40).start()
    wait(lambda: not s.active)
    assert s.phase == "done" and s.main.round == s.beside.round == 40
    assert list(s.runs) == ["SCAFFOLD", "FedAvg (baseline)"]


@pytest.mark.parametrize(("slug", "cost"), [("ef21", "bits_up"), ("ringmaster", "time")])
def test_the_baseline_spends_what_the_method_spends_where_its_point_is_seen(pair, slug, cost):
    s = pair(slug, rounds=200).start()
    wait(lambda: not s.active)
    mine, theirs = (run.recorder.last[cost] for run in (s.main, s.beside))
    assert 0.5 * mine < theirs < 2 * mine  # whole rounds, prolonged from a few steps
    assert s.beside.round < s.main.round


def test_paused_nothing_moves_until_it_goes_on(pair):
    s = pair("ef21", "quadratics", rounds=100_000).start()
    wait(lambda: s.main is not None and s.main.round > 5)
    s.pause()
    wait(lambda: s.phase == "paused")
    for run in (s.main, s.beside):
        wait(lambda run=run: run.done or not run.moving)
        assert run.paused or run.done
    at = s.main.round, s.beside.round
    s.resume()
    wait(lambda: s.main.round > at[0])


def test_a_step_is_one_round_of_each(pair):
    s = pair("scaffold", "quadratics", rounds=100).start(2)
    wait(lambda: s.phase == "paused" and s.beside.paused)
    assert s.main.round == s.beside.round == 1  # round 0 is the start
    for k in (2, 3, 4):
        s.step()
        wait(lambda k=k: s.main.round == s.beside.round == k and s.main.paused)


def test_stop_ends_at_once_whenever_it_comes(pair):
    for moment in (
        lambda s: None,
        lambda s: wait(lambda: s.main is not None),
        lambda s: wait(lambda: s.main and s.main.round > 2),
    ):
        s = pair("ef21", "quadratics", rounds=100_000).start()
        moment(s)
        s.stop()
        s.join()
        assert s.phase == "done" and not s.active


def test_stop_wakes_a_paused_run(pair):
    s = pair("ef21", "quadratics", rounds=100_000).start(3)
    wait(lambda: s.phase == "paused")
    s.stop()
    s.join()
    assert s.main.status == "stopped" and s.main.round == 2


def test_what_cannot_run_says_why(pair):
    s = pair("diana", compressor="TopK").start()
    wait(lambda: s.phase == "failed")
    assert "biased" in s.error


def test_the_numbers_do_not_depend_on_how_it_was_started(pair):
    s = pair("marina", "quadratics", rounds=30).start(2)
    wait(lambda: s.phase == "paused")
    s.step()
    s.resume()
    wait(lambda: not s.active)
    plain = ExplorerState("marina", "quadratics", rounds=30).prepare().finish()
    assert s.main.history.equals(plain.history)
