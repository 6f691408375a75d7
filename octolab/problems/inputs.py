"""How a data set's samples enter a model: flat for linear models, as the images or rows that a network takes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from octolab.problems.networks import CNN, MLP

AsInput = Callable[[np.ndarray], np.ndarray]


def network_inputs(
    model: str | nn.Module, shape: tuple[int, ...], outputs: int, hidden: Sequence[int], seed: int
) -> tuple[nn.Module, AsInput]:
    """The network ("linear", "logistic", "mlp", "cnn", or a module of one's own) with so many outputs, and how samples
    of this shape enter it.
    """
    size = math.prod(shape)
    if model == "cnn":
        channels, side = image(shape)
        return CNN(channels, side, outputs, seed=seed), lambda x: x.reshape(len(x), channels, side, side)
    if isinstance(model, str):
        widths = tuple(hidden) if model == "mlp" else ()
        return MLP(size, *widths, outputs, seed=seed), lambda x: flat(x, size)
    grey = len(shape) == 2 and not takes(model, shape) and takes(model, (1, *shape))
    return model, (lambda x: x[:, None]) if grey else (lambda x: x)


def takes(module: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether a copy of the module takes samples of this shape."""
    try:
        own = copy.deepcopy(module).eval()
        # more samples than channels: torch would take (channels, height, width) for one picture
        many = max([2, *(part.in_channels + 1 for part in own.modules() if isinstance(part, nn.Conv2d))])
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return len(own(torch.zeros(many, *shape))) == many
    except (RuntimeError, IndexError, TypeError, ValueError):
        return False


def image(shape: tuple[int, ...]) -> tuple[int, int]:
    """Channels and side of square images: (s, s), (c, s, s), or s*s numbers in a row."""
    if len(shape) == 1 and math.isqrt(shape[0]) ** 2 == shape[0] and shape[0] >= 16:
        return 1, math.isqrt(shape[0])
    if len(shape) in (2, 3) and shape[-1] == shape[-2]:
        return (1 if len(shape) == 2 else shape[0]), shape[-1]
    raise ValueError(
        "model='cnn' needs square images, (s, s) or (channels, s, s); these samples have shape "
        f"{tuple(shape)}. Use 'mlp'."
    )


def flat(x: np.ndarray, width: int) -> np.ndarray:
    return x.reshape(len(x), width)
