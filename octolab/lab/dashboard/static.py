"""The dashboard without widgets: which runs, which panel, which axis; as data, as figures, as static HTML."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from octolab.experiment import curves
from octolab.experiment.alerts import Alert
from octolab.experiment.run import Run
from octolab.experiment.statistics import check_band, check_centre
from octolab.lab.chart import Chart
from octolab.lab.dashboard.feed import MOST
from octolab.lab.dashboard.panels import PANELS
from octolab.lab.dashboard.panels.comparison import COSTS, columns, table, with_band
from octolab.lab.dashboard.view import View
from octolab.lab.style import Style
from octolab.lab.svg import sheet

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

__all__ = ["StaticDashboard", "named"]


class StaticDashboard:
    """Runs, shown statically. `Dashboard` is the same, live.

    runs: a Run, several, a Comparison, or name -> Run or list of Runs over seeds. panels: names of the panels to offer,
    of `StaticDashboard.known()`; None: all that the runs have something for. x: the common axis. panel: the one shown first.
    band, centre: of several seeds, as in `Comparison.table`.
    """

    def __init__(
        self,
        runs: Any = None,
        *,
        panels: Sequence[str] | None = None,
        x: str = "round",
        panel: str | None = None,
        most: int = MOST,
        band: str = "minmax",
        centre: str = "mean",
    ):
        for name in [*(panels or ()), *([panel] if panel else ())]:
            if name not in PANELS:
                raise ValueError(f"panels: there is no panel {name!r}; there are {', '.join(map(repr, PANELS))}.")
        self.chosen = None if panels is None else list(panels)
        self.lock = threading.RLock()
        self.style = Style()
        self._panel, self._most = panel, most
        self.view = View({}, x, most)
        self.view.band, self.view.centre = check_band(band), check_centre(centre)
        if runs is not None:
            self.show(runs)

    @staticmethod
    def known() -> list[str]:
        """The names of all panels there are."""
        return list(PANELS)

    def show(self, runs: Any) -> Any:
        """Show other runs: axis, panel, target and colours stay."""
        found = named(runs)
        with self.lock:
            old = self.view
            self.view = View(found, old.x, self._most)
            for name in ("target", "costs", "canvas", "band", "centre"):
                setattr(self.view, name, getattr(old, name))
            self.view.focus = old.focus if old.focus in found else self.view.focus
            self.style.know(found)
            self.view.read()
        return self

    def clear(self) -> None:
        """Show nothing any more."""
        with self.lock:
            self.view = View({}, self.view.x, self._most)

    # -- what is chosen ----------------------------------------------------------------------------------------------
    @property
    def runs(self) -> dict[str, list[Run]]:
        return {name: [feed.run for feed in group] for name, group in self.view.groups.items()}

    @property
    def x(self) -> str:
        """The common axis: "round", "bits_up", "bits_total", "time" or "gradients"."""
        return self.view.x

    @x.setter
    def x(self, value: str) -> None:
        self.view.x = curves.choice("x", value, curves.X_LABELS)

    @property
    def panels(self) -> list[str]:
        """The names of the panels that the runs have something for, in the order of their tabs."""
        offered = list(PANELS) if self.chosen is None else self.chosen
        return [name for name in offered if name in PANELS and PANELS[name].applies(self.view)]

    @property
    def panel(self) -> str:
        """The name of the panel on show."""
        offered = self.panels
        return self._panel if self._panel in offered else offered[0] if offered else "overview"

    @panel.setter
    def panel(self, name: str) -> None:
        if name not in PANELS:
            raise ValueError(f"panel={name!r}: choose one of {', '.join(map(repr, self.panels))}.")
        self._panel = name

    @property
    def target(self) -> float | None:
        """The loss that the comparison's costs are for; None: the least loss that every run reaches."""
        return self.view.target

    @target.setter
    def target(self, loss: float | None) -> None:
        self.view.target = None if loss is None else float(loss)

    @property
    def costs(self) -> tuple[str, str]:
        """The two costs of the Pareto front."""
        return self.view.costs

    @costs.setter
    def costs(self, names: Sequence[str]) -> None:
        first, second = (curves.choice("costs", name, COSTS) for name in names)
        self.view.costs = (first, second)

    # -- what is seen ------------------------------------------------------------------------------------------------
    def charts(self, panel: str | None = None) -> list[Chart]:
        """The charts of a panel (None: the one on show), as data."""
        with self.lock:
            self.view.read()
            charts = PANELS[panel or self.panel].charts(self.view) if self.view.groups else []
            return [c for c in charts if not c.empty] if panel is None else charts

    def figure(self, panel: str | None = None) -> go.Figure:
        """A panel as one plotly figure."""
        from octolab.lab.dashboard.draw import figure

        return figure(self.charts(panel), self.style)

    def svg(self, panel: str | None = None, title: str = "") -> str:
        """A panel as one <svg>, without scripts."""
        return sheet(self.charts(panel), self.style, list(self.view.groups), title=title)

    def table(self, target: float | None = None) -> pd.DataFrame:
        """One row per run: where it stands, and the rounds, bits and seconds to the target loss."""
        import pandas as pd

        with self.lock:
            self.view.read()
            before, self.view.target = self.view.target, self.view.target if target is None else target
            try:
                rows = table(self.view)
            finally:
                self.view.target = before
        frame = pd.DataFrame(rows, columns=["name", "seeds", *columns(self.view)]).set_index("name")
        return frame.dropna(axis=1, how="all")

    @property
    def alerts(self) -> list[Alert]:
        """What is worth a word, of all runs, the gravest of each first."""
        return [alert for found in self.alerts_by_run().values() for alert in found]

    def alerts_by_run(self) -> dict[str, list[Alert]]:
        """Name -> alerts of its newest seed."""
        out = {}
        for name in self.view.groups:
            feed = self.view.newest(name)
            if feed is not None:
                out[name] = feed.run.alerts
        return out

    @property
    def python(self) -> str:
        """The call that makes this dashboard, with `run`, or `run_1`, `run_2`, ... for the runs."""
        groups, count, parts = self.view.groups, 0, []
        if len(groups) == 1 and len(next(iter(groups.values()))) == 1:
            shown = "run"
        else:
            for name, group in groups.items():
                runs = [f"run_{count + k + 1}" for k in range(len(group))]
                count += len(group)
                parts.append(f"{name!r}: {runs[0] if len(runs) == 1 else '[' + ', '.join(runs) + ']'}")
            shown = "{" + ", ".join(parts) + "}"
        options = "" if self.chosen is None else f", panels={self.chosen!r}"
        options += f", x={self.x!r}" if self.x != "round" else ""
        options += f", panel={self.panel!r}" if self._panel is not None else ""
        return f"ol.dashboard({shown}{options})"

    @property
    def title(self) -> str:
        runs = [r for group in self.runs.values() for r in group]
        if not runs:
            return "nothing to show yet"
        names = dict.fromkeys(f"{r.problem.name}, {r.problem.n:,} clients" for r in runs)
        return "; ".join(list(names)[:2]) + (" ..." if len(names) > 2 else "")

    def export(self, path: str | os.PathLike, **options: Any) -> str:
        """Write what is shown as .csv, .parquet, .html, .svg, .png or .tex: see `octolab.lab.export`."""
        from octolab.lab.export import export

        return export(self, path, **options)

    # -- static ------------------------------------------------------------------------------------------------------
    def card(self) -> str:
        """What stays in a saved notebook: charts as inline SVG, the table, the alerts; no scripts."""
        charts = self.svg() if self.view.groups else ""
        return (
            f"<div class='octolab-dashboard' style='max-width:62em'>{charts}{table_html(self)}{alerts_html(self)}</div>"
        )

    def _repr_html_(self) -> str:
        return self.card()

    def __repr__(self) -> str:
        lines = [f"Dashboard of {self.title}: {', '.join(self.panels)}"]
        for name, found in self.alerts_by_run().items():
            lines += [f"  {name}: {alert}" for alert in found]
        return "\n".join([*lines, *([self.table().to_string()] if self.view.groups else [])])


