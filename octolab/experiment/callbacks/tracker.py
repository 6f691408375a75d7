"""What the adapters of trackers share: a library that may be missing, and rows as numbers with their step."""

from __future__ import annotations

import importlib
import json
import math
from types import ModuleType
from typing import Any

from octolab.experiment.callbacks.callback import View
from octolab.experiment.callbacks.stream import Row, Stream, plain


class Tracker(Stream):
    """A stream to somebody else's library. A run that goes on is told from its next round on."""

    whole = False
    library = ""
    package = ""

    def __init__(self) -> None:
        super().__init__()
        self._module = self._imported()

    def _imported(self) -> ModuleType:
        try:
            return importlib.import_module(self.library)
        except ImportError as error:
            raise ImportError(
                f"{type(self).__name__} needs the package {self.package}, which is not here ({error}): "
                f"pip install {self.package}"
            ) from error


def numbers(row: Row) -> dict[str, float]:
    """The finite numbers of a row, without its round; its time is the fleet's, which trackers take for the wall's."""
    found = {"virtual_time" if name == "time" else name: plain(v) for name, v in row.items() if name != "round"}
    return {k: float(v) for k, v in found.items() if isinstance(v, (bool, int, float)) and math.isfinite(v)}


def description(run: View) -> dict[str, Any]:
    """What a run is, flat, as trackers show it."""
    return {
        "method": repr(run.given),
        "problem": run.problem.name,
        "clients": run.problem.n,
        "dimension": run.problem.d,
        "rounds": run.settings.rounds,
        "seed": run.settings.seed,
        "spec": json.dumps(_spec(run)),
        "provenance": json.dumps(run.provenance),
    }


def _spec(run: View) -> Any:
    try:
        return run.spec
    except ValueError as error:  # a part of it is the user's own
        return str(error)
