"""Attacks: what liars send. Set on the federation: `ol.run(..., attack=ol.attacks.SignFlip(clients=[0, 1]))`."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octolab.federation.attack import Attack, AttackContext
from octolab.params import param
from octolab.rooms import register

__all__ = ["SignFlip"]


@register("attacks")
@dataclass(frozen=True, eq=False)
class SignFlip(Attack):
    """-scale * own: each attacker sends the opposite of what it would send if it were honest.

    >>> SignFlip(clients=(0, 3), scale=2.0).clients
    (0, 3)
    """

    scale: float = param(1.0, "times what it would send if it were honest", gt=0, main=True)

    def __call__(self, context: AttackContext) -> torch.Tensor:
        return -self.scale * context.own
