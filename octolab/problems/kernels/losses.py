"""Losses per sample: what a client's objective is the mean of."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class Loss:
    """`loss(outputs, targets, lead)`: one number per sample, averaged over whatever dimensions a sample has.

    outputs and targets carry `lead` sample dimensions: 1 is (B, ...), 2 is (K, B, ...). Made from
    "cross_entropy" (classes last, integer targets), "mse", a torch loss module (its reduction is taken off),
    or a function of (outputs (B, ...), targets (B, ...)) that gives (B,), or one number: the mean over the samples.
    """

    averages = False  # the function gives the mean over its samples; seen by `settle`

    def __init__(self, given: Any):
        self.given = given
        self.kind, self._function = _read(given)

    def settle(self, outputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Find out, on a few samples (B, ...), whether a given function averages; ValueError if it does otherwise."""
        whole = None if self.classifies else self._function(outputs, targets)
        if whole is None or whole.dim():
            return
        alone = torch.stack([self._function(o, t) for o, t in zip(outputs.split(1), targets.split(1), strict=True)])
        if not torch.allclose(whole, alone.mean(), rtol=1e-3, atol=1e-6):
            raise ValueError(
                f"The loss gave {float(whole):.6g} for {len(alone)} samples, whose own losses have the mean "
                f"{float(alone.mean()):.6g}: it must give one number per sample, or their mean. Take off its "
                "reduction, e.g. reduction='none'."
            )
        self.averages = True

    def total(self, outputs: torch.Tensor, targets: torch.Tensor, share: Any, lead: int = 1) -> torch.Tensor:
        """The sum of share times loss over all samples, which is what gradients are of. share: a number, or per sample."""
        if not self.averages or not isinstance(share, float):
            return (self(outputs, targets, lead) * share).sum()
        mean = self._function(outputs.flatten(0, lead - 1), targets.flatten(0, lead - 1))
        return mean * (share * math.prod(targets.shape[:lead]))

    @property
    def classifies(self) -> bool:
        return self.kind == "cross_entropy"

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor, lead: int = 1) -> torch.Tensor:
        shape = targets.shape[:lead]
        if self.kind == "cross_entropy" and targets.dim() == 1:
            return F.cross_entropy(outputs, targets, reduction="none")
        if self.kind == "cross_entropy":
            each = F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), reduction="none").view(targets.shape)
        else:
            function = self._one_by_one if self.averages else self._function
            each = function(outputs.flatten(0, lead - 1), targets.flatten(0, lead - 1))
            each = each.view(*shape, *each.shape[1:]) if each.dim() else each
        if each.dim() < lead or each.shape[:lead] != shape:
            raise ValueError(
                f"The loss gave shape {tuple(each.shape)} for {tuple(shape)} samples: it must give one "
                "number per "
                f"sample. Take off its reduction, e.g. reduction='none'."
            )
        return each.flatten(lead).mean(lead) if each.dim() > lead else each

    def _one_by_one(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(B,) of a function that averages: the mean over each sample alone."""
        from torch.func import vmap

        return vmap(lambda o, t: self._function(o[None], t[None]))(outputs, targets)


def _squared(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs.view(targets.shape) - targets).square()


def _read(given: Any) -> tuple[str, Callable[..., torch.Tensor]]:
    if isinstance(given, nn.CrossEntropyLoss):
        if given.ignore_index != -100:
            raise ValueError(
                f"CrossEntropyLoss(ignore_index={given.ignore_index}) divides by another number of targets in every "
                "batch, which is no mean over a client's samples: give a function of (outputs, targets) that gives "
                "one number per sample."
            )
        if given.weight is None and given.label_smoothing == 0:
            given = "cross_entropy"
    if given in ("cross_entropy", "cross-entropy", F.cross_entropy):
        return "cross_entropy", F.cross_entropy
    if given in ("mse", F.mse_loss):
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
        f"number per sample, or their mean."
    )
