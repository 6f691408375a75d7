"""Several methods, or several seeds, or several step sizes: on the same problem, seeds and budget."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from octolab.experiment.curves import X_LABELS, Line, choice, distinct, line
from octolab.experiment.launch import prepare
from octolab.experiment.run import Run, Until
from octolab.experiment.summary import bits, status
from octolab.experiment.tuning import Tuned, grid_for, quiet, search
from octolab.faces import face
from octolab.methods import Method, Theory, get

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from matplotlib.axes import Axes


# -- results --------------------------------------------------------------
@dataclass(eq=False, repr=False)
class Comparison:
    """What `compare` returns. runs: name -> one Run per seed. steps: name -> the step size, and how it was
    chosen.

    `.table(target=...)` is a pandas table, `.plot(ax)` draws with matplotlib, `.figure(x, y)` is a plotly
    figure, `.history` all rows of all runs.
    In a notebook the value itself shows a chart and the table, without scripts.
    """

    runs: dict[str, list[Run]]
    steps: dict[str, str]
    x: str = "bits_up"
    tried: dict[str, pd.DataFrame] = field(default_factory=dict)
    """name -> table of all step sizes tried (tune=True)."""

    @property
    def history(self) -> pd.DataFrame:
        """All rows of all runs, with columns method and seed in front."""
        return _stack((name, run) for name, group in self.runs.items() for run in group)

    def table(self, target: float | None = None) -> pd.DataFrame:
        """One row per method: step, status, and the last numbers, means over seeds (bits_up is per client,
        time is in virtual seconds).

        target: a loss; adds rounds_to, bits_to and time_to of the first evaluation at or below it: NaN if any
        seed never got there, and then `reached` says how many did.
        """
        import pandas as pd

        rows = {name: self._row(name, group, target) for name, group in self.runs.items()}
        table = pd.DataFrame.from_dict(rows, orient="index")
        table.index.name = "method"
        return table

    def _row(self, name: str, group: list[Run], target: float | None) -> dict[str, Any]:
        ends = [run.recorder.last for run in group]
        mean = lambda column: float(np.mean([end.get(column, math.nan) for end in ends]))  # noqa: E731
        row: dict[str, Any] = {
            "step": self.steps[name],
            "status": self._status(group),
            "rounds": mean("round"),
        }
        row["loss"] = mean("loss")
        if len(group) > 1:
            losses = [end.get("loss", math.nan) for end in ends]
            row["loss_min"], row["loss_max"] = min(losses), max(losses)
        if any("accuracy" in end for end in ends):
            row["accuracy"] = mean("accuracy")
        row.update(grad_norm_sq=mean("grad_norm_sq"), bits_up=mean("bits_up"), time=mean("time"))
        if target is not None:
            hits = [first_at(run, target) for run in group]
            for column, source in (("rounds_to", "round"), ("bits_to", "bits_up"), ("time_to", "time")):
                row[column] = math.nan if None in hits else float(np.mean([hit[source] for hit in hits if hit]))
            if len(group) > 1:
                row["reached"] = f"{sum(hit is not None for hit in hits)} of {len(hits)}"
        return row

    @staticmethod
    def _status(group: list[Run]) -> str:
        found = [f"diverged at round {r.round + 1}" if r.status == "diverged" else status(r) for r in group]
        if len(set(found)) == 1:
            return found[0]
        kinds = [text.split(" at ")[0] for text in found]
        return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))

    def lines(self, x: str | None = None, y: str = "loss") -> list[Line]:
        """The curves that `plot` draws: median over seeds, with a band; a name says if its method
        diverged.
        """
        x = self.x if x is None else x
        out = []
        for name, group in self.runs.items():
            bad = [run for run in group if status(run) in ("diverged", "diverging", "stalled")]
            note = f" ({self._status(group)})" if bad else ""
            out.append(line(name + note, group, x, y))
        return out

    def figure(self, x: str | None = None, y: str = "loss") -> go.Figure:
        """A plotly figure: one colour and dash per method, a band from least to greatest over the seeds.

        x: "bits_up", "round", "time", "gradients" or "bits_total". y: "loss", "suboptimality" (needs f*),
        "grad_norm_sq" or "accuracy". At most 2,000 points a trace.
        """
        x, title = self.x if x is None else x, next(iter(self.runs.values()))[0].problem.name
        figure: go.Figure = face("curves.figure")(self.lines(x, y), x, y, title)
        return figure

    def plot(self, ax: Axes | None = None, x: str | None = None, y: str = "loss") -> Axes:
        """Draw the curves with matplotlib, into `ax` or a new figure; returns the axes. x and y as in `figure`."""
        title, x = next(iter(self.runs.values()))[0].problem.name, self.x if x is None else x
        axes: Axes = face("curves.plot")(self.lines(x, y), x, y, title, ax)
        return axes

    def export(self, path: str | os.PathLike[str], **options: Any) -> str:
        """Write all runs as .csv, .parquet, .html, .svg, .png, .pdf or .tex: see `octolab.lab.export`."""
        return str(face("run.export")(self, path, **{"x": self.x, **options}))

    def _y(self) -> str:
        run = next(iter(self.runs.values()))[0]
        return "suboptimality" if run.problem.f_star is not None and run.problem.strongly_convex else "loss"

    def svg(self, x: str | None = None, y: str | None = None, title: str | None = None) -> str:
        """The chart as one inline <svg>, without scripts. y: suboptimality where f* is known, else loss."""
        x, y = self.x if x is None else x, y or self._y()
        run = next(iter(self.runs.values()))[0]
        name = f"{run.problem.name}, {run.problem.n} clients" if title is None else title
        return str(face("curves.svg")(self.lines(x, y), x, y, name))

    def __repr__(self) -> str:
        run = next(iter(self.runs.values()))[0]
        seeds = [r.settings.seed for r in next(iter(self.runs.values()))]
        head = f"Comparison on {run.problem.name}, {run.problem.n} clients, d={run.problem.d:,}, seeds {seeds}"
        return f"{head}\n{written(self.table())}"

    def _repr_html_(self) -> str:
        return str(face("comparison.html")(self))

    def formatted(self) -> pd.DataFrame:
        """`table()` as text: numbers in human units."""
        return _formatted(self.table())


FORMATS = {
    "rounds": "{:,.0f}".format,
    "loss": "{:.6g}".format,
    "loss_min": "{:.6g}".format,
    "loss_max": "{:.6g}".format,
    "accuracy": "{:.1%}".format,
    "grad_norm_sq": "{:.2e}".format,
    "bits_up": bits,
    "time": "{:,.4g} s".format,
    "rounds_to": lambda v: "never" if math.isnan(v) else f"{v:,.0f}",
    "bits_to": lambda v: "never" if math.isnan(v) else bits(v),
    "time_to": lambda v: "never" if math.isnan(v) else f"{v:,.4g} s",
}


def written(table: pd.DataFrame) -> str:
    """A comparison table as text, numbers in human units."""
    return _formatted(table).to_string()


def _formatted(table: pd.DataFrame) -> pd.DataFrame:
    table = table.copy()
    for column, form in FORMATS.items():
        if column in table:
            table[column] = table[column].map(form)
    return table


@dataclass(eq=False, repr=False)
class Repetition:
    """What `repeat` returns: the same run for several seeds."""

    runs: list[Run]

    @property
    def history(self) -> pd.DataFrame:
        """All rows of all runs, with a column seed."""
        return _stack((run.name, run) for run in self.runs).drop(columns="method")

    def figure(self, x: str = "round", y: str = "loss") -> go.Figure:
        """A plotly figure: the median over the seeds and a band from the least to the greatest."""
        name = f"{self.runs[0].name}, {len(self.runs)} seeds"
        figure: go.Figure = face("curves.figure")([line(name, self.runs, x, y)], x, y, self.runs[0].problem.name)
        return figure

    def plot(self, ax: Axes | None = None, x: str = "round", y: str = "loss") -> Axes:
        """Draw the median and the band with matplotlib, into `ax` or a new figure; returns the axes."""
        name = f"{self.runs[0].name}, {len(self.runs)} seeds"
        axes: Axes = face("curves.plot")([line(name, self.runs, x, y)], x, y, self.runs[0].problem.name, ax)
        return axes

    def __repr__(self) -> str:
        losses = [run.recorder.last.get("loss", math.nan) for run in self.runs]
        seeds = [run.settings.seed for run in self.runs]
        return (
            f"{self.runs[0].given!r} on {self.runs[0].problem.name}, seeds {seeds}: "
            f"{Comparison._status(self.runs)}\n"
            f"  loss {np.mean(losses):.6g} on average, from {min(losses):.6g} to {max(losses):.6g}"
        )

    def _repr_html_(self) -> str:
        return str(face("repetition.html")(self))


# -- doing it --------------------------------------------------------------
def compare(
    methods: Sequence[Method | str] | Mapping[str, Method | str],
    problem: Any,
    *,
    rounds: int | None = None,
    until: Until | dict[str, float] | None = None,
    seeds: Iterable[int] = (0,),
    tune: bool | Sequence[float] = False,
    x: str = "bits_up",
    names: Sequence[str] | None = None,
    live: bool | None = None,
    **settings: Any,
) -> Comparison:
    """Run several methods on the same problem, with the same seeds and the same budget.

    methods: methods or slugs, or name -> method. tune=False: each at the step size it was given, `Theory()`
    by default. tune=True: the step of each is chosen by the best final loss over the SAME powers of two
    times its own theory step (2^-2 to 2^7), or, if theory gives some method no step here (networks), over the
    same step sizes; tune=[...] gives those multiples, or step sizes. Tuning replaces given step sizes and uses
    the first seed. The result says which step each used and how. rounds, until and the other settings are those
    of `octolab.run`. Diverged methods are shown as such, and the table names a tuned step that lies at the edge
    of its grid.

    >>> import octolab as ol
    >>> result = compare(["gd", "fedavg"], ol.problems.quadratics(n=4, d=3), rounds=3)
    >>> list(result.runs)
    ['GD', 'FedAvg']
    """
    from octolab.experiment.progress import watch_all

    choice("x", x, X_LABELS)
    if settings.get("randomness") is not None:
        raise ValueError("A script of randomness is used up by one run: give randomness= to ol.run, run by run.")
    if "seed" in settings:
        raise ValueError(f"seed={settings['seed']!r}: a comparison takes several, seeds=({settings['seed']!r},).")
    named, all_seeds = _named(methods, names), _seeds(seeds)
    plan: dict[str, Any] = {"rounds": rounds, "until": until, **settings}
    grid = [] if tune is False else grid_for(named.values(), problem, None if tune is True else tune)
    tuned = [name for name, m in named.items() if grid and hasattr(m, "lr")]
    first = {}
    for name, m in named.items():  # bad input fails here, before any work
        start = dataclasses.replace(m, **{"lr": grid[0]}) if name in tuned else m
        first[name] = prepare(start, problem, seed=all_seeds[0], **plan)
    tried: dict[str, Tuned] = {}
    if tuned:
        tried = {name: search(named[name], problem, grid, "lr", seed=all_seeds[0], **plan) for name in tuned}
        named = {name: tried[name].best if name in tried else m for name, m in named.items()}
        first = {name: tried[name].run if name in tried else run for name, run in first.items()}
    with quiet():
        runs = {
            name: [first[name], *(prepare(m, problem, seed=s, **plan) for s in all_seeds[1:])]
            for name, m in named.items()
        }
    steps = {name: tried[name].how if name in tried else _how(group[0]) for name, group in runs.items()}
    result = Comparison(runs, steps, x, {name: t.table for name, t in tried.items()})
    with quiet():  # the table says what diverged
        watch_all(runs, live, result)
    return result


def repeat(method: Method | str, problem: Any, seeds: int | Iterable[int] = 3, **settings: Any) -> Repetition:
    """The same run for several seeds: seeds=3 is 0, 1, 2. Other arguments are those of `octolab.run`."""
    from octolab.experiment.progress import watch_all

    live = settings.pop("live", None)
    runs = [
        prepare(method, problem, seed=s, **settings) for s in _seeds(range(seeds) if isinstance(seeds, int) else seeds)
    ]
    result = Repetition(runs)
    watch_all({runs[0].name: runs}, live, result)
    return result


def first_at(run: Run, target: float) -> dict[str, float] | None:
    """The first evaluated row with loss <= target: its round, bits_up and time; None if there is none."""
    where, losses = run.recorder.sparse.get("loss", ([], []))
    for at, loss in zip(where, losses, strict=True):
        if loss <= target:
            number, time, up = run.recorder.rows[at][:3]
            return {"round": number, "time": time, "bits_up": up}
    return None


# -- the pieces --------------------------------------------------------------
def _named(methods: Any, names: Sequence[str] | None) -> dict[str, Method]:
    if isinstance(methods, Mapping):
        names, methods = list(methods), list(methods.values())
    made = [
        get(m)() if isinstance(m, str) else m for m in ([methods] if isinstance(methods, (str, Method)) else methods)
    ]
    wrong = [m for m in made if not isinstance(m, Method)]
    if wrong or not made:
        raise ValueError(f"methods={methods!r}: give methods or slugs, such as [ol.methods.EF21(), 'fedavg'].")
    if names is None:
        names = distinct([m.card.name or type(m).__name__ for m in made], [repr(m) for m in made])
    if len(names) != len(made) or len(set(names)) != len(names):
        raise ValueError(f"names={list(names)!r}: give {len(made)} different names, one per method.")
    return dict(zip(names, made, strict=True))


def _seeds(seeds: Any) -> list[int]:
    out = list(seeds) if isinstance(seeds, Iterable) else [seeds]
    if not out or len(set(out)) != len(out):
        raise ValueError(f"seeds={seeds!r}: give different whole numbers, such as (0, 1, 2).")
    return out


def _how(run: Run) -> str:
    given, used = getattr(run.given, "lr", None), getattr(run.method, "lr", None)
    if used is None:
        return "no step size"
    if isinstance(given, Theory):
        return f"theory{'' if given.multiplier == 1 else f' x {given.multiplier:g}'} = {used:.3g}"
    return f"given = {used:.3g}" if isinstance(used, (int, float)) else f"given = {used!r}"


def _stack(pairs: Iterable[tuple[str, Run]]) -> pd.DataFrame:
    import pandas as pd

    tables = []
    for name, run in pairs:
        table = run.history
        table.insert(0, "method", name)
        table.insert(1, "seed", run.settings.seed)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
