"""Classification problems from a data set, a model and a split."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from octolab import data
from octolab.problems.logistic import Logistic
from octolab.problems.problem import Problem
from octolab.problems.softmax import Softmax


def classification(
    dataset: Any = "digits",
    model: Any = "logistic",
    *,
    clients: int | None = None,
    split: Any = None,
    l2: float | None = None,
    nonconvex: float = 0.0,
    weights: Any = "examples",
    seed: int = 0,
    test_share: float = 0.2,
    dtype: torch.dtype | str | None = None,
) -> Problem:
    """A federated classification problem.

    dataset: a name for `ol.data.load`, or a `Dataset`. model: "logistic" (two classes: `Logistic`, more: `Softmax` with
    bias), "mlp", "cnn", or a torch.nn.Module. clients: how many (default 50, or the natural ones). split: how samples
    are divided (default IID; ol.data.Dirichlet(0.3) is heterogeneous). l2: ridge (default 1e-3 for linear models, 0 for
    networks). weights: "examples" (f is the loss on the pooled data) or "uniform". Accuracy is on the data set's own
    test part, or on all clients' test parts together where it has none.

    >>> classification("breast-cancer", clients=10).n
    10
    """
    held = data.load(dataset) if isinstance(dataset, str) else dataset
    split = split if split is not None else (data.Natural() if held.clients is not None and clients is None else data.IID())
    count = clients if clients is not None else (None if isinstance(split, data.Natural) else 50)
    partition = split.split(held, count, seed=seed, test_share=test_share)
    parts = [partition.client(i, held) for i in range(partition.n)]
    if held.x_test is not None and held.y_test is not None:
        whole = (np.asarray(held.x_test), np.asarray(held.y_test))
    else:
        whole = None
    kind = model if isinstance(model, str) else type(model).__name__
    spec = {"kind": "classification", "dataset": held.name, "model": kind, "clients": partition.n, "split": split.spec,
            "l2": l2, "nonconvex": nonconvex, "weights": weights if isinstance(weights, str) else np.asarray(weights).tolist(),
            "seed": seed, "test_share": test_share}  # fmt: skip
    name = f"{held.name} ({kind})"
    kind_of_real: Any = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    if model == "logistic":
        problem: Problem = _linear(parts, whole, len(held.classes), l2, nonconvex, weights, kind_of_real, name, spec)
    else:
        from octolab.problems.network import classifier

        problem = classifier(model, parts, whole, len(held.classes), l2=l2 or 0.0, weights=weights, seed=seed, dtype=kind_of_real,
                             name=name, spec=spec)  # fmt: skip
    problem.partition = partition  # type: ignore[attr-defined]
    return problem


def _linear(parts: Any, whole: Any, classes: int, l2: float | None, nonconvex: float, weights: Any,
            dtype: torch.dtype | None, name: str, spec: dict) -> Problem:  # fmt: skip
    ridge, dtype = 1e-3 if l2 is None else l2, dtype or torch.float64
    flat = [(x.reshape(len(x), -1), y) for x, y, _, _ in parts]
    tests = [(x.reshape(len(x), flat[0][0].shape[1]), y) for _, _, x, y in parts]
    if whole is not None:
        whole = (whole[0].reshape(len(whole[0]), -1), whole[1])
    if classes == 2:
        sign = lambda y: 2 * np.asarray(y) - 1  # noqa: E731
        return Logistic([x for x, _ in flat], [sign(y) for _, y in flat], ridge, nonconvex=nonconvex, weights=weights,
                        test=[(x, sign(y)) for x, y in tests], global_test=None if whole is None else (whole[0], sign(whole[1])),
                        dtype=dtype, name=name, spec=spec)  # fmt: skip
    if nonconvex:
        raise ValueError(f"nonconvex={nonconvex}: the non-convex regulariser is for two classes; {name} has {classes}.")
    return Softmax([x for x, _ in flat], [y for _, y in flat], classes, ridge, weights=weights, test=tests,
                   global_test=whole, dtype=dtype, name=name, spec=spec)  # fmt: skip
