"""Runs as data: a small, hashable JSON description that reproduces a run, and the way back.

Only names in octolab's registries (`octolab.rooms`) are looked up; nothing in a spec is ever evaluated or imported.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

import octolab
from octolab.arguments import ALLOW, METHOD, PROBLEM, expects, instance, short
from octolab.errors import RunFileError
from octolab.experiment.permission import ASKS, check_spec, in_words
from octolab.experiment.run import Run, Settings
from octolab.methods import Method
from octolab.metrics import PerClient
from octolab.notation import from_json, to_json

if TYPE_CHECKING:
    from octolab.problems import Problem

encode, decode = to_json, from_json
"""The names before 0.2, which apps exported then import."""

SETTINGS = [
    f.name
    for f in dataclasses.fields(Settings)
    if f.name not in ("x0", "checkpoint", "checkpoint_every", "threads", "on", "metrics")
]


def describe(run: Run) -> dict[str, Any]:
    """The spec of a run; `hash` names it."""
    settings = {name: to_json(getattr(run.settings, name)) for name in SETTINGS}
    default = {f.name: f.default for f in dataclasses.fields(Settings)}
    spec: dict[str, Any] = {
        "octolab": octolab.__version__,
        "method": to_json(run.given),
        "problem": run.problem.spec,
        "settings": {k: v for k, v in settings.items() if k == "rounds" or v != default.get(k)},
    }
    if run.settings.metrics is not None:
        spec["settings"]["metrics"] = [metric.spec for metric in run.settings.metrics]
    if run.settings.x0 is not None:
        spec["x0"] = {"array": run.federation.x0.double().tolist()}
    if run.problem.statistics is not None and run.problem.statistics.begun:
        spec["x0_statistics"] = {"array": run.problem.statistics.initial.double().tolist()}
    spec["hash"] = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:12]
    return spec


@expects(spec=instance("a spec: a dict or its JSON text", dict, str), problem=PROBLEM, method=METHOD, allow=ALLOW)
def from_spec(
    spec: dict[str, Any] | str,
    problem: Problem | None = None,
    method: Method | None = None,
    *,
    metrics: Iterable[Any] | None = None,
    allow: Collection[str] = (),
) -> Run:
    """A run, not started, from its spec (a dict or JSON text). Problems made from given arrays must be handed in.

    A spec describes: it writes, fetches, opens or places nothing unless the caller says so, allow=() out of "write",
    "network", "files", "place" (see `octolab.experiment.permission`).
    """
    found = _parsed(spec) if isinstance(spec, str) else spec
    check_spec(found, allow, own_problem=problem is not None)
    with in_words("The spec"):
        return _run_of(found, problem, method, metrics)


def _run_of(
    spec: Mapping[str, Any], problem: Problem | None, method: Method | None, metrics: Iterable[Any] | None
) -> Run:
    from octolab import problems

    if problem is None:
        problem = problems.from_spec(spec["problem"])
    asked = dict(spec["settings"])
    named = asked.pop("metrics", None)
    settings = {k: from_json(v) for k, v in asked.items()}
    if metrics is not None or named is not None:
        settings["metrics"] = metrics_from(named) if metrics is None else metrics
    unknown = sorted(set(settings) - {*SETTINGS, *ASKS, "metrics"})
    if unknown:
        raise ValueError(f"The spec's settings have {unknown}, which no run has; it has {', '.join(SETTINGS)}.")
    if "x0" in spec:
        settings["x0"] = from_json(spec["x0"])
    if "x0_statistics" in spec:
        problem = _with_statistics(problem, from_json(spec["x0_statistics"]))
    return Run(method or from_json(spec["method"]), problem, Settings(**settings))


def _with_statistics(problem: Problem, initial: Any) -> Problem:
    if problem.statistics is None:
        raise ValueError(f"The spec holds running statistics, which {problem.name} has not.")
    twin = copy.copy(problem)
    twin.statistics = problem.statistics.beginning(torch.as_tensor(initial))
    return twin


def metrics_from(named: Any) -> list[Any]:
    """The metrics that a spec names; ValueError for a function of one's own, which a spec cannot hold."""
    if not isinstance(named, list):
        raise ValueError(f"The spec's metrics are {named!r}: they are a list of names.")
    out: list[Any] = []
    for entry in named:
        if isinstance(entry, dict) and set(entry) == {"per_client"}:
            out += [PerClient(inner) for inner in metrics_from([entry["per_client"]])]
        elif isinstance(entry, dict) and "function" in entry:
            raise ValueError(
                f"The metric {entry['function']!r} is a function of your own, which a spec only names: hand all metrics in, "
                f"metrics=[...]."
            )
        else:
            out.append(entry)
    return out


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise RunFileError(f"The spec {short(text)} is not JSON: {error}. Give run.spec, or its JSON text.") from None
