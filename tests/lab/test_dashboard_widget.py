"""The dashboard widget, without a browser: choices from both sides, the painter's life, what is sent, what stays."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

pytest.importorskip("anywidget", reason="the extra lab is not installed")
pytest.importorskip("ipywidgets", reason="the extra lab is not installed")

import octolab as ol
from octolab.experiment.launch import prepare
from octolab.lab import display
from octolab.lab.dashboard import Dashboard, StaticDashboard
from octolab.lab.dashboard import notebook as place
from octolab.lab.dashboard import widget as module
from octolab.lab.dashboard.painter import TRIES, Painter
from octolab.lab.dashboard.panels import PANELS
from octolab.lab.dashboard.picture import seen
from octolab.lab.dashboard.segments import Segments
from octolab.lab.gantt import Gantt

M = ol.methods


def until(condition, seconds=300.0):
    """Wait for a thread to get somewhere."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def painters():
    return [t for t in threading.enumerate() if t.name == "octolab-dashboard" and t.is_alive()]


@pytest.fixture(scope="module")
def problem():
    return ol.problems.quadratics(n=4, d=6, L=10, mu=1, seed=0)


@pytest.fixture(scope="module")
def runs(problem):
    fleet = ol.Fleet(seconds=[1, 2, 3, 4], up=1e3)
    return {
        "EF21": ol.run("ef21", problem, rounds=60, fleet=fleet),
        "GD": ol.run("gd", problem, rounds=40, fleet=fleet),
    }


@pytest.fixture
def board():
    """Makes dashboards, and closes them in the end."""
    made = []

    def make(*args, **kwargs):
        made.append(Dashboard(*args, **kwargs))
        return made[-1]

    yield make
    for dashboard in made:
        dashboard.close()
    until(lambda: not painters())


def settled(dashboard):
    until(lambda: not dashboard.painter.alive)
    assert dashboard.error is None
    return dashboard


def drawn(dashboard):
    return dashboard.drawing.figure


# -- the picture -------------------------------------------------------------------------------------------------------
def test_the_painted_figure_is_that_of_the_finished_runs(board, problem):
    running = {n: [prepare(n, problem, rounds=50)] for n in ("gd", "ef21")}
    dashboard = board(running)
    for group in running.values():
        group[0].advance(20)
        dashboard.paint()
        group[0].finish()
    settled(dashboard)
    for name in dashboard.content.panels:
        if name == "clients":
            continue
        dashboard.panel = name
        wanted = dashboard.figure(name)
        assert len(drawn(dashboard).data) == len(wanted.data) > 0
        for painted, final in zip(drawn(dashboard).data, wanted.data, strict=True):
            assert np.array_equal(np.asarray(painted.x), np.asarray(final.x))
            assert np.array_equal(np.asarray(painted.y), np.asarray(final.y), equal_nan=painted.type == "scatter")


def test_one_figure_serves_all_panels_and_all_runs(board, problem, runs):
    dashboard = settled(board(runs))
    figure = drawn(dashboard)
    for name in dashboard.content.panels:
        dashboard.panel = name
    dashboard.show({"other": ol.run("gd", problem, rounds=5)})
    settled(dashboard)
    assert drawn(dashboard) is figure and [t.meta[0] for t in figure.data if t.meta[0]] != []
    assert {t.meta[0] for t in figure.data} <= {"other", ""}


def test_a_repaint_sends_only_what_changed(board, problem):
    slow, done = prepare("gd", problem, rounds=100), ol.run("ef21", problem, rounds=30)
    dashboard = board({"slow": slow, "done": done}, panel="convergence")
    slow.advance(10)
    dashboard.paint()
    sent = []
    figure = drawn(dashboard)
    figure._send_update_msg = lambda trace_indexes=None, **_: sent.append(trace_indexes)
    dashboard.painter.stop()
    slow.advance(10)
    dashboard.paint()
    changed = {figure.data[k].meta[0] for k in sent[-1]}
    assert changed == {"slow"}
    dashboard.paint()
    assert len(sent) == 1 or not sent[-1]  # nothing new, nothing sent


