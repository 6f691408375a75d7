"""Losses per sample: what a client's objective is the mean of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class Loss:
    """`loss(outputs, targets, lead)`: one number per sample, averaged over whatever dimensions a sample has.

    outputs and targets carry `lead` sample dimensions: 1 is (B, ...), 2 is (K, B, ...). Made from
    "cross_entropy" (classes last, integer targets), "mse", a torch loss module (its reduction is taken off),
    or a function of (outputs (B, ...), targets (B, ...)) that gives (B,).
    """

    def __init__(self, given: Any):
        self.given = given
        self.kind, self._function = _read(given)

    @property
    def classifies(self) -> bool:
        return self.kind == "cross_entropy"

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor, lead: int = 1) -> torch.Tensor:
        shape = targets.shape[:lead]
        if self.kind == "cross_entropy" and targets.dim() == 1:
            return F.cross_entropy(outputs, targets, reduction="none")
        if self.kind == "cross_entropy":
            each = F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), reduction="none").view(targets.shape)
        elif lead == 1:
            each = self._function(outputs, targets)
        else:
            each = self._function(outputs.flatten(0, lead - 1), targets.flatten(0, lead - 1))
            each = each.view(*shape, *each.shape[1:]) if each.dim() else each
        if each.dim() < lead or each.shape[:lead] != shape:
            raise ValueError(
                f"The loss gave shape {tuple(each.shape)} for {tuple(shape)} samples: it must give one "
                "number per "
                f"sample. Take off its reduction, e.g. reduction='none'."
            )
        return each.flatten(lead).mean(lead) if each.dim() > lead else each


def _squared(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs.view(targets.shape) - targets).square()


def _read(given: Any) -> tuple[str, Callable[..., torch.Tensor]]:
    if isinstance(given, nn.CrossEntropyLoss) and given.weight is None and given.label_smoothing == 0:
        given = "cross_entropy"
    if given == "cross_entropy":
        return "cross_entropy", F.cross_entropy
    if given == "mse":
        return "mse", _squared
    if isinstance(given, nn.Module) and hasattr(given, "reduction"):
        bare = copy.deepcopy(given)
        bare.reduction = "none"  # type: ignore[assignment]
        return type(given).__name__, bare
    if callable(given):
        return getattr(given, "__name__", type(given).__name__), given
    raise ValueError(
        f"loss={given!r}: give 'cross_entropy', 'mse', a torch loss, or a function of (outputs, targets) "
        "that gives one "
        f"number per sample."
    )
