"""The state behind an explorer, without a widget: any method, every knob, and the call that does the same."""

from __future__ import annotations

import dataclasses
import json
import warnings

import numpy as np
import pytest

import octolab as ol
from octolab.lab import presets
from octolab.lab.explorer.knobs import kind_name, made
from octolab.lab.explorer.state import ExplorerState
from octolab.notation import to_python
from tests.families import every_method

SLUGS = every_method()


def executed(state):
    """The run that the printed Python makes."""
    scope = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(state.python, scope)
    return scope["run"]


def numbers(run):
    return run.history.to_numpy(dtype=float, na_value=np.nan)


# -- every method ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("slug", SLUGS)
def test_every_method_runs_from_its_printed_call_with_the_same_numbers(slug):
    state = ExplorerState(slug, rounds=3)
    mine, theirs = state.prepare().finish(), executed(state)
    assert mine.round == 3
    np.testing.assert_array_equal(numbers(mine), numbers(theirs))


@pytest.mark.parametrize("slug", SLUGS)
def test_every_method_comes_back_from_its_spec_and_from_its_run(slug):
    state = ExplorerState(slug, rounds=3)
    spec = json.loads(json.dumps(state.spec))
    assert (
        ExplorerState(spec).python
        == ExplorerState(json.dumps(spec)).python
        == ExplorerState(state.prepare()).python
        == state.python
    )
    assert ExplorerState(spec).spec == state.spec


@pytest.mark.parametrize("slug", SLUGS)
def test_every_method_is_not_refused_where_it_starts(slug):
    assert ExplorerState(slug).review()["refusal"] is None


@pytest.mark.parametrize("slug", SLUGS)
def test_every_hyperparameter_is_a_knob_with_words_and_main_ones_come_first(slug):
    state = ExplorerState(slug)
    own = [k for k in state.knobs("method") if not k.parent]
    assert [k.name for k in own] == [f.name for f in dataclasses.fields(state.method)]
    assert all(k.doc for k in own)
    front = [state.knob(p) for p in state.front()]
    assert 1 <= len([k for k in front if not k.parent]) <= 4
    assert all(k.path.startswith("method.") for k in front)


@pytest.mark.parametrize("slug", SLUGS)
def test_a_value_out_of_bounds_stays_out_and_its_sentence_names_the_field(slug):
    state = ExplorerState(slug)
    before = state.method
    for knob in state.knobs("method"):
        if knob.kind in ("number", "whole") and not knob.parent and knob.low is not None:
            said = state.enter(knob.path, str(knob.low - 1))
            assert said is not None and knob.name in said, knob
            assert state.errors[knob.path] == (str(knob.low - 1), said)
    assert state.method == before


@pytest.mark.parametrize("slug", SLUGS)
def test_the_baseline_is_on_the_same_problem_seed_and_devices(slug):
    state = ExplorerState(slug, rounds=4, seed=7)
    beside = state.beside()
    if beside is None:
        assert slug == "gd"
        return
    assert beside.problem is state.problem and beside.settings.seed == 7
    assert repr(beside.settings.fleet) == repr(state.prepare().settings.fleet)
    assert beside.given.slug != slug


# -- knobs -----------------------------------------------------------------------------------------------------------
def test_a_short_name_finds_a_knob_and_a_misspelt_one_is_answered_with_the_nearest():
    state = ExplorerState("diana")
    assert state.find("alpha") == "method.alpha"  # the method's own before the split's
    assert state.find("split.alpha") == "problem.split.alpha"
    assert state.find("compressor.k") == "method.compressor.k"
    assert state.find("seed") == "run.seed"
    assert state.find("dropout") == "fleet.dropout"
    with pytest.raises(ValueError, match=r"no knob 'dropuot' here. Did you mean dropout"):
        ExplorerState("ef21", dropuot=0.1)