def table_html(dashboard: StaticDashboard) -> str:
    """The table, in human units."""
    with dashboard.lock:
        rows, heads = table(dashboard.view), columns(dashboard.view)
    used = [c for c in heads if any(row.get(c) is not None for row in rows)]
    head = "".join(f"<th scope='col' style='text-align:right;padding:2px 8px'>{escape(heads[c])}</th>" for c in used)
    body = ""
    for row in rows:
        swatch = f"<span style='color:{dashboard.style.colour(row['name'])}'>&#9632;</span> "
        cells = "".join(f"<td style='text-align:right;padding:2px 8px'>{escape(with_band(c, row))}</td>" for c in used)
        body += f"<tr><th scope='row' style='text-align:left;padding:2px 8px'>{swatch}{escape(row['name'])}</th>{cells}</tr>"
    return (
        f"<table style='font-size:12px'><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"
        if rows
        else ""
    )


def alerts_html(dashboard: StaticDashboard) -> str:
    lines = ""
    for name, found in dashboard.alerts_by_run().items():
        for a in found:
            lines += f"<li><b>{escape(name)}, {a.level}:</b> {escape(a.message)} <i>{escape(a.advice)}</i></li>"
    return f"<ul style='font-size:12px'>{lines}</ul>" if lines else ""


def named(runs: Any) -> dict[str, list[Run]]:
    """name -> its runs over seeds, from all that can be given. A ValueError says what was wrong."""
    if isinstance(runs, Run):
        return {runs.name: [runs]}
    held = getattr(runs, "runs", None)  # a Comparison, a Repetition
    if held is not None:
        return named(held if isinstance(held, Mapping) else {held[0].name: held})
    if isinstance(runs, Mapping):
        found = {str(name): [value] if isinstance(value, Run) else list(value) for name, value in runs.items()}
    else:
        listed = list(runs) if isinstance(runs, Sequence) else [runs]
        wrong = [r for r in listed if not isinstance(r, Run)]
        if wrong or not listed:
            raise ValueError(
                f"runs={runs!r}: give a Run, a list of Runs, a Comparison, or a dict of name -> Run or Runs."
            )
        names = curves.distinct([r.name for r in listed], [repr(r.given) for r in listed])
        found = {name: [run] for name, run in zip(names, listed, strict=True)}
    for name, group in found.items():
        if not group or not all(isinstance(r, Run) for r in group):
            raise ValueError(f"runs[{name!r}]={group!r}: give a Run, or a list of Runs that differ by their seed.")
    return found
