"""Rows to TensorBoard's event files: `tensorboard --logdir runs` shows them."""

from __future__ import annotations

import os
from typing import Any

from octolab.arguments import expects, path
from octolab.experiment.callbacks.callback import View
from octolab.experiment.callbacks.stream import Row
from octolab.experiment.callbacks.tracker import Tracker, description, numbers


class TensorBoard(Tracker):
    """Every column of every round as a scalar, by round, in `folder`/{name}-{seed}."""

    library, package = "torch.utils.tensorboard", "tensorboard"

    @expects(folder=path("a folder"))
    def __init__(self, folder: str | os.PathLike[str] = "runs"):
        super().__init__()
        self.folder = str(folder)
        self._writer: Any = None

    def open(self, run: View) -> None:
        place = os.path.join(self.folder, f"{run.name}-{run.settings.seed}")
        self._writer = self._module.SummaryWriter(place, purge_step=max(run.round + 1, 0) or None)
        for name, value in description(run).items():
            self._writer.add_text(name, str(value))

    def write(self, rows: list[Row]) -> None:
        for row in rows:
            for name, value in numbers(row).items():
                self._writer.add_scalar(name, value, int(row["round"]))
        self._writer.flush()

    def close(self, run: View) -> None:
        self._writer.close()