def test_entries_are_read_as_a_person_means_them():
    state = ExplorerState("ef21")
    for typed, meant in (
        ("0.1", 0.1),
        ("1/20", 0.05),
        ("1e-3", 1e-3),
        ("theory", ol.Theory()),
        ("theory * 4", ol.Theory(4.0)),
    ):
        assert state.enter("lr", typed) is None
        assert state.method.lr == meant
    assert state.enter("compressor.k", "12") is None and state.method.compressor.k == 12
    assert state.enter("compressor.k", "0.5") is None and state.method.compressor.k == 0.5
    fedavg = ExplorerState("fedavg")
    assert fedavg.enter("batch_size", "16") is None and fedavg.method.batch_size == 16
    assert fedavg.enter("batch_size", "") is None and fedavg.method.batch_size is None
    assert fedavg.enter("cohort", "a number") is None and fedavg.enter("cohort.number", "5") is None
    assert fedavg.method.cohort == 5
    assert fedavg.enter("cohort", "Poisson") is None and isinstance(fedavg.method.cohort, ol.federation.Poisson)


@pytest.mark.parametrize(
    ("slug", "path", "typed", "words"),
    [
        ("ef21", "lr", "abc", "give a number"),
        ("ef21", "lr", "-1", r"give a number in \(0, inf\)"),
        ("ef21", "compressor.k", "-3", "a count"),
        ("ef21", "compressor", "TopC", "Did you mean TopK"),
        ("ef21", "start", "nonsense", "choose one of"),
        ("ef21", "clients", "0", r"\[1, 1000\]"),
        ("ef21", "clients", "2.5", "whole number"),
        ("ef21", "split.alpha", "0", r"alpha=0.0: give a number in \(0, inf\)"),
        ("ef21", "dropout", "1.5", r"\[0, 1\]"),
        ("ef21", "rounds", "0", r"\[1, inf\)"),
        ("ef21", "problem", "digitz", "Did you mean 'digits'"),
        ("ef21", "baseline", "ef22", "Did you mean ef21"),
        ("fedavg", "momentum", "1", r"\[0, 1\)"),
    ],
)
def test_a_bad_entry_is_answered_with_a_sentence_and_changes_nothing(slug, path, typed, words):
    state = ExplorerState(slug)
    before = state.python
    said = state.enter(path, typed)
    with pytest.raises(ValueError, match=words):
        raise ValueError(said)
    assert state.python == before
    assert state.errors[state.find(path)][0] == typed


def test_a_good_entry_takes_the_sentence_away():
    state = ExplorerState("ef21")
    state.enter("lr", "-1")
    assert state.enter("lr", "0.1") is None
    assert state.errors == {}


def test_a_refusal_names_the_knob_it_concerns():
    state = ExplorerState("diana")
    assert state.enter("compressor", "TopK") is None  # it is what one sees; the theorem refuses it
    review = state.review()
    assert review["refused"] == "method.compressor" and "biased" in review["refusal"]


def test_changing_the_kind_of_an_object_keeps_what_the_two_share():
    state = ExplorerState("ef21", compressor=ol.compressors.TopK(0.2))
    state.turn("compressor", "RandK")
    assert state.method.compressor == ol.compressors.RandK(0.2)


def test_every_compressor_of_the_zoo_can_be_chosen_and_written():
    state = ExplorerState("ef21")
    offered = set(state.knob("method.compressor").choices)
    vectors = {n for n, c in ol.compressors.Compressor.kinds.items() if made(c).axes == 1}
    assert offered == vectors
    for name in offered:
        state.turn("compressor", name)
        assert kind_name(state.method.compressor) == name
        assert eval(to_python(state.method.compressor), {"ol": ol}) == state.method.compressor


def test_nested_objects_have_knobs_of_their_own():
    state = ExplorerState("ef21", compressor=ol.compressors.Scaled(ol.compressors.QSGD(4)))
    assert state.enter("compressor.compressor.levels", "9") is None
    assert state.method.compressor == ol.compressors.Scaled(ol.compressors.QSGD(9))
    state.turn("compressor.compressor", "RandK")
    assert isinstance(state.method.compressor.compressor, ol.compressors.RandK)


# -- problems, devices, stop rules -----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [n for n in presets.PRESETS if n not in ("fashion", "shakespeare")])
def test_every_preset_is_rebuilt_from_the_problem_it_makes(name):
    preset = presets.PRESETS[name][1]
    assert presets.preset_of(preset.build()) == preset
    assert presets.name_of(preset) == name


def test_a_problem_of_ones_own_is_kept_as_it_is():
    rng = np.random.default_rng(0)
    A = np.stack([np.diag(rng.uniform(1, 5, 4)) for _ in range(3)])
    mine = ol.problems.Quadratics(A, rng.normal(size=(3, 4)))
    state = ExplorerState("ef21", mine, rounds=3)
    assert state.problem is mine and state.n == 3
    assert "the one you made" in state.python
    assert state.prepare().finish().round == 3


