"""What a torch module must be to train as many clients' models at once, and its data side by side."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from octolab.data.arrays import labels as given_labels
from octolab.data.arrays import numbers, plain
from octolab.errors import AssumptionWarning
from octolab.layers import Layer


def checked(module: nn.Module) -> nn.Module:
    """A copy of the module, ready for stacked use; sentences for what cannot be stacked."""
    if not isinstance(module, nn.Module):
        raise ValueError(f"module={module!r}: give a torch.nn.Module, e.g. ol.problems.MLP(784, 64, 10).")
    if not any(True for _ in module.parameters()):
        raise ValueError(f"{type(module).__name__} has no parameters: there is nothing to train.")
    frozen = [name for name, p in module.named_parameters() if not p.requires_grad]
    if frozen:
        raise ValueError(
            f"{type(module).__name__} has frozen parameters ({frozen[0]}, ...): make them buffers, or set "
            "requires_grad."
        )
    for part in module.modules():
        statistics = isinstance(part, nn.modules.batchnorm._NormBase) and part.track_running_stats
        if statistics or isinstance(part, nn.modules.batchnorm._BatchNorm):
            raise ValueError(
                f"{type(module).__name__} holds {type(part).__name__}, whose statistics are no parameters "
                "and mix the "
                f"samples of a batch: use GroupNorm or LayerNorm."
            )
        if isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0:
            warnings.warn(
                f"{type(module).__name__} holds {type(part).__name__}(p={part.p}): it is switched off, so "
                "that a run "
                f"depends on its seed alone.",
                AssumptionWarning,
                stacklevel=4,
            )
    return copy.deepcopy(module).eval()


def named_layout(module: nn.Module) -> list[Layer]:
    """The flat model's pieces with their roles: conv (3 or more dimensions), embedding, head (last matrix),
    matrix, vector.
    """
    owners = {id(p): part for part in module.modules() for p in part.parameters(recurse=False)}
    named, at, layers = list(module.named_parameters()), 0, []
    matrices = [name for name, p in named if p.dim() == 2 and not isinstance(owners[id(p)], nn.Embedding)]
    for name, p in named:
        if isinstance(owners[id(p)], nn.Embedding):
            role = "embedding"
        elif p.dim() == 2:
            role = "head" if name == matrices[-1] else "matrix"
        else:
            role = "conv" if p.dim() > 2 else "vector"
        layers.append(Layer(name, tuple(p.shape), role, at, at + p.numel()))
        at += p.numel()
    return layers


def together(
    features: Sequence[Any], labels: Sequence[Any], kind: torch.dtype | None, offsets: Any = None
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """All clients' samples in one tensor each, and how many each client holds.

    offsets (n + 1,): features and labels are one array each, and client i holds rows offsets[i] to offsets[i + 1].
    """
    if offsets is not None:
        features, labels = _cut(features, labels, offsets)
    if len(features) == 0 or len(features) != len(labels):
        raise ValueError(
            f"features has {len(features)} clients and labels {len(labels)}: give one array per client each."
        )
    X = [numbers(a, f"Client {i}: the features") for i, a in enumerate(features)]
    Y = [given_labels(y, f"Client {i}: labels") for i, y in enumerate(labels)]
    for i, (a, y) in enumerate(zip(X, Y, strict=True)):
        if a.ndim < 1 or a.shape[1:] != X[0].shape[1:] or y.shape[:1] != a.shape[:1] or y.shape[1:] != Y[0].shape[1:]:
            raise ValueError(
                f"Client {i}: features {a.shape} and labels {y.shape} do not fit {X[0].shape} and {Y[0].shape}."
            )
        if len(a) == 0:
            raise ValueError(f"Client {i} has no samples: leave it out, or use a split that gives every client some.")
    targets = torch.from_numpy(np.concatenate(Y))
    whole = targets if targets.is_floating_point() else targets.to(torch.int64)
    inputs = torch.from_numpy(np.concatenate(X))
    return (
        inputs.to(torch.int64 if kind is None else kind),
        whole,
        np.array([len(a) for a in X], dtype=np.int64),
    )


def _cut(features: Any, labels: Any, offsets: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Concatenated samples as views, one per client."""
    X, Y, cuts = plain(features, "The features"), plain(labels, "The labels"), np.asarray(offsets)
    if cuts.ndim != 1 or len(cuts) < 2 or cuts.dtype.kind not in "iu" or (np.diff(cuts.astype(np.int64)) < 0).any():
        raise ValueError(
            f"offsets has shape {cuts.shape} and dtype {cuts.dtype}: give n + 1 whole numbers that do not fall, client "
            "i holding the rows offsets[i] to offsets[i + 1]."
        )
    if len(X) != len(Y) or cuts[0] != 0 or cuts[-1] != len(X):
        raise ValueError(
            f"features has {len(X)} rows, labels {len(Y)}, and offsets run from {cuts[0]} to {cuts[-1]}: with offsets, "
            "give one array of each, equally long, and cut it from 0 to its end."
        )
    return np.split(X, cuts[1:-1]), np.split(Y, cuts[1:-1])


def products(module: nn.Module, sample: torch.Tensor) -> int:
    """Multiplications of the linear layers and convolutions for an input (1, ...), forwards."""
    total = 0

    def count(part: Any, _: Any, output: torch.Tensor) -> None:
        nonlocal total
        weight = part.weight
        channel = 1 if weight.dim() > 2 else -1  # where the outputs of one position lie
        total += weight.numel() * output.numel() // output.shape[channel]

    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    hooks = [p.register_forward_hook(count) for p in module.modules() if isinstance(p, kinds)]
    try:
        with torch.no_grad():
            module(sample)
    finally:
        for hook in hooks:
            hook.remove()
    return total
