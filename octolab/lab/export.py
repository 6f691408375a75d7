"""A run, or several, as a file: `run.export("ef21.html")`. The ending says what it becomes.

.csv, .parquet   the history, all rows and columns (several runs: with columns method and seed)
                 specs and provenance: in the parquet's metadata, beside a .csv in NAME.csv-metadata.json
.html            one page with all panels, the table, the alerts and the spec; nothing is fetched, no scripts.
                 interactive=True puts plotly into the page (5 MB): zoom and hover, offline too
.svg, .png, .pdf one panel as a picture (panel="overview"), drawn by matplotlib; size: "screen", "slide" or "paper"
.tex             a table in LaTeX (booktabs)
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octolab.experiment.run import Run
from octolab.experiment.statistics import check_band, check_centre

if TYPE_CHECKING:
    import pandas as pd

    from octolab.lab.dashboard.static import StaticDashboard


@dataclass(frozen=True)
class Options:
    """What `export` was asked for beside the path."""

    panel: str | None = None
    interactive: bool = False
    scale: float = 2.0
    size: str = "screen"


def export(
    runs: Any,
    path: str | os.PathLike,
    *,
    panel: str | None = None,
    x: str = "round",
    target: float | None = None,
    band: str | None = None,
    centre: str | None = None,
    interactive: bool = False,
    scale: float = 2.0,
    size: str = "screen",
) -> str:
    """Write runs to `path`; returns the absolute path.

    runs: a Run, several, a Comparison, or name -> Run or Runs. panel: which one becomes a picture. x: the common axis.
    target: the loss whose costs the table gives. band, centre: of several seeds, "minmax", "sd" or "ci95", and "mean",
    "median" or "iqm". interactive: an .html with plotly. scale: of a .png, in pixels
    per point. size: of a picture, "screen", "slide" or "paper".
    Raises ValueError for an ending or a folder that does not exist, ImportError (in words) where a library is missing.
    """
    place = Path(path).expanduser()
    write = WRITERS.get(place.suffix.lower())
    if write is None:
        raise ValueError(f"path={str(path)!r}: the ending {place.suffix!r} is none of {', '.join(WRITERS)}.")
    if not place.parent.exists():
        raise ValueError(f"path={str(path)!r}: the folder {place.parent} does not exist. Make it first.")
    if not scale > 0:
        raise ValueError(f"scale={scale!r}: give pixels per point, > 0.")
    dashboard = _shown(runs, x=x, panel=panel)
    view = dashboard.view
    before = view.target, view.band, view.centre
    try:
        dashboard.target = view.target if target is None else target
        view.band = check_band(band or view.band)
        view.centre = check_centre(centre or view.centre)
        write(dashboard, place, Options(panel, interactive, scale, size))
    finally:
        view.target, view.band, view.centre = before
    return str(place.resolve())


def history(dashboard: StaticDashboard) -> pd.DataFrame:
    """All rows of all runs; with columns method and seed in front if there are several."""
    import pandas as pd

    runs = [(name, run) for name, group in dashboard.runs.items() for run in group]
    if len(runs) == 1:
        return runs[0][1].history
    tables = []
    for name, run in runs:
        table = run.history
        table.insert(0, "method", name)
        table.insert(1, "seed", run.settings.seed)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _csv(dashboard: StaticDashboard, path: Path, options: Options) -> None:
    """The table, and beside it, where the W3C's "CSV on the web" looks, a file that says what it is."""
    history(dashboard).to_csv(path, index=False)
    described(dashboard, path)


def described(runs: Any, path: str | os.PathLike[str]) -> None:
    """Specs and provenance of runs, in the file NAME-metadata.json beside a table."""
    dashboard, place = _shown(runs), Path(path)
    about = {"url": place.name, "octolab": {"specs": specs(dashboard), "provenance": origins(dashboard)}}
    place.with_name(f"{place.name}-metadata.json").write_text(json.dumps(about, indent=1), encoding="utf-8")


