"""A network's flat model x (d,) as the user's module again."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn

from octolab.problems.kernels import attention
from octolab.problems.kernels.dropout import Dropout
from octolab.problems.kernels.kernel import trained_parameters

if TYPE_CHECKING:
    from octolab.problems.network import Network

DROPOUTS: dict[int | None, type[nn.Module]] = {None: nn.Dropout, 1: nn.Dropout1d, 2: nn.Dropout2d, 3: nn.Dropout3d}


def trained(problem: Network, x: torch.Tensor, kept: torch.Tensor | None = None) -> nn.Module:
    """A copy of the problem's module with the weights x (d,), in evaluation mode, with torch's own dropout.

    kept: (s,) what belongs to it beside x (running statistics, a client's own parameters); None: the server's.
    """
    module = copy.deepcopy(problem.module)
    with torch.no_grad():
        for layer, p in zip(problem.layout, trained_parameters(module).values(), strict=True):
            p.copy_(x[layer.start : layer.stop].view(layer.shape))
        held = problem.statistics
        if held is not None:
            at, values = 0, held.now if kept is None else kept
            for name in (*problem.conduct.moving, *problem.conduct.local):
                owner, _, last = name.rpartition(".")
                target = getattr(module.get_submodule(owner), last)
                target.copy_(values[at : at + target.numel()].view(target.shape))
                at += target.numel()
    for name in problem.conduct.local:
        module.get_parameter(name).requires_grad_(True)
    return _with_torchs_dropout(module).eval()


def _with_torchs_dropout(module: nn.Module) -> nn.Module:
    """Addressed dropout is for training here; a user's module has torch's own."""
    attention.restore(module)
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Dropout):
                setattr(parent, name, DROPOUTS[child.spatial](child.p))
    return module
