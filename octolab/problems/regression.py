"""Regression problems from a data set, a model and a split."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from octolab import data
from octolab.arguments import expects
from octolab.data.targets import REGRESSION
from octolab.problems.classification import network_problem
from octolab.problems.division import Division, Weights, as_dtype, divide, validation_part, weights_spec
from octolab.problems.facts import MADE
from octolab.problems.identity import name_of
from octolab.problems.inputs import flat, network_inputs
from octolab.problems.least_squares import LeastSquares
from octolab.problems.problem import Problem

MODELS = ("linear", "mlp", "cnn")
LOSSES: dict[str, type[nn.Module]] = {
    "squared": nn.MSELoss,
    "absolute": nn.L1Loss,
    "huber": nn.HuberLoss,
}


@expects(**MADE)
def regression(
    dataset: object,
    model: str | nn.Module = "linear",
    *,
    target: str | Sequence[str] | None = None,
    loss: str | nn.Module | Callable[..., torch.Tensor] = "squared",
    client: str | None = None,
    groups: str | None = None,
    clients: int | None = None,
    split: data.Split | None = None,
    l2: float = 0.0,
    weights: Weights = "examples",
    batchnorm: str | None = None,
    buffers: str | None = None,
    seed: int = 0,
    test_share: float = 0.2,
    validation_share: float = 0.0,
    hidden: Sequence[int] = (64,),
    dtype: torch.dtype | str | None = None,
) -> Problem:
    """A federated regression problem: real targets, judged by mse, mae and r2 on the test part.

    dataset: as in `classification`; whole-number targets are taken as numbers. model: "linear" (with a bias), "mlp"
    (with `hidden` layers), "cnn", or a torch.nn.Module. loss: "squared" (the mean squared error), "absolute", "huber", a
    torch loss or a function of (outputs, targets). The linear model with squared loss is `LeastSquares`, whose constants
    L, L_i, mu, mu_i and x_star are exact; everything else is a `Network`. The other arguments are those of
    `classification`; client's own mse and mae stand in `client_metrics`.

    >>> regression(([[1.0], [2.0], [3.0], [4.0]], [2.0, 4.0, 6.0, 8.0]), clients=2, test_share=0.0).x_star.round(decimals=6).abs()
    tensor([2., 0.], dtype=torch.float64)
    """
    held = data.as_dataset(dataset, target=target, client=client, groups=groups, kind=REGRESSION)
    if not isinstance(model, nn.Module) and model not in MODELS:
        raise ValueError(f"model={model!r}: choose 'linear', 'mlp', 'cnn', or give a torch.nn.Module.")
    if isinstance(loss, str) and loss not in LOSSES:
        raise ValueError(f"loss={loss!r}: choose {', '.join(map(repr, LOSSES))}, or give a torch loss or a function.")
    outputs = 1 if held.y.ndim == 1 else held.y.shape[1]
    division = divide(
        held, clients=clients, split=split, seed=seed, test_share=test_share, validation_share=validation_share
    )
    own = {name: value for name, value in (("batchnorm", batchnorm), ("buffers", buffers)) if value is not None}
    kind = model if isinstance(model, str) else type(model).__name__
    spec = {
        "kind": "regression",
        "model": kind,
        "loss": name_of(loss),
        "l2": l2,
        "weights": weights_spec(weights),
        "hidden": list(hidden),
        **division.spec,
        **own,
    }
    name = f"{held.name} ({kind})"
    if model == "linear" and loss == "squared" and outputs == 1:
        if own:
            raise ValueError(
                f"{', '.join(f'{k}={v!r}' for k, v in own.items())}: for networks; the model is 'linear': leave it out."
            )
        return _least_squares(division, l2, weights, name, spec, as_dtype(dtype) or torch.float64)
    module, as_input = network_inputs(model, division.shape, outputs, hidden, seed)
    measure = LOSSES[loss]() if isinstance(loss, str) else loss
    return network_problem(division, module, as_input, measure, l2, weights, name, spec, dtype, own)


def _least_squares(
    division: Division, l2: float, weights: Weights, name: str, spec: dict[str, object], dtype: torch.dtype
) -> LeastSquares:
    width = math.prod(division.shape)
    problem = LeastSquares(
        [flat(x, width) for x, _ in division.train],
        [y for _, y in division.train],
        l2,
        weights=weights,
        test=[(flat(x, width), y) for x, y in division.test],
        global_test=None if division.whole is None else (flat(division.whole[0], width), division.whole[1]),
        dtype=dtype,
        name=name,
        spec=spec,
    )
    if division.validation is not None:
        assert problem._test is not None
        held_back = [(flat(x, width), y) for x, y in division.validation]
        problem.validation = validation_part(held_back, problem._test, dtype)
    division.give(problem)
    return problem
