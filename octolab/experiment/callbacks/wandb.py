"""Rows to Weights & Biases, and to Trackio, which has the same shape and needs no account."""

from __future__ import annotations

import os
from typing import Any

from octolab.arguments import expects, text
from octolab.experiment.callbacks.callback import View, log
from octolab.experiment.callbacks.stream import Row
from octolab.experiment.callbacks.tracker import Tracker, description, numbers


class WandB(Tracker):
    """Every row as one step of a Weights & Biases run. mode: "offline" needs neither network nor account (`wandb sync` sends
    it later); None: "online" where a key is known, else "offline". options: those of `wandb.init`.
    """

    library, package = "wandb", "wandb"

    @expects(project=text(), mode=text())
    def __init__(self, project: str = "octolab", mode: str | None = None, **options: Any):
        super().__init__()
        self.project, self.mode, self.options = project, mode, options
        self._run: Any = None

    def open(self, run: View) -> None:
        if self.mode is None and not {"WANDB_MODE", "WANDB_API_KEY"} & set(os.environ):
            log.warning("WandB: no account is known here, so it writes offline; `wandb sync` sends it later.")
        known = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
        self._run = self._module.init(
            project=self.project, name=run.name, config=description(run), mode=self.mode or known, **self.options
        )

    def write(self, rows: list[Row]) -> None:
        for row in rows:
            self._run.log(numbers(row), step=int(row["round"]))

    def close(self, run: View) -> None:
        self._run.finish()


class Trackio(WandB):
    """Every row as one step of a Trackio run, kept on this machine; `trackio show` draws it. options: of `trackio.init`."""

    library, package = "trackio", "trackio"

    def open(self, run: View) -> None:
        name = f"{run.name}-{run.settings.seed}"
        self._run = self._module.init(project=self.project, name=name, config=description(run), **self.options)