def test_a_hundred_thousand_rounds_are_a_thousand_points(board, problem):
    run = prepare("gd", problem, rounds=10**6, evaluate_every=50).advance(4)
    row, sparse = run.recorder.rows[-1], run.recorder.sparse
    run.recorder.rows += [(float(k), *row[1:]) for k in range(4, 100_004)]
    for name in ("loss", "grad_norm_sq"):
        sparse[name][0].extend(range(50, 100_004, 50))
        sparse[name][1].extend(np.linspace(10, 1, len(range(50, 100_004, 50))).tolist())
    dashboard = board(run, panel="communication")
    assert dashboard.paint() <= 1001 * 12
    assert max(len(t.x) for t in drawn(dashboard).data if t.type == "scatter") <= 1001
    dashboard.panel = "convergence"
    assert all(len(t.x) <= 1001 for t in drawn(dashboard).data)


def test_the_height_is_kept_as_far_as_charts_stay_readable(board, runs):
    dashboard = settled(board(runs, height=700))
    assert abs(drawn(dashboard).layout.height - 700) <= 2
    small = settled(board(runs, height=100))
    assert small.drawing.row == 150


def test_a_narrow_page_has_one_column(board, runs):
    dashboard = settled(board(runs))
    dashboard.controls.width = 500
    assert drawn(dashboard).layout.xaxis2.domain == (0.0, 1.0)
    dashboard.controls.width = 1100
    assert drawn(dashboard).layout.xaxis2.domain[0] > 0.5


# -- choices -----------------------------------------------------------------------------------------------------------
def test_python_and_the_controls_are_one(board, runs):
    dashboard = settled(board(runs))
    dashboard.x = "bits_up"
    assert dashboard.controls.x == "bits_up" == dashboard.content.x
    assert np.array_equal(drawn(dashboard).data[0].x, runs["EF21"].history.bits_up)
    dashboard.controls.x = "time"
    assert dashboard.x == "time"
    dashboard.controls.panel = "communication"
    assert dashboard.panel == "communication"
    assert (
        dashboard.controls.python
        == dashboard.python
        == ("ol.dashboard({'EF21': run_1, 'GD': run_2}, x='time', panel='communication')")
    )
    with pytest.raises(ValueError, match="choose one of 'round'"):
        dashboard.x = "rounds"
    with pytest.raises(ValueError, match="choose one of 'overview'"):
        dashboard.panel = "rounds"
    assert dashboard.x == "time" and dashboard.panel == "communication"


def test_nonsense_from_a_browser_is_left_alone(board, runs):
    dashboard = settled(board(runs))
    dashboard.controls.x = "nonsense"
    dashboard.controls.panel = "nonsense"
    dashboard.controls.focus = "nobody"
    dashboard.controls.target = "nonsense"
    assert (dashboard.x, dashboard.panel, dashboard.content.view.focus) == ("round", "overview", "EF21")
    assert dashboard.error is None


def test_hiding_a_run_hides_it_in_every_panel(board, runs):
    dashboard = settled(board(runs))
    dashboard.controls.hidden = ["GD"]
    for name in dashboard.content.panels:
        dashboard.panel = name
        for trace in drawn(dashboard).data:
            assert trace.visible == (trace.meta[0] != "GD")
    dashboard.controls.hidden = []
    assert all(t.visible for t in drawn(dashboard).data)


def test_hovering_one_run_dims_the_others(board, runs):
    dashboard = settled(board(runs, panel="convergence"))
    dashboard.hover("GD")
    assert dashboard.controls.lit == "GD"
    assert all(t.opacity == (1.0 if t.meta[0] in ("GD", "") else 0.2) for t in drawn(dashboard).data)
    dashboard.hover("")
    assert all(t.opacity == 1.0 for t in drawn(dashboard).data)


