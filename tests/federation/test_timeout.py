"""Devices that drop out of asynchronous work: lost for good, or started anew after the fleet's timeout."""

import numpy as np
import pytest

import octolab as ol
from octolab.errors import AssumptionWarning, NothingUnderWay
from octolab.federation import Federation, Fleet, Hang
from octolab.methods import get, slugs


def problem(n=20):
    return ol.problems.Tridiagonal(d=5, n=n, noise=0.01)


def grad(cohort, x):
    return cohort.grad(x)


def test_a_lost_job_is_given_up_after_the_timeout_and_its_device_started_anew():
    fed = Federation(problem(2), fleet=Fleet(seconds=[1.0, 4.0], dropout=[0.5, 0.0], timeout=10.0))
    job = fed.submit(0, grad, fed.x0, tag=3)
    while job.state != "lost":  # addressed draws: a few jobs until one is lost
        fed.next()
        job = fed.submit(0, grad, fed.x0, tag=3)
    start = fed.now
    again = fed.next()
    assert again.client == 0 and again.tag == 3 and again.number > job.number
    assert (again.started - start) % 10.0 == pytest.approx(0) and again.started > start
    assert fed.now == again.started + 1.0
    segments = fed.timeline.segments()
    gone = segments[segments["state"] == "dropped"][0]
    assert (gone["start"], gone["end"]) == (start, start + 10.0)
    assert fed.ledger.per_client("down")[0] == 5 * 32 * (1 + (segments["state"] == "dropped").sum())


def test_a_job_that_would_take_too_long_is_given_up_too_also_on_its_way_up():
    fleet = Fleet(seconds=[1.0, 30.0, 1.0], up=[np.inf, np.inf, 8.0], timeout=10.0)
    fed = Federation(problem(3), fleet=fleet)
    for i in range(3):
        fed.submit(i, grad, fed.x0)
    assert fed.next().client == 0 and fed.now == 1.0
    fed.submit(0, grad, fed.x0, work=25.0)  # so that something else than 1 and 2 would have to happen
    with pytest.raises(NothingUnderWay, match=r"given up after 10 s: no device answers in time"):
        fed.next()


def test_a_lost_job_can_be_cancelled_before_it_is_given_up():
    fed = Federation(problem(2), fleet=Fleet(seconds=[1.0, 40.0], dropout=[1.0, 0.0], timeout=50.0))
    job = fed.submit(0, grad, fed.x0)
    fed.submit(1, grad, fed.x0)
    fed.cancel(job)
    assert fed.next().client == 1 and fed.running() == []


def test_a_fleet_that_loses_devices_for_good_says_so_once_at_the_start():
    with pytest.warns(AssumptionWarning, match=r"Fleet\(timeout=seconds\)") as seen:
        ol.run("asgd", problem(), rounds=30, fleet=Fleet(dropout=0.1), live=False)
    assert len([w for w in seen if "timeout" in str(w.message)]) == 1
    with pytest.warns(AssumptionWarning, match="removes its device for good"):
        ol.run("asgd", problem(), rounds=3, fleet=Fleet(jitter=Hang(0.1)), live=False)


@pytest.mark.parametrize("bad", [0, -1.0, float("nan"), "soon", [1.0, 2.0]])
def test_a_timeout_is_one_number_of_seconds(bad):
    with pytest.raises(ValueError, match=r"timeout=.*one number of virtual seconds"):
        Fleet(timeout=bad)


ASYNCHRONOUS = [slug for slug in slugs() if "asynchronous" in get(slug).tags]
HEARS_EVERYBODY = (
    "asgd",
    "delay-adaptive-asgd",
    "fedasync",
    "fedbuff",
    "ia2sgd",
    "malenia",
    "ringleader",
    "ringmaster",
)


def survives(slug, n, arrivals, dropout=0.3):
    method = get(slug)(lr=1e-4)
    longest = np.sqrt(n) * getattr(method, "local_steps", 1)  # seconds of the slowest device's job
    fleet = Fleet(seconds=np.sqrt(np.arange(1, n + 1)), dropout=dropout, timeout=2 * longest)
    run = ol.run(method, problem(n), rounds=arrivals, fleet=fleet, evaluate_every=arrivals, live=False)
    assert run.status == "finished" and run.round == arrivals
    return run


@pytest.mark.parametrize("slug", ASYNCHRONOUS)
def test_with_a_timeout_no_device_is_lost_for_good(slug):
    run = survives(slug, 20, 60 if slug == "malenia" else 600)
    if slug in HEARS_EVERYBODY:
        assert (run.federation.ledger.per_client("replies") > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("slug", ASYNCHRONOUS)
def test_ten_thousand_devices_with_thirty_percent_drop_out_for_a_hundred_thousand_arrivals(slug):
    """Of methods whose round is thousands of jobs: three rounds of a thousand devices."""
    if slug in ("ata", "m-sync", "malenia", "mindflayer", "rennala", "vecna"):
        survives(slug, 1_000, 3)
    else:
        survives(slug, 10_000, 100_000 if slug in ("asgd", "ringmaster") else 100)
