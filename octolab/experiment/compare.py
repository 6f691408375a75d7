"""Several methods, or several seeds, or several step sizes: on the same problem, seeds and budget."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from octolab.arguments import NAMED, PROBLEM, expects, like, number, sequence, switch, text
from octolab.experiment.callbacks.callback import Callback
from octolab.experiment.curves import X_LABELS, Line, choice, distinct, line
from octolab.experiment.launch import prepare, shows_settings
from octolab.experiment.record import COUNTED
from octolab.experiment.run import Run, Until
from octolab.experiment.seeds import check_vary, identical, note_on, seeds_of, varied
from octolab.experiment.settings import meets
from octolab.experiment.statistics import CENTRES, Paired, check_band, check_centre, ends, paired
from octolab.experiment.summary import bits, status
from octolab.experiment.tuning import Tuned, grid_for, quiet, search
from octolab.faces import face
from octolab.methods import Method, Theory, get
from octolab.rooms import nearest

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from matplotlib.axes import Axes

    from octolab.problems import Problem


METHODS = sequence("methods or slugs, at least one, or a dict name -> method", NAMED, least=1)


# -- results --------------------------------------------------------------
@dataclass(eq=False, repr=False)
class Comparison:
    """What `compare` returns. runs: name -> one Run per seed. steps: name -> the step size, and how it was chosen.

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

    def table(self, target: Target = None, *, band: str = "minmax", centre: str = "mean") -> pd.DataFrame:
        """One row per method: step, status, and the last numbers, over seeds (bits_up is per client, time is in
        virtual seconds).

        target: a loss, or any recorded column, dict(accuracy=0.9); adds rounds_to, bits_to and time_to of the first
        evaluation at it or better: NaN if any seed never got there, and then `reached` says how many did. band, of
        several seeds: "minmax" (loss_min, loss_max), "sd" (loss_sd, ...) or "ci95" (loss_low, loss_high, ...: bootstrap
        interval of the mean). centre: "mean", "median" or "iqm", the interquartile mean.
        """
        import pandas as pd

        goal, how = goal_of(target, self.runs), _Over(check_band(band), centre)
        rows = {name: self._row(name, group, goal, how) for name, group in self.runs.items()}
        table = pd.DataFrame.from_dict(rows, orient="index")
        table.index.name = "method"
        return table

    def _row(self, name: str, group: list[Run], goal: tuple[str, float] | None, how: _Over) -> dict[str, Any]:
        last = [run.last for run in group]
        row: dict[str, Any] = {"step": self.steps[name], "status": self._status(group)}
        row |= how.columns("round", last, name="rounds", spread=False) | how.columns("loss", last)
        measured = [m for run in group if run.measure is not None for m in run.measure.columns]
        for column in dict.fromkeys(["accuracy", *measured]):
            if any(column in end for end in last):
                row |= how.columns(column, last, spread=how.band != "minmax")
        for column in ("grad_norm_sq", "bits_up", "time"):
            row |= how.columns(column, last, spread=False)
        if goal is not None:
            hits = [first_at(run, goal[1], goal[0]) for run in group]
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

    def paired(self, first: str, second: str, column: str = "loss") -> Paired:
        """A paired test of two methods' last values of a column, seed by seed: see `Paired`."""
        for name in (first, second):
            if name not in self.runs:
                raise ValueError(f"paired({name!r}): there is no such method.{nearest(name, self.runs)}")
        a, b = (np.array([run.last.get(column, math.nan) for run in self.runs[name]]) for name in (first, second))
        return paired(first, a, second, b, column)

    @property
    def notes(self) -> list[str]:
        """What a reader of the table should know: methods whose seeds all gave the same run."""
        return [note for group in self.runs.values() if (note := note_on(group))]

    @property
    def tests(self) -> list[Paired]:
        """The first method against every other one: last losses, seed by seed; only of methods whose seeds differ, and whose
        last losses are numbers.
        """
        first, *others = self.runs
        fit = {
            name: len(group) > 1
            and not identical(group)
            and all(math.isfinite(r.last.get("loss", math.nan)) for r in group)
            for name, group in self.runs.items()
        }
        return [self.paired(first, other) for other in others if fit[first] and fit[other]]

    @property
    def remarks(self) -> list[str]:
        """What stands below the table: `notes`, and the paired tests in words."""
        return [*self.notes, *map(str, self.tests)]

    def lines(self, x: str | None = None, y: str = "loss", band: str = "minmax") -> list[Line]:
        """The curves that `plot` draws: the middle over seeds, with a band; a name says if its method diverged."""
        x = self.x if x is None else x
        out = []
        for name, group in self.runs.items():
            bad = [run for run in group if status(run) in ("diverged", "diverging", "stalled")]
            note = f" ({self._status(group)})" if bad else ""
            out.append(line(name + note, group, x, y, band=band))
        return out

    def figure(self, x: str | None = None, y: str = "loss", band: str = "minmax") -> go.Figure:
        """A plotly figure: one colour and dash per method, a band over the seeds ("minmax", "sd" or "ci95").

        x: "bits_up", "round", "time", "gradients" or "bits_total". y: "loss", "suboptimality" (needs f*),
        "grad_norm_sq", "accuracy", or any other recorded column. At most 2,000 points a trace.
        """
        x, title = self.x if x is None else x, next(iter(self.runs.values()))[0].problem.name
        figure: go.Figure = face("curves.figure")(self.lines(x, y, band), x, y, title)
        return figure

    def plot(self, ax: Axes | None = None, x: str | None = None, y: str = "loss", band: str = "minmax") -> Axes:
        """Draw the curves with matplotlib, into `ax` or a new figure; returns the axes. x, y and band as in `figure`."""
        title, x = next(iter(self.runs.values()))[0].problem.name, self.x if x is None else x
        axes: Axes = face("curves.plot")(self.lines(x, y, band), x, y, title, ax)
        return axes

    def export(self, path: str | os.PathLike[str], **options: Any) -> str:
        """Write all runs as .csv, .parquet, .html, .svg, .png, .pdf or .tex: see `octolab.lab.export`."""
        return str(face("run.export")(self, path, **{"x": self.x, **options}))

    def latex(self, *, band: str = "sd", centre: str = "mean", target: float | None = None) -> str:
        """The table as LaTeX (booktabs), each number with its band over the seeds: "sd", "ci95" or "minmax"."""
        return str(face("comparison.latex")(self, band, centre, target))

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
        return "\n".join([head, written(self.table()), *self.remarks])

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


