"""Group normalisation in the place of batch normalisation: no statistics that clients would have to share."""

from __future__ import annotations

import copy
import math

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from octolab.arguments import expects, instance, whole


@expects(module=instance("a torch.nn.Module", nn.Module), groups=whole(1))
def with_group_norm(module: nn.Module, groups: int = 32) -> nn.Module:
    """A copy of the module with `GroupNorm` for every batch normalisation (Wu, He, ECCV 2018; for federated learning
    Hsieh et al., ICML 2020).

    groups: at most so many a layer, the largest number that divides its channels. Scales and shifts are kept. ValueError
    where there is no batch normalisation.
    """
    if not isinstance(groups, int) or groups < 1:
        raise ValueError(f"groups={groups!r}: give a whole number >= 1.")
    copied = copy.deepcopy(module)
    if isinstance(copied, _BatchNorm):
        return _group_norm(copied, groups)
    found = [(parent, name, child) for parent in copied.modules() for name, child in parent.named_children()]
    norms = [(parent, name, child) for parent, name, child in found if isinstance(child, _BatchNorm)]
    if not norms:
        raise ValueError(f"{type(module).__name__} holds no batch normalisation: there is nothing to replace.")
    made: dict[int, nn.Module] = {}
    for parent, name, child in norms:
        setattr(parent, name, made.setdefault(id(child), _group_norm(child, groups)))
    return copied


def _group_norm(norm: _BatchNorm, groups: int) -> nn.GroupNorm:
    channels = norm.num_features
    fit = max(g for g in range(1, min(groups, channels) + 1) if math.gcd(g, channels) == g)
    new = nn.GroupNorm(fit, channels, eps=norm.eps, affine=norm.affine)
    if norm.affine:
        new.weight, new.bias = norm.weight, norm.bias
    return new
