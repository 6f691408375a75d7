"""What is minimised: f(x) = sum_i w_i f_i(x) over n clients, with its constants."""

from __future__ import annotations

from typing import Any

from octolab.problems.classification import classification
from octolab.problems.linear import Linear
from octolab.problems.logistic import Logistic
from octolab.problems.problem import Batch, Layer, Problem
from octolab.problems.quadratics import Quadratics, Tridiagonal, quadratics
from octolab.problems.softmax import Softmax

_LATE = {"Network": "network", "language": "language", "MLP": "models", "CNN": "models", "CharGPT": "models"}


def __getattr__(name: str) -> Any:
    if name in _LATE:
        import importlib

        return getattr(importlib.import_module(f"octolab.problems.{_LATE[name]}"), name)
    raise AttributeError(f"octolab.problems has no {name!r}; it has {', '.join(__all__)}.")


def from_spec(spec: dict[str, Any]) -> Problem:
    """Rebuild a problem from its JSON spec. Problems made from given arrays cannot be rebuilt: they are named by a hash."""
    import torch

    from octolab import data

    arguments = {k: v for k, v in spec.items() if k not in ("kind", "dtype", "given")}
    kind, dtype = spec.get("kind"), getattr(torch, spec.get("dtype", "float64"))
    if "given" in spec:
        raise ValueError(
            f"This {kind} was made from given arrays (sha256 {spec['given']}), which a spec does not hold: hand the "
            f"problem in, e.g. ol.load_run(path, problem=problem)."
        )
    if kind == "quadratics":
        return quadratics(**arguments).with_dtype(dtype)
    if kind == "Tridiagonal":
        return Tridiagonal(**arguments, dtype=dtype)
    if kind == "classification":
        split = data.split_from_spec(arguments.pop("split"))
        if arguments["model"] not in ("logistic", "mlp", "cnn"):
            raise ValueError(f"The spec's model {arguments['model']!r} is your own module: hand the problem in.")
        return classification(**arguments, split=split, dtype=dtype)
    if kind == "language":
        from octolab.problems.language import language

        return language(**arguments, dtype=dtype)
    raise ValueError(f"The spec's problem kind {kind!r} is unknown: quadratics, Tridiagonal, classification, language.")


__all__ = [
    "CNN",
    "MLP",
    "Batch",
    "CharGPT",
    "Layer",
    "Linear",
    "Logistic",
    "Network",
    "Problem",
    "Quadratics",
    "Softmax",
    "Tridiagonal",
    "classification",
    "from_spec",
    "language",
    "quadratics",
]
