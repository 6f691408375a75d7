"""What a trained module predicts."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from octolab.arguments import PROBLEM, expects, function, like, switch
from octolab.data.arrays import numbers
from octolab.problems import LeastSquares, Logistic, Network, Problem, Softmax
from octolab.problems.modules import as_tensor


@expects(problem=PROBLEM, module=function("a torch.nn.Module"), X=like("inputs (N, ...)", "__len__"), scores=switch())
def predictions(problem: Problem, module: nn.Module, X: object, scores: bool = False) -> np.ndarray:
    """What the module says of inputs X (N, ...): class numbers (N,), where outputs are class scores; yes or no (N,) or
    (N, L) as 0 and 1; else values (N, ...). scores: the outputs themselves.
    """
    inputs = as_tensor(numbers(X, "X"))
    given = getattr(problem, "X", None)
    whole = isinstance(given, torch.Tensor) and not given.is_floating_point()
    inputs = inputs.long() if whole else inputs.to(problem.dtype)
    if isinstance(module, nn.Linear) and inputs.dim() > 2:
        inputs = inputs.flatten(1)
    if isinstance(module, nn.Linear) and inputs.shape[1:] != (module.in_features,):
        raise ValueError(
            f"X has shape {tuple(inputs.shape)}: give (N, {module.in_features}), {module.in_features} features as in training."
        )
    if isinstance(given, torch.Tensor) and inputs.shape[1:] != given.shape[1:]:
        inputs = _reshaped(inputs, tuple(given.shape[1:]))
    with torch.no_grad():
        outputs = torch.cat([module(part) for part in inputs.split(1024)])
    if scores:
        return outputs.numpy()
    if isinstance(problem, Logistic):
        return (outputs[:, 0] > 0).long().numpy()
    if isinstance(problem, LeastSquares):
        return outputs[:, 0].numpy()
    if isinstance(problem, Softmax):
        return outputs.argmax(1).numpy()
    assert isinstance(problem, Network)
    return problem.loss_of.answers(outputs).numpy()


def _reshaped(inputs: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    if inputs[:1].numel() != int(np.prod(shape)):
        wanted = ", ".join(map(str, ("N", *shape)))
        raise ValueError(f"X has shape {tuple(inputs.shape)}: give ({wanted}), samples as in training.")
    return inputs.reshape(len(inputs), *shape)
