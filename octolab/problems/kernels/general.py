"""Tier three: any module. vmap over named views for many clients, one client at a time for few."""

from __future__ import annotations

import copy
import threading
from typing import Any

import torch
from torch import nn

from octolab.problems.kernels.kernel import Kernel, Share, Views
from octolab.problems.kernels.losses import Loss


class _OwnModule(Kernel):
    """Keeps one copy of the module per thread, since both tiers put parameters into it."""

    def __init__(self, module: nn.Module, loss: Loss, sample: tuple[int, ...]):
        super().__init__(module, loss, sample)
        self.names = [name for name, _ in module.named_parameters()]
        self._local = threading.local()

    @property
    def own(self) -> nn.Module:
        if not hasattr(self._local, "module"):
            self._local.module = copy.deepcopy(self.module)
        return self._local.module

    def _shared(self, views: Views) -> bool:
        return views[0].dim() == len(self.shapes[0])

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _local=threading.local())


class Vmapped(_OwnModule):
    """vmap(grad) over the parameters' views (differentiating the flat vector would be half as fast).

    The first call imports torch's compiler, about a second.
    """

    name = "vmap"

    def _call(self, views: Any, x: torch.Tensor) -> torch.Tensor:
        from torch.func import functional_call

        return functional_call(self.own, dict(zip(self.names, views, strict=True)), (x,))

    def outputs(self, views: Views, xb: torch.Tensor) -> torch.Tensor:
        from torch.func import vmap

        with torch.no_grad():
            return vmap(self._call, in_dims=(None if self._shared(views) else 0, 0))(views, xb)

    def pieces(self, views: Views, xb: torch.Tensor, yb: torch.Tensor, share: Share) -> tuple[Views, torch.Tensor]:
        from torch.func import grad, vmap

        def objective(v: Any, x: torch.Tensor, y: torch.Tensor, s: Any) -> tuple[torch.Tensor, torch.Tensor]:
            out = self._call(v, x)
            return self.loss.total(out, y, s if one is None else one), out

        one = share if isinstance(share, float) else None
        weight = yb if isinstance(share, float) else share  # one number for all is no argument of vmap
        dims = (None if self._shared(views) else 0, 0, 0, 0)
        with torch.enable_grad():
            grads, out = vmap(grad(objective, has_aux=True), in_dims=dims)(tuple(views), xb, yb, weight)
        return [g.detach() for g in grads], out.detach()


class OneByOne(_OwnModule):
    """A plain autograd pass per client, its parameters laid into the module without a copy."""

    name = "loop"
    alone = True

    def _bind(self, views: Views, k: int) -> tuple[nn.Module, list[nn.Parameter]]:
        """The module with client k's tensors as its parameters. It shares their memory, so later updates are
        seen.
        """
        module, local = self.own, self._local
        if not hasattr(local, "parameters"):
            local.parameters, local.bound = list(module.parameters()), (None, -1)
        if local.bound[0] is not views or local.bound[1] != k:
            shared = self._shared(views)
            for p, v in zip(local.parameters, views, strict=True):
                p.data = v if shared else v[k]
            local.bound = (views, k)
        return module, local.parameters

    def outputs(self, views: Views, xb: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return torch.stack([self._bind(views, k)[0](x) for k, x in enumerate(xb)])

    def pieces(self, views: Views, xb: torch.Tensor, yb: torch.Tensor, share: Share) -> tuple[list[Any], torch.Tensor]:
        pieces, outs = [], []
        with torch.enable_grad():
            for k in range(len(yb)):
                module, parameters = self._bind(views, k)
                out = module(xb[k])
                total = self.loss.total(out, yb[k], share if isinstance(share, float) else share[k])
                pieces.append(torch.autograd.grad(total, parameters))
                outs.append(out.detach())
        return pieces, outs[0][None] if len(outs) == 1 else torch.stack(outs)

    def add(self, pieces: list[Any], views: Views, alpha: float, overwrite: bool = False) -> None:
        for k, grads in enumerate(pieces):
            super().add(grads, [v[k] for v in views], alpha, overwrite)