def _shown(runs: Any, **options: Any) -> StaticDashboard:
    from octolab.lab.dashboard.static import StaticDashboard

    return runs if isinstance(runs, StaticDashboard) else StaticDashboard(runs, **options)


def _parquet(dashboard: StaticDashboard, path: Path, options: Options) -> None:
    table = history(dashboard)
    about = {"octolab": specs(dashboard), "provenance": origins(dashboard)}
    table.attrs = {name: json.dumps(value) for name, value in about.items()}  # kept in the file's metadata
    table.to_parquet(path, index=False)


def _runs(dashboard: StaticDashboard) -> list[Run]:
    return [run for group in dashboard.runs.values() for run in group]


def origins(dashboard: StaticDashboard) -> list[dict[str, Any]]:
    """The provenance of the runs, each that differs once: see `Run.provenance`."""
    found: list[dict[str, Any]] = []
    for run in _runs(dashboard):
        if run.provenance not in found:
            found.append(run.provenance)
    return found


def _picture(dashboard: StaticDashboard, path: Path, options: Options) -> None:
    from octolab.lab.pictures import figure, written

    charts = dashboard.charts(options.panel)
    made = figure(
        [c for c in charts if not c.empty], dashboard.style, list(dashboard.runs), dashboard.title, options.size
    )
    path.write_bytes(written(made, path.suffix.lower(), options.scale, json.dumps(origins(dashboard))))


