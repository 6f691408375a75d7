"""What nodes are told about a run: method, problem, seed and wire, as JSON."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from octolab.notation import from_json, to_json
from octolab.params import params

if TYPE_CHECKING:
    from octolab.experiment.run import Run
    from octolab.methods.method import Method


def task_of(run: Run, wire: str) -> dict[str, Any]:
    """What nodes are told about a run, as JSON: the resolved method, the problem's spec, the seed, the wire.

    method and problem are None where they cannot be written down (a page of one's own, given arrays); then `fields` has
    the hyperparameters that can.
    """
    source = run.federation.randomness
    task = {"clients": run.problem.n, "seed": source.seed, "wire": wire, "method": None, "problem": None, "fields": {}}
    if is_known(run.method):
        task["method"] = to_json(run.method)
    else:
        task["fields"] = fields_of(run.method)
    spec = run.problem.spec
    if "given" not in spec:
        task["problem"] = spec
    return task


def fields_of(method: Method) -> dict[str, Any]:
    """The hyperparameters of a method that JSON can hold, by name."""
    found = {}
    for name in params(type(method)):
        with contextlib.suppress(ValueError):
            found[name] = to_json(getattr(method, name))
    return found


def is_known(method: Method) -> bool:
    """Whether a method can be rebuilt from JSON in another process: it is octolab's own, and so are its parts."""
    from octolab import methods

    if not type(method).__module__.startswith("octolab.methods.") or methods.get(method.slug) is not type(method):
        return False
    try:
        from_json(to_json(method))  # a function of the round is only named
    except ValueError:
        return False
    return True
