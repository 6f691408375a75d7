"""The explorer's widgets without a browser: built, turned, pressed and closed for every method of the catalogue."""

from __future__ import annotations

import re
import threading
import time

import pytest

pytest.importorskip("anywidget", reason="the widgets need octolab[lab]")

import octolab as ol
from octolab.lab.explorer import baseline, theory
from octolab.lab.explorer.explorer import Explorer
from octolab.lab.explorer.state import ExplorerState
from tests.families import every_method

SLUGS = every_method()


class Chart:
    """In place of the dashboard, whose program alone takes a second: remembers what it was shown."""

    x = "round"

    def __init__(self):
        self.shown = []

    def show(self, runs):
        self.shown.append(list(runs))

    def close(self):
        self.shown = None


@pytest.fixture
def lab(monkeypatch):
    """`lab(...)`: an explorer with a stand-in for the chart; closed, and looked after for threads, at the end."""
    made = []

    def make(*args, **more):
        explorer = Explorer(*args, **more)
        explorer.chart_slot.chart = Chart()
        made.append(explorer)
        return explorer

    yield make
    for explorer in made:
        explorer.close()
    names = ("octolab-run", "octolab-lab")
    assert [t for t in threading.enumerate() if t.name in names] == []


def wait(condition, seconds=300.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this took too long"
        time.sleep(0.005)


def paths(view):
    return [r["path"] for g in view.state["groups"] for r in g["rows"]]


def shown(view, path):
    return next(r for g in view.state["groups"] for r in g["rows"] if r["path"] == path)


# -- every method ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("slug", SLUGS)
def test_every_method_has_an_explorer_with_all_levels_that_steps(lab, slug):
    explorer = lab(slug, rounds=6)
    card = ol.methods.get(slug).describe()
    assert card.name in explorer.card.state["html"].replace("&#x27;", "'").replace("&amp;", "&")
    more, about, code = explorer.levels
    for level in explorer.levels:
        assert level.body.children == ()  # built when first opened
        level.toggle()
    assert sorted(paths(more.form)) == sorted(k.path for k in explorer.state.knobs())
    assert "octo-algorithm" in about.algorithm.value and about.numbers.value and about.rate.value
    assert code.call.state["text"] == explorer.python
    assert '"method"' in code.spec.state["text"]
    explorer.press("step")
    wait(lambda: explorer.run is not None and explorer.run.round == 1 and explorer.run.paused)
    explorer.press("step")
    wait(lambda: explorer.run.round == 2)
    explorer.press("stop")
    wait(lambda: explorer.phase == "done")


@pytest.mark.parametrize("slug", SLUGS)
def test_every_method_tells_its_assumptions_and_constants_on_its_problem(slug):
    state = ExplorerState(slug)
    facts = {f.symbol: f.value for f in theory.constants(state)}
    assert facts["n"] == f"{state.n:,}"
    checks = theory.checks(state)
    assert len(checks) >= len(state.method.needs)
    assert not any(c.holds is False for c in checks[: len(state.method.needs)]), "it starts outside its own assumptions"
    assert {f.meaning for f in theory.steps(state)} == {
        f"{k.doc}: by theory" + ("" if k.value.multiplier == 1 else f", times {k.value.multiplier:g}")
        for k in state.knobs("method")
        if isinstance(k.value, ol.Theory)
    }
    found = theory.rate(state)
    assert found is None or 0 < found < 1


# -- one state -------------------------------------------------------------------------------------------------------
def test_a_click_and_python_turn_the_same_knob(lab):
    explorer = lab("ef21")
    explorer.receive({"path": "method.lr", "value": "0.2"})
    assert explorer.method == ol.methods.EF21(lr=0.2)
    explorer.method = ol.methods.EF21(lr=0.3)
    assert shown(explorer.main_form, "method.lr")["value"] == "0.3"
    explorer.method = "diana"
    assert "DIANA" in explorer.card.state["html"]
    assert "method.alpha" not in paths(explorer.main_form) and "method.compressor.k" in paths(explorer.main_form)


def test_the_spec_can_be_read_and_set(lab):
    explorer, other = lab("ef21", rounds=7, lr=0.2), lab("diana")
    other.spec = explorer.spec
    assert other.python == explorer.python
    assert "EF21" in other.card.state["html"]


def test_a_run_can_be_opened_and_set(lab):
    run = ol.run(ol.methods.DIANA(lr=0.05), ol.problems.quadratics(n=4, d=6), rounds=5, live=False)
    explorer = lab("ef21")
    explorer.run = run
    assert explorer.run is run and explorer.method == run.given
    assert explorer.chart_slot.chart.shown[-1] == ["DIANA"]
    assert explorer.buttons.state["round"] == 5


def test_theory_values_stand_beside_their_knobs(lab):
    explorer = lab("ef21", "quadratics")
    explorer.draw_forms()
    row = shown(explorer.main_form, "method.lr")
    value = explorer.method.resolve(explorer.problem).lr
    assert row["note"] == f"= {value:.4g}" and row["multiplier"] == "1.0"


def test_a_bad_value_shows_its_sentence_beside_the_knob_and_starts_nothing(lab):
    explorer = lab("ef21", "quadratics", rounds=5)
    explorer.press("run")
    wait(lambda: explorer.phase == "done")
    run, drawn = explorer.run, len(explorer.chart_slot.chart.shown)
    explorer.receive({"path": "method.compressor.k", "value": "-3"})
    row = shown(explorer.main_form, "method.compressor.k")
    assert "a count" in row["error"] and row["entered"] == "-3"
    explorer.press("run")
    assert explorer.run is run and len(explorer.chart_slot.chart.shown) == drawn  # the last chart stays
    assert explorer.buttons.state["status"].startswith("First mend this: TopK: k=-3")
    explorer.receive({"path": "method.compressor.k", "value": "0.1"})
    assert shown(explorer.main_form, "method.compressor.k")["error"] == ""
    assert explorer.buttons.state["status"].startswith("finished")


def test_a_refusal_stands_beside_the_knob_it_concerns(lab):
    explorer = lab("diana", "quadratics")
    explorer.receive({"path": "method.compressor", "value": "TopK"})
    assert "biased" in shown(explorer.main_form, "method.compressor")["error"]


def test_a_double_click_on_run_starts_one_run(lab):
    explorer = lab("ef21", "quadratics", rounds=100_000)
    explorer.press("run")
    explorer.press("run")
    wait(lambda: explorer.run is not None)
    run = explorer.run
    explorer.press("run")
    assert explorer.run is run
    assert len([t for t in threading.enumerate() if t.name == "octolab-run"]) <= 2  # the method and its baseline


def test_pause_and_go_on_is_the_same_run(lab):
    explorer = lab("ef21", "quadratics", rounds=100_000)
    explorer.press("run")
    wait(lambda: explorer.run is not None and explorer.run.round > 3)
    explorer.press("pause")
    wait(lambda: explorer.buttons.state["phase"] == "paused")
    assert explorer.buttons.state["go"] == "Go on" and set(explorer.buttons.state["can"]) == {
        "run",
        "step",
        "stop",
    }
    run = explorer.run
    explorer.press("run")
    assert explorer.run is run and explorer.phase == "running"


def test_two_explorers_do_not_disturb_each_other(lab):
    one, two = lab("ef21", "quadratics", rounds=100_000), lab("ef21", "quadratics", rounds=100_000)
    one.press("run")
    two.press("run")
    wait(lambda: one.run and two.run and one.run.round > 2 and two.run.round > 2)
    one.press("stop")
    wait(lambda: one.phase == "done")
    at = two.run.round
    wait(lambda: two.run.round > at)


def test_the_clients_are_drawn_again_at_every_move_of_the_slider(lab):
    explorer = lab("ef21")
    explorer.draw_clients()
    before = explorer.clients_picture.state["html"]
    explorer.receive({"path": "problem.split.alpha", "value": "0.05", "final": False})
    after = explorer.clients_picture.state["html"]
    assert before != after and after.count("<rect") > 20
    assert not explorer.state.built  # no problem is built while the slider moves


def test_the_predicted_rate_starts_where_the_measured_curve_starts():
    state = ExplorerState("gd", "quadratics", rounds=50)
    run = state.prepare().finish()
    factor = theory.rate(state)
    if factor is None:
        pytest.skip("GD's page gives no rate yet")
    measured, promised, _ = theory.predicted(state, run)
    assert promised.y[0] == measured.y[0]
    assert promised.y[10] == pytest.approx(measured.y[0] * factor**10)
    assert (measured.y <= promised.y * (1 + 1e-9)).all()  # the theorem holds
    assert theory.chart(state, run).count("<polyline") == 2


# -- teaching --------------------------------------------------------------------------------------------------------
def test_a_lesson_shows_what_it_names_and_locks_the_rest_away(lab):
    explorer = lab("ef21", "quadratics", show=["compressor.k"], lock={"lr": "we keep the step"})
    assert explorer.problem_form.state["groups"][0]["rows"] == []
    assert paths(explorer.main_form) == ["method.compressor.k", "method.lr"]
    assert shown(explorer.main_form, "method.lr")["locked"] == "we keep the step"
    explorer.levels[0].toggle()
    assert paths(explorer.levels[0].form) == ["method.compressor.k", "method.lr"]
    explorer.receive({"path": "method.lr", "value": "1"})
    assert explorer.method.lr == ol.Theory()


# -- tuning ----------------------------------------------------------------------------------------------------------
def test_both_are_tuned_over_the_same_grid_and_then_run(lab):
    explorer = lab("ef21", "quadratics", rounds=20)
    explorer.press("tune")
    wait(lambda: explorer.run is not None and explorer.phase == "done")
    mine, theirs = explorer.method.lr, explorer.state.plan.baseline_lr
    assert isinstance(mine, ol.Theory) and isinstance(theirs, ol.Theory)
    best = ol.tune(ol.methods.EF21(), explorer.problem, rounds=20).best.lr
    assert explorer.run.method.lr == pytest.approx(best)
    ((beside,),) = [group for name, group in explorer.runs.items() if "baseline" in name]
    gd = ol.tune(ol.methods.GD(), explorer.problem, rounds=beside.settings.rounds).best.lr
    assert beside.method.lr == pytest.approx(gd)


# -- what stays ------------------------------------------------------------------------------------------------------
def test_a_saved_notebook_shows_card_curve_and_call(lab):
    explorer = lab("ef21", "quadratics", rounds=10)
    explorer.press("run")
    wait(lambda: explorer.phase == "done")
    html = explorer._repr_html_()
    assert "error feedback" in html and "<svg" in html and "ol.methods.EF21()" in html
    assert "<script" not in html and "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"(src|href)='(?!https://arxiv\.org)", html)
    assert "display: none" in html  # where the live widget is beside it
    text = repr(explorer)
    assert "EF21" in text and "ol.run(method, problem" in text and "finished" in text


def test_the_static_card_gets_the_curves_when_a_run_has_ended(lab):
    class Twin:
        html = ""

        def update(self, shown):
            self.html = shown.data

    explorer = lab("ef21", "quadratics", rounds=10)
    explorer.twin = Twin()
    explorer.press("run")
    wait(lambda: "<polyline" in explorer.twin.html)


def test_a_page_that_has_just_loaded_hears_everything_again(lab):
    explorer, sent = lab("ef21", "quadratics", rounds=10), {}
    explorer.chart_slot.send_state = lambda key=None: sent.update(slot=key)
    explorer.chart_slot.waiting.layout.send_state = lambda key=None: sent.update(layout=key)
    explorer.press("hello")
    assert {"children", "_dom_classes"} <= set(sent["slot"]) and "display" in sent["layout"]
    assert not any(key.startswith("_") and key != "_dom_classes" for keys in sent.values() for key in keys)


def test_an_explorer_at_rest_holds_no_thread(lab):
    before = set(threading.enumerate())
    lab("ef21")
    assert set(threading.enumerate()) == before


def test_the_first_view_is_completed_by_a_thread_that_ends(lab, monkeypatch):
    monkeypatch.setattr(Explorer, "_make_chart", lambda self: None)
    explorer = lab("ef21", "quadratics", rounds=20)
    explorer.warm()
    wait(lambda: not explorer.busy)
    assert explorer.chart_slot.chart.shown[-1] == ["GD (baseline)"]  # the baseline is there before anything is pressed
    assert "<rect" in explorer.clients_picture.state["html"]
    assert shown(explorer.main_form, "method.lr")["note"]
    preview = explorer.preview[1].run
    wait(lambda: preview.done)
    explorer.press("run")
    wait(lambda: explorer.phase == "done")
    assert explorer.pair.beside is preview  # and is not computed twice


def test_the_axis_is_the_one_on_which_the_method_is_seen():
    assert baseline.axis(ol.methods.EF21()) == "bits_up"
    assert baseline.axis(ol.methods.Ringmaster()) == "time"
    assert baseline.axis(ol.methods.GD()) == "round"


# -- the name --------------------------------------------------------------------------------------------------------
def test_lab_can_be_called_and_is_still_a_package():
    import octolab.lab.live

    assert ol.lab is octolab.lab and octolab.lab.live.Live
    made = ol.lab("ef21", alpha=0.1, rounds=9)
    assert isinstance(made, Explorer) and made.state.plan.rounds == 9 and made.state.preset.split.alpha == 0.1
    made.close()


def test_without_widgets_the_state_is_still_there(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    state = ol.lab("ef21", rounds=3)
    assert isinstance(state, ExplorerState) and state.prepare().finish().round == 3
    assert list(ol.lab().slug) == [c.slug for c in ol.methods.cards()]


def test_what_leaves_the_screen_has_every_curve(lab, tmp_path):
    explorer = lab("ef21", "quadratics", rounds=5)
    with pytest.raises(ValueError, match="press Run first"):
        explorer.figure()
    explorer.start()
    wait(lambda: explorer.phase == "done" and not explorer.pair.active)
    assert {t.meta[0] for t in explorer.figure().data if t.meta[0]} == {"EF21", "GD (baseline)"}
    drawn = (tmp_path / "a.svg").read_text() if explorer.export(tmp_path / "a.svg") else ""
    assert "EF21" in drawn and "GD (baseline)" in drawn