# -- a page --------------------------------------------------------------
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:62em;margin:2em auto;padding:0 1em;color:#1d2430;background:#fff}
h1{font-size:1.5em;margin:0}h2{font-size:1.15em;margin:2em 0 .3em;border-bottom:1px solid #d5dae1}svg{max-width:100%;height:auto}
pre{background:#f4f6f9;padding:1em;white-space:pre-wrap;overflow-wrap:anywhere;font-size:12px}table{border-collapse:collapse;font-size:13px}
.meta{color:#56606e;margin:.2em 0 1em}"""


def _html(dashboard: StaticDashboard, path: Path, options: Options) -> None:
    path.write_text(page(dashboard, options.interactive), encoding="utf-8")


def page(dashboard: StaticDashboard, interactive: bool = False) -> str:
    """One self-contained page: every panel, the table, the alerts, the specs."""
    import octolab
    from octolab.lab.dashboard.panels import PANELS
    from octolab.lab.dashboard.static import alerts_html, table_html

    parts, first = [], True
    for name in dashboard.panels:
        charts = [c for c in dashboard.charts(name) if not c.empty]
        if not charts:
            continue
        if interactive:
            drawn = dashboard.figure(name).to_html(full_html=False, include_plotlyjs="inline" if first else False)
            first = False
        else:
            drawn = dashboard.svg(name)
        parts.append(f"<h2>{escape(PANELS[name].title)}</h2>{drawn}")
    title = escape(f"{', '.join(dashboard.runs)} on {dashboard.title}")
    lines = [json.dumps(spec) for group in specs(dashboard).values() for spec in group]
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{title}</title>"
        f"<meta name='viewport' content='width=device-width'><style>{STYLE}</style></head><body><main><h1>{title}</h1>"
        f"<p class='meta'>octolab {escape(octolab.__version__)}; bits are those of the messages sent, time is virtual</p>"
        f"{table_html(dashboard)}{alerts_html(dashboard)}{''.join(parts)}"
        f"<h2>To run it again</h2><p>Each line is for <code>octolab.from_spec(...)</code>.</p>"
        f"<pre>{escape(chr(10).join(lines))}</pre>"
        f"<details><summary>Where the numbers come from</summary>{_origins_html(dashboard)}</details>"
        f"</main></body></html>"
    )


def _origins_html(dashboard: StaticDashboard) -> str:
    tables = []
    for origin in origins(dashboard):
        rows = "".join(
            f"<tr><th align='left'>{escape(k)}</th><td>{escape(_word(v))}</td></tr>" for k, v in origin.items()
        )
        tables.append(f"<table class='octolab-provenance'>{rows}</table>")
    return "".join(tables)


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def specs(dashboard: StaticDashboard) -> dict[str, Any]:
    """name -> the spec of each seed; where a run has none, the reason."""
    return {name: [_spec(run) for run in group] for name, group in dashboard.runs.items()}


def _spec(run: Run) -> Any:
    try:
        return run.spec
    except (ValueError, NotImplementedError) as error:
        return str(error) or "no spec"


# -- a table in LaTeX --------------------------------------------------------------
LEFT_OUT = ("status", "bits_total")
"""Columns of the dashboard's table that a paper has no room for."""


def _tex(dashboard: StaticDashboard, path: Path, options: Options) -> None:
    path.write_text(latex(dashboard), encoding="utf-8")


def latex(dashboard: StaticDashboard) -> str:
    """A tabular with one row per run; the best loss, accuracy and costs to the target in bold. Needs booktabs."""
    import pandas as pd

    from octolab.lab.dashboard.panels.comparison import columns, table, target_of, with_band

    with dashboard.lock:
        dashboard.view.read()
        rows = table(dashboard.view)
        target = target_of(dashboard.view) if len(rows) > 1 or dashboard.target is not None else None
        heads = {name: head for name, head in columns(dashboard.view).items() if name not in LEFT_OUT}
    used = [c for c in heads if any(row.get(c) is not None for row in rows)]
    cells = pd.DataFrame(
        [[row["name"], *(with_band(c, row) for c in used)] for row in rows],
        columns=["method", *(heads[c] for c in used)],
    )
    more = {name: run.greater_is_better(name) for run in _runs(dashboard) for name in competed(run)}
    best = pd.DataFrame(
        [["", *(BOLD if _is_best(c, row, rows, more) else "" for c in used)] for row in rows], columns=cells.columns
    )
    styled = cells.style.apply(lambda _: best, axis=None).format(_tex_text).hide(axis="index")
    body = styled.to_latex(hrules=True, column_format="l" + "r" * len(used))
    goal = "" if target is None else f"; target: loss {target:.6g}"
    bands = BANDS_SAID[dashboard.view.band] if any(key.endswith("_band") for row in rows for key in row) else ""
    sources = "".join(f"% {json.dumps(origin)}\n" for origin in origins(dashboard))
    return f"% {_tex_text(dashboard.title)}{goal}{bands}\n{sources}% needs \\usepackage{{booktabs}}\n{body}"


def latex_of(runs: Any, band: str, centre: str, target: float | None) -> str:
    """`latex` of a comparison."""
    dashboard = _shown(runs, band=band, centre=centre)
    dashboard.target = target
    return latex(dashboard)


def competed(run: Run) -> list[str]:
    """The columns in which runs compete."""
    return ["loss", "accuracy", *([] if run.measure is None else (m.name for m in run.measure.metrics))]


BANDS_SAID = {
    "minmax": "; over seeds: [least, greatest]",
    "sd": "; over seeds: +- standard deviation",
    "ci95": "; over seeds: [95 % bootstrap interval of the mean]",
}


BOLD = "textbf:--rwrap;"


def _is_best(column: str, row: dict[str, Any], rows: list[dict[str, Any]], more: dict[str, bool]) -> bool:
    """Whether a row has the best value of a column in which runs compete; more: metric -> whether more of it is better."""
    value, others = row.get(column), [r[column] for r in rows if r.get(column) is not None]
    if value is None or len(rows) < 2 or not (column in more or column.endswith("_to")):
        return False
    return bool(value == (max(others) if more.get(column) else min(others)))


def _tex_text(text: object) -> str:
    text = str(text).replace("\\", r"\textbackslash ")
    for letter in "&%$#_{}":
        text = text.replace(letter, "\\" + letter)
    return (
        text.replace("~", r"\textasciitilde ")
        .replace("^", r"\textasciicircum ")
        .replace("–", "--")
        .replace("±", r"$\pm$")
    )


WRITERS: dict[str, Callable[[StaticDashboard, Path, Options], None]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".html": _html,
    ".svg": _picture,
    ".png": _picture,
    ".pdf": _picture,
    ".tex": _tex,
}

__all__ = ["export"]
