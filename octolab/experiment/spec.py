"""Runs as data: a small, hashable JSON description that reproduces a run, and the way back.

Only names from octolab's own registries (methods, compressors, samplers, fleets, attacks, aggregators, problems) are
looked up; nothing in a spec is ever evaluated or imported.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import octolab
from octolab import compressors, federation, local, methods, schedules
from octolab.errors import RunFileError
from octolab.experiment.permission import ASKS, check_spec
from octolab.experiment.run import Run, Settings, Until
from octolab.methods import Method, Theory
from octolab.trust import aggregators, attacks

if TYPE_CHECKING:
    from octolab.problems import Problem


def _registry() -> dict[str, type]:
    found: dict[str, type] = {"Theory": Theory, "Until": Until}
    for module in (federation, schedules, local, attacks, aggregators):
        for name in getattr(module, "__all__", dir(module)):
            thing = getattr(module, name)
            if isinstance(thing, type) and dataclasses.is_dataclass(thing):
                found[name] = thing
    return found


def encode(value: Any) -> Any:
    """A hyperparameter or setting as JSON."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return {"array": np.asarray(value).tolist()}
    if isinstance(value, (list, tuple)):
        return [encode(v) for v in value]
    if isinstance(value, compressors.Compressor):
        return {"compressor": value.spec}
    if isinstance(value, Method):
        return {"method": value.slug, **_fields(value)}
    if dataclasses.is_dataclass(value) and type(value).__name__ in _registry():
        return {"object": type(value).__name__, **_fields(value)}
    raise ValueError(
        f"{value!r} cannot be written as JSON, so this run has no spec. Use octolab's own samplers, aggregators, fleets "
        f"and attacks, or numbers and arrays."
    )


def _fields(value: Any) -> dict[str, Any]:
    return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}


def decode(data: Any) -> Any:
    """The way back from `encode`."""
    if isinstance(data, list):
        return [decode(v) for v in data]
    if not isinstance(data, dict):
        return data
    if set(data) == {"array"}:
        return np.asarray(data["array"])
    if set(data) == {"compressor"}:  # a method has a field of this name, beside its own
        return compressors.from_spec(data["compressor"])
    rest = {k: decode(v) for k, v in data.items() if k not in ("object", "method")}
    if "method" in data:
        return methods.get(data["method"])(**rest)
    if "object" in data:
        known = _registry()
        if data["object"] not in known:
            raise ValueError(
                f"The spec names {data['object']!r}, which octolab does not know; it knows {sorted(known)}."
            )
        return known[data["object"]](**rest)
    raise ValueError(f"A spec entry is a number, a text, a list, or an object with a kind; got keys {sorted(data)}.")


SETTINGS = [
    f.name
    for f in dataclasses.fields(Settings)
    if f.name not in ("x0", "checkpoint", "checkpoint_every", "threads", "on")
]


def describe(run: Run) -> dict[str, Any]:
    """The spec of a run; `hash` names it."""
    settings = {name: encode(getattr(run.settings, name)) for name in SETTINGS}
    default = {f.name: f.default for f in dataclasses.fields(Settings)}
    spec: dict[str, Any] = {
        "octolab": octolab.__version__,
        "method": encode(run.given),
        "problem": run.problem.spec,
        "settings": {k: v for k, v in settings.items() if k == "rounds" or v != default.get(k)},
    }
    if run.settings.x0 is not None:
        spec["x0"] = {"array": np.asarray(run.settings.x0, dtype=float).tolist()}
    spec["hash"] = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:12]
    return spec


def from_spec(
    spec: dict[str, Any] | str,
    problem: Problem | None = None,
    method: Method | None = None,
    *,
    allow: Collection[str] = (),
) -> Run:
    """A run, not started, from its spec (a dict or JSON text). Problems made from given arrays must be handed in.

    A spec describes: it writes, fetches, opens or places nothing unless the caller says so, allow=() out of "write",
    "network", "files", "place" (see `octolab.experiment.permission`).
    """
    from octolab import problems

    found = _parsed(spec) if isinstance(spec, str) else spec
    check_spec(found, allow, own_problem=problem is not None)
    if problem is None:
        problem = problems.from_spec(found["problem"])
    settings = {k: decode(v) for k, v in found["settings"].items()}
    unknown = sorted(set(settings) - {*SETTINGS, *ASKS})
    if unknown:
        raise ValueError(f"The spec's settings have {unknown}, which no run has; it has {', '.join(SETTINGS)}.")
    if "x0" in found:
        settings["x0"] = decode(found["x0"])
    return Run(method or decode(found["method"]), problem, Settings(**settings))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise RunFileError(f"The spec is not JSON: {error}.") from None
