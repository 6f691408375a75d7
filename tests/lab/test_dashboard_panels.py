"""The panels: which appear, and that what they show is what the runs recorded. No widget, no browser."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

import octolab as ol
from octolab.experiment.launch import prepare
from octolab.lab.chart import Chart, Mark
from octolab.lab.dashboard import PANELS, StaticDashboard, panel
from octolab.lab.dashboard.draw import NARROW, WIDE, figure
from octolab.lab.dashboard.panels.clients import worst_mean
from octolab.lab.dashboard.panels.clock import SPENT, spent
from octolab.lab.dashboard.panels.comparison import front, target_of, to_target
from octolab.lab.dashboard.panels.diagnostics import smooth
from octolab.lab.grid import place
from octolab.lab.style import Style
from octolab.testing.problems import NotApplicable, home, run_of
from tests.families import every_method

M = ol.methods


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


@pytest.fixture(scope="module")
def asynchronous():
    problem = ol.problems.Tridiagonal(d=4, n=9, noise=0.01)
    fleet = ol.Fleet(seconds=np.sqrt(np.arange(1, 10)))
    return ol.run(M.Ringmaster(R=2, lr=0.01, variant="stop"), problem, rounds=400, fleet=fleet)


@pytest.fixture(scope="module")
def network():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 5)).astype("float32"), rng.integers(0, 3, 60)
    world = ol.problems.Network(ol.problems.MLP(5, 4, 3), features=np.split(x, 6), labels=np.split(y, 6))
    return ol.run(M.FedAvg(lr=0.1, local_epochs=1, batch_size=5, cohort=2), world, rounds=20)


def chart(board, panel_name, key):
    return next(c for c in board.charts(panel_name) if c.key == key)


def mark(found, run, part="", kind=None):
    return next(m for m in found.marks if m.run == run and m.part == part and kind in (None, m.kind))


# -- which panels there are --------------------------------------------------------------------------------------------
def test_panels_appear_from_what_a_run_records(problem, runs, asynchronous):
    assert StaticDashboard(ol.run("gd", problem, rounds=3)).panels == [
        "overview",
        "convergence",
        "communication",
        "time",
        "clients",
        "model",
    ]
    assert "comparison" in StaticDashboard(runs).panels
    assert StaticDashboard(asynchronous).panels[-1] == "diagnostics"
    assert StaticDashboard().panels == ["overview", "convergence", "communication", "model"]


def test_panels_can_be_chosen_and_bad_names_are_refused(runs):
    assert StaticDashboard(runs, panels=["time", "convergence"]).panels == ["time", "convergence"]
    assert StaticDashboard(runs, panels=["time", "convergence"]).panel == "time"
    with pytest.raises(ValueError, match="there is no panel 'loss'; there are 'overview'"):
        StaticDashboard(runs, panels=["loss"])
    with pytest.raises(ValueError, match="choose one of 'overview'"):
        StaticDashboard(runs).panel = "loss"


def test_a_panel_of_another_module_plugs_in(runs):
    @panel("privacy", "Privacy", lambda view: view.has("epsilon"), place=70)
    def privacy(view):
        return [Chart("epsilon", "Privacy spent", view.x_label, "ε", view.curves("epsilon"), linked=True)]

    try:
        assert "privacy" not in StaticDashboard(runs).panels and list(PANELS)[-1] == "privacy"
        run = prepare("gd", runs["GD"].problem, rounds=3)
        while run.round < 3:
            run.federation.log(epsilon=0.1 * (run.round + 2))
            run.advance()
        board = StaticDashboard(run, panel="privacy")
        assert board.panel == "privacy" and board.figure().data[0].y[-1] == pytest.approx(0.4)
    finally:
        del PANELS["privacy"]


@pytest.mark.parametrize("slug", every_method())
def test_every_method_of_the_catalogue_is_drawn_by_every_panel(slug):
    method = ol.methods.get(slug)()
    try:
        run = run_of(method, home(method), fleet=ol.Fleet(seconds=np.arange(1.0, 7.0), up=1e5))
    except NotApplicable as reason:
        pytest.skip(str(reason))
    board = StaticDashboard(run)
    for name in board.panels:
        charts = board.charts(name)
        assert charts and len({c.key for c in charts}) == len(charts)
        ET.fromstring(board.svg(name))
        assert board.figure(name).data


# -- convergence -------------------------------------------------------------------------------------------------------
def test_suboptimality_is_shown_where_the_optimum_is_known(problem, runs):
    found = chart(StaticDashboard(runs), "convergence", "suboptimality")
    gap = runs["GD"].history.loss.to_numpy() - problem.f_star
    assert found.log_y and np.array_equal(mark(found, "GD").y, np.where(gap > 0, gap, np.nan), equal_nan=True)


def test_every_run_is_measured_against_its_own_optimum(problem):
    other = ol.problems.quadratics(n=4, d=6, L=10, mu=1, seed=5)
    board = StaticDashboard({"a": ol.run("gd", problem, rounds=5), "b": ol.run("gd", other, rounds=5)})
    found = chart(board, "convergence", "suboptimality")
    assert mark(found, "b").y[0] == pytest.approx(board.runs["b"][0].history.loss[0] - other.f_star)


def test_without_an_optimum_the_loss_is_shown(network):
    board = StaticDashboard(network)
    assert [c.key for c in board.charts("convergence")] == ["loss", "grad_norm_sq"]


def test_the_theorem_s_rate_is_drawn_from_the_first_point(problem, monkeypatch):
    monkeypatch.setattr(M.GD, "rate", lambda self, p: 0.9)
    run = ol.run("gd", problem, rounds=30)
    board = StaticDashboard({"GD": run}, x="bits_up")
    found = chart(board, "convergence", "grad_norm_sq")
    theory = mark(found, "GD", "theory: × 0.9 per step")
    first = run.history.grad_norm_sq[0]
    assert np.allclose(theory.y, first * 0.9 ** np.arange(len(theory.y)), rtol=1e-12)
    assert np.array_equal(theory.x, run.history.bits_up[: len(theory.x)])
    assert theory.y.min() >= run.history.grad_norm_sq.min() / 10  # the axis belongs to what was measured


@pytest.mark.parametrize("rate", [None, 1.0, 0.0, 2.0])
def test_what_is_no_rate_is_not_drawn(problem, monkeypatch, rate):
    monkeypatch.setattr(M.GD, "rate", lambda self, p: rate)
    board = StaticDashboard(ol.run("gd", problem, rounds=3))
    assert all("theory" not in m.part for c in board.charts("convergence") for m in c.marks)


def test_a_theorem_that_raises_is_no_reason_to_draw_nothing(problem, monkeypatch):
    monkeypatch.setattr(M.GD, "rate", lambda self, p: 1 / 0)
    assert StaticDashboard(ol.run("gd", problem, rounds=3)).figure("convergence").data


def test_personal_models_have_charts_of_their_own(problem):
    run = prepare("gd", problem, rounds=3)
    while run.round < 3:
        run.federation.log(personal_loss=-1.0 - run.round)
        run.advance()
    found = chart(StaticDashboard(run), "convergence", "personal_loss")
    assert mark(found, run.name).y[-1] == -3.0 and mark(found, run.name, "server model").dash == "dot"
    assert "diagnostics" not in StaticDashboard(run).panels


def test_an_exploding_run_does_not_flatten_the_others(problem):
    bad = ol.run(M.GD(lr=1e3), problem, rounds=60)
    board = StaticDashboard({"bad": bad, "good": ol.run("gd", problem, rounds=60)})
    top = 10 ** board.figure("convergence").layout.yaxis.range[1]
    assert top <= 100.1 * max(r[0].history.loss[0] - problem.f_star for r in board.runs.values())


# -- communication -----------------------------------------------------------------------------------------------------
def test_bits_are_those_of_the_ledger(runs):
    board = StaticDashboard(runs)
    up, history = chart(board, "communication", "up"), runs["EF21"].history
    assert np.array_equal(mark(up, "EF21").y, history.bits_up)
    assert np.array_equal(mark(up, "EF21", "as papers count").y, history.paper_bits_up)
    assert all(m.part != "as papers count" for m in up.marks if m.run == "GD")  # nothing to tell apart
    totals = mark(chart(board, "communication", "totals"), "EF21")
    assert totals.y.tolist() == [history[c].iloc[-1] for c in ("bits_up", "paper_bits_up", "bits_down")]


def test_a_dense_method_is_at_one_against_dense(runs):
    ratio = chart(StaticDashboard(runs), "communication", "ratio")
    assert np.allclose(mark(ratio, "GD").y[1:], 1.0) and (mark(ratio, "EF21").y[1:] < 0.5).all()
    assert mark(ratio, "", "dense: 32 bits per weight").y.tolist() == [1, 1]


def test_the_spread_over_clients_is_the_sorted_ledger(problem):
    run = ol.run(M.FedAvg(lr=0.01, cohort=2), problem, rounds=15)
    found = chart(StaticDashboard(run), "communication", "spread")
    assert np.array_equal(mark(found, "FedAvg").y, np.sort(run.federation.ledger.per_client("up")))


# -- time --------------------------------------------------------------------------------------------------------------
def test_the_time_panel_is_not_there_where_no_time_passes(problem):
    assert "time" not in StaticDashboard(prepare("gd", problem, rounds=3)).panels


def test_latencies_and_their_quantiles_are_those_of_the_segments(runs):
    run = runs["EF21"]
    found = run.federation.timeline.segments()
    seconds = found["end"] - found["start"]
    curve = chart(StaticDashboard(run), "time", "latency")
    assert mark(curve, "EF21", "P50, P90, P99").x == pytest.approx(np.quantile(seconds, [0.5, 0.9, 0.99]))
    assert mark(curve, "EF21", kind="line").x[[0, -1]].tolist() == [seconds.min(), seconds.max()]


def test_the_devices_time_adds_up(runs, asynchronous):
    for run in (runs["EF21"], asynchronous):
        shares = dict(zip(SPENT, chart(StaticDashboard(run), "time", "device time").marks[0].y, strict=True))
        assert sum(shares.values()) == pytest.approx(1) and all(v >= 0 for v in shares.values())
    assert shares["wasted"] > 0.1  # Ringmaster's stopped jobs
    assert shares["sending"] == 0


def test_time_spent_by_hand():
    times = np.array([[0, 1, 3, 4], [0, 1, 2, np.inf], [0, 0, 2, 2]])
    state = np.array([0, 2, 4])  # done, dropped, cancelled; five devices, four seconds
    shares = spent(times, state, n=5, busy=np.zeros(0))
    assert shares.tolist() == pytest.approx([1 / 20, 2 / 20, 1 / 20, 0, (2 + 2) / 20, 12 / 20])
    shares = spent(times, state, n=5, busy=np.array([3.0, 1.0]))  # two more are at work, until now
    assert shares.tolist() == pytest.approx([1 / 20, 2 / 20, 1 / 20, (1 + 3) / 20, (2 + 2) / 20, 8 / 20])


def test_time_spent_starts_where_the_forgotten_work_ended():
    times = np.array([[0, 0, 4, 4], [1, 1, 6, 6], [4, 4, 8, 8]])  # devices 0, 1, 0; what came before is not known
    shares = spent(times, np.zeros(3), n=2, busy=np.array([6.0]), cut=True)  # from 4 to 8
    assert shares.tolist() == pytest.approx([0, (2 + 4) / 8, 0, 2 / 8, 0, 0])


def test_staleness_is_the_histogram_of_the_logged_delays(asynchronous):
    bars = chart(StaticDashboard(asynchronous), "time", "staleness").marks[0]
    delays = asynchronous.history.delay.dropna().astype(int)
    share = delays.value_counts(normalize=True)
    assert bars.y.sum() == pytest.approx(1)
    for at, height in zip(bars.x, bars.y, strict=True):
        assert height == pytest.approx(share.get(int(at), 0.0))


def test_the_timeline_draws_work_and_waste_apart(asynchronous, runs):
    parts = {m.part for m in chart(StaticDashboard(asynchronous), "time", "gantt").marks}
    assert {"computes", "cancelled"} <= parts
    sync = chart(StaticDashboard(runs["EF21"]), "time", "gantt")
    assert {m.part for m in sync.marks} == {"computes", "sends"} and sync.tall


def test_a_moving_average_keeps_a_constant_and_the_length():
    assert np.allclose(smooth(np.full(100, 3.0)), 3.0) and len(smooth(np.arange(7.0))) == 7


# -- clients, model, method --------------------------------------------------------------------------------------------
def test_clients_are_sorted_and_the_worst_tenth_is_marked():
    problem = ol.problems.classification("breast-cancer", clients=20)
    run = ol.run("gd", problem, rounds=5)
    board = StaticDashboard(run)
    losses = np.sort(problem.client_metrics(run.x)["loss"])
    found = chart(board, "clients", "by loss")
    assert np.array_equal(mark(found, "GD").y, losses)
    assert f"{losses[-2:].mean():.4g}" in found.note and worst_mean(losses) == losses[-2:].mean()
    accuracy = mark(chart(board, "clients", "by accuracy"), "GD").y
    assert (np.diff(accuracy) <= 0).all()


def test_participation_is_that_of_the_ledger(network):
    found = chart(StaticDashboard(network), "clients", "replies")
    assert mark(found, "FedAvg").y.sum() == 2 * 20


def test_layers_have_norms_of_weights_and_updates(network):
    board = StaticDashboard(network)
    _, weights, updates = network.observer.norms()
    assert chart(board, "model", "weights by layer").marks[0].y.tolist() == weights[-1].tolist()
    assert np.allclose(chart(board, "model", "update norm").marks[0].y, np.sqrt((updates[1:] ** 2).sum(1)))
    heat = chart(board, "model", "heat").marks[0]
    assert np.allclose(10**heat.z, (updates[1:] / weights[1:]).T) and heat.y == network.observer.layers


def test_what_a_method_logs_has_a_chart_each(asynchronous):
    charts = {c.key: c for c in StaticDashboard(asynchronous).charts("diagnostics")}
    assert set(charts) == {"log delay", "log accepted", "log version"}
    assert charts["log accepted"].percent and mark(charts["log accepted"], asynchronous.name).y.max() <= 1
    assert mark(charts["log version"], asynchronous.name).y[-1] == asynchronous.history.version.iloc[-1]


# -- comparing ---------------------------------------------------------------------------------------------------------
def test_what_a_target_costs_is_what_compare_says(problem):
    result = ol.compare(["gd", "ef21"], problem, rounds=200)
    board = StaticDashboard(result)
    target = target_of(board.view)
    assert target == max(r[0].history.loss.min() for r in result.runs.values())
    table, wanted = board.table(target), result.table(target)
    for mine, theirs in (("round_to", "rounds_to"), ("bits_up_to", "bits_to"), ("time_to", "time_to")):
        assert table[mine].tolist() == wanted[theirs].tolist()


def test_a_target_that_a_seed_never_reached_costs_nothing_known(problem):
    runs = [ol.run("gd", problem, rounds=r) for r in (2, 50)]
    board = StaticDashboard({"GD": runs, "EF21": ol.run("ef21", problem, rounds=50)})
    target = float(runs[1].history.loss.iloc[-1])
    assert to_target(board.view, "GD", target) == {}
    assert "round_to" not in board.table(target) or board.table(target).loc["GD", "round_to"] != 50


def test_the_pareto_front_by_hand():
    points = {"a": (1.0, 9.0), "b": (2.0, 5.0), "c": (3.0, 5.0), "d": (4.0, 1.0), "e": (5.0, 2.0)}
    assert front(points) == ["a", "b", "d"]
    assert front({"a": (1.0, 1.0), "b": (1.0, 1.0)}) == ["a", "b"]  # neither beats the other


def test_the_pareto_chart_takes_the_costs_that_were_chosen(runs):
    board = StaticDashboard(runs)
    board.costs = ("round", "gradients")
    found = chart(board, "comparison", "pareto")
    costs = to_target(board.view, "GD", target_of(board.view))
    assert (found.x, found.y) == ("rounds", "gradient evaluations, per client")
    assert (mark(found, "GD").x[0], mark(found, "GD").y[0]) == (costs["round"], costs["gradients"])
    with pytest.raises(ValueError, match="choose one of 'round'"):
        board.costs = ("round", "money")


def test_the_comparison_shows_three_axes_at_once(runs):
    keys = [c.key for c in StaticDashboard(runs).charts("comparison")]
    assert keys == ["suboptimality round", "suboptimality bits_up", "suboptimality time", "pareto"]


# -- how it is drawn ---------------------------------------------------------------------------------------------------
def test_a_method_keeps_its_colour_when_others_come_and_go(problem, runs):
    board = StaticDashboard(runs)
    before = {n: (board.style.colour(n), board.style.dash(n)) for n in runs}
    board.show({"new": ol.run("gd", problem, rounds=2), "GD": runs["GD"]})
    assert (board.style.colour("GD"), board.style.dash("GD")) == before["GD"]
    assert board.style.colour("new") not in {c for c, _ in before.values()}


def test_colours_and_dashes_are_the_same_in_every_panel(runs):
    board = StaticDashboard(runs)
    seen = {}
    for name in board.panels:
        for trace in board.figure(name).data:
            if trace.type == "scatter" and trace.mode == "lines" and trace.meta[1] == "":
                seen.setdefault(trace.meta[0], set()).add((trace.line.color, trace.line.dash))
    assert all(len(seen[name]) == 1 for name in runs) and seen["EF21"] != seen["GD"]


def test_legends_are_linked_across_charts(runs):
    fig = StaticDashboard(runs).figure("convergence")
    shown = [t.legendgroup for t in fig.data if t.showlegend]
    assert sorted(shown) == ["EF21", "GD"]
    assert {t.legendgroup for t in fig.data if t.meta[0]} == {"EF21", "GD"}


def test_charts_stand_in_a_grid_and_tall_ones_in_a_row_of_their_own():
    plain = Chart("a", "a", "x", "y")
    cells, rows, _ = place([plain, plain, plain, replace(plain, tall=True)], 2, 200)
    assert rows == 3
    assert cells[0][1] < cells[1][0] and cells[2][3] < cells[0][2] and cells[3][3] < cells[2][2]
    assert (cells[3][0], cells[3][1]) == (0.0, 1.0)
    assert place([plain] * 3, 1, 200)[1] == 3


def test_logarithmic_axes_of_few_decades_are_written_out():
    def axis(y):
        found = Chart("a", "a", "x", "", [Mark("r", np.arange(2.0), np.array(y))], log_y=True, clip=True)
        return figure([found], Style()).layout.yaxis

    assert axis([2.0, 0.1]).dtick == NARROW["dtick"] and axis([1e3, 1e-9]).exponentformat == WIDE["exponentformat"]


def test_text_of_users_cannot_become_markup(problem):
    nasty = "<img src=x onerror=alert(1)>"
    board = StaticDashboard({nasty: ol.run("gd", problem, rounds=3)})
    ET.fromstring(board.svg())
    assert "<img" not in board.card() and "<img" not in str(board.figure().data[0].hovertemplate)


def test_svg_and_plotly_draw_the_same_charts(runs):
    board = StaticDashboard(runs)
    for name in board.panels:
        titles = {c.title for c in board.charts(name) if not c.empty}
        in_svg = {e.text for e in ET.fromstring(board.svg(name)).iter() if e.tag.endswith("text")}
        assert titles <= in_svg


def test_drawing_survives_what_runs_produce():
    x = np.arange(6.0)
    marks = [
        Mark("a", x, np.array([1, np.nan, 0.5, 0.1, np.nan, 0.01])),
        Mark("b", x, np.array([1, 10, 1e100, 1e300, np.inf, np.nan])),
        Mark("c", x, np.array([1, 0.1, 0.0, -1e-17, 0.0, 0.0])),
        Mark("d", x[:1], np.ones(1)),
        Mark("e", x[:0], x[:0]),
        Mark("f", x, np.ones(6), "band", low=np.ones(6) / 2, high=np.ones(6) * 2),
        Mark("g", ["one", "two"], np.array([1.0, np.nan]), "bars"),
    ]
    from octolab.lab.svg import sheet

    for log in (False, True):
        for clip in (False, True):
            for chosen in (marks[:-1], marks[-1:], []):
                found = Chart("k", "t", "x", "y", list(chosen), log_y=log, clip=clip)
                style = Style().know("abcdefg")
                figure([found], style)
                text = sheet([found], style, list("abcdefg"))
                ET.fromstring(text)
                assert "nan" not in text and "inf" not in text


# -- without a notebook ------------------------------------------------------------------------------------------------
def test_outside_a_notebook_a_dashboard_is_static(runs):
    board = ol.dashboard(runs, x="bits_up")
    assert type(board) is StaticDashboard
    html = board._repr_html_()
    assert html.count("<svg") == 1 and "<script" not in html and len(html) < 200_000
    assert "Dashboard of" in repr(board) and "EF21" in repr(board)


def test_run_dashboard_is_the_same_door(runs):
    assert runs["GD"].dashboard(panel="time").panel == "time"


def test_the_call_that_makes_a_dashboard_makes_it(runs):
    board = ol.dashboard(runs, x="bits_up", panel="time", panels=["time", "model"])
    names = {"ol": ol, "run_1": runs["EF21"], "run_2": runs["GD"]}
    again = eval(board.python, names)
    assert (again.python, list(again.runs), again.panels) == (board.python, ["EF21", "GD"], board.panels)
    assert ol.dashboard(runs["GD"]).python == "ol.dashboard(run)"


@pytest.mark.parametrize("wrong", ["ef21", 3, [], {}, {"a": []}, {"a": ["b"]}, [1, 2]])
def test_what_is_no_run_is_refused_in_words(wrong):
    if wrong == {}:
        assert ol.dashboard(wrong).panels  # an empty board is a board
        return
    with pytest.raises(ValueError, match="give a Run"):
        ol.dashboard(wrong)


def test_names_differ_where_methods_do_not(problem):
    board = ol.dashboard([ol.run("gd", problem, rounds=2), ol.run(M.GD(lr=0.01), problem, rounds=2)])
    assert list(board.runs) == ["GD()", "GD(lr=0.01)"]


def test_looking_changes_no_run(problem):
    one, other = (prepare("ef21", problem, rounds=20) for _ in range(2))
    board = StaticDashboard(one)
    for _ in range(21):
        one.advance()
        for name in board.panels:
            board.charts(name)
    assert one.history.equals(other.finish().history)


def test_the_static_dashboard_needs_no_widgets():
    code = (
        "import sys; sys.modules['ipywidgets'] = sys.modules['anywidget'] = None\n"
        "import octolab as ol\n"
        "run = ol.run('gd', ol.problems.quadratics(n=4, d=6), rounds=3)\n"
        "print(len(ol.dashboard(run)._repr_html_()) > 1000, 'plotly' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "False"], done.stderr


def test_metrics_that_were_asked_for_have_charts_with_the_clients_mean_beside_them():
    digits = ol.problems.classification("digits", clients=4)
    run = ol.run("fedavg", digits, rounds=2, metrics=["accuracy", "f1"], live=False)
    charts = {c.title: c for c in StaticDashboard(run).charts("convergence")}
    whole, clients = charts["Test f1"].marks
    assert whole.y[-1] == run.last["f1"] and clients.y[-1] == run.last["client_f1"] and clients.dash == "dot"
    assert [m.part for m in charts["Test accuracy"].marks] == ["", "mean over clients"]
