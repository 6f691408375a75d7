"""Where an explorer's chart stands: a word while it is made, still pictures until the page can draw, then the plot.

A plot's program is 5 MB that a page loads once; on a slow machine that takes most of a minute. What is sent before is
lost, so nothing is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import ipywidgets

from octolab.experiment.run import Run
from octolab.lab import display
from octolab.lab.controls import View

MEANWHILE = 3
"""Still pictures a second until the browser has loaded the plot's program."""

Runs = dict[str, list[Run]]


class ChartSlot(ipywidgets.Box):
    """The chart and what is seen in its place. newest: what is to be shown now, which changes while a page loads."""

    def __init__(self, newest: Callable[[], Runs]):
        self.waiting = View("html", {"html": "the chart is on its way", "class": "octo-placeholder"})
        super().__init__([self.waiting])
        self.add_class("octo-chart-slot")
        self.chart: Any = None
        self._newest = newest
        self._seen = threading.Event()  # a browser is there
        self._lock = threading.Lock()
        self._closed = False

    def make(self, x: str, first: str) -> None:
        """The chart, over `x`. first: whose curve has the first colour, whoever is drawn first."""
        from octolab.lab.dashboard import Dashboard

        with self._lock:  # two threads may come at once
            if self.chart is not None or self._closed:
                return
            made = Dashboard(None, x=x, height=430)
            made.content.style.know([first])
            made.add_class("octo-unseen")  # on the page at once: its program takes a second to load there
            self.chart = made
            self.children = [self.waiting, made]

    def hello(self) -> None:
        """A page has loaded, and may have missed what changed meanwhile."""
        self._seen.set()
        display.again(self, self.waiting, self.waiting.layout, *self.children[1:])

    def say(self, sentence: str) -> None:
        self.waiting.update(html=sentence)

    @property
    def unplotted(self) -> bool:
        """Whether a browser is there that has not loaded the plot yet."""
        return self._seen.is_set() and not (self.chart is not None and self.chart.plotted.is_set())

    def draw(self, runs: Runs) -> None:
        """Show runs; the chart takes its place on the screen when there is something on it."""
        if self.unplotted:
            self._meanwhile(runs)
            runs = self._newest() or runs
        if self._closed or self.chart is None:
            return
        self.chart.show(runs)
        if self.waiting.layout.display != "none" and isinstance(self.chart, ipywidgets.Widget):
            first, pause = next(iter(runs.values()))[0], threading.Event()
            for _ in range(50):
                if first.recorder.rows or first.done or pause.wait(0.02):
                    break
            self.chart.paint()
            self.chart.remove_class("octo-unseen")
            self.waiting.layout.display = "none"

    def _meanwhile(self, runs: Runs) -> None:
        """Until the page has its plot: the same curves, without a program."""
        drawn = None
        while self.chart is not None and not self._closed and not self.chart.plotted.wait(1 / MEANWHILE):
            newest = self._newest() or runs
            recorded = [(run, len(run.recorder.rows)) for each in newest.values() for run in each]
            if recorded != drawn and any(rows for _, rows in recorded):
                self.say(self.chart.sketch(newest))
                drawn = recorded

    def end(self) -> None:
        """Nothing is drawn any more; `close` follows when the threads are gone."""
        self._closed = True

    def close(self) -> None:
        with self._lock:
            self._closed = True
        display.close_tree(self)
