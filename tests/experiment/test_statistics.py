"""Several seeds: bands, tables and tests that papers need, and no band where nothing random was left."""

import numpy as np
import pytest
import torch
from scipy import stats

import octolab as ol
from octolab.experiment.statistics import interquartile_mean, interval, middle, paired

QUIET = {"live": False}


@pytest.fixture(scope="module")
def noisy():
    return ol.problems.quadratics(n=5, d=8, seed=0)


@pytest.fixture(scope="module")
def compared(noisy):
    methods = {"small": ol.methods.DIANA(lr=0.01), "large": ol.methods.DIANA(lr=0.02)}
    return ol.compare(methods, noisy, rounds=10, seeds=range(6), **QUIET)


def test_bands_are_what_they_say():
    values = np.array([[1.0, 2.0], [2.0, 4.0], [6.0, np.nan]])
    assert [v.tolist() for v in middle(values, "minmax")] == [[2.0, 3.0], [1.0, 2.0], [6.0, 4.0]]
    mean, low, high = middle(values, "sd")
    assert mean.tolist() == [3.0, 3.0] and np.allclose(high - mean, [np.std([1, 2, 6], ddof=1), np.sqrt(2)])
    assert np.allclose(mean - low, high - mean)


def test_the_bootstrap_interval_is_scipys_and_never_changes():
    values = np.random.default_rng(0).normal(size=(12, 1))
    low, high = interval(values)
    theirs = stats.bootstrap(
        (values[:, 0],), np.mean, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert low[0] == pytest.approx(theirs.low, abs=0.05) and high[0] == pytest.approx(theirs.high, abs=0.05)
    assert interval(values) == (low, high)


def test_the_interquartile_mean_ignores_the_outer_quarters():
    assert interquartile_mean(np.array([0.0, 1, 2, 3, 1e9, -1e9, 2, 2])) == pytest.approx(1.75)


def test_tables_have_the_band_and_the_centre_that_are_asked_for(compared):
    losses = np.array([run.last["loss"] for run in compared.runs["small"]])
    rows = {band: compared.table(band=band).loc["small"] for band in ("minmax", "sd", "ci95")}
    assert (rows["minmax"].loss_min, rows["minmax"].loss_max) == (losses.min(), losses.max())
    assert rows["sd"].loss_sd == losses.std(ddof=1) and rows["sd"].loss == pytest.approx(losses.mean())
    assert rows["ci95"].loss_low < losses.mean() < rows["ci95"].loss_high
    assert compared.table(centre="iqm").loc["small"].loss == pytest.approx(stats.trim_mean(losses, 0.25))
    for wrong in ({"band": "se"}, {"centre": "mode"}):
        with pytest.raises(ValueError, match="choose one of"):
            compared.table(**wrong)


def test_charts_take_the_same_bands(compared):
    wide, narrow = (compared.lines(x="round", band=band)[0] for band in ("minmax", "ci95"))
    assert (narrow.low >= wide.low).all() and (narrow.high <= wide.high).all() and (narrow.low < narrow.y).any()


def test_a_paired_test_compares_seed_by_seed(compared):
    found = compared.paired("small", "large")
    a, b = ([run.last["loss"] for run in compared.runs[name]] for name in ("small", "large"))
    assert found.t == stats.ttest_rel(a, b).pvalue and found.wilcoxon == stats.wilcoxon(np.subtract(a, b)).pvalue
    assert found.difference == pytest.approx(np.mean(np.subtract(a, b))) and found.low <= found.difference <= found.high
    assert "6 paired seeds" in str(found)
    with pytest.raises(ValueError, match="Did you mean small"):
        compared.paired("smal", "large")
    with pytest.raises(ValueError, match="at least two seeds"):
        paired("a", np.ones(1), "b", np.ones(1), "loss")


def test_targets_are_on_any_recorded_column():
    digits = ol.problems.classification("digits", model="logistic", clients=3)
    result = ol.compare(["fedavg"], digits, rounds=8, **QUIET)
    history = result.history
    first = history[history.accuracy >= 0.6].iloc[0]
    row = result.table(target={"accuracy": 0.6}).iloc[0]
    assert row.rounds_to == first["round"] and row.bits_to == first.bits_up
    assert result.table(target=history.loss[4]).iloc[0].rounds_to == 4
    with pytest.raises(ValueError, match="Did you mean accuracy"):
        result.table(target={"acuracy": 0.6})
    assert result.lines(x="round", y="accuracy")[0].y[-1] == history.accuracy.iloc[-1]


def test_identical_runs_are_no_band_and_are_named():
    still = ol.problems.quadratics(n=3, d=4, seed=0)
    repeated = ol.repeat("gd", still, 5, rounds=4, **QUIET)
    assert repeated.line().low is None and "All 5 seeds gave the same run" in str(repeated)
    compared = ol.compare(["gd"], still, rounds=4, seeds=range(3), **QUIET)
    assert compared.lines()[0].low is None and "vary=('split',)" in str(compared)
    for vary in ("split", "start"):
        other = ol.repeat("gd", still, 3, rounds=4, vary=vary, **QUIET)
        assert other.note == "" and (other.line().low < other.line().high)[1:].all()


def test_vary_says_what_differs(noisy):
    runs = ol.repeat("fedavg", noisy, 2, rounds=2, vary=("split", "start"), **QUIET).runs
    assert [run.problem.spec["seed"] for run in runs] == [0, 1] and {run.settings.seed for run in runs} == {0}
    for vary, words in ((("weather",), "choose from"), ("flet", "mean fleet"), ((), "choose from")):
        with pytest.raises(ValueError, match=words):
            ol.repeat("fedavg", noisy, 2, vary=vary, **QUIET)
    given = ol.problems.Quadratics([np.eye(2)], [[1.0, 2.0]])
    with pytest.raises(ValueError, match="made from given arrays"):
        ol.repeat("gd", given, 2, vary="split", **QUIET)


def test_the_fleet_alone_may_vary(noisy):
    devices = ol.Fleet(dropout=0.4)
    kept = {"rounds": 4, "fleet": devices, **QUIET}
    both = ol.repeat(ol.methods.FedAvg(cohort=3), noisy, 2, vary="fleet", **kept).runs
    assert [run.settings.fleet_seed for run in both] == [0, 1] and {run.settings.seed for run in both} == {0}
    assert not torch.equal(both[0].x, both[1].x)  # others dropped out
    assert torch.equal(both[0].x, ol.run(ol.methods.FedAvg(cohort=3), noisy, seed=0, **kept).x)
    same = ol.repeat(ol.methods.FedAvg(cohort=3), noisy, 2, vary="fleet", rounds=4, **QUIET).runs  # no fleet, one run
    assert torch.equal(same[0].x, same[1].x)
    again = ol.from_spec(both[1].spec, noisy).finish()
    assert torch.equal(again.x, both[1].x)


def test_callbacks_hear_of_every_run_of_a_comparison(noisy, tmp_path):
    stop = ol.EarlyStopping("loss", patience=1, least_gain=1e9)
    result = ol.compare(
        ["gd", "fedavg"],
        noisy,
        rounds=9,
        seeds=(0, 1),
        callbacks=[stop, ol.callbacks.JSONL(tmp_path / "{name}-{seed}")],
        **QUIET,
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["FedAvg-0", "FedAvg-1", "GD-0", "GD-1"]
    assert [run.round for group in result.runs.values() for run in group] == [1, 1, 1, 1]


def test_any_recorded_column_is_drawn_with_its_band():
    digits = ol.problems.classification("digits", clients=4)
    found = ol.compare([ol.methods.FedAvg(cohort=2)], digits, rounds=2, seeds=(0, 1), metrics="f1", **QUIET)
    assert len(found.plot(y="f1", band="sd").collections) == 1
    assert found.figure(y="client_f1").layout.yaxis.title.text == "client f1"
    assert "f1" in found.svg(y="f1").lower()
