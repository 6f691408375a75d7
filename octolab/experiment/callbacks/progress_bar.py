"""A bar in the terminal: `ol.run` shows one by itself, other runs by callbacks=[ol.callbacks.ProgressBar()]."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from octolab.arguments import expects, number, text
from octolab.experiment.callbacks.callback import View
from octolab.experiment.settings import FOREVER

if TYPE_CHECKING:
    from tqdm import tqdm

    from octolab.experiment.run import Run


class ProgressBar:
    """Rounds done and the newest loss, drawn by tqdm once `delay` seconds have passed. name: None is the run's own."""

    @expects(name=text(), delay=number("seconds", ge=0))
    def __init__(self, name: str | None = None, *, delay: float = 2.0, file: TextIO | None = None):
        self.name, self._delay, self._file = name, delay, file
        self._bar: tqdm | None = None

    def on_start(self, run: View | Run) -> None:
        from tqdm import tqdm

        class Quiet(tqdm):
            monitor_interval = 0  # no monitor thread

        self._bar = Quiet(
            total=None if run.settings.rounds >= FOREVER else run.settings.rounds,
            desc=self.name or run.name,
            unit=" rounds",
            delay=self._delay,
            leave=False,
            file=self._file or sys.stderr,
            initial=max(run.round, 0),
        )

    def on_round(self, run: View | Run) -> None:
        bar = self._bar
        if bar is not None and run.round > bar.n and bar.update(run.round - bar.n):
            loss = run.snapshot().newest("loss", 1)
            if loss:
                bar.set_postfix_str(f"loss {loss[0]:.4g}", refresh=False)

    def on_end(self, run: View | Run) -> None:
        if self._bar is not None:
            self._bar.close()
