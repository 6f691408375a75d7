"""`ol.lab("ef21")`: one method, from a glance to its source, in levels that open in place.

A view of an `ExplorerState` (the state) and a `RunPair` (the runs). Controls appear at once; data, chart and baseline come from
a thread that ends when they are there. Buttons only set events. While nothing runs, an explorer holds no thread.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets

from octolab.experiment import summary
from octolab.experiment.run import Run
from octolab.lab import display, theme
from octolab.lab.controls import View
from octolab.lab.dashboard.static import StaticDashboard
from octolab.lab.explorer import baseline, clients, form_rows, levels, static_cards
from octolab.lab.explorer.chart_slot import ChartSlot
from octolab.lab.explorer.run_pair import RunPair, Worker
from octolab.lab.explorer.state import ExplorerState
from octolab.lab.explorer.tuning import Tuning
from octolab.lab.presets import Preset
from octolab.methods import Method
from octolab.problems import Problem

if TYPE_CHECKING:
    import plotly.graph_objects as go

HERTZ = 10
PREVIEW = 20_000
"""Rounds up to which the baseline is drawn before anything is pressed."""


class Explorer(ipywidgets.VBox):
    """One method. `method`, `problem`, `spec` and `run` can be read and set; `python` is the call that does the same."""

    def __init__(self, *args: Any, **more: Any):
        super().__init__()
        self.add_class("octo-explorer")
        self.state = args[0] if args and isinstance(args[0], ExplorerState) else ExplorerState(*args, **more)
        self.pair: RunPair | None = None
        self._tuning: Tuning | None = None
        self.preview: tuple[Any, Worker] | None = None
        self._lock = threading.Lock()
        self.closed = False
        self.twin: Any = None  # the handle of the static card beside the widget
        self._problem_said = ""
        self._threads: list[threading.Thread] = []
        self.card = View("html", {"html": static_cards.glance(self.state.method.card)})
        self.problem_form = View(
            "form", {"groups": [{"title": "", "rows": form_rows.where(self.state, None)}]}, self.receive
        )
        self.main_form = View(
            "form", {"groups": [{"title": "", "rows": form_rows.front(self.state, None)}]}, self.receive
        )
        self.clients_picture = View("html", {"html": "", "class": "octo-clients"})
        self.buttons = View("transport", self._buttons_state(), lambda c: self.press(c["press"]))
        self.chart_slot = ChartSlot(lambda: self.runs)
        side = ipywidgets.VBox([self.problem_form, self.clients_picture, self.main_form, self.buttons])
        side.add_class("octo-side")
        glance = ipywidgets.Box([side, self.chart_slot])
        glance.add_class("octo-glance")
        self.levels = levels.make(self)
        self.children = [self.card, glance, *(w for level in self.levels for w in (level.header, level.body))]
        self.state.watch(self._changed)

    @property
    def bench(self) -> ExplorerState:
        """The old name of `state`."""
        warnings.warn("explorer.bench is now explorer.state.", DeprecationWarning, stacklevel=2)
        return self.state

    # -- state that Python can read and set --------------------------------------------------------------------------
    @property
    def method(self) -> Method:
        return self.state.method

    @method.setter
    def method(self, method: Method | str) -> None:
        self.state.method = method  # type: ignore[assignment]

    @property
    def problem(self) -> Problem:
        return self.state.problem

    @problem.setter
    def problem(self, problem: Problem | Preset | str) -> None:
        self.state.problem = problem

    @property
    def spec(self) -> dict[str, Any]:
        """JSON that reproduces what is set now: `ol.lab(spec)`, `ol.from_spec(spec)`."""
        return self.state.spec

    @spec.setter
    def spec(self, spec: dict[str, Any] | str) -> None:
        self.state.spec = spec  # type: ignore[assignment]

    @property
    def python(self) -> str:
        return self.state.python

    @property
    def run(self) -> Run | None:
        """The run on the chart, if there is one. Set it to show another: knobs follow."""
        return None if self.pair is None else self.pair.main

    @run.setter
    def run(self, run: Run) -> None:
        self.stop()
        self.state.open(run)
        pair = RunPair(self.state)
        pair.main = run
        self.pair = pair
        self.preview = None
        if self.chart_slot.unplotted:  # the plot's word comes through this very thread
            self._in_background(lambda: self._shown(pair))
        else:
            self._shown(pair)
        self._tick()

    @property
    def runs(self) -> dict[str, list[Run]]:
        """What the chart shows: name -> run."""
        if self.pair is not None and self.pair.main is not None:
            return self.pair.runs
        return {} if self.preview is None else {baseline.label(self.preview[1].run): [self.preview[1].run]}

    def figure(self) -> go.Figure:
        """The chart as it is now, as a plotly figure: every curve, with its name, on the chosen axis."""
        return self._static().figure()

    def export(self, path: str | os.PathLike[str], **options: Any) -> str:
        """Write all curves of the chart as a file (.png, .svg, .pdf, .html, .csv, .tex): see `octolab.lab.export`."""
        return self._static().export(path, **options)

    def _static(self) -> StaticDashboard:
        if not self.runs:
            raise ValueError("There is no curve yet: press Run first, or call explorer.start().")
        chart = self.chart_slot.chart
        shown = StaticDashboard(None, x=baseline.axis(self.method) if chart is None else chart.x)
        shown.style.know([self.method.card.name])
        return shown.show(self.runs)

    # -- buttons: they only set events -------------------------------------------------------------------------------
    def press(self, what: str) -> None:
        """What a click does: run, pause, step, stop, or tune. A second click on Run starts nothing."""
        if what == "hello":
            self.chart_slot.hello()
            display.again(self.problem_form, self.main_form, self.clients_picture, self.buttons)
            return
        with self._lock:
            pair, phase = self.pair, self.phase
            if phase == "tuning":
                if what == "stop":
                    self._tuning.stop()  # type: ignore[union-attr]
            elif what == "tune" and phase not in ("running", "preparing", "paused"):
                self._tune()
            elif what == "run" and phase == "paused":
                pair.resume()  # type: ignore[union-attr]
            elif what == "run" and phase not in ("running", "preparing"):
                self._launch(None)
            elif what == "step" and phase == "paused":
                pair.step()  # type: ignore[union-attr]
            elif what == "step" and phase not in ("running", "preparing"):
                self._launch(2)  # the first of the two is round 0, the start
            elif what == "pause" and pair is not None:
                pair.pause()
            elif what == "stop" and pair is not None:
                pair.stop()
        self._draw_buttons()

    def start(self) -> None:
        """As Run."""
        self.press("run")

    def stop(self) -> None:
        """As Stop, and wait until nothing moves any more."""
        for thing in (self._tuning, self.pair, self.preview[1] if self.preview else None):
            if thing is not None:
                thing.stop()
                thing.join()

    def _tune(self) -> None:
        if not self._fit():
            return
        self._tuning = Tuning(self.state, self._tuned).start()
        self._in_background(self._follow)

    def _tuned(self, best: dict[str, Any]) -> None:
        """Take the best steps over, and run both at them."""
        for path, value in best.items():
            self.state.turn(path, value)
        self._tuning = None
        if not self.closed:
            self.press("run")

    def _fit(self) -> bool:
        """Whether every knob holds something that can be run; if not, the status says what to mend."""
        bad = [sentence for _, sentence in self.state.errors.values()]
        self._problem_said = f"First mend this: {bad[0]}" if bad else ""
        return not bad

    @property
    def phase(self) -> str:
        """idle, preparing, tuning, running, paused, done or failed."""
        if self._tuning is not None and self._tuning.active:
            return "tuning"
        return "idle" if self.pair is None else self.pair.phase

    def _launch(self, rounds: int | None) -> None:
        if not self._fit():
            return
        if self.pair is not None:
            self.pair.stop()
        ready = self.preview[1] if self.preview and self.preview[0] == self._beside_key() else None
        if ready is None and self.preview is not None:
            self.preview[1].stop()
        if ready is not None and rounds is not None and not ready.run.done:
            ready.stop()  # steps are taken together, from the start
            ready = None
        self.preview = None
        self.pair = RunPair(self.state, self._started, ready).start(rounds)
        self._in_background(self._follow)

    def _beside_key(self) -> Any:
        """What a baseline depends on: if it is the same, the same run is good for several presses."""
        b = self.state
        return (b.preset, b.plan, repr(b.devices), b.n, repr(baseline.choose(b)))

    def _started(self, pair: RunPair) -> None:
        if pair is self.pair and pair.main is not None:
            try:
                self._shown(pair)
            except Exception as error:  # a chart must never end a run
                self._problem_said = f"The chart stopped ({type(error).__name__}: {error}); the run goes on."

    def _shown(self, pair: RunPair) -> None:
        self._make_chart()
        self.chart_slot.draw(pair.runs)

    # -- threads: each ends when its work does -----------------------------------------------------------------------
    @property
    def busy(self) -> bool:
        """Whether a thread of this explorer is at work (runs have their own)."""
        return any(thread.is_alive() for thread in self._threads)

    def settle(self) -> None:
        """Wait until no thread of this explorer is at work."""
        for thread in list(self._threads):
            if thread is not threading.current_thread():
                thread.join()

    def _in_background(self, work: Callable[[], Any]) -> None:
        self._threads = [t for t in self._threads if t.is_alive()]
        thread = threading.Thread(target=work, daemon=True, name="octolab-lab")
        self._threads.append(thread)
        thread.start()

    def warm(self) -> Explorer:
        """Fetch what the first view lacks: the clients' labels, theory values, the chart, the baseline."""
        self._in_background(self._warm)
        return self

    def _warm(self) -> None:
        for work in (self._make_chart, self.draw_clients, self.draw_forms, self._start_preview, self.draw_forms):
            if self.closed:
                return
            try:
                work()
            except Exception as error:  # a first view that lacks something must not end the explorer
                self._problem_said = str(error)
        self._draw_buttons()

    def _start_preview(self) -> None:
        with self._lock:
            if self.closed or self.pair is not None or self.state.errors:
                return
            long = self.state.plan.rounds > PREVIEW
            run = None if long else self.state.beside()
            if run is None:
                self.chart_slot.say("Press Run, and the curve is drawn here.")
                return
            self.preview = (self._beside_key(), Worker(run))
            self.preview[1].allow(None)
        self._make_chart()
        self.chart_slot.draw(self.runs)

    def _make_chart(self) -> None:
        self.chart_slot.make(baseline.axis(self.state.method), self.method.card.name)

    def _follow(self) -> None:
        """Repaint the status while the pair goes on; a last time when it has ended."""
        pair, tuning, pause = self.pair, self._tuning, threading.Event()

        def goes_on() -> bool:
            mine = pair is not None and pair is self.pair and pair.active
            return mine or (tuning is not None and tuning is self._tuning and tuning.active)

        while goes_on() and not self.closed:
            self._tick()
            pause.wait(1 / HERTZ)
        if not self.closed:
            self._tick()
            self._keep()

    def _keep(self) -> None:
        """What stays in a saved notebook shows the curves, too."""
        if self.twin is not None and self.runs:
            from IPython.display import HTML

            self.twin.update(HTML(self._repr_html_()))

    def _tick(self) -> None:
        self._draw_buttons()
        for level in self.levels:
            level.tick()

    # -- drawing -----------------------------------------------------------------------------------------------------
    def receive(self, content: dict[str, Any]) -> None:
        """A knob was turned in the browser. `final` is False while a slider still moves."""
        path, value = content["path"], content["value"]
        self._dragging = not content.get("final", True)
        try:
            self.state.enter(path, value)
        finally:
            self._dragging = False

    _dragging = False

    def _changed(self, paths: set[str]) -> None:
        if paths & {"method"}:
            self.card.update(html=static_cards.glance(self.state.method.card))
        self._problem_said = ""
        self.draw_forms(quick=self._dragging)
        if any(p.startswith("problem") for p in paths):
            self.draw_clients()
        if not self._dragging:
            self._draw_buttons()
            for level in self.levels:
                level.refresh()

    def draw_forms(self, quick: bool = False) -> None:
        """Draw every open form again. quick: without asking the theorems, which may build the problem."""
        review = None if quick or not self._cheap() else self.state.review()
        if review is None:
            review = self.reviewed if quick else None
        else:
            self.reviewed = review
        self.problem_form.update(groups=[{"title": "", "rows": form_rows.where(self.state, review)}])
        self.main_form.update(groups=[{"title": "", "rows": form_rows.front(self.state, review)}])
        for level in self.levels:
            level.draw_forms(review)

    reviewed: dict[str, Any] | None = None

    def _cheap(self) -> bool:
        """Whether theory values come at once: constants of many samples take seconds, and are left to the run."""
        return (
            getattr(self.state.preset, "dataset", "") != "fashion-mnist-7k"
            or getattr(self.state.preset, "model", "") != "logistic"
        )

    def draw_clients(self) -> None:
        try:
            html = clients.picture(self.state.preset)
        except ValueError:
            return  # the sentence stands beside the knob; the last picture stays
        self.clients_picture.update(html=html)

    def _buttons_state(self) -> dict[str, Any]:
        phase, run = self.phase, self.run
        can = {
            "running": ["pause", "stop"],
            "paused": ["run", "step", "stop"],
            "preparing": ["stop"],
            "tuning": ["stop"],
        }.get(phase, ["run", "step", "tune"])
        said, bad = self._problem_said, bool(self._problem_said)
        if phase == "tuning":
            said = self._tuning.said  # type: ignore[union-attr]
        elif not said and self._tuning is not None and self._tuning.error:
            said, bad = self._tuning.error, True
        if not said and phase == "failed":
            pair = self.pair
            said, bad = str((pair and pair.error) or (run and run.error)), True
        if not said and run is not None:
            said, bad = status(run), run.status in ("diverged", "stalled")
        if not said:
            said = "preparing ..." if phase == "preparing" else "ready"
        rounds = self.state.plan.rounds if run is None else run.settings.rounds
        return {
            "can": can, "go": "Go on" if phase == "paused" else "Run", "status": said, "bad": bad, "rounds": min(rounds, 10**9),
            "round": 0 if run is None else max(run.round, 0), "hint": self._hint(run), "phase": phase,
            "tunable": hasattr(self.method, "lr") and "method.lr" not in self.state.locked and self.state.shown is None,
        }  # fmt: skip

    def _hint(self, run: Run | None) -> str:
        if (
            run is not None
            and self.pair is not None
            and self.pair.phase in ("paused", "running")
            and run.given != self.method
        ):
            return "The knobs have changed since: press Stop and Run to see it."
        return baseline.explain(self.state) if self.state.built else ""

    def _draw_buttons(self) -> None:
        self.buttons.state = self._buttons_state()

    # -- where it lives ----------------------------------------------------------------------------------------------
    def close(self) -> None:
        """End every thread and the widget, and let go of the runs."""
        self.closed = True
        self.chart_slot.end()
        self.stop()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout=10)
        self.pair = self.preview = self._tuning = None
        display.close_tree(self)

    def _repr_html_(self) -> str:
        return theme.static(static_cards.still(self.state, self.runs), "octo-explorer")

    def __repr__(self) -> str:
        run = self.run
        return repr(self.state) if run is None else f"{self.state!r}\n{run!r}"

    def _ipython_display_(self, **_: Any) -> None:
        if display.in_voila():
            self._make_chart()  # a page that is loading would not find a widget that is made meanwhile
        self.twin = display.show(self)
        self.warm()


def status(run: Run) -> str:
    """A run in one line."""
    found = dict(summary.facts(run))
    words = [f"{found.get('status', '')}, round {found.get('round', '')}"]
    words += [f"{word} {found[word]}" for word in ("loss", "accuracy") if word in found]
    if run.error is not None:
        words.append(str(run.error))
    elif "up" in found:
        words.append(f"{found['up']} sent up")
    return " · ".join(words)
