"""What the tiers share: models are rows of one (K, P) buffer, their parameters named views into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from octolab.problems.kernels.losses import Loss

Share = float | torch.Tensor
Views = list[torch.Tensor]


@dataclass
class State:
    """What a pass has beside models and samples, for K clients.

    training: whether the module is in training mode. seeds: (K,) int64, of what is random then. kept: (K, s) what each
    client keeps beside the model (running statistics, other buffers, own parameters); moved in place in training, (s,)
    is everybody's. rate: the step size that own parameters take, one number or (K, 1); None: they stay. there: (K, B)
    which samples are no padding; None: all.
    """

    training: bool = True
    seeds: torch.Tensor | None = None
    kept: torch.Tensor | None = None
    rate: float | torch.Tensor | None = None
    there: torch.Tensor | None = None

    def of(self, k: int) -> torch.Tensor | None:
        """What client k keeps, (s,)."""
        return self.kept if self.kept is None or self.kept.dim() == 1 else self.kept[k]


class Conduct(NamedTuple):
    """What a module does when it is called, beside computing: found out once, by calling it (`octolab.problems.conduct`).

    moving: names of the buffers that a call in training changes. random: it draws from torch's generator in training,
    beside addressed dropout; always: also in evaluation. mixes: a sample's output depends on the batch around it in
    training; mixes_always: also in evaluation. differs: training is another function than evaluation. local: parameters
    that stay with each client.
    """

    moving: tuple[str, ...] = ()
    random: bool = False
    always: bool = False
    mixes: bool = False
    mixes_always: bool = False
    differs: bool = False
    local: tuple[str, ...] = ()

    @property
    def calm(self) -> bool:
        """Whether it only computes."""
        return not (self.differs or not self.steady)

    @property
    def steady(self) -> bool:
        """Whether nothing but addressed dropout tells training from evaluation."""
        return not (self.moving or self.local or self.random or self.always or self.mixes)


CALM = Conduct()


class Kernel:
    """K models at once. flat: (K, P), or (P,) for one model that all K clients share.

    Inputs come from `take`, in the layout that the kernel likes; targets are (K, B, ...). share: the weight
    of each sample in its client's objective, (K, B), (K, 1), or one number. P counts the trained parameters: those that
    require a gradient. The others are in the module, once for all clients.
    """

    name = "kernel"
    alone = False  # True: better called with one client at a time

    def __init__(self, module: nn.Module, loss: Loss, sample: tuple[int, ...], conduct: Conduct = CALM):
        self.module, self.loss, self.sample, self.conduct = module, loss, sample, conduct
        trained = trained_parameters(module)
        self.names = list(trained)
        self.shapes = [tuple(p.shape) for p in trained.values()]
        self.sizes = [p.numel() for p in trained.values()]

    @classmethod
    def fits(cls, module: nn.Module, loss: Loss, sample: tuple[int, ...], conduct: Conduct) -> bool:
        return True

    def views(self, flat: torch.Tensor) -> Views:
        lead = flat.shape[:-1]
        return [part.view((*lead, *s)) for part, s in zip(flat.split(self.sizes, -1), self.shapes, strict=True)]

    def shared(self, views: Views) -> bool:
        """Whether these are one model's, which all clients share."""
        return views[0].dim() == len(self.shapes[0])

    def take(self, X: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Rows of X for index (K, B): (K, B, ...) unless the kernel wants another layout."""
        return X.index_select(0, index.reshape(-1)).view(*index.shape, *X.shape[1:])

    def outputs(self, views: Views, xb: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Scores (K, B, ...) in evaluation mode, without gradients. kept: (s,) or (K, s), see `State`; None: as in
        the module.
        """
        raise NotImplementedError

    def losses(
        self, views: Views, xb: torch.Tensor, yb: torch.Tensor, kept: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(K, B), without gradients."""
        return self.loss(self.outputs(views, xb, kept), yb, 2)

    def pieces(
        self, views: Views, xb: torch.Tensor, yb: torch.Tensor, share: Share, state: State | None = None
    ) -> tuple[Any, torch.Tensor]:
        """The gradient of sum_j share_kj loss_kj, in a form that `add` understands; and the outputs (K, B, ...).

        state: None is evaluation mode, where nothing is random and nothing moves.
        """
        raise NotImplementedError

    def add(self, pieces: Any, views: Views, alpha: float, overwrite: bool = False) -> None:
        """views += alpha gradient; overwrite: views = alpha gradient."""
        if overwrite:
            for view, g in zip(views, pieces, strict=True):
                torch.mul(g, alpha, out=view) if alpha != 1 else view.copy_(g)
        else:
            torch._foreach_add_(views, pieces, alpha=alpha)


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Those that require a gradient, in the module's order; a tied one once."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def is_bare(module: nn.Module) -> bool:
    """No hooks, no parametrisations, no tied or frozen parameters: layers times parameters and nothing else."""
    parts = list(module.modules())
    hooked = any(p._forward_hooks or p._forward_pre_hooks or p._backward_hooks or p._backward_pre_hooks for p in parts)
    own = [q for p in parts for q in p.parameters(recurse=False)]
    return (
        not hooked
        and not any("forward" in vars(p) or hasattr(p, "parametrizations") for p in parts)
        and len({id(q) for q in own}) == len(own)
        and len(set(map(id, parts))) == len(list(module.named_modules(remove_duplicate=False)))
        and all(q.requires_grad for q in own)
    )