def test_the_dark_theme_changes_colours_and_nothing_else(board, runs):
    dashboard = settled(board(runs))
    before = [(t.line.color, t.line.dash, np.asarray(t.y)) for t in drawn(dashboard).data if t.mode == "lines"]
    dashboard.controls.dark = True
    after = [(t.line.color, t.line.dash, np.asarray(t.y)) for t in drawn(dashboard).data if t.mode == "lines"]
    assert [b[1] for b in before] == [a[1] for a in after]
    assert all(np.array_equal(b[2], a[2], equal_nan=True) for b, a in zip(before, after, strict=True))
    assert before[0][0] != after[0][0]


def test_target_and_costs_reach_the_comparison(board, runs):
    dashboard = settled(board(runs, panel="comparison"))
    assert dashboard.controls.comparing and "least that all runs reach" in dashboard.controls.goal
    dashboard.controls.costs = ["round", "gradients"]
    assert drawn(dashboard).layout.xaxis4.title.text == "rounds"
    dashboard.controls.target = float(runs["GD"].history.loss[3])
    assert dashboard.content.target == runs["GD"].history.loss[3]
    cell = next(r for r in dashboard.controls.rows if r["name"] == "GD")["cells"]["round_to"]
    assert cell[0] == "3"
    dashboard.controls.target = None
    assert dashboard.content.target is None


def test_the_table_has_a_row_per_run_and_the_best_is_marked(board, runs):
    dashboard = settled(board(runs))
    rows = {r["name"]: r["cells"] for r in dashboard.controls.rows}
    assert list(rows) == ["EF21", "GD"] and rows["GD"]["round"][:2] == ["40", 40.0]
    best = [n for n, cells in rows.items() if cells["bits_up_to"][2]]
    assert len(best) == 1
    json.dumps([dashboard.controls.rows, dashboard.controls.panels, dashboard.controls.alerts], allow_nan=False)


def test_alerts_are_on_screen_and_as_data(board, problem):
    bad = prepare(M.GD(lr=0.25), problem, rounds=200).advance(100)
    dashboard = board({"too fast": bad, "GD": ol.run("gd", problem, rounds=9)})
    dashboard.paint()
    (shown,) = dashboard.controls.alerts
    (alert,) = dashboard.alerts
    assert (shown["run"], shown["level"], shown["message"]) == ("too fast", "error", alert.message)


# -- the painter -------------------------------------------------------------------------------------------------------
def test_the_painter_ends_with_the_runs_and_starts_again(board, problem):
    run = ol.start("gd", problem, rounds=200)
    dashboard = settled(board(run))
    assert run.done and len(drawn(dashboard).data[0].x) == 201
    assert not painters()
    again = ol.start("ef21", problem, rounds=100)
    dashboard.show(again)
    settled(dashboard)
    assert len(drawn(dashboard).data[0].x) == 101


def test_an_empty_dashboard_has_no_thread_to_keep(board):
    dashboard = board()
    assert not dashboard.painter.alive and "empty" in repr(dashboard)


def test_closing_ends_the_painter_of_a_run_that_goes_on(board, problem):
    run = ol.start("gd", problem, rounds=10**6)
    dashboard = board(run)
    until(lambda: dashboard.painter.paints > 1)
    dashboard.close()
    assert not painters() and not run.done
    with pytest.raises(ValueError, match="make a new one"):
        dashboard.show(run)
    dashboard.close()  # twice is once
    run.stop().result()


def test_a_paused_run_is_not_painted_and_goes_on(board, problem):
    """Three more looks at a run that stands still paint nothing."""
    run = ol.start("gd", problem, rounds=10**6)
    dashboard = board(run, panel="communication")
    until(lambda: dashboard.painter.paints > 1)
    run.pause()
    with run.turns.between():  # the round under way has ended, and no other begins
        rounds = run.round
        until(lambda: drawn(dashboard).data[0].x[-1] == rounds)
        paints, looks = dashboard.painter.paints, dashboard.painter.looks
        until(lambda: dashboard.painter.looks >= looks + 3)
        assert dashboard.painter.paints == paints and dashboard.painter.alive
    run.resume()
    until(lambda: dashboard.painter.paints > paints)
    run.stop().result()
    settled(dashboard)


