"""Fleets from tables and presets: units in the names, every bad row named, arrays and never objects."""

import numpy as np
import pandas as pd
import pytest

import octolab as ol
from octolab.fleets import Fleet, advise, hospitals, iot, lognormal, phones, to_frame

GOOD = pd.DataFrame({"seconds": [1.0, 2.0], "up_mbps": [10, 0.5], "latency_ms": [50, 0], "dropout": [0, 0.25]})


def test_a_table_is_read_in_its_units_and_written_back():
    fleet = Fleet.from_frame(GOOD, timeout=30.0)
    assert fleet.seconds.tolist() == [1, 2] and fleet.up.tolist() == [1e7, 5e5] and fleet.latency.tolist() == [0.05, 0]
    assert fleet.down == np.inf and fleet.timeout == 30.0 and fleet.dropout.tolist() == [0, 0.25]
    assert Fleet.from_frame(to_frame(fleet)).up.tolist() == fleet.up.tolist()


def test_a_file_is_read_and_every_bad_line_named(tmp_path):
    path = tmp_path / "fleet.csv"
    path.write_text("seconds,up_mbps,dropout,battery_wh\n1,10,0.1,12\n2,5,0,inf\n")
    fleet = Fleet.from_csv(path)
    assert fleet.n == 2 and fleet.battery.tolist() == [12, np.inf]
    path.write_text("seconds,up_mbps,dropout\n1,0,0.1\n2,5,0\n-3,nan,1.5\n,1,x\n")
    with pytest.raises(ValueError) as error:
        Fleet.from_csv(path)
    text = str(error.value)
    assert "3 bad rows" in text and "line 2: up_mbps=0" in text and "line 3" not in text
    assert (
        "line 4: seconds=-3.0" in text
        and "up_mbps=nan" in text
        and "dropout=1.5" in text
        and "line 5: seconds=nan" in text
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Fleet.from_csv("nowhere.csv"), "There is no file 'nowhere.csv'"),
        (lambda: Fleet.from_frame(GOOD.rename(columns={"up_mbps": "up_mbp"})), "Did you mean up_mbps"),
        (lambda: Fleet.from_frame(GOOD.iloc[:0]), "has no devices"),
        (lambda: Fleet.from_frame(GOOD, up=3.0), "given beside it"),
        (lambda: phones(0), "whole number of devices"),
        (lambda: Fleet.lognormal(10, compute_ratio=0.5), "compute_ratio=0.5"),
        (lambda: Fleet(battery=-1), "battery=-1"),
        (lambda: Fleet(availability=3), "availability=3"),
        (lambda: Fleet(jitter=3), "jitter=3"),
        (lambda: Fleet(jitter=lambda s, u: s - 2), "times are numbers >= 0"),
        (lambda: Fleet(jitter=lambda s, u: s * np.nan), "times are numbers >= 0"),
        (lambda: ol.federation.Hang(2), "p=2"),
        (lambda: ol.federation.LogNormal(-1), "sigma=-1"),
        (lambda: ol.fleets.Diurnal(duty=0), "duty=0"),
        (lambda: advise(phones(5), ol.problems.quadratics(n=4, d=2, seed=0)), "5 entries: there are 4"),
    ],
)
def test_bad_fleets_get_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_presets_have_the_spread_that_they_state_and_a_seed_fixes_them():
    for make, ratio, median in ((phones, 100, 0.010), (iot, 10, 0.050), (hospitals, 2, 0.002)):
        seconds = make(20_000, seed=1).seconds
        low, middle, high = np.percentile(seconds, [1, 50, 99])
        assert high / low == pytest.approx(ratio, rel=0.1) and middle == pytest.approx(median, rel=0.03)
        assert (make(7, seed=1).seconds == seconds[:7]).all()  # a device keeps its speed in a larger fleet
        assert make(3, seed=2).timeout < np.inf
    net = lognormal(20_000, compute_ratio=1, network_ratio=50, seed=0)
    assert (net.seconds == 1).all() and np.percentile(net.up, 99) / np.percentile(net.up, 1) == pytest.approx(
        50, rel=0.1
    )


def test_a_million_devices_are_arrays():
    fleet = phones(1_000_000)
    assert fleet.nbytes <= 40e6 and fleet.seconds.dtype == np.float64
    full = Fleet(*[np.ones(10)] * 1, up=np.ones(10), down=np.ones(10), latency=np.ones(10), dropout=np.zeros(10),
                 battery=np.ones(10), power=np.ones(10), radio=np.ones(10),
                 availability=ol.fleets.Diurnal(phase=np.zeros(10)))  # fmt: skip
    assert full.nbytes <= 96 * 10


def test_the_summary_tells_who_is_slow_and_badly_connected():
    fleet = Fleet(seconds=[1, 1, 1, 9], up=np.array([9, 9, 9, 1]) * 1e6)
    summary = fleet.summary()
    assert summary.loc["slow and badly connected", "p50"] == 0.25 and summary.loc["seconds", "max"] == 9


def test_advice_names_the_numbers_that_decided():
    same = ol.problems.Tridiagonal(d=10, n=1000)
    advice = advise(phones(1000, seed=0), same, s=100)
    assert (
        (advice.mode, advice.scheduler) == ("asynchronous", "ringmaster") and advice.speedup > 20 and advice.ratio > 50
    )
    assert any("1st percentile" in r for r in advice.reasons) and "rule of time" in " ".join(advice.reasons)
    het = ol.problems.quadratics(n=50, d=3, seed=0)
    assert (
        advise(hospitals(50), het).mode == "synchronous"
        and advise(hospitals(50), het, low_latency=True).mode == "asynchronous"
    )
    assert advise(hospitals(50, dropout=0.3), het).scheduler == "vecna"
    assert (
        advise(Fleet(seconds=np.ones(1000), jitter=ol.federation.LogNormal(2)), same, low_latency=True).scheduler
        == "mindflayer"
    )
    assert advise(Fleet(seconds=np.geomspace(0.1, 9, 1000), up=1e2), same, low_latency=True).scheduler == "shadowheart"
    assert advise(hospitals(50), het, s=1, rule="time").speedup == pytest.approx(1.0, abs=0.02)  # no free lunch
