"""Tier two: autograd through batched layers. Convolutions of K clients are one grouped convolution."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from octolab.problems.kernels.dropout import Dropout
from octolab.problems.kernels.kernel import CALM, Conduct, Kernel, Share, State, Views, is_bare
from octolab.problems.kernels.losses import Loss

ELEMENTWISE = (
    *(nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Softplus, nn.Identity),
    Dropout,
)
POOLS = (nn.MaxPool2d, nn.AvgPool2d)


class Stacked(Kernel):
    """Sequential of Conv2d, pooling, Flatten, Linear and elementwise layers.

    Images of K clients lie side by side in the channels, (B, K C, H, W), channels last in memory (convolution
    and pooling are then 2 to 10 times faster on a CPU); after Flatten they are (K, B, F).
    """

    name = "stacked"

    def __init__(self, module: nn.Module, loss: Loss, sample: tuple[int, ...], conduct: Conduct = CALM):
        super().__init__(module, loss, sample, conduct)
        self.layers: list[nn.Module] = list(module)  # type: ignore[call-overload]
        for at, (one, after) in enumerate(pairwise(list(self.layers))):
            if type(one) is nn.ReLU and type(after) is nn.MaxPool2d:  # they commute: clip the fewer numbers
                self.layers[at : at + 2] = [after, one]
        self.images = _first_kind(self.layers) == "image"

    @classmethod
    def fits(cls, module: nn.Module, loss: Loss, sample: tuple[int, ...], conduct: Conduct) -> bool:
        if type(module) is not nn.Sequential or len(module) == 0 or not conduct.steady or not is_bare(module):
            return False
        layers, state = list(module), "image" if len(sample) == 3 else "rows" if len(sample) == 1 else "other"
        if _first_kind(layers) == "image" and state != "image":
            return False
        for layer in layers:
            kind = type(layer)
            if kind in ELEMENTWISE:
                continue
            if kind is nn.Flatten and layer.start_dim == 1 and layer.end_dim == -1:
                state = "rows"
            elif not (kind is nn.Linear if state == "rows" else state == "image" and _of_images(layer)):
                return False
        return state == "rows"

    def take(self, X: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        if not self.images:
            return super().take(X, index)
        K, B = index.shape
        C, *space = X.shape[1:]
        images = X.index_select(0, index.t().reshape(-1)).view(B, K * C, *space)
        return images.contiguous(memory_format=torch.channels_last)

    def _forward(self, views: Views, h: torch.Tensor, K: int, seeds: torch.Tensor | None = None) -> torch.Tensor:
        at = 0
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                W = views[at]
                h = torch.bmm(h, W.mT) if layer.bias is None else torch.baddbmm(views[at + 1][:, None, :], h, W.mT)
                at += 1 if layer.bias is None else 2
            elif isinstance(layer, nn.Conv2d):
                W, b = views[at].flatten(0, 1), None if layer.bias is None else views[at + 1].flatten()
                W = W.contiguous(memory_format=torch.channels_last)
                h = F.conv2d(h, W, b, layer.stride, layer.padding, layer.dilation, groups=K)
                at += 1 if layer.bias is None else 2
            elif isinstance(layer, nn.Flatten):
                h = h.reshape(len(h), K, -1).transpose(0, 1) if self.images and h.dim() == 4 else h.flatten(2)
            elif isinstance(layer, Dropout):
                h = h if seeds is None else self._drop(layer, h, K, seeds)
            else:
                h = layer(h)
        return h

    def _drop(self, layer: Dropout, h: torch.Tensor, K: int, seeds: torch.Tensor) -> torch.Tensor:
        """Each client's own mask, in whichever layout h has."""
        if layer.p == 0:
            return h
        if h.dim() < 4:
            return h * layer.mask(seeds, tuple(h.shape[1:]), h.dtype)
        B, channels, *space = h.shape
        mask = layer.mask(seeds, (B, channels // K, *space), h.dtype)  # (K, B, C, H, W), or 1 x 1 for whole channels
        return h * mask.transpose(0, 1).flatten(1, 2)

    def _stack(self, views: Views, K: int) -> Views:
        """Views with a leading dimension of K, also where one model is shared."""
        shared = len(views) > 0 and views[0].dim() == len(self.shapes[0])
        return [v.expand(K, *v.shape) for v in views] if shared else views

    def _count(self, xb: torch.Tensor) -> int:
        return xb.shape[1] // self.sample[0] if self.images else len(xb)

    def outputs(self, views: Views, xb: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        K = self._count(xb)
        with torch.no_grad():
            return self._forward(self._stack(views, K), xb, K)

    def pieces(
        self, views: Views, xb: torch.Tensor, yb: torch.Tensor, share: Share, state: State | None = None
    ) -> tuple[Views, torch.Tensor]:
        K, seeds = len(yb), state.seeds if state is not None and state.training else None
        with torch.enable_grad():
            leaves = [v.detach().requires_grad_() for v in self._stack(views, K)]
            out = self._forward(leaves, xb, K, seeds)
            total = self.loss.total(out, yb, share, 2)
            return list(torch.autograd.grad(total, leaves)), out.detach()


def _first_kind(layers: list[nn.Module]) -> str:
    for layer in layers:
        if isinstance(layer, (nn.Conv2d, *POOLS)):
            return "image"
        if isinstance(layer, (nn.Linear, nn.Flatten)):
            return "rows"
    return "rows"


def _of_images(layer: nn.Module) -> bool:
    """Pooling, or a convolution that can be grouped."""
    if not isinstance(layer, nn.Conv2d):
        return type(layer) in POOLS
    return (
        type(layer) is nn.Conv2d
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )
