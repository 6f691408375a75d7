"""When devices are online, and what that does to calls, jobs and cohorts."""

import math

import numpy as np
import pytest

import octolab as ol
from octolab.errors import NothingUnderWay
from octolab.federation import Federation, Fleet
from octolab.fleets import Diurnal, Intervals, Powers
from octolab.fleets.availability import DAY


def problem(n):
    return ol.problems.Tridiagonal(d=4, n=n, noise=0.01)


def grad(cohort, x):
    return cohort.grad(x)


def test_intervals_by_hand():
    trace = Intervals([[(20, 30), (0, 10)], [(5, math.inf)], []])
    assert [trace.online(np.arange(3), t).tolist() for t in (0, 7, 10, 25, 31)] == [
        [True, False, False],
        [True, True, False],
        [False, True, False],
        [True, True, False],
        [False, True, False],
    ]
    done = trace.finish(
        np.array([0, 0, 0, 1, 2]), np.array([8.0, 8.0, 8.0, 0.0, 0.0]), np.array([1.0, 5.0, 13.0, 2.0, 1.0])
    )
    assert done.tolist() == [9.0, 23.0, math.inf, 7.0, math.inf]
    assert [trace.next_change(t) for t in (0, 10, 30)] == [5.0, 20.0, math.inf]


def test_neighbouring_intervals_are_one_and_overlaps_get_a_sentence():
    assert Intervals([[(0, 5), (5, 9)]]).finish(np.array([0]), np.array([1.0]), np.array([7.0]))[0] == 8.0
    with pytest.raises(
        ValueError, match=r"2 bad rows: device 0: the interval from 4 begins before 5.*device 2: from 3 to 3"
    ):
        Intervals([[(0, 5), (4, 9)], [(0, 1)], [(3, 3)]])