def test_where_constants_are_unknown_a_number_stands_in_and_says_so_until_they_are_known_again():
    state = ExplorerState("ef21", "network")
    assert isinstance(state.method.lr, float)
    assert "not tuned" in state.note("method.lr")
    state.turn("problem", "digits")
    assert state.method.lr == ol.Theory() and state.note("method.lr") == ""
    state.turn("problem", "network")
    state.turn("lr", 0.3)
    state.turn("problem", "digits")
    assert state.method.lr == 0.3  # what a person chose stays


@pytest.mark.parametrize("speeds", ["evenly spread", "a tenth slow", "root"])
def test_devices_are_written_as_a_formula_and_read_back(speeds):
    state = ExplorerState(
        "fedavg", "quadratics", rounds=3, speeds=speeds, slowest=5.0, dropout=0.2, jitter="LogNormal", up=1e6
    )
    run = executed(state)
    np.testing.assert_array_equal(numbers(run), numbers(state.prepare().finish()))
    assert run.settings.fleet.seconds.max() == 5
    assert ExplorerState(run).python == state.python


def test_a_fleet_that_no_knob_describes_is_kept():
    fleet = ol.Fleet(seconds=[1.0, 3.0, 2.0], up=[1e6, 2e6, 3e6])
    run = ol.run("gd", ol.problems.quadratics(n=3, d=4), rounds=2, fleet=fleet, live=False)
    state = ExplorerState(run)
    assert state.fleet is fleet
    np.testing.assert_array_equal(numbers(executed(state)), numbers(run))


def test_stop_rules_and_attackers_are_knobs():
    state = ExplorerState("fedavg", "quadratics", rounds=50, bits=1e4, attack="SignFlip")
    state.turn("attack.clients", "0, 2")
    run = state.prepare().finish()
    assert run.round < 50 and tuple(run.settings.attack.clients) == (0, 2)
    assert ExplorerState(run).python == state.python


# -- teaching --------------------------------------------------------------------------------------------------------
def test_a_teacher_shows_locks_and_hides():
    state = ExplorerState("ef21", show=["compressor.k"], lock={"lr": "we keep the step"}, lr=0.2)
    assert state.front() == ["method.compressor.k", "method.lr"]
    assert state.visible("method.compressor.k") and not state.visible("method.start")
    assert state.enter("lr", "1") == "lr is locked: we keep the step."
    assert state.method.lr == 0.2
    assert not ExplorerState("ef21", hide=["lr"]).visible("method.lr")


def test_a_lesson_that_names_an_unknown_knob_is_refused():
    for teach in ({"show": ["k2"]}, {"lock": ["k2"]}, {"hide": ["k2"]}):
        with pytest.raises(ValueError, match="no knob 'k2' here"):
            ExplorerState("ef21", **teach)


def test_watchers_hear_what_changed():
    state, heard = ExplorerState("ef21"), []
    state.watch(heard.append)
    state.turn("lr", 0.1)
    state.enter("lr", "oops")
    state.method = "diana"
    assert heard == [{"method.lr"}, {"method.lr"}, {"method"}]


def test_a_step_size_becomes_a_schedule_and_a_number_again():
    state = ExplorerState(ol.methods.FedAvg(lr=ol.Theory(2)))
    assert state.knob("method.lr.over").choices == ("constant", "Cosine", "InverseSqrt", "Step", "Warmup")
    assert state.enter("lr.over", "Cosine") is None and state.enter("lr.rounds", "50") is None
    assert state.enter("lr.floor", "0.001") is None
    assert state.method.lr == ol.schedules.Cosine(ol.Theory(2), rounds=50, floor=0.001)
    assert state.review()["values"]["method.lr.lr"] == state.method.resolve(state.problem).lr.lr
    assert "lr=ol.schedules.Cosine(ol.Theory(2), 50, floor=0.001)" in state.python
    assert ExplorerState(state.prepare()).method == state.method
    assert "no 'Sine'" in state.enter("method.lr", "Sine")
    assert state.enter("lr", "Step") is None and state.method.lr.lr == ol.Theory(2)
    assert state.enter("lr", "a number") is None and state.method == ol.methods.FedAvg(lr=ol.Theory(2))
