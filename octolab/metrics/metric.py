"""A metric: a name and a function of labels and scores, over all test samples or client by client."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from octolab.metrics.clientwise import at_once, one_class
from octolab.metrics.named import CLASSES, NAMED, Function, greater_is_better
from octolab.metrics.scored import Scored


@dataclass(frozen=True)
class Metric:
    """f(labels, scores) -> float over all test samples: one column of the history, `name`."""

    name: str
    function: Function
    greater_is_better: bool = True

    def columns(self) -> tuple[str, ...]:
        """The columns that it writes."""
        return (self.name,)

    def measure(self, scored: Scored) -> dict[str, float]:
        """Its columns; whatever the function raises is the caller's."""
        return {self.name: float(self.function(scored.labels, scored.scores))}

    def by_client(self, scored: Scored) -> np.ndarray:
        """(clients,): on each client's own samples, NaN where it has none or the metric is not defined on them."""
        found = at_once(self.function, scored)
        found = self._one_by_one(scored) if found is None else found
        if self.function in CLASSES and self.function is not NAMED["accuracy"]:
            found[one_class(scored)] = np.nan
        return found

    def _one_by_one(self, scored: Scored) -> np.ndarray:
        """Client by client; what raises on all of them raises, what raises on some is NaN there."""
        order = np.argsort(scored.owner, kind="stable")
        cuts = np.searchsorted(scored.owner[order], np.arange(scored.clients + 1))
        out, failed, tried = np.full(scored.clients, np.nan), [], 0
        for client in range(scored.clients):
            mine = order[cuts[client] : cuts[client + 1]]
            if not len(mine):
                continue
            tried += 1
            try:
                out[client] = self.function(scored.labels[mine], scored.scores[mine])
            except Exception as error:
                failed.append(error)
        if failed and len(failed) == tried:
            raise failed[0]
        return out

    @property
    def spec(self) -> object:
        """JSON: a name that `metric_of` knows; a function of one's own is only named."""
        return self.name if NAMED.get(self.name) is self.function else {"function": self.name}


@dataclass(frozen=True)
class PerClient(Metric):
    """A metric on each client's own test samples: PerClient("f1") writes client_f1, the mean over the clients,
    client_f1_worst10, the mean of the worst tenth, and client_f1_left_out, how many have no samples or one class only.
    """

    name: str
    function: Function
    greater_is_better: bool = True

    def __init__(self, of: str | Function | Metric):
        made = metric_of(of)
        for field, value in (("name", made.name), ("function", made.function)):
            object.__setattr__(self, field, value)
        object.__setattr__(self, "greater_is_better", made.greater_is_better)

    def columns(self) -> tuple[str, ...]:
        head = f"client_{self.name}"
        return head, f"{head}_worst10", f"{head}_left_out"

    def measure(self, scored: Scored) -> dict[str, float]:
        each = self.by_client(scored)
        known = np.sort(each[np.isfinite(each)])
        ranked = known if self.greater_is_better else known[::-1]
        worst = ranked[: max(1, len(known) // 10)]
        values = (known.mean(), worst.mean()) if len(known) else (np.nan, np.nan)
        return dict(zip(self.columns(), (*map(float, values), float(len(each) - len(known))), strict=True))

    @property
    def spec(self) -> object:
        return {"per_client": super().spec}


Given: TypeAlias = str | Function | Metric


def metric_of(given: Given) -> Metric:
    """A metric from its name or a function; ValueError with the nearest names for one that is not known.

    A function is named by its `__name__`; its attribute greater_is_better (default True) says which way is better.
    """
    if isinstance(given, Metric):
        return given
    if isinstance(given, str):
        if given not in NAMED:
            near = difflib.get_close_matches(given.lower(), NAMED, 2, 0.5)
            meant = f" Did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(
                f"metrics={given!r}: there is no such metric.{meant} Known are {', '.join(NAMED)}, or give a function "
                f"f(labels, scores) -> float."
            )
        return Metric(NAMED[given].__name__, NAMED[given], greater_is_better(given))
    name = getattr(given, "__name__", None)
    if not callable(given) or not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"metrics={given!r}: give names such as 'f1', or named functions f(labels, scores) -> float.")
    return Metric(name, given, bool(getattr(given, "greater_is_better", True)))


def metrics_of(given: Given | Iterable[Given]) -> tuple[Metric, ...]:
    """Metrics from one or several names or functions, each column once."""
    several = isinstance(given, Iterable) and not isinstance(given, str)
    many: list[Given] = list(given) if several else [given]  # type: ignore[arg-type, list-item]
    made = tuple(metric_of(m) for m in many)
    columns = [c for m in made for c in m.columns()]
    twice = sorted({c for c in columns if columns.count(c) > 1})
    if twice:
        raise ValueError(f"metrics={given!r}: the column {twice[0]!r} would be written twice; name each metric once.")
    return made
