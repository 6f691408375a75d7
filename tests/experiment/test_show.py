"""How runs show themselves, at every stage of their lives; and that showing never changes a run."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.experiment import curves, progress, summary
from octolab.experiment.curves import Line, thin
from octolab.experiment.launch import prepare
from octolab.lab import cards, figures
from octolab.lab.svg import curves_svg

M = ol.methods


@pytest.fixture(scope="module")
def problem():
    return ol.problems.quadratics(n=4, d=6, L=10, mu=1, seed=0)


def diverged(problem):
    with pytest.warns(RuntimeWarning, match="no longer finite"):
        return ol.run(M.GD(lr=1e6), problem, rounds=200)


def test_text_before_the_start(problem):
    run = prepare("gd", problem, rounds=5)
    assert "new, round not started of 5" in repr(run)
    assert "<svg" not in run._repr_html_() and "not started" in run._repr_html_()
    assert len(figures.figure([run]).data) == 6  # the panels are there, empty
    assert not run.dashboard().figure().data


def test_text_after_the_end_has_the_last_numbers_in_human_units(problem):
    run = ol.run("gd", problem, rounds=1000)
    text = repr(run)
    assert "finished, round 1,000 of 1,000" in text
    assert f"loss {run.history.loss.iloc[-1]:.6g}" in text
    assert "up 192 kbit per client" in text  # 1000 rounds x 6 numbers x 32 bits
    assert "virtual time 1,000 s" in text
    assert "<svg" in run._repr_html_()


def test_accuracy_is_shown_where_there_is_one():
    run = ol.run("gd", ol.problems.classification("breast-cancer", clients=5), rounds=3)
    assert f"accuracy {run.history.accuracy.iloc[-1]:.1%}" in repr(run)


def test_after_divergence_the_reason_is_shown(problem):
    run = diverged(problem)
    assert "diverged" in repr(run) and "Try lr=1e+05" in repr(run)
    assert "Try lr=1e+05" in run._repr_html_()
    ET.fromstring(svg_of(run))
    assert "Try lr=" in run.dashboard()._repr_html_()


def svg_of(run):
    html = run._repr_html_()
    return html[html.index("<svg") : html.index("</svg>") + 6]


def test_without_a_budget_of_rounds_none_is_claimed(problem):
    run = ol.run("gd", problem, until={"loss": problem.f_star + 1e-3})
    assert f"round {run.round}\n" in repr(run)


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        (0, "0 bit"),
        (999, "999 bit"),
        (1234, "1.23 kbit"),
        (64_000_000, "64 Mbit"),
        (2.5e9, "2.5 Gbit"),
        (7e12, "7 Tbit"),
    ],
)
def test_bits_in_words(amount, words):
    assert summary.bits(amount) == words


def test_svg_is_well_formed_and_escapes_text():
    nasty = "<script>alert('x')</script> & \"quotes\""
    line = Line(nasty, np.arange(5.0), np.arange(1.0, 6.0))
    svg = curves_svg([line], "round", "loss", nasty)
    root = ET.fromstring(svg)  # raises if anything is not escaped
    assert "<script" not in svg
    assert any(e.text == nasty for e in root.iter() if e.tag.endswith("text"))


@pytest.mark.parametrize("y", ["accuracy", "loss", "grad_norm_sq"])
def test_svg_survives_what_runs_produce(y):
    x = np.arange(6.0)
    lines = [
        Line("with nan", x, np.array([1, np.nan, 0.5, 0.1, np.nan, 0.01])),
        Line("explodes", x, np.array([1, 10, 1e100, 1e300, np.inf, np.nan])),
        Line("to zero", x, np.array([1, 0.1, 0.0, -1e-17, 0.0, 0.0])),
        Line("one point", x[:1], np.ones(1)),
        Line("empty", x[:0], x[:0]),
        Line("constant", x, np.ones(6), np.ones(6) / 2, np.ones(6) * 2),
    ]
    svg = curves_svg(lines, "round", y, "t")
    ET.fromstring(svg)
    assert "nan" not in svg.replace("with nan", "") and "inf" not in svg
    ET.fromstring(curves_svg([], "round", y, "t"))


def test_svg_points_are_where_they_belong():
    svg = curves_svg([Line("a", np.array([0.0, 10.0]), np.array([1.0, 3.0]))], "round", "grad_norm_sq", "")
    points = next(e for e in ET.fromstring(svg).iter() if e.tag.endswith("polyline")).get("points").split()
    (x0, y0), (x1, y1) = (map(float, p.split(",")) for p in points)
    assert (x0, x1) == (58, 888)  # the frame's left and right
    assert y0 == 334 and y1 == 44  # its bottom and its top


def test_an_exploding_curve_does_not_flatten_the_others():
    good = Line("good", np.arange(9.0), 2.0 ** -np.arange(9.0))
    bad = Line("bad", np.arange(9.0), 10.0 ** (30 * np.arange(9.0)))
    low, high = curves.y_range([good, bad], True)
    assert low == good.y.min() and high <= 100


def test_thin_keeps_the_ends_and_the_order():
    assert list(thin(5, 10)) == [0, 1, 2, 3, 4]
    keep = thin(123_457, 2000)
    assert len(keep) == 2000 and keep[0] == 0 and keep[-1] == 123_456 and (np.diff(keep) > 0).all()


def test_rounds_without_an_evaluation_are_not_drawn(problem):
    run = ol.run("gd", problem, rounds=20, evaluate_every=6)
    assert list(curves.line("gd", [run], "round", "loss").x) == [0, 6, 12, 18, 20]


def test_the_live_figure_switches_its_axis_without_a_kernel(problem):
    fig = figures.figure([ol.run("gd", problem, rounds=5)])
    buttons = fig.layout.updatemenus[0].buttons
    assert [b.method for b in buttons] == ["update"] * 3
    for button, x in zip(buttons, figures.SWITCH, strict=True):
        shown = [t.meta[1] for t, v in zip(fig.data, button.args[0]["visible"], strict=True) if v]
        assert shown == [x, x]


def test_headless_runs_draw_nothing(problem, capfd):
    ol.run("gd", problem, rounds=5)
    ol.run("gd", problem, rounds=5, live=True)
    out = capfd.readouterr()
    assert out.out == "" and out.err == ""


def test_live_is_on_in_a_kernel_and_can_be_switched_off(monkeypatch):
    monkeypatch.setattr(progress, "in_kernel", lambda: True)
    monkeypatch.delenv("OCTOLAB_FAST", raising=False)
    monkeypatch.delenv("OCTOLAB_LIVE", raising=False)
    assert progress.is_live(None) and not progress.is_live(False)
    monkeypatch.setenv("OCTOLAB_LIVE", "0")
    assert not progress.is_live(None) and progress.is_live(True)
    monkeypatch.delenv("OCTOLAB_LIVE")
    monkeypatch.setenv("OCTOLAB_FAST", "1")
    assert not progress.is_live(None)
    monkeypatch.setattr(progress, "in_kernel", lambda: False)
    assert not progress.is_live(True)


def test_a_live_chart_that_fails_leaves_the_run_whole(problem, monkeypatch):
    monkeypatch.setattr(progress, "in_kernel", lambda: True)
    monkeypatch.setitem(sys.modules, "octolab.lab.live", None)  # as if the extra were not installed
    with pytest.warns(RuntimeWarning, match="the run goes on without it"):
        run = ol.run("gd", problem, rounds=5, live=True)
    assert run.round == 5 and torch.equal(run.x, ol.run("gd", problem, rounds=5, live=False).x)


class Cell:
    """Stands for a notebook cell: what was displayed, and what replaced it."""

    def __init__(self):
        self.shown = []

    def display(self, thing, display_id=False):
        self.shown.append(thing)
        return self

    def update(self, thing):
        self.shown.append(thing)


def test_the_live_chart_is_a_callback_of_the_lab(problem, monkeypatch):
    cell = Cell()
    monkeypatch.setattr("IPython.display.display", cell.display)
    run = ol.run("gd", problem, rounds=5, callbacks=[ol.callbacks.LiveChart()], live=False)
    assert run.round == 5 and "<svg" in cell.shown[-1].data and len(cell.shown) == 2


def test_in_a_notebook_runs_get_one_live_chart_beside_their_callbacks(problem, monkeypatch):
    cell, heard = Cell(), []

    class Listener:
        def on_end(self, run):
            heard.append(run.name)

    monkeypatch.setattr("IPython.display.display", cell.display)
    monkeypatch.setattr(progress, "in_kernel", lambda: True)
    result = ol.compare(["gd", "ef21"], problem, rounds=3, callbacks=[Listener()], live=True)
    kinds = [[type(c).__name__ for c in run.callbacks] for group in result.runs.values() for run in group]
    assert kinds == [["Listener", "LiveChart"]] * 2 and heard == ["GD", "EF21"]
    assert len(cell.shown) == 2 and "octolab-comparison" in cell.shown[-1].data


def test_in_a_terminal_runs_get_a_bar_beside_their_callbacks(problem, monkeypatch):
    monkeypatch.setattr(progress, "_is_terminal", lambda: True)
    run = ol.run("gd", problem, rounds=3, callbacks=[ol.EarlyStopping()])
    assert [type(c).__name__ for c in run.callbacks] == ["EarlyStopping", "ProgressBar"]


def test_the_painter_copies_what_the_run_recorded(problem):
    live = pytest.importorskip("octolab.lab.live")
    run = ol.run("gd", problem, rounds=3000)
    x, y = live.columns(run)["loss"]
    assert set(x) == set(figures.SWITCH) and len(y) == len(x["round"]) <= 2000
    assert y[-1] == run.history.loss.iloc[-1] and x["bits_up"][-1] == run.history.bits_up.iloc[-1]


def test_the_painted_figure_is_that_of_the_finished_runs(problem):
    pytest.importorskip("anywidget")
    pytest.importorskip("ipywidgets")
    import plotly.graph_objects as go

    from octolab.lab.live import Live

    runs = {"gd": [prepare("gd", problem, rounds=30)], "ef21": [prepare("ef21", problem, rounds=30)]}
    live = Live(runs, result=None)
    live.figure = go.FigureWidget(figures.figure(runs))
    for group in runs.values():
        group[0].finish()
        live.paint()
    for painted, final in zip(live.figure.data, figures.figure(runs).data, strict=True):
        assert np.array_equal(painted.x, final.x) and np.array_equal(painted.y, final.y)
    assert live.figure.layout.yaxis2.type == "log"


def test_what_a_live_chart_has_shown_is_not_drawn_again_in_the_same_cell(problem, monkeypatch):
    run = ol.run("gd", problem, rounds=3)
    monkeypatch.setattr(cards, "_cell", lambda: 7)
    cards.drawn(run)
    assert "<svg" not in run._repr_html_()
    monkeypatch.setattr(cards, "_cell", lambda: 8)
    assert "<svg" in run._repr_html_()


def test_a_script_may_end_while_a_run_goes_on():
    code = "import octolab as ol; ol.start('gd', ol.problems.quadratics(n=4, d=6), rounds=10**6)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
