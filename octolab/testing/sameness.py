"""Two runs side by side: everything that moves in them, compared bit by bit."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch

from octolab.experiment import Run
from octolab.federation.ledger import COLUMNS


def everything(run: Run) -> dict[str, Any]:
    """All that moves in a run, flat: name -> tensor, array or number."""
    fed, out = run.federation, {}

    def put(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for k, v in value.items():
                put(f"{name}.{k}", v)
        elif isinstance(value, tuple) and hasattr(value, "_fields"):
            put(name, dict(zip(value._fields, value, strict=True)))
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            put(name, {f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
        elif isinstance(value, (list, tuple)):
            put(name, dict(enumerate(value)))
        else:
            out[name] = value

    put("state", run.state)
    put("memory", dict(fed.memory.items()))
    put("ledger", {c: fed.ledger.per_client(c) for c in COLUMNS})
    put("clock", fed.now)
    put("counters", fed.counters)
    put("history", {"rows": run.recorder.rows, **run.recorder.sparse})
    if fed.asynchronous:
        alive = [job for job in fed.jobs.current if job is not None]
        put("jobs", [(j.client, j.number, j.tag, j.time, j.state, j.down) for j in alive])
    return out


def difference(a: Run, b: Run, tol: float = 0.0, skip: tuple[str, ...] = ()) -> str:
    """The first thing in which two runs differ ("" if none): bitwise, or by more than `tol` of its size."""
    one, two = everything(a), everything(b)
    if set(one) != set(two):
        return f"one holds {sorted(set(one) ^ set(two))[:3]}, the other does not"
    for name in sorted(one):
        u, v = one[name], two[name]
        if name.startswith(skip) if skip else False:
            continue
        if isinstance(u, str) or u is None:
            if u != v:
                return f"{name}: {u!r} and {v!r}"
            continue
        u, v = np.asarray(u), np.asarray(v)
        if u.shape != v.shape or u.dtype != v.dtype:
            return f"{name}: {u.dtype}{u.shape} and {v.dtype}{v.shape}"
        if not np.array_equal(u, v, equal_nan=u.dtype.kind == "f"):
            gap = float(np.max(np.abs(u - v))) if u.dtype.kind in "fi" else math.inf
            if not gap <= tol * max(1.0, float(np.max(np.abs(u)))):
                return f"{name} differs by {gap:.3g}"
    return ""


def tensors_of(state: Any) -> dict[str, torch.Tensor]:
    """The tensors of a state by their field names."""
    named = state._asdict() if hasattr(state, "_asdict") else vars(state) if hasattr(state, "__dict__") else {}
    if dataclasses.is_dataclass(state):
        named = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    return {k: v for k, v in named.items() if isinstance(v, torch.Tensor)}