@expects(table=like("a pandas table", "columns", "to_csv"))
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

    def line(self, x: str = "round", y: str = "loss", band: str = "minmax") -> Line:
        """The curve that `plot` draws."""
        return line(f"{self.runs[0].name}, {len(self.runs)} seeds", self.runs, x, y, band=band)

    def figure(self, x: str = "round", y: str = "loss", band: str = "minmax") -> go.Figure:
        """A plotly figure: the middle over the seeds and a band ("minmax", "sd" or "ci95")."""
        title = self.runs[0].problem.name
        figure: go.Figure = face("curves.figure")([self.line(x, y, band)], x, y, title)
        return figure

    def plot(self, ax: Axes | None = None, x: str = "round", y: str = "loss", band: str = "minmax") -> Axes:
        """Draw the middle and the band with matplotlib, into `ax` or a new figure; returns the axes."""
        axes: Axes = face("curves.plot")([self.line(x, y, band)], x, y, self.runs[0].problem.name, ax)
        return axes

    @property
    def note(self) -> str:
        """A sentence where all seeds gave the same run; else ""."""
        return note_on(self.runs)

    def __repr__(self) -> str:
        losses = [run.last.get("loss", math.nan) for run in self.runs]
        seeds = [run.settings.seed for run in self.runs]
        return (
            f"{self.runs[0].given!r} on {self.runs[0].problem.name}, seeds {seeds}: "
            f"{Comparison._status(self.runs)}\n"
            f"  loss {np.mean(losses):.6g} on average, from {min(losses):.6g} to {max(losses):.6g}"
            f"{chr(10) + self.note if self.note else ''}"
        )

    def _repr_html_(self) -> str:
        return str(face("repetition.html")(self))


