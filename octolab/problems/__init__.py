"""What is minimised: f(x) = sum_i w_i f_i(x) over n clients, with its constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from octolab.arguments import expects, instance
from octolab.batches import Batch
from octolab.layers import Layer
from octolab.notation import build
from octolab.problems.classification import MODELS as CLASSIFIERS
from octolab.problems.classification import classification
from octolab.problems.language import language
from octolab.problems.least_squares import LeastSquares
from octolab.problems.linear import Linear
from octolab.problems.logistic import Logistic
from octolab.problems.network import Network
from octolab.problems.networks import CNN, MLP, CharGPT
from octolab.problems.problem import Problem
from octolab.problems.quadratics import Quadratics, quadratics
from octolab.problems.regression import LOSSES, regression
from octolab.problems.regression import MODELS as REGRESSORS
from octolab.problems.softmax import Softmax
from octolab.problems.tridiagonal import Tridiagonal
from octolab.rooms import register

for _make in (classification, language, quadratics, regression):
    register("problems")(_make)
register("problems", "tridiagonal")(Tridiagonal)

if TYPE_CHECKING:
    from octolab import data


FROM_DATA: dict[str, tuple[Callable[..., Problem], tuple[str, ...], tuple[str, ...]]] = {
    "classification": (classification, CLASSIFIERS, ("squared",)),
    "regression": (regression, REGRESSORS, tuple(LOSSES)),
}


@expects(spec=instance("a problem's spec, a dict", dict))
def from_spec(spec: dict[str, Any]) -> Problem:
    """Rebuild a problem from its JSON spec.

    Problems made from given arrays or modules cannot be rebuilt, a spec only names them by a hash: a
    ValueError says so.
    """
    import torch

    from octolab import data

    arguments = {k: v for k, v in spec.items() if k not in ("kind", "dtype", "given")}
    kind, dtype = spec.get("kind"), getattr(torch, spec.get("dtype", "float64"))
    own = "which a spec does not hold: hand the problem in, e.g. ol.load_run(path, problem=problem)."
    if "given" in spec:
        raise ValueError(f"This {kind} was made from given arrays (sha256 {spec['given']}), {own}")
    if kind in ("classification", "regression"):
        make, models, losses = FROM_DATA[kind]
        if arguments["model"] not in models:
            raise ValueError(f"The spec's model {arguments['model']!r} is your own module, {own}")
        if arguments.get("loss", "squared") not in losses:
            raise ValueError(f"The spec's loss {arguments['loss']!r} is your own, {own}")
        held, split = _dataset(arguments.pop("dataset")), data.split_from_spec(arguments.pop("split"))
        return make(held, **arguments, split=split, dtype=dtype)
    if kind == "language":
        return language(_dataset(arguments.pop("dataset")), **arguments, dtype=dtype)
    made: Problem = build("problems", str(kind), arguments)
    return made.with_dtype(dtype)


def _dataset(named: str | dict[str, Any]) -> data.Dataset:
    """The data set of a spec: the same bytes as then."""
    from octolab import data

    if isinstance(named, str):
        return data.load(named)
    if named.get("given"):
        raise ValueError(
            f"The spec's data set {named['name']!r} was given in memory (sha256 {named['sha256']}), which a spec does not "
            "hold: hand the problem in, e.g. ol.load_run(path, problem=problem)."
        )
    held = data.load(named["name"], **named["options"])
    if held.provenance.sha256 != named["sha256"]:
        raise ValueError(
            f"The data set {named['name']!r} is not the spec's: its sha256 is {held.provenance.sha256}, the "
            f"spec says {named['sha256']}. Load the data that were used and hand the problem in."
        )
    return held


__all__ = [
    "CNN",
    "MLP",
    "Batch",
    "CharGPT",
    "Layer",
    "LeastSquares",
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
    "regression",
]
