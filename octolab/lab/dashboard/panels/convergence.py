"""How well it goes: loss or suboptimality, gradient norm, accuracy, personal models; the theorem's rate beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from octolab.experiment import curves
from octolab.experiment.curves import Line
from octolab.lab.chart import Chart, Mark
from octolab.lab.dashboard.panels.registry import panel
from octolab.lab.dashboard.view import Columns, View

AGAINST = {
    "round": "rounds",
    "bits_up": "the bits each client sent",
    "time": "virtual seconds",
}
THEORY = "thin dotted: the theorem's rate"


@panel("convergence", "Convergence", place=10)
def convergence(view: View) -> list[Chart]:
    charts = [objective(view), gradient(view)]
    charts += [accuracy(view)] if view.has("accuracy") else []
    return charts + measured(view) + personal(view)


CLIENTS = "dotted: the mean over the clients"


def measured(view: View) -> list[Chart]:
    """The metrics that were asked for, but accuracy: of all test samples solid, their mean over the clients dotted."""
    charts = []
    for name in dict.fromkeys(n for f in view.feeds for n in f.measured if n != "accuracy"):
        clients = by_client(view, name)
        note = CLIENTS if clients else "of the server model"
        title = f"Test {name.replace('_', ' ')}"
        charts.append(Chart(f"metric {name}", title, view.x_label, "", view.curves(name) + clients, note, linked=True))
    return charts


def by_client(view: View, name: str) -> list[Mark]:
    """The mean over the clients of a metric that was asked for."""
    asked = any(name in f.measured for f in view.feeds)
    return view.curves(f"client_{name}", part="mean over clients", dash="dot", width=1.5) if asked else []


def objective(view: View) -> Chart:
    """f(x) - f* where f* is known for every run, else f(x)."""
    stars = [f.f_star for f in view.feeds]
    if stars and all(s is not None for s in stars):
        marks = []
        for name in view.groups:
            marks += view.curves("loss", _above(view, name), what="suboptimality", only=name)
        theory = view.predicted(marks)
        note = THEORY if theory else "distance to the optimum"
        title = "Suboptimality f(x) − f*"
        return Chart("suboptimality", title, view.x_label, "", marks + theory, note, log_y=True, linked=True, clip=True)
    marks = view.curves("loss")
    return Chart("loss", "Loss f(x)", view.x_label, "", marks, log_y=is_log("loss", marks), linked=True, clip=True)


def against(view: View, x: str) -> Chart:
    """The objective against an axis of its own."""
    chart = objective(view.along(x))
    return replace(chart, key=f"{chart.key} {x}", linked=False, note=f"against {AGAINST[x]}")


def gradient(view: View) -> Chart:
    marks = view.curves("grad_norm_sq", lambda r: _positive(r[:, -1]))
    theory = view.predicted(marks)
    return Chart(
        "grad_norm_sq",
        "Squared gradient norm |∇f(x)|²",
        view.x_label,
        "",
        marks + theory,
        THEORY if theory else "0 at a stationary point",
        log_y=True,
        linked=True,
        clip=True,
    )


def accuracy(view: View) -> Chart:
    clients = by_client(view, "accuracy")
    note, marks = CLIENTS if clients else "of the server model", view.curves("accuracy") + clients
    return Chart("accuracy", "Test accuracy", view.x_label, "", marks, note, percent=True, linked=True)


def personal(view: View) -> list[Chart]:
    """The personal models, where a method makes any: solid; the server model's curve, dotted, for comparison."""
    charts = []
    names = sorted({n for f in view.feeds for n in f.sparse if n.startswith("personal_")})
    for name in names:
        plain = name.removeprefix("personal_")
        marks = view.curves(name)
        if view.has(plain):
            marks = marks + view.curves(
                plain, what=f"{plain} beside personal", part="server model", dash="dot", width=1.5
            )
        title = f"Personal models: {plain.replace('_', ' ')}"
        log = is_log("grad_norm_sq" if "grad" in name else "loss", marks) and "accuracy" not in name
        charts.append(
            Chart(
                name,
                title,
                view.x_label,
                "",
                marks,
                "dotted: the server model",
                log_y=log,
                percent="accuracy" in name,
                linked=True,
                clip="accuracy" not in name,
            )
        )
    return charts


def is_log(y: str, marks: list[Mark]) -> bool:
    return curves.is_log(y, [Line(m.run, np.asarray(m.x), np.asarray(m.y)) for m in marks if m.kind == "line"])


def _above(view: View, name: str) -> Columns:
    """From rows of a run's losses to their distance from f*."""
    least = view.groups[name][0].f_star or 0.0
    return lambda rows: _positive(rows[:, -1] - least)


def _positive(values: np.ndarray) -> np.ndarray:
    """Rounding may put a value at or below zero, where a logarithmic axis has no place for it."""
    return np.where(values > 0, values, np.nan)
