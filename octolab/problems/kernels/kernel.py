"""What the tiers share: models are rows of one (K, P) buffer, their parameters named views into it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from octolab.problems.kernels.losses import Loss

Share = float | torch.Tensor
Views = list[torch.Tensor]


class Kernel:
    """K models at once. flat: (K, P), or (P,) for one model that all K clients share.

    Inputs come from `take`, in the layout that the kernel likes; targets are (K, B, ...). share: the weight
    of each sample in its client's objective, (K, B), (K, 1), or one number.
    """

    name = "kernel"
    alone = False  # True: better called with one client at a time

    def __init__(self, module: nn.Module, loss: Loss, sample: tuple[int, ...]):
        self.module, self.loss, self.sample = module, loss, sample
        self.shapes = [tuple(p.shape) for p in module.parameters()]
        self.sizes = [p.numel() for p in module.parameters()]

    @classmethod
    def fits(cls, module: nn.Module, loss: Loss, sample: tuple[int, ...]) -> bool:
        return True

    def views(self, flat: torch.Tensor) -> Views:
        lead = flat.shape[:-1]
        return [part.view(*lead, *s) for part, s in zip(flat.split(self.sizes, -1), self.shapes, strict=True)]

    def take(self, X: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Rows of X for index (K, B): (K, B, ...) unless the kernel wants another layout."""
        return X.index_select(0, index.reshape(-1)).view(*index.shape, *X.shape[1:])

    def outputs(self, views: Views, xb: torch.Tensor) -> torch.Tensor:
        """Scores (K, B, ...), without gradients."""
        raise NotImplementedError

    def losses(self, views: Views, xb: torch.Tensor, yb: torch.Tensor) -> torch.Tensor:
        """(K, B), without gradients."""
        return self.loss(self.outputs(views, xb), yb, 2)

    def pieces(self, views: Views, xb: torch.Tensor, yb: torch.Tensor, share: Share) -> tuple[Any, torch.Tensor]:
        """The gradient of sum_j share_kj loss_kj, in a form that `add` understands; and the outputs (K, B,
        ...).
        """
        raise NotImplementedError

    def add(self, pieces: Any, views: Views, alpha: float, overwrite: bool = False) -> None:
        """views += alpha gradient; overwrite: views = alpha gradient."""
        if overwrite:
            for view, g in zip(views, pieces, strict=True):
                torch.mul(g, alpha, out=view) if alpha != 1 else view.copy_(g)
        else:
            torch._foreach_add_(views, pieces, alpha=alpha)
