"""Comparing, repeating and tuning: the same grid, seeds and budget for all, and nothing hidden."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.experiment import written
from octolab.experiment.compare import first_at
from octolab.experiment.tuning import MULTIPLIERS, STEPS

M = ol.methods


@pytest.fixture(scope="module")
def problem():
    return ol.problems.quadratics(n=4, d=6, L=10, mu=1, seed=0)


@pytest.fixture(scope="module")
def network():
    """A problem without known constants."""
    return ol.problems.classification("digits", model="mlp", clients=4)


def halving():
    """f(x) = x^2/2 from x = 8: with lr = 1/2 the loss is 32, 8, 2, 1/2, ... and every round sends 32 bits."""
    return ol.problems.Quadratics([[[1.0]]], [[0.0]], x0=[8.0])


def test_every_method_gets_the_same_problem_seeds_and_budget(problem):
    c = ol.compare(["gd", "ef21"], problem, rounds=7, seeds=(3, 5))
    assert [[r.settings.seed for r in group] for group in c.runs.values()] == [[3, 5], [3, 5]]
    assert all(r.round == 7 and r.problem is problem for group in c.runs.values() for r in group)
    assert len(c.history) == 2 * 2 * 8
    assert c.history.groupby(["method", "seed"]).size().eq(8).all()


def test_a_run_in_a_comparison_is_the_run_alone(problem):
    alone = ol.run("diana", problem, rounds=9, seed=4)
    (together,) = ol.compare(["gd", "diana"], problem, rounds=9, seeds=[4]).runs["DIANA"]
    assert torch.equal(alone.x, together.x)


def test_target_columns_agree_with_a_hand_computation():
    c = ol.compare([M.GD(lr=0.5), M.GD(lr=1e-6)], halving(), rounds=6)
    near, far = c.table(target=2.0).to_dict("records")
    assert (near["rounds_to"], near["bits_to"], near["time_to"]) == (2, 64, 2)
    assert all(math.isnan(far[k]) for k in ("rounds_to", "bits_to", "time_to"))
    assert near["loss"] == 32 / 4**6
    assert "never" in written(c.table(target=2.0)).splitlines()[-1]


def test_a_target_that_one_seed_misses_is_not_averaged_away(problem):
    c = ol.compare([M.DIANA()], problem, rounds=30, seeds=(0, 1, 2))
    losses = sorted(first_losses(c.runs["DIANA"]))
    between = (losses[0] + losses[1]) / 2  # one seed gets below, two do not
    row = c.table(target=between).iloc[0]
    assert row["reached"] == "1 of 3"
    assert math.isnan(row["rounds_to"])


def first_losses(runs):
    return [min(r.recorder.sparse["loss"][1]) for r in runs]


def test_first_at_takes_the_first_hit_also_if_it_is_the_start():
    run = ol.run(M.GD(lr=0.5), halving(), rounds=3)
    assert first_at(run, 32.0) == {"round": 0, "time": 0.0, "bits_up": 0.0}
    assert first_at(run, 0.1) is None


def test_steps_say_where_they_come_from(problem):
    c = ol.compare([M.GD(), M.GD(lr=ol.Theory(2)), M.GD(lr=0.05), M.FedNL()], problem, rounds=2)
    assert list(c.steps.values()) == ["theory = 0.1", "theory x 2 = 0.2", "given = 0.05", "no step size"]


def test_tuning_uses_one_grid_for_all_and_keeps_all_it_tried(problem):
    c = ol.compare(["gd", "ef21"], problem, rounds=15, tune=True)
    assert [list(t.multiplier) for t in c.tried.values()] == [list(MULTIPLIERS)] * 2
    for name, tried in c.tried.items():
        (run,) = c.runs[name]
        finite = tried[np.isfinite(tried.loss)]
        assert run.recorder.last["loss"] == finite.loss.min()
        assert run.method.lr == finite.lr[finite.loss.idxmin()]
        assert "theory x" in c.steps[name] and f"best of {len(MULTIPLIERS)}" in c.steps[name]


def test_without_constants_all_are_tuned_over_the_same_step_sizes(network):
    c = ol.compare(["gd", M.FedAvg(lr=0.1, local_steps=1)], network, rounds=1, tune=True)
    assert [list(t.lr) for t in c.tried.values()] == [list(STEPS)] * 2


def test_one_method_without_theory_puts_all_on_step_sizes(problem):
    c = ol.compare([M.GD(), NoTheory()], problem, rounds=2, tune=True)
    assert [list(t.lr) for t in c.tried.values()] == [list(STEPS)] * 2


class NoTheory(M.GD):
    stepsize = M.Method.stepsize


def test_a_best_step_at_the_edge_of_the_grid_is_said(problem):
    c = ol.compare(["gd"], problem, rounds=5, tune=[0.01, 0.1])
    assert "theory x 0.1" in c.steps["GD"]
    assert "edge of the grid" in next(iter(c.steps.values()))


def test_tune_fills_in_the_number_and_never_picks_what_diverged(problem):
    with np.errstate(all="ignore"):
        t = ol.tune("gd", problem, rounds=400, grid=[1e6, 0.01, 0.1])
    assert t.best == M.GD(lr=0.1)
    assert list(t.table.status) == ["diverged", "finished", "finished"]
    assert list(t.table.lr) == [1e6, 0.01, 0.1]


def test_tune_any_field_over_given_values(problem):
    t = ol.tune(M.FedAvg(lr=0.05), problem, rounds=40, field="local_steps", grid=[1, 8])
    assert list(t.table.local_steps) == [1, 8]
    assert t.best.local_steps == 1  # more local steps stop at a wrong point here
    with pytest.raises(ValueError, match=r"field='local_step'.*local_steps"):
        ol.tune("fedavg", problem, field="local_step", grid=[1])
    with pytest.raises(ValueError, match="needs grid"):
        ol.tune("fedavg", problem, field="local_steps")


def test_a_wanted_loss_is_tuned_for_the_fewest_rounds():
    t = ol.tune("gd", halving(), rounds=50, grid=[0.1, 0.5, 0.9], until={"loss": 1.0})
    assert t.best.lr == 0.9
    assert list(t.table.loss <= 1.0) == [True] * 3


def test_what_diverges_is_shown_as_diverged(problem):
    c = ol.compare([M.GD(), M.GD(lr=1e6), M.GD(lr=1.0)], problem, rounds=60, names=["good", "gone", "going"])
    status = c.table().status
    assert status["good"] == "finished"
    assert status["gone"].startswith("diverged at round")
    assert status["going"] == "diverging"
    assert [line.name for line in c.lines("round")][1].startswith("gone (diverged at round")
    assert "gone (diverged" in c._repr_html_()
    fig = c.figure("round")
    top = fig.layout.yaxis.range[1]
    assert np.nanmax(fig.data[0].y) < top < 1e6 * np.nanmax(np.abs(fig.data[0].y))  # the good one is still seen


def test_plot_has_a_trace_per_method_and_a_band_over_seeds(problem):
    one = ol.compare(["gd", "diana"], problem, rounds=5).figure("bits_up", "loss")
    assert [t.name for t in one.data] == ["GD", "DIANA"]
    three = ol.compare(["gd", "diana"], problem, rounds=5, seeds=(0, 1, 2))
    fig = three.figure("round", "suboptimality")
    assert [t.fill for t in fig.data] == [None, "toself", None]  # nothing is random in GD, so it has no band
    assert fig.layout.yaxis.type == "log"
    assert len({(t.line.color, t.line.dash) for t in fig.data if t.fill is None}) == 2
    line = three.lines("round", "loss")[1]
    values = np.array([r.history.loss for r in three.runs["DIANA"]])
    assert np.array_equal(line.low, values.min(0)) and np.array_equal(line.high, values.max(0))
    assert np.array_equal(line.y, np.median(values, 0))


def test_suboptimality_is_loss_minus_the_optimum(problem):
    c = ol.compare(["gd"], problem, rounds=4)
    (run,) = next(iter(c.runs.values()))
    assert np.allclose(c.lines("round", "suboptimality")[0].y, run.history.loss - problem.f_star, rtol=0, atol=0)


def test_all_bits_are_up_and_down(problem):
    c = ol.compare(["gd"], problem, rounds=3)
    assert list(c.lines("bits_total")[0].x) == [0, 2 * 32 * 6, 4 * 32 * 6, 6 * 32 * 6]


def test_traces_are_thinned_and_keep_their_ends(problem):
    c = ol.compare(["diana"], problem, rounds=5000, evaluate_every=1, seeds=(0, 1))
    band, curve = c.figure("round", "grad_norm_sq").data
    assert len(curve.x) <= 2000 and len(band.x) <= 2000
    assert (curve.x[0], curve.x[-1]) == (0, 5000)


def test_the_html_is_static_and_small(problem):
    text = ol.compare(["gd", "diana"], problem, rounds=300)._repr_html_()
    assert "<svg" in text and "<table" in text
    assert "<script" not in text and len(text) < 60_000


def test_names_tell_methods_apart_or_are_refused(problem):
    twins = [M.GD(lr=0.1), M.GD(lr=0.05)]
    assert list(ol.compare(twins, problem, rounds=1).runs) == ["GD(lr=0.1)", "GD(lr=0.05)"]
    assert list(ol.compare({"a": "gd", "b": twins[0]}, problem, rounds=1).runs) == ["a", "b"]
    with pytest.raises(ValueError, match="2 different names"):
        ol.compare(twins, problem, rounds=1, names=["x", "x"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"methods": []}, "give methods or slugs"),
        ({"methods": ["gd", 3]}, "give methods or slugs"),
        ({"methods": ["gdd"]}, "Did you mean gd"),
        ({"seed": 1}, r"seeds=\(1,\)"),
        ({"seeds": (1, 1)}, "different whole numbers"),
        ({"x": "bits"}, "'bits_up'"),
        ({"tune": []}, "tune=True for the usual ones"),
        ({"rounds": -1}, "whole number >= 0"),
    ],
)
def test_bad_input_is_refused_before_any_run(problem, arguments, words):
    with pytest.raises(ValueError, match=words):
        ol.compare(**{"methods": ["gd"], "problem": problem, "rounds": 3, **arguments})


def test_unknown_axes_are_named(problem):
    c = ol.compare(["gd"], problem, rounds=1)
    with pytest.raises(ValueError, match=r"y='los'.*Did you mean loss"):
        c.figure(y="los")
    with pytest.raises(ValueError, match="recorded no accuracy"):
        c.figure(y="accuracy")


def test_suboptimality_needs_the_optimum(network):
    c = ol.compare([M.GD(lr=0.1)], network, rounds=1)
    with pytest.raises(ValueError, match="is not known"):
        c.figure(y="suboptimality")


def test_repeat_keeps_every_seed(problem):
    r = ol.repeat("diana", problem, seeds=3, rounds=4)
    assert sorted(r.history.seed.unique()) == [0, 1, 2] and len(r.history) == 15
    assert [t.fill for t in r.figure().data] == ["toself", None]
    assert "seeds [0, 1, 2]" in repr(r) and "<svg" in r._repr_html_()
    assert [run.settings.seed for run in ol.repeat("gd", problem, seeds=[7, 9], rounds=1).runs] == [7, 9]


def test_scripted_randomness_belongs_to_single_runs():
    problem = ol.problems.quadratics(n=3, d=2)
    with pytest.raises(ValueError, match="used up by one run"):
        ol.compare(["gd", "marina"], problem, rounds=2, randomness=ol.Scripted(coins=[1]))


def test_a_given_grid_is_of_step_sizes_where_theory_has_none():
    p = ol.problems.classification("digits", model="mlp", clients=4)
    c = ol.compare(["fedavg", "scaffold"], p, rounds=1, tune=[0.05, 0.1], live=False)
    assert all(set(table.lr) == {0.05, 0.1} for table in c.tried.values())
