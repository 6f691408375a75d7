"""Classification problems from a data set, a model and a split."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from octolab import data
from octolab.arguments import expects, number
from octolab.data.targets import CLASSES
from octolab.problems.division import Division, Part, Weights, as_dtype, divide, validation_part, weights_spec
from octolab.problems.facts import MADE
from octolab.problems.identity import name_of
from octolab.problems.inputs import flat, network_inputs
from octolab.problems.logistic import Logistic
from octolab.problems.network import Network
from octolab.problems.problem import Problem
from octolab.problems.softmax import Softmax

MODELS = ("logistic", "mlp", "cnn")


@expects(**MADE, nonconvex=number(ge=0))
def classification(
    dataset: object = "digits",
    model: str | nn.Module = "logistic",
    *,
    target: str | Sequence[str] | None = None,
    client: str | None = None,
    groups: str | None = None,
    clients: int | None = None,
    split: data.Split | None = None,
    l2: float | None = None,
    nonconvex: float = 0.0,
    weights: Weights = "examples",
    loss: str | nn.Module | Callable[..., torch.Tensor] | None = None,
    batchnorm: str | None = None,
    buffers: str | None = None,
    seed: int = 0,
    test_share: float = 0.2,
    validation_share: float = 0.0,
    hidden: Sequence[int] = (64,),
    dtype: torch.dtype | str | None = None,
) -> Problem:
    """A federated classification problem.

    dataset: a name for `ol.data.load`, (X, y), a DataFrame, a torch or Hugging Face data set, or an `ol.data.Dataset`.
    model: "logistic" (two classes: `Logistic`, more: `Softmax` with bias), "mlp" (with `hidden` layers), "cnn", or a
    torch.nn.Module that gives one score per class. target, client, groups: columns, where the data have columns.
    clients: how many (default 50, or the natural ones). split: how samples are divided (default IID;
    ol.data.Dirichlet(0.3) is heterogeneous). l2: ridge (default 1e-3 for linear models, 0 for networks).
    nonconvex: weight of sum x^2/(1 + x^2), two classes only. weights: "examples" (f is the loss on the pooled
    data) or "uniform". loss, batchnorm, buffers: of a network, as in `Network`. seed: of the split and of a network's
    first weights. Accuracy is on the data set's own test part, or on all clients' test parts together where it has none.
    validation_share: of each client's training samples, held back; validation_loss and validation_accuracy are on them.

    Where a sample may have several labels, the model gives a score for each (`BCEWithLogitsLoss`), and accuracy is the
    share of labels that are right.

    >>> classification("breast-cancer", clients=10).n
    10
    """
    held = data.as_dataset(dataset, target=target, client=client, groups=groups, kind=CLASSES)
    if not isinstance(model, nn.Module) and model not in MODELS:
        raise ValueError(f"model={model!r}: choose 'logistic', 'mlp', 'cnn', or give a torch.nn.Module.")
    if len(held.classes) < 2:
        raise ValueError(
            f"{held.name} has the single class {held.classes[:1]}: a classification needs two. Check the labels."
        )
    division = divide(
        held, clients=clients, split=split, seed=seed, test_share=test_share, validation_share=validation_share
    )
    own = {name: value for name, value in (("batchnorm", batchnorm), ("buffers", buffers)) if value is not None}
    several = held.kind == "multi-label"
    linear = model == "logistic" and not several
    if linear and (loss is not None or own):
        given = own if loss is None else {"loss": loss}
        raise ValueError(
            f"{', '.join(f'{k}={v!r}' for k, v in given.items())}: for networks; model is 'logistic': leave it out."
        )
    if nonconvex and not (linear and len(held.classes) == 2):
        raise ValueError(
            f"nonconvex={nonconvex}: the non-convex regulariser is for logistic regression of two classes, not for "
            f"networks; {held.name} has {len(held.classes)} classes and the model is {model!r}."
        )
    kind = model if isinstance(model, str) else type(model).__name__
    spec = {
        "kind": "classification",
        "model": kind,
        "l2": l2,
        "nonconvex": nonconvex,
        "weights": weights_spec(weights),
        "hidden": list(hidden),
        **division.spec,
        **own,
    }
    name, ridge = f"{held.name} ({kind})", l2 if l2 is not None else 1e-3 if model == "logistic" else 0.0
    if linear:
        return _linear(division, ridge, nonconvex, weights, name, spec, as_dtype(dtype) or torch.float64)
    if loss is None:
        loss = nn.BCEWithLogitsLoss() if several else "cross_entropy"
    module, as_input = network_inputs(model, division.shape, len(held.classes), hidden, seed)
    return network_problem(
        division, module, as_input, loss, ridge, weights, name, _spec_of(spec, loss, several), dtype, own
    )


def _spec_of(spec: dict[str, object], loss: object, several: bool) -> dict[str, object]:
    """The spec names a loss that is not the default one, so that another loss is another problem."""
    if several or loss == "cross_entropy":
        return spec
    return {**spec, "loss": name_of(loss)}


def _linear(
    division: Division,
    l2: float,
    nonconvex: float,
    weights: Weights,
    name: str,
    spec: dict[str, object],
    dtype: torch.dtype,
) -> Problem:
    """Logistic regression for two classes, softmax regression for more."""
    classes = len(division.held.classes)
    labels = _signs if classes == 2 else _codes
    width = math.prod(division.shape)
    read = lambda part: (flat(part[0], width), labels(part[1]))  # noqa: E731
    train, test = [read(part) for part in division.train], [read(part) for part in division.test]
    features, targets = [x for x, _ in train], [y for _, y in train]
    whole = None if division.whole is None else read(division.whole)
    if classes == 2:
        problem: Logistic | Softmax = Logistic(
            features, targets, l2, nonconvex=nonconvex, weights=weights, test=test, global_test=whole, dtype=dtype,
            name=name, spec=spec,
        )  # fmt: skip
    else:
        problem = Softmax(
            features, targets, classes, l2, weights=weights, test=test, global_test=whole, dtype=dtype, name=name,
            spec=spec,
        )  # fmt: skip
    if division.validation is not None:
        assert problem._test is not None
        problem.validation = validation_part([read(part) for part in division.validation], problem._test, dtype)
    return division.give(problem)


def network_problem(
    division: Division,
    module: nn.Module,
    as_input: Callable[[np.ndarray], np.ndarray],
    loss: str | nn.Module | Callable[..., torch.Tensor],
    l2: float,
    weights: Weights,
    name: str,
    spec: dict[str, object],
    dtype: torch.dtype | str | None,
    own: dict[str, str],
) -> Problem:
    """A `Network` over a division's samples, with its test and validation parts."""
    read = lambda part: (as_input(part[0]), part[1])  # noqa: E731
    train: list[Part] = [read(part) for part in division.train]
    problem = Network(
        module,
        loss,
        [x for x, _ in train],
        [y for _, y in train],
        l2=l2,
        weights=weights,
        test=[read(part) for part in division.test],
        global_test=None if division.whole is None else read(division.whole),
        dtype=as_dtype(dtype),
        name=name,
        spec=spec,
        **own,
    )
    if division.validation is not None:
        assert problem._test is not None
        problem.validation = validation_part([read(part) for part in division.validation], problem._test, problem.dtype)
    return division.give(problem)


def _signs(y: np.ndarray) -> np.ndarray:
    return 2 * y.astype(np.int64) - 1


def _codes(y: np.ndarray) -> np.ndarray:
    return y
