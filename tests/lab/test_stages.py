"""Stages: where a page shows its claim, both sides tuned over one grid, and what the explorer opens with."""

from __future__ import annotations

import pytest

import octolab as ol
from octolab.lab import stages
from octolab.lab.explorer import baseline
from octolab.lab.explorer.state import ExplorerState
from octolab.methods import Theory

CLAIMS = [slug for slug in ol.methods.slugs() if ol.methods.get(slug).own_stage() is not None]


def test_what_is_kept_is_of_methods_that_there_are():
    assert set(stages.kept()) <= set(ol.methods.slugs()) and set(CLAIMS) <= set(stages.kept())


@pytest.mark.parametrize("slug", CLAIMS)
def test_a_claim_holds_on_its_stage_or_the_page_says_that_it_does_not(slug):
    found = stages.kept()[slug]
    assert found.claim == stages.claim(slug)  # computed for this very claim
    assert found.holds is not ol.methods.get(slug).own_stage().loses


def test_a_stage_computed_again_gives_the_same():
    assert stages.compute("scaffnew") == stages.kept()["scaffnew"]


def test_the_first_run_of_ef21_shows_ef21_winning():
    state = ExplorerState("ef21")
    assert state.tuned and isinstance(state.method.lr, Theory) and state.method.lr.multiplier > 1
    main, beside = state.prepare().finish(), state.beside().finish()
    reached = max(main.history.loss.min(), beside.history.loss.min())
    cost = [run.history.bits_up[run.history.loss <= reached].iloc[0] for run in (main, beside)]
    assert cost[0] < cost[1]
    assert "less bits than GD, both tuned over one grid" in baseline.explain(state)


def test_the_theory_step_is_one_turn_away_and_its_caution_is_said():
    state = ExplorerState("ef21")
    state.turn("lr", Theory())
    state.turn("run.baseline_lr", Theory())
    assert not state.tuned and "Theory steps are safe, not fast." in baseline.explain(state)


def test_a_teachers_explorer_begins_as_she_sets_it():
    assert not ExplorerState("ef21", lr=0.1).tuned
    assert not ExplorerState("ef21", lock={"lr": "we keep the step"}).tuned


def test_a_locked_knob_is_obeyed_by_tune_both():
    from octolab.lab.explorer.tuning import Tuning

    state = ExplorerState("ef21", lock={"lr": "we keep the step"}, rounds=20)
    assert list(Tuning(state, lambda best: None, stages.GRID).best()) == ["run.baseline_lr"]
    assert state.enter("lr", "1") == "lr is locked: we keep the step."


def test_a_lock_on_an_object_locks_what_is_inside():
    state = ExplorerState("ef21", lock={"compressor": "today TopK"})
    assert state.enter("compressor.k", "0.5") == "compressor k is locked: today TopK."


@pytest.mark.parametrize(("raw", "k"), [("5%", 0.05), ("0.05", 0.05), ("1/20", 0.05), ("25", 25)])
def test_shares_and_counts_are_understood_as_people_write_them(raw, k):
    state = ExplorerState("ef21")
    assert state.enter("compressor.k", raw) is None and state.method.compressor.k == k


def test_more_coordinates_than_there_are_is_refused_beside_the_knob():
    state = ExplorerState("ef21", "quadratics")
    state.enter("compressor.k", "700")
    assert state.review()["refused"] == "method.compressor.k" and "d=40" in state.review()["refusal"]


def test_ci_computes_changed_pages_and_every_other_once_in_ten_commits():
    from benchmarks.stages import turn

    every = ol.methods.slugs()
    assert turn(every, "0", {"ef21.py"})[0] == "ef21"
    seen = [slug for k in range(10) for slug in turn(every, f"{k:x}", set())]
    assert sorted(seen) == every


def test_a_verdict_that_is_no_longer_so_is_found():
    from dataclasses import replace

    from benchmarks.stages import broken, differs

    kept = stages.kept()["ef21"]
    worse = replace(kept, theirs=kept.mine / 2)
    assert not differs(kept, kept) and differs(worse, kept) and broken(worse)
