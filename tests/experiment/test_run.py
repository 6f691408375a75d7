"""Runs: what they record, how they stop, and what they do when things go wrong."""

import asyncio
import os
import signal
import threading

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.errors import NonFinite

QUIET = {"live": False}


@pytest.fixture
def problem():
    return ol.problems.quadratics(n=5, d=3, L=10, mu=1, seed=0)


def test_history_has_a_row_for_init_and_for_every_step(problem):
    run = ol.run("gd", problem, rounds=4, keep="x", **QUIET)
    h = run.history
    assert h["round"].tolist() == [0, 1, 2, 3, 4]
    assert h.bits_up.tolist() == [0, 96, 192, 288, 384]
    assert h.bits_down.tolist() == h.bits_up.tolist()
    assert h.time.tolist() == [0, 1, 2, 3, 4]
    assert run.iterates.shape == (5, 3)
    assert h.loss.iloc[-1] == pytest.approx(problem.value(run.iterates[-1]), abs=1e-12)
    assert h.grad_norm_sq.iloc[0] == pytest.approx(float(problem.gradient(problem.x0).norm() ** 2))
    assert run.status == "finished"


def test_iterates_are_kept_only_when_asked(problem):
    with pytest.raises(ValueError, match="keep='x'"):
        _ = ol.run("gd", problem, rounds=1, **QUIET).iterates


def test_evaluations_can_be_rarer_than_rounds_but_the_last_is_there(problem):
    h = ol.run("gd", problem, rounds=7, evaluate_every=3, **QUIET).history
    assert h.loss.notna().tolist() == [True, False, False, True, False, False, True, True]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_is_that_of_the_simulation_and_bits_do_not_depend_on_it(problem, dtype):
    run = ol.run("gd", problem, rounds=2, dtype=dtype, **QUIET)
    assert run.x.dtype == getattr(torch, dtype)
    assert run.history.bits_up.iloc[-1] == 2 * 96


def test_x0_is_given_as_any_array(problem):
    start = [1, 2, 3]
    run = ol.run("gd", problem, rounds=0, x0=start, keep="x", **QUIET)
    assert run.iterates.tolist() == [[1.0, 2.0, 3.0]]


@pytest.mark.parametrize(
    ("x0", "words"),
    [([1, 2], r"x0 has shape \(2,\)"), ([1, 2, np.nan], "inf or nan"), ([1j, 2, 3], "real numbers")],
)
def test_a_bad_x0_gets_a_sentence(problem, x0, words):
    with pytest.raises(ValueError, match=words):
        ol.run("gd", problem, rounds=1, x0=x0, **QUIET)


@pytest.mark.parametrize(
    ("until", "column", "reached"),
    [
        ({"loss": -1.0}, "loss", lambda v: v <= -1.0),
        ({"grad_norm_sq": 1e-3}, "grad_norm_sq", lambda v: v <= 1e-3),
        ({"bits": 500}, "bits_up", lambda v: v >= 500),
        ({"seconds": 3}, "time", lambda v: v >= 3),
    ],
)
def test_until_stops_at_the_first_round_that_reaches_it(problem, until, column, reached):
    values = ol.run("gd", problem, until=until, **QUIET).history[column].tolist()
    assert reached(values[-1]) and not any(reached(v) for v in values[:-1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"rounds": -1}, "rounds=-1"),
        ({"rounds": 2.5}, "rounds=2.5"),
        ({"until": {"bits": -1}}, "budget is a number > 0"),
        ({"until": {}}, "until is empty"),
        ({"keep": "all"}, "keep='all'"),
        ({"dtype": "float16"}, "dtype='float16'"),
        ({"seed": [0, 1]}, "ol.repeat"),
        ({"seed": -3}, "seed=-3: give a whole number"),
        ({"randomness": 5}, "ol.Scripted"),
        ({"checkpoint_every": 5}, "without checkpoint"),
        ({"checkpoint": "/nowhere/at/all.octo"}, "does not exist"),
        ({"executor": "gpu"}, "executor='gpu'"),
        ({"evaluate_every": 0}, "evaluate_every=0"),
    ],
)
def test_bad_arguments_get_a_sentence_before_any_work(problem, arguments, words):
    with pytest.raises(ValueError, match=words):
        ol.run("gd", problem, **{"rounds": 1, **arguments}, **QUIET)


def test_unknown_methods_get_the_nearest_names(problem):
    with pytest.raises(ValueError, match="Did you mean scaffnew"):
        ol.run("scafnew", problem, **QUIET)


