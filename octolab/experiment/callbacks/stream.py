"""Every row of a run, once and in order, to a file or a tracker: in batches, at most ten a second, none lost."""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Callable
from typing import Any, TextIO

from octolab.arguments import expects, function, path
from octolab.experiment.callbacks.callback import View, row_at

INTERVAL = 0.1  # seconds between two batches

Row = dict[str, Any]


class Stream:
    """The base of all that takes rows: a subclass has `open(run)`, `write(rows)` and `close(run)`.

    whole: a run that goes on is handed over from its first row (a file is written anew); else from now on.
    """

    whole = True

    @expects(clock=function("a function that gives seconds"))
    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._taken, self._flushed = 0, -math.inf

    def open(self, run: View) -> None:
        """Called before the first batch."""

    def write(self, rows: list[Row]) -> None:
        """Take some rows: counted, evaluated and logged values by name."""
        raise NotImplementedError

    def close(self, run: View) -> None:
        """Called after the last batch."""

    def on_start(self, run: View) -> None:
        self._taken = 0 if self.whole else run.snapshot().length
        self.open(run)

    def on_evaluate(self, run: View) -> None:
        if self._taken == 0:
            self.on_round(run)  # row 0 is there before any round

    def on_round(self, run: View) -> None:
        if self._clock() - self._flushed >= INTERVAL:
            self._hand_over(run)

    def on_end(self, run: View) -> None:
        self._hand_over(run)
        self.close(run)

    def _hand_over(self, run: View) -> None:
        now, self._flushed = run.snapshot(), self._clock()
        rows = [row_at(now, k) for k in range(self._taken, now.length)]
        if rows:
            self.write(rows)
        self._taken = now.length


def plain(value: Any) -> Any:
    """A value as JSON has it: numbers, texts, null for what is not finite."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)


class _FileStream(Stream):
    """A file beside a run. {name} and {seed} in its path are the run's, so that several runs do not share one."""

    @expects(path=path("the path of a file"), clock=function("a function that gives seconds"))
    def __init__(self, path: str | os.PathLike[str], clock: Callable[[], float] = time.monotonic):
        super().__init__(clock)
        self.path, self._runs = str(path), dict[str, int]()
        self._file: TextIO | None = None

    def open(self, run: View) -> None:
        place = os.path.expanduser(self.path.replace("{name}", run.name).replace("{seed}", str(run.settings.seed)))
        if self._runs.setdefault(place, id(run)) != id(run):
            raise ValueError(f"{place!r} holds another run's rows already: put {{name}} and {{seed}} into the path.")
        self._file = open(place, "w", encoding="utf-8", newline="")  # noqa: SIM115  closed in `close`

    def close(self, run: View) -> None:
        if self._file is not None:
            self._file.close()


class JSONL(_FileStream):
    """One JSON object a line and round: JSONL("runs/{name}-{seed}.jsonl"). A resumed run writes its whole history again."""

    def write(self, rows: list[Row]) -> None:
        assert self._file is not None
        self._file.writelines(json.dumps({k: plain(v) for k, v in row.items()}) + "\n" for row in rows)
        self._file.flush()


class CSV(_FileStream):
    """A table with a column for everything that is recorded; it is written anew when a column comes that was not there."""

    def open(self, run: View) -> None:
        super().open(run)
        self._columns: list[str] = []
        self._rows: list[Row] = []

    def write(self, rows: list[Row]) -> None:
        assert self._file is not None
        new = [name for row in rows for name in row if name not in self._columns]
        self._rows += rows
        if new:
            self._columns += dict.fromkeys(new)
            self._file.seek(0)
            self._file.truncate()
        writer = csv.DictWriter(self._file, self._columns)
        if new:
            writer.writeheader()
        for row in self._rows if new else rows:
            writer.writerow({name: "" if plain(value) is None else plain(value) for name, value in row.items()})
        self._file.flush()