def test_two_dashboards_do_not_disturb_each_other(board, problem):
    one, two = ol.start("gd", problem, rounds=3000), ol.start("ef21", problem, rounds=3000)
    left, right = board(one, x="bits_up"), board({"a": two, "b": one}, panel="communication")
    settled(left), settled(right)
    assert {t.meta[0] for t in drawn(left).data} == {"GD"} and left.x == "bits_up" and right.x == "round"


def test_watching_a_run_changes_no_bit(board, problem):
    plain = ol.run("ef21", problem, rounds=400)
    watched = ol.start("ef21", problem, rounds=400)
    settled(board(watched, panel="model"))
    assert plain.history.equals(watched.history)


def test_a_picture_that_fails_says_so_and_ends_nothing(board, problem, monkeypatch):
    monkeypatch.setattr(module, "table", lambda view: 1 / 0)
    monkeypatch.setattr("octolab.lab.dashboard.painter.AFTER_FAILURE", 0.01)
    run = ol.start("gd", problem, rounds=2000)
    dashboard = board(run)
    until(lambda: not dashboard.painter.alive)
    assert isinstance(dashboard.error, ZeroDivisionError) and "the runs go on" in dashboard.controls.note
    assert run.result().round == 2000


def test_a_painter_forgives_a_single_failure(monkeypatch):
    monkeypatch.setattr("octolab.lab.dashboard.painter.AFTER_FAILURE", 0.01)
    calls, failures = [], []

    def paint():
        calls.append(1)
        if len(calls) < TRIES:
            raise RuntimeError("a moment's trouble")
        return 1, len(calls) > 5

    painter = Painter(paint, failures.append)
    painter.start()
    until(lambda: not painter.alive)
    assert not failures and len(calls) == 6


def test_a_start_while_a_painter_ends_is_not_lost():
    at_the_end, go_on, calls = threading.Event(), threading.Event(), []

    def paint():
        calls.append(1)
        if len(calls) == 1:
            at_the_end.set()
            go_on.wait(120)
        return 0, True

    painter = Painter(paint, lambda error: None)
    painter.start()
    assert at_the_end.wait(120)
    painter.start()  # there is something new, while the first look is about to say that it is over
    go_on.set()
    until(lambda: not painter.alive)
    assert len(calls) == 2


def test_dear_repaints_come_rarely(monkeypatch):
    pauses = []

    class Pausing(threading.Event):
        def wait(self, timeout=None):
            pauses.append(timeout)
            return len(pauses) > 4

    clock = iter(np.arange(0, 100, 0.02))
    monkeypatch.setattr("octolab.lab.dashboard.painter.time.thread_time", lambda: next(clock))  # 20 ms each
    painter = Painter(lambda: (100, False), lambda error: None)
    painter.work(Pausing())
    from octolab.lab.dashboard.painter import SHARE

    assert pauses[1:] == pytest.approx([0.02 / SHARE] * 4)


# -- the device timeline -----------------------------------------------------------------------------------------------
def test_the_timeline_sends_each_segment_once_as_bytes():
    problem = ol.problems.Tridiagonal(d=4, n=9, noise=0.01)
    run = prepare(M.ASGD(lr=0.01), problem, rounds=10**6, fleet=ol.Fleet(seconds=np.sqrt(np.arange(1, 10))))
    found, gantt, sent = Segments(), Gantt(), []
    gantt.send = lambda content, buffers=None: sent.append((content, buffers))
    clients, ends = [], []
    for _ in range(5):
        run.advance(40)
        found.read(run.federation.timeline, over=False)
        gantt.follow(found, 9, "a", run.federation.now)
    found.read(run.federation.timeline, over=True)
    gantt.follow(found, 9, "a", run.federation.now)
    for content, buffers in sent:
        if content["kind"] == "add":
            client, times, state = (np.frombuffer(b, t) for b, t in zip(buffers, ("<i4", "<f8", "u1"), strict=True))
            assert len(times) == 4 * len(client) == 4 * len(state)
            clients += client.tolist()
            ends += times[3::4].tolist()
    wanted = run.federation.timeline.segments()
    assert clients == wanted["client"].tolist() and ends == wanted["end"].tolist()
    assert [c["kind"] for c, _ in sent].count("reset") == 1
    gantt.receive({"kind": "hello"})  # a browser that has just opened gets everything
    sent.clear()
    gantt.follow(found, 9, "a", run.federation.now)
    assert sum(len(b[2]) for c, b in sent if c["kind"] == "add") == len(wanted)