def test_a_trace_is_read_from_a_file_and_every_bad_line_named(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("client,from_s,to_s\n1,0,5\n0,2,inf\n")
    assert Intervals.from_csv(path, n=3).online(np.arange(3), 3.0).tolist() == [True, True, False]
    path.write_text("client,from_s,to_s\n1,-1,5\n0,2,\nx,1,2\n0,1,2\n")
    with pytest.raises(ValueError, match=r"3 bad rows: line 2: .*from_s=-1.*line 3: .*to_s=nan.*line 4: client=nan"):
        Intervals.from_csv(path)


def test_powers_are_integrated_exactly():
    powers = Powers([[0, 10, 20], [0]], [[1.0, 0.0, 0.5], [0.25]])
    done = powers.finish(np.array([0, 0, 0, 1]), np.array([0.0, 8.0, 12.0, 3.0]), np.array([10.0, 3.0, 2.0, 1.0]))
    assert done.tolist() == [10.0, 22.0, 24.0, 7.0]
    with pytest.raises(ValueError, match=r"device 1: powers \[-1.0\]: finite, >= 0"):
        Powers([[0], [0]], [[1.0], [-1.0]])


def test_constant_powers_are_fixed_computation_times():
    tau = np.array([1.0, 2.0, 3.5])
    slow, fixed = Fleet(computation=Powers([[0]] * 3, [[1 / t] for t in tau])), Fleet(seconds=tau)
    runs = [ol.run(ol.methods.ASGD(lr=0.1), problem(3), rounds=40, fleet=f, live=False) for f in (slow, fixed)]
    assert np.allclose(runs[0].history.time, runs[1].history.time, rtol=1e-12)
    assert np.array_equal(runs[0].history.loss, runs[1].history.loss)


def test_the_day_has_its_shape_and_a_draw_is_a_function_of_device_and_session():
    day = Diurnal(duty=0.3, ratio=4.0, peak=7200.0, seed=3)
    hours = np.array([day.online(np.arange(20_000), 3600.0 * h).mean() for h in range(24)])
    assert abs(hours.mean() - 0.3) < 0.005 and abs(hours.max() / hours.min() - 4) < 0.3 and hours.argmax() in (1, 2, 3)
    assert (day.online(np.array([7, 5]), 100.0) == day.online(np.arange(9), 3599.0)[[7, 5]]).all()
    assert day.share(7200.0 + DAY / 2) * 4 == pytest.approx(day.share(7200.0))


def test_time_online_adds_up_over_sessions():
    day, one = Diurnal(duty=0.4, ratio=3.0, session=60.0, seed=1), np.array([4])
    end = float(day.finish(one, np.array([10.0]), np.array([600.0]))[0])
    grid = np.arange(10.0, end, 1.0)
    assert sum(bool(day.online(one, t)[0]) for t in grid) == pytest.approx(600, abs=1.5)


def test_who_is_offline_does_not_answer_a_call():
    fleet = Fleet(availability=Intervals([[(0, 100)], [(50, 100)], [(0, 2.5)]]))
    fed = Federation(problem(3), fleet=fleet)
    fed.started = True
    assert fed.call(grad, fed.x0).clients.tolist() == [0, 2] and fed.now == 1.0
    assert fed.call(grad, fed.x0).clients.tolist() == [0, 2]
    assert fed.call(grad, fed.x0).clients.tolist() == [0]  # the third needs a whole second and has half of one


def test_the_clock_goes_on_to_the_next_device_and_the_run_ends_in_words_if_there_is_none():
    fleet = Fleet(availability=Intervals([[(40, 50)], [(90, 95)]]))
    fed = Federation(problem(2), fleet=fleet)
    fed.started = True
    assert fed.sample(1).tolist() == [0] and fed.now == 40.0
    for i in (0, 1):
        fed.submit(i, grad, fed.x0)
    assert fed.next().client == 0 and fed.now == 41.0
    assert fed.next().client == 1 and fed.now == 91.0
    fed.submit(0, grad, fed.x0)
    with pytest.raises(NothingUnderWay):
        fed.next()


def test_cohorts_are_uniform_among_those_online():
    online = np.zeros(200, dtype=bool)
    online[::4] = True
    fleet = Fleet(availability=Intervals([[(0, math.inf)] if o else [] for o in online]))
    fed = Federation(problem(200), fleet=fleet)
    fed.started = True
    counts = np.zeros(200)
    for _ in range(400):
        cohort = fed.sample(10)
        assert len(set(cohort.tolist())) == 10 and online[cohort].all()
        counts[cohort] += 1
    assert abs(counts[online] - 80).max() < 4.5 * math.sqrt(80)
    assert len(fed.sample(100)) == 50


def test_a_battery_that_is_spent_ends_a_devices_part():
    fleet = Fleet(seconds=100.0, battery=[1.0, np.inf, 0.3], power=3.6, battery_share=0.5)
    run = ol.run(ol.methods.FedAvg(lr=0.1, local_steps=1), problem(3), rounds=8, fleet=fleet, live=False)
    assert run.federation.ledger.per_client("replies").tolist() == [5, 8, 2]  # 1,800 and 540 joules, 360 a round
    assert run.federation.spent.tolist() == [1800, 2880, 720]
    with pytest.raises(ValueError, match="every battery is empty"):
        ol.run("gd", problem(3), rounds=1, fleet=Fleet(battery=0.0), live=False)


def test_a_run_with_batteries_and_days_goes_on_bitwise_after_a_save(tmp_path):
    fleet = ol.fleets.phones(12, seed=1, seconds=50.0, unit="gradient", battery=0.5)
    settings = dict(fleet=fleet, live=False)
    whole = ol.run(ol.methods.FedAvg(lr=0.1, local_steps=1, cohort=4), problem(12), rounds=20, **settings)
    run = ol.run(ol.methods.FedAvg(lr=0.1, local_steps=1, cohort=4), problem(12), rounds=9, **settings)
    again = ol.resume(run.save(tmp_path / "run.octo"), rounds=20)
    assert again.history.equals(whole.history) and (again.federation.spent == whole.federation.spent).all()
