"""Classification problems from a data set, a model and a split."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from octolab import data
from octolab.data.targets import CLASSES
from octolab.problems.logistic import Logistic
from octolab.problems.network import Network
from octolab.problems.networks import CNN, MLP
from octolab.problems.problem import Problem
from octolab.problems.softmax import Softmax

MODELS = ("logistic", "mlp", "cnn")


def classification(
    dataset: Any = "digits",
    model: Any = "logistic",
    *,
    target: str | Sequence[str] | None = None,
    client: str | None = None,
    groups: str | None = None,
    clients: int | None = None,
    split: Any = None,
    l2: float | None = None,
    nonconvex: float = 0.0,
    weights: Any = "examples",
    seed: int = 0,
    test_share: float = 0.2,
    hidden: Sequence[int] = (64,),
    dtype: torch.dtype | str | None = None,
) -> Problem:
    """A federated classification problem.

    dataset: a name for `ol.data.load`, or a `Dataset`. model: "logistic" (two classes: `Logistic`, more:
    `Softmax` with bias), "mlp" (with `hidden` layers), "cnn", or a torch.nn.Module that gives one score per
    class. clients: how many (default 50, or the natural ones). split: how samples are divided (default IID;
    ol.data.Dirichlet(0.3) is heterogeneous). l2: ridge (default 1e-3 for linear models, 0 for networks).
    nonconvex: weight of sum x^2/(1 + x^2), two classes only. weights: "examples" (f is the loss on the pooled
    data) or "uniform". seed: of the split and of a network's first weights. Accuracy is on the data set's own
    test part, or on all clients' test parts together where it has none.

    >>> classification("breast-cancer", clients=10).n
    10
    """
    held = data.as_dataset(dataset, target=target, client=client, groups=groups, kind=CLASSES)
    if not isinstance(model, nn.Module) and model not in MODELS:
        raise ValueError(f"model={model!r}: choose 'logistic', 'mlp', 'cnn', or give a torch.nn.Module.")
    natural = held.clients is not None and clients is None
    split = split if split is not None else data.Natural() if natural else data.IID()
    count = clients if clients is not None else None if isinstance(split, data.Natural) else 50
    partition = split.split(held, count, seed=seed, test_share=test_share)
    parts = [partition.client(i, held) for i in range(partition.n)]
    whole = None if held.x_test is None else (np.asarray(held.x_test), np.asarray(held.y_test))
    kind = model if isinstance(model, str) else type(model).__name__
    spec = {
        "kind": "classification",
        "dataset": held.spec,
        "model": kind,
        "clients": partition.n,
        "split": split.spec,
        "l2": l2,
        "nonconvex": nonconvex,
        "weights": weights if weights is None or isinstance(weights, str) else np.asarray(weights).tolist(),
        "seed": seed,
        "test_share": test_share,
        "hidden": list(hidden),
    }
    name, dtype = f"{held.name} ({kind})", getattr(torch, dtype) if isinstance(dtype, str) else dtype
    make = _linear if model == "logistic" else _network
    problem = make(
        parts,
        whole,
        len(held.classes),
        weights=weights,
        name=name,
        spec=spec,
        model=model,
        hidden=hidden,
        seed=seed,
        l2=l2,
        nonconvex=nonconvex,
        dtype=dtype,
    )
    problem.partition = partition
    return problem


def _linear(
    parts: Any,
    whole: Any,
    classes: int,
    *,
    l2: float | None,
    nonconvex: float,
    dtype: torch.dtype | None,
    **more: Any,
) -> Problem:
    """Logistic regression for two classes, softmax regression for more."""
    given = {key: more[key] for key in ("weights", "name", "spec")}
    given |= {"l2": 1e-3 if l2 is None else l2, "dtype": dtype or torch.float64}
    features = [_flat(x) for x, _, _, _ in parts]
    tests = [(_flat(x, features[0].shape[1]), y) for _, _, x, y in parts]
    whole = None if whole is None else (_flat(whole[0]), whole[1])
    if classes == 2:
        labels = [_sign(y) for _, y, _, _ in parts]
        tests = [(x, _sign(y)) for x, y in tests]
        whole = None if whole is None else (whole[0], _sign(whole[1]))
        return Logistic(features, labels, nonconvex=nonconvex, test=tests, global_test=whole, **given)
    if nonconvex:
        raise ValueError(
            f"nonconvex={nonconvex}: the non-convex regulariser is for two classes; {given['name']} has {classes}."
        )
    return Softmax(features, [y for _, y, _, _ in parts], classes, test=tests, global_test=whole, **given)


def _network(
    parts: Any,
    whole: Any,
    classes: int,
    *,
    model: Any,
    hidden: Sequence[int],
    seed: int,
    l2: float | None,
    nonconvex: float,
    dtype: torch.dtype | None,
    **more: Any,
) -> Problem:
    if nonconvex:
        raise ValueError(
            f"nonconvex={nonconvex}: the non-convex regulariser is for logistic regression, not for networks."
        )
    shape = parts[0][0].shape[1:]
    if model == "mlp":
        size = math.prod(shape)
        module: nn.Module = MLP(size, *hidden, classes, seed=seed)
        as_input = lambda x: _flat(x, size)  # noqa: E731
    elif model == "cnn":
        channels, side = _image(shape)
        module = CNN(channels, side, classes, seed=seed)
        as_input = lambda x: x.reshape(len(x), channels, side, side)  # noqa: E731
    else:
        module = model
        grey = len(shape) == 2 and not _takes(model, shape) and _takes(model, (1, *shape))
        as_input = lambda x: x[:, None] if grey else x  # noqa: E731
    return Network(
        module,
        "cross_entropy",
        [as_input(x) for x, _, _, _ in parts],
        [y for _, y, _, _ in parts],
        l2=l2 or 0.0,
        test=[(as_input(x), y) for _, _, x, y in parts],
        global_test=None if whole is None else (as_input(whole[0]), whole[1]),
        dtype=dtype or torch.float32,
        **more,
    )


def _takes(module: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether a copy of the module takes samples of this shape."""
    own = copy.deepcopy(module).eval()
    most = max([2, *(part.in_channels + 1 for part in own.modules() if isinstance(part, nn.Conv2d))])
    try:  # more samples than channels: torch would take (channels, height, width) for one picture
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return len(own(torch.zeros(most, *shape))) == most
    except (RuntimeError, IndexError, TypeError, ValueError):
        return False


def _image(shape: tuple[int, ...]) -> tuple[int, int]:
    """Channels and side of square images: (s, s), (c, s, s), or s*s numbers in a row."""
    if len(shape) == 1 and math.isqrt(shape[0]) ** 2 == shape[0] and shape[0] >= 16:
        return 1, math.isqrt(shape[0])
    if len(shape) in (2, 3) and shape[-1] == shape[-2]:
        return (1 if len(shape) == 2 else shape[0]), shape[-1]
    raise ValueError(
        "model='cnn' needs square images, (s, s) or (channels, s, s); these samples have shape "
        f"{tuple(shape)}. Use 'mlp'."
    )


def _flat(x: np.ndarray, width: int | None = None) -> np.ndarray:
    return x.reshape(len(x), math.prod(x.shape[1:]) if width is None else width)


def _sign(y: np.ndarray) -> np.ndarray:
    return 2 * np.asarray(y) - 1