def test_jobs_under_way_are_shown_too():
    from octolab.lab.dashboard.segments import at_work

    problem = ol.problems.Tridiagonal(d=4, n=9, noise=0.01)
    run = prepare(M.ASGD(lr=0.01), problem, rounds=100, fleet=ol.Fleet(seconds=np.sqrt(np.arange(1, 10)))).advance(50)
    clients, starts = at_work(run.federation)
    assert clients.tolist() == list(range(9)) and (starts <= run.federation.now).all()


def test_the_timeline_is_there_only_where_devices_have_one(board, problem, runs):
    dashboard = settled(board(runs, panel="time"))
    assert dashboard.gantt.layout.display is None and dashboard.gantt.n == 4 and dashboard.gantt.title == "EF21"
    dashboard.controls.focus = "GD"
    assert dashboard.gantt.title == "GD"
    dashboard.panel = "overview"
    assert dashboard.gantt.layout.display == "none"
    dashboard.show(ol.run("gd", problem, rounds=3))
    settled(dashboard).panel = "time"
    assert dashboard.gantt.layout.display == "none"


# -- in a notebook -----------------------------------------------------------------------------------------------------
def test_what_stays_is_static_and_small(board, runs):
    dashboard = settled(board(runs, panel="time"))
    html = dashboard._repr_html_()
    assert "<svg" in html and "<script" not in html and len(html) < 200_000
    assert "Device timeline" in html and dashboard.controls.card in dashboard.twin.html()


def test_a_card_is_final_when_the_cell_ends_in_which_its_run_did():
    over, told = [False], []
    twin = place.Twin(lambda: "over" if over[0] else "running", lambda: over[0])
    twin.handle = type("Handle", (), {"update": lambda _, html: told.append(html.data)})()
    twin.cell_ends()
    assert told == []
    over[0] = True
    twin.cell_ends()
    twin.cell_ends()
    assert len(told) == 1 and "over" in told[0] and twin.final


def test_where_nobody_looks_the_figure_is_made_when_somebody_does(board, runs, monkeypatch):
    monkeypatch.setattr(place, "in_kernel", lambda: True)
    monkeypatch.setattr(place, "cell", lambda: None)
    monkeypatch.delenv("OCTOLAB_LIVE", raising=False)
    monkeypatch.delenv("OCTOLAB_FAST", raising=False)
    dashboard = settled(board(runs))
    assert dashboard.drawing is None and not dashboard.controls.live
    assert sum(len(str(w.get_state())) for w in (dashboard, dashboard.controls)) < 100_000  # what papermill would save
    dashboard.receive({"kind": "ready"})
    settled(dashboard)
    assert drawn(dashboard).data and dashboard.controls.live
    monkeypatch.setattr(place, "cell", lambda: ("a", 1))
    assert place.expects_a_browser()
    monkeypatch.setenv("OCTOLAB_LIVE", "0")
    assert not place.expects_a_browser()


def test_a_cell_that_runs_again_closes_what_it_showed(board, problem, monkeypatch):
    displayed = []
    import IPython.display

    monkeypatch.setattr(IPython.display, "display", lambda *args, **kwargs: displayed.append(args))
    here = ["cell", 1]
    monkeypatch.setattr(display, "cell", lambda: tuple(here))
    run = ol.start("gd", problem, rounds=10**6)
    first, beside = board(run), board(run)
    first._ipython_display_()
    beside._ipython_display_()  # the same execution of the same cell may show two
    assert first.painter.alive and beside.painter.alive
    here[1] = 2
    second = board(run)
    second._ipython_display_()
    assert not first.painter.alive and not beside.painter.alive and second.painter.alive
    assert len(painters()) == 1 and len(displayed) == 6
    run.stop().result()


