"""What is closed is gone: widgets, threads, files and memory stay flat, however often something is opened."""

from __future__ import annotations

import gc
import os
import threading
import time
import tracemalloc
import weakref

import pytest

pytest.importorskip("ipywidgets", reason="the extra lab is not installed")
pytest.importorskip("anywidget", reason="the extra lab is not installed")

from ipywidgets.widgets.widget import _instances

import octolab as ol
from octolab.lab.catalogue import Catalogue
from octolab.lab.dashboard import Dashboard
from octolab.lab.explorer.explorer import Explorer


@pytest.fixture(scope="module")
def problem():
    return ol.problems.quadratics(n=4, d=6, L=10, mu=1, seed=0)


def explored():
    explorer = Explorer("ef21", "quadratics", rounds=5)
    explorer.warm()
    for level in explorer.levels:
        level.toggle(True)
    explorer.start()
    end = time.monotonic() + 300
    while explorer.phase != "done":
        assert time.monotonic() < end, "the run did not end"
        time.sleep(0.002)
    explorer.close()
    return explorer


def counted():
    gc.collect()
    return len(_instances), threading.active_count(), len(os.listdir("/proc/self/fd"))


def flat(work, times):
    """What `times` calls leave: (widgets, threads, descriptors), objects and bytes each."""
    for _ in range(3):
        work()
    gc.collect()
    tracemalloc.start()
    before, objects, held = counted(), len(gc.get_objects()), tracemalloc.get_traced_memory()[0]
    for _ in range(times):
        work()
    after = counted()
    objects, held = len(gc.get_objects()) - objects, tracemalloc.get_traced_memory()[0] - held
    tracemalloc.stop()
    return [b - a for a, b in zip(before, after, strict=True)], objects / times, held / times


def works(problem):
    run = ol.run("gd", problem, rounds=5)

    def dashboard():
        made = Dashboard(run)
        made.paint()
        made.close()

    def catalogue():
        made = Catalogue()
        made.visit("ef21")
        made.close()

    return {"explorer": explored, "dashboard": dashboard, "catalogue": catalogue}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["explorer", "dashboard", "catalogue"])
def test_a_closed_widget_leaves_no_widget_thread_or_file(problem, name):
    left, _, _ = flat(works(problem)[name], 2)
    assert left == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["explorer", "dashboard", "catalogue"])
def test_two_hundred_openings_leave_nothing(problem, name):
    left, objects, held = flat(works(problem)[name], 200)
    assert left == [0, 0, 0]
    assert objects < 10 and held <= 20_000


def test_a_closed_explorer_keeps_no_run():
    explorer = Explorer("gd", "quadratics", rounds=3)
    explorer.run = ol.run("gd", explorer.problem, rounds=3)
    run = weakref.ref(explorer.run)
    explorer.close()
    gc.collect()
    assert run() is None and explorer.run is None and explorer.runs == {}


def test_a_closed_dashboard_keeps_no_run(problem):
    run = ol.run("gd", problem, rounds=3)
    dashboard, ref = Dashboard(run), weakref.ref(run)
    dashboard.paint()
    dashboard.close()
    del run
    gc.collect()
    assert ref() is None and dashboard.runs == {}


class Shell:
    """A kernel's shell in a notebook's cell."""

    def __init__(self):
        self.parent_header, self.execution_count, self.kernel = {"metadata": {"cellId": "one"}}, 0, object()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["explorer", "dashboard"])
def test_ten_runs_of_a_cell_leave_one_widget(problem, monkeypatch, what):
    shell, run = Shell(), ol.run("gd", problem, rounds=3)
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    monkeypatch.setattr("IPython.display.display", lambda *a, **k: None)
    monkeypatch.setattr("octolab.lab.dashboard.notebook._listen", lambda: None)
    made, before = [], None
    for k in range(10):
        shell.execution_count = k + 1
        widget = Explorer("gd", "quadratics", rounds=3) if what == "explorer" else Dashboard(run)
        made.append(widget)  # as IPython keeps it in Out
        widget._ipython_display_()
        if what == "explorer":
            widget.settle()
        gc.collect()
        before = len(_instances) if k == 1 else before
    assert len(_instances) == before
    assert [w.closed for w in made] == [True] * 9 + [False]
    made[-1].close()
