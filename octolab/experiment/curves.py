"""Curves: what a chart of runs draws, whoever draws it: one method's line, with a band over seeds if there are several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from octolab.experiment.record import COUNTED
from octolab.experiment.seeds import identical
from octolab.experiment.statistics import check_band, middle
from octolab.rooms import nearest

if TYPE_CHECKING:
    from octolab.experiment.run import Run

X_LABELS = {
    "round": "round",
    "bits_up": "bits sent up, per client",
    "bits_total": "bits up and down, per client",
    "time": "virtual time (seconds)",
    "gradients": "gradient evaluations, per client",
}
Y_LABELS = {
    "loss": "loss f(x)",
    "suboptimality": "suboptimality f(x) - f*",
    "grad_norm_sq": "squared gradient norm |∇f(x)|²",
    "accuracy": "test accuracy",
}


def y_label(y: str) -> str:
    """What a vertical axis is called: any recorded column may be one."""
    return Y_LABELS.get(y, y.replace("_", " "))


MOST_POINTS = 2000


@dataclass(frozen=True, eq=False)
class Line:
    """One curve: x and y (T,), and low and high (T,) where there are several seeds."""

    name: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


def thin(length: int, most: int = MOST_POINTS) -> np.ndarray:
    """At most `most` row numbers of `length`, evenly spaced, the first and the last among them."""
    if length <= most:
        return np.arange(length)
    return np.linspace(0, length - 1, most).round().astype(np.int64)


def y_range(lines: Sequence[Line], log: bool) -> tuple[float, float] | None:
    """Least and greatest value to show. What explodes leaves the picture instead of flattening the rest."""
    ys = [np.concatenate([v for v in (q.y, q.low, q.high) if v is not None]) for q in lines]
    ys = [v[np.isfinite(v) & ((v > 0) | (not log))] for v in ys]
    ys = [v for v in ys if len(v)]
    if not ys:
        return None
    low, high = min(float(v.min()) for v in ys), max(float(v.max()) for v in ys)
    start = max(float(v[0]) for v in ys)
    if log:
        return low, min(high, start * 100)
    least = min(low, start)
    return least, min(high, start + 2 * max(start - least, abs(start), 1e-12))


def choice(kind: str, value: str, allowed: dict[str, str]) -> str:
    """`value` if it names an axis; else a ValueError that lists those that exist."""
    if value not in allowed:
        raise ValueError(f"{kind}={value!r}: choose one of {', '.join(map(repr, allowed))}.")
    return value


def x_values(columns: Any, x: str) -> np.ndarray:
    """(T,) the horizontal axis `x` from a history (a table, or a dict of columns)."""
    if x == "bits_total":
        return np.asarray(columns["bits_up"], dtype=float) + np.asarray(columns["bits_down"], dtype=float)
    return np.asarray(columns[choice("x", x, X_LABELS)], dtype=float)


def y_values(run: Run, columns: Any, y: str) -> np.ndarray:
    """(T,) the vertical axis `y`; NaN in rounds without an evaluation."""
    if y == "suboptimality":
        if run.problem.f_star is None:
            raise ValueError(
                f"y='suboptimality': f* of {run.problem.name} is not known. Use y='loss' or y='grad_norm_sq'."
            )
        return np.asarray(columns["loss"], dtype=float) - run.problem.f_star
    if y not in columns:
        known = [str(name) for name in columns if name not in COUNTED]
        raise ValueError(
            f"y={y!r}: this run recorded no {y}.{nearest(y, known)} It has {', '.join(known) or 'no evaluations yet'}."
        )
    return np.asarray(columns[y], dtype=float)


def line(name: str, runs: Sequence[Run], x: str, y: str, most: int = MOST_POINTS, band: str = "minmax") -> Line:
    """One curve of runs that differ by the seed: a middle and a band, see `octolab.experiment.statistics.BANDS`. Runs that
    are all the same have no band.

    Rounds are matched by their number; where one seed ended earlier, the others go on without it.
    """
    tables = [run.history for run in runs]
    tables = [t for t in tables if len(t)]
    if not tables:
        return Line(name, np.zeros(0), np.zeros(0))
    length = max(len(t) for t in tables)
    xs, ys = np.full((len(tables), length), np.nan), np.full((len(tables), length), np.nan)
    for i, (run, table) in enumerate(zip(runs, tables, strict=False)):
        xs[i, : len(table)], ys[i, : len(table)] = x_values(table, x), y_values(run, table, y)
    seen = np.isfinite(ys).any(axis=0)
    xs, ys = xs[:, seen], ys[:, seen]
    keep = thin(xs.shape[1], most)
    xs, ys = xs[:, keep], np.where(np.isfinite(ys), ys, np.nan)[:, keep]
    check_band(band)
    if len(tables) == 1 or identical(runs):
        return Line(name, xs[0], ys[0])
    return Line(name, np.nanmean(xs, 0), *middle(ys, band))


def is_log(y: str, lines: Sequence[Line]) -> bool:
    """Whether the story of `y` is exponential: a distance to the optimum always, a loss if it spans a lot."""
    if y in ("suboptimality", "grad_norm_sq"):
        return True
    values = np.concatenate([q.y for q in lines]) if lines else np.zeros(0)
    values = values[np.isfinite(values)]
    return y == "loss" and len(values) > 0 and bool(values.min() > 0) and bool(values.max() > 20 * values.min())


def distinct(names: Sequence[str], longer: Sequence[str]) -> list[str]:
    """Names that differ: where two agree, the longer form; where that agrees too, a number."""
    out = [n if list(names).count(n) == 1 else b for n, b in zip(names, longer, strict=True)]
    return [n if out.count(n) == 1 else f"{n} #{out[:i].count(n) + 1}" for i, n in enumerate(out)]