def test_a_cohort_larger_than_the_federation_gets_a_sentence(problem):
    with pytest.raises(ValueError, match="there are only 5 clients"):
        ol.run(ol.methods.FedAvg(cohort=9), problem, **QUIET)


def test_divergence_keeps_the_history_and_says_what_to_try(problem):
    with pytest.warns(RuntimeWarning, match=r"Round \d+: the model is no longer finite.*Try lr=10"):
        run = ol.run(ol.methods.GD(lr=100.0), problem, rounds=10_000, **QUIET)
    assert run.status == "diverged" and isinstance(run.error, NonFinite)
    assert 0 < run.round < 10_000 and len(run.history) == run.round + 1
    assert "came from client" in str(run.error) or "client whose reply" in str(run.error)


def test_a_round_in_which_everybody_dropped_out_is_void(problem):
    run = ol.run(ol.methods.GD(), problem, rounds=30, fleet=ol.Fleet(dropout=0.8), keep="x", **QUIET)
    void = run.history.skipped.fillna(False).astype(bool).to_numpy()
    moved = (run.iterates[1:] != run.iterates[:-1]).any(1).numpy()
    assert void.any() and not moved[void[1:]].any()
    assert run.status == "finished"


def test_an_asynchronous_run_whose_devices_all_vanished_stops_in_words():
    problem = ol.problems.Tridiagonal(d=4, n=3)
    with pytest.warns(RuntimeWarning, match="No job is under way"):
        run = ol.run(ol.methods.ASGD(), problem, rounds=50, fleet=ol.Fleet(dropout=0.5), **QUIET)
    assert run.status == "stalled" and 0 < run.round < 50


def test_the_first_interrupt_ends_the_run_at_a_rounds_end(problem):
    class Interrupted(ol.methods.GD):
        slug = ""

        def step(self, fed, s):
            if fed.counters["calls"] == 7:
                os.kill(os.getpid(), signal.SIGINT)
            return super().step(fed, s)

    run = ol.run(Interrupted(), problem, rounds=1000, **QUIET)
    assert run.status == "stopped" and run.round == 8 and len(run.history) == 9
    assert run.finish().round == 1000 and run.status == "finished"


def test_start_returns_at_once_and_pause_resume_stop_work(problem):
    entered, gate = threading.Event(), threading.Event()

    class Slow(ol.methods.GD):
        slug = ""

        def step(self, fed, s):
            entered.set()
            gate.wait(120)
            return super().step(fed, s)

    run = ol.start(Slow(), problem, rounds=10**6)
    assert entered.wait(120) and not run.done and run.round == 0
    run.pause()
    gate.set()  # the step under way ends, no other begins
    while run.round < 1:
        pass
    assert {run.round for _ in range(20_000)} == {1} and run.paused
    assert run.launch() is run  # a double click starts nothing
    run.resume()
    while run.round < 5:
        pass
    run.stop()
    assert run.result(timeout=120) is run and run.status == "stopped"
    assert len(run.history) == run.round + 1


def test_await_and_result_give_the_same_as_run(problem):
    run = ol.start("ef21", problem, rounds=20, seed=3)
    asyncio.run(run.wait())
    blocking = ol.run("ef21", problem, rounds=20, seed=3, **QUIET)
    assert torch.equal(run.x, blocking.x)
    assert run.history.equals(blocking.history)


def test_an_error_in_a_worker_is_raised_by_result(problem):
    class Broken(ol.methods.GD):
        slug = ""

        def client(self, cohort, x):
            raise KeyError("a bug in the method")

    with pytest.raises(KeyError, match="a bug in the method"):
        ol.start(Broken(), problem, rounds=3).result(timeout=120)


def test_result_gives_up_in_words_after_its_timeout(problem):
    run = ol.start("gd", problem, rounds=10**6)
    run.pause()
    with pytest.raises(TimeoutError, match="of 1000000 after"):
        run.result(timeout=0.01)
    run.stop().result(timeout=120)


def test_the_users_thread_setting_is_restored(problem):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        ol.run("gd", problem, rounds=1, **QUIET)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_tensors_handed_to_users_are_normal_ones(problem):
    run = ol.run("ef21", problem, rounds=2, keep="x", **QUIET)
    for tensor in (run.x, run.iterates, run.federation.memory.g):
        assert not tensor.is_inference()
        tensor.clone().requires_grad_().sum().backward()


def test_a_worker_leaves_the_processs_warning_filters_alone(problem):
    import warnings

    before = list(warnings.filters)
    run = ol.start(ol.methods.GD(lr=100.0), problem, rounds=10_000).result(timeout=120)
    assert run.status == "diverged" and "no longer finite" in str(run.error)
    assert list(warnings.filters) == before