def test_dashboards_in_a_kernel_are_widgets(board, runs, monkeypatch):
    from octolab.experiment import progress

    monkeypatch.setattr(progress, "in_kernel", lambda: True)
    made = ol.dashboard(runs)
    assert type(made) is Dashboard
    made.close()
    monkeypatch.setitem(sys.modules, "octolab.lab.dashboard.widget", None)
    assert type(ol.dashboard(runs)) is StaticDashboard


def test_the_programs_of_the_browser_are_modules_that_fetch_nothing():
    from octolab.lab.dashboard.controls import Controls

    for kind in (Controls, Gantt):
        assert "export default" in str(kind._esm) and "import " not in str(kind._esm)
        assert "http" not in str(kind._esm).replace("http://www.w3.org/2000/svg", "") and "@import" not in str(
            kind._css
        )


@pytest.mark.slow
def test_a_script_may_end_while_a_dashboard_is_painted():
    code = (
        "import octolab as ol\n"
        "from octolab.lab.dashboard import Dashboard\n"
        "Dashboard(ol.start('gd', ol.problems.quadratics(n=4, d=6), rounds=10**6))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# -- a browser that takes its time ---------------------------------------------------------------------------------------
def test_nothing_is_drawn_before_the_browser_has_the_plot_and_everything_then(board, problem, monkeypatch):
    monkeypatch.setattr(module, "in_kernel", lambda: True)
    dashboard = board()
    run = ol.run("gd", problem, rounds=9)
    dashboard.show(run)
    settled(dashboard)
    assert dashboard.paint() == 0 and not dashboard.drawing.drawn  # it would be lost
    dashboard.receive({"kind": "plotted", "traces": 0})
    settled(dashboard)
    figure = dashboard.drawing.figure
    assert len(figure.data) > 0 and len(figure.data[0].x) == 10

    sent = []
    figure.send_state = lambda key=None: sent.append(key)
    dashboard.receive({"kind": "plotted", "traces": len(figure.data)})  # a page was loaded again
    settled(dashboard)
    assert dashboard.drawing.figure is figure and "_py2js_addTraces" in sent
    dashboard.receive({"kind": "plotted", "traces": len(figure.data) - 1})  # it missed something
    settled(dashboard)
    assert dashboard.drawing.figure is not figure and not dashboard.plotted.is_set()
    assert dashboard.slot.children[0] is dashboard.drawing.figure and not dashboard.drawing.drawn
    dashboard.receive({"kind": "plotted", "traces": 0})
    settled(dashboard)
    assert len(dashboard.drawing.figure.data) == len(figure.data)


def test_the_picture_is_exactly_what_is_seen(board, runs):
    shown = settled(board(runs, x="bits_up", panel="convergence"))
    shown.controls.dark = True
    hidden, *others = runs
    shown.controls.hidden = [hidden]
    drawn = shown.picture(".svg", "slide").decode()
    assert hidden not in seen(shown).runs and all(f">{name}<" in drawn for name in others if len(others) > 1)
    charts = [c for c in PANELS["convergence"].charts(seen(shown).view) if not c.empty]
    assert all(chart.title in drawn and chart.x in drawn for chart in charts)
    assert "#1e1e1e" in drawn.lower()  # dark, as on the screen
    assert shown.picture(".png")[:4] == b"\x89PNG" and shown.picture(".pdf", "paper")[:4] == b"%PDF"
    with pytest.raises(ValueError, match=r"choose one of '\.png', '\.svg', '\.pdf'"):
        shown.picture(".bmp")


def test_a_narrow_table_keeps_the_columns_that_matter(board, runs):
    controls = settled(board(runs, x="bits_up")).controls
    assert set(controls.few) <= {name for name, _ in controls.columns}
    assert {"loss", "bits_up", "bits_up_to"} <= set(controls.few) and "bits_total" not in controls.few


def test_nothing_is_drawn_against_itself(board, runs):
    shown = settled(board(runs, x="bits_up"))
    for panel in ("overview", "communication"):
        for chart in PANELS[panel].charts(shown.content.view):
            assert chart.title[:12].lower() != chart.x[:12].lower(), chart.title