# -- doing it --------------------------------------------------------------
@shows_settings
@expects(
    methods=METHODS,
    problem=PROBLEM,
    live=switch(),
    tune=switch() | sequence("numbers > 0", number(gt=0) | like("Theory()", "multiplier")),
    names=sequence("a text for each method", text()),
)
def compare(
    methods: Sequence[Method | str] | Mapping[str, Method | str],
    problem: Problem,
    *,
    rounds: int | None = None,
    until: Until | Mapping[str, float] | None = None,
    seeds: int | Iterable[int] = (0,),
    vary: str | Collection[str] = ("algorithm",),
    callbacks: Sequence[Callback] = (),
    tune: bool | Sequence[float] = False,
    x: str = "bits_up",
    names: Sequence[str] | None = None,
    live: bool | None = None,
    **settings: Any,
) -> Comparison:
    """Run several methods on the same problem, with the same seeds and the same budget.

    seeds: one run of each method per seed. vary: what differs from seed to seed, out of "algorithm" (batches, cohorts,
    delays), "fleet" (delays and drop-outs only), "split" (the problem is made anew) and "start" (x0).
    callbacks: hear of every run in turn, not of tuning.

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
    named, all_seeds, differs = _named(methods, names), seeds_of(seeds), check_vary(vary)
    plan: dict[str, Any] = {"rounds": rounds, "until": until, **settings}
    grid = [] if tune is False else grid_for(named.values(), problem, None if tune is True else tune)
    tuned = [name for name, m in named.items() if grid and hasattr(m, "lr")]
    first = {}
    for name, m in named.items():  # bad input fails here, before any work
        start = dataclasses.replace(m, **{"lr": grid[0]}) if name in tuned else m
        first[name] = _prepared(start, problem, all_seeds[0], all_seeds[0], differs, plan)
    tried: dict[str, Tuned] = {}
    if tuned:
        tried = {name: search(named[name], problem, grid, "lr", seed=all_seeds[0], **plan) for name in tuned}
        named = {name: tried[name].best if name in tried else m for name, m in named.items()}
        first = {name: tried[name].run if name in tried else run for name, run in first.items()}
    with quiet():
        runs = {
            name: [first[name], *(_prepared(m, problem, s, all_seeds[0], differs, plan) for s in all_seeds[1:])]
            for name, m in named.items()
        }
    for run in (run for group in runs.values() for run in group):
        run.listen(callbacks)
    steps = {name: tried[name].how if name in tried else _how(group[0]) for name, group in runs.items()}
    result = Comparison(runs, steps, x, {name: t.table for name, t in tried.items()})
    with quiet():  # the table says what diverged
        watch_all(runs, live, result)
    return result


def _prepared(method: Method | str, problem: Problem, seed: int, first: int, vary: Any, plan: dict[str, Any]) -> Run:
    own, settings = varied(problem, seed, first, vary)
    return prepare(method, own, **plan | settings)


@shows_settings
@expects(method=NAMED, problem=PROBLEM, live=switch())
def repeat(
    method: Method | str,
    problem: Problem,
    seeds: int | Iterable[int] = 3,
    *,
    vary: str | Collection[str] = ("algorithm",),
    callbacks: Sequence[Callback] = (),
    live: bool | None = None,
    **settings: Any,
) -> Repetition:
    """The same run for several seeds: seeds=3 is 0, 1, 2. vary: what differs from seed to seed, as in `compare`.

    Other arguments are those of `octolab.run`.
    """
    from octolab.experiment.progress import watch_all

    numbers, differs = (
        seeds_of(range(seeds) if isinstance(seeds, int) and seeds is not True else seeds),
        check_vary(vary),
    )
    runs = [_prepared(method, problem, s, numbers[0], differs, settings).listen(callbacks) for s in numbers]
    result = Repetition(runs)
    watch_all({runs[0].name: runs}, live, result)
    return result


Target: TypeAlias = float | Mapping[str, float] | None
"""A loss, or {column: value}."""


def goal_of(target: Target, runs: Mapping[str, Sequence[Run]]) -> tuple[str, float] | None:
    """The column and the value of a target; ValueError with the nearest names for a column that nobody recorded."""
    if target is None:
        return None
    named = dict(target) if isinstance(target, Mapping) else {"loss": target}
    if len(named) != 1:
        raise ValueError(f"target={target!r}: give one loss, or one column, such as dict(accuracy=0.9).")
    ((column, value),) = named.items()
    known = dict.fromkeys(name for group in runs.values() for run in group for name in run.recorder.last)
    if column not in known:
        names = ", ".join(known)
        raise ValueError(
            f"target={target!r}: no run recorded {column!r}.{nearest(column, known)} It is one of {names}."
        )
    return column, float(value)


def first_at(run: Run, value: float, column: str = "loss") -> dict[str, float] | None:
    """The first row whose column is at the value or better: its round, bits_up and time; None if there is none."""
    now, more = run.snapshot(), run.greater_is_better(column)
    if column in COUNTED:
        found: Iterable[tuple[int, float]] = ((at, now.rows[at][COUNTED.index(column)]) for at in range(now.length))
    else:
        where, values, length = now.columns.get(column, ([], [], 0))
        found = zip(where[:length], values[:length], strict=True)
    for at, reached in found:
        if meets(reached, value, more):
            number, time, up = now.rows[at][:3]
            return {"round": number, "time": time, "bits_up": up}
    return None


@dataclass(frozen=True)
class _Over:
    """How a table sums up several seeds."""

    band: str
    centre: str

    def __post_init__(self) -> None:
        check_centre(self.centre)

    def columns(self, column: str, rows: list[dict[str, Any]], name: str = "", spread: bool = True) -> dict[str, float]:
        """The middle of a column's last values, and its band if there are several seeds."""
        name, values = name or column, np.array([row.get(column, math.nan) for row in rows], dtype=float)
        row = {name: CENTRES[self.centre](values)}
        if not spread or len(values) < 2:
            return row
        if self.band == "sd":
            return row | {f"{name}_sd": float(np.std(values, ddof=1))}
        low, high = ends(values, self.band)
        tails = ("min", "max") if self.band == "minmax" else ("low", "high")
        return row | {f"{name}_{tails[0]}": low, f"{name}_{tails[1]}": high}


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
