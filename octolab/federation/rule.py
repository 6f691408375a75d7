"""How a server combines what arrived: a rule, and what it may use beside the rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from octolab.randomness import SERVER, Draws, Randomness

if TYPE_CHECKING:
    from octolab.federation.replies import Replies


@dataclass
class RuleContext:
    """What a rule may use beside the rows: the server's addressed draws of this call, and what it kept of the one before.

    kept: tensors by name; they are saved with the run, and a step that breaks off leaves them as they were.
    """

    draws: Draws = field(default_factory=lambda: Randomness(0).draws([SERVER]))
    kept: dict[str, torch.Tensor] = field(default_factory=dict)


Rule = Callable[..., torch.Tensor]
"""`rule(rows, weights)`, or `rule(rows, weights, context)`: rows (r, d), weights (r,), a `RuleContext` -> (d,)."""


def combined(rule: Rule, rows: torch.Tensor, weights: torch.Tensor, context: RuleContext) -> torch.Tensor:
    """What the rule makes of the rows; it gets the context if it takes one."""
    taken = inspect.signature(rule).parameters
    takes = "context" in taken or any(p.kind is p.VAR_POSITIONAL for p in taken.values())
    return rule(rows, weights, context) if takes else rule(rows, weights)


def flagged(rows: torch.Tensor) -> torch.Tensor:
    """(r,) bool: rows farther from the coordinate-wise median than the median distance + 3 * 1.4826 MAD.

    A diagnosis, never a proof (our own rule, no paper's): ALIE and mimicry are made not to be flagged.
    """
    flat = rows.reshape(len(rows), -1)
    ordered, r = flat.sort(dim=0).values, len(flat)
    away = torch.linalg.vector_norm(flat - (ordered[(r - 1) // 2] + ordered[r // 2]) / 2, dim=1)
    middle = _middle(away)
    return away > middle + 3 * 1.4826 * _middle((away - middle).abs())


def _middle(values: torch.Tensor) -> torch.Tensor:
    ordered, r = values.sort().values, len(values)
    return (ordered[(r - 1) // 2] + ordered[r // 2]) / 2


def suspicion(replies: Replies, finite: torch.Tensor, attackers: Sequence[int]) -> dict[str, int]:
    """How many replies a rule got from attackers, how many it would flag, and how many of these are attackers'."""
    liars = torch.from_numpy(np.isin(replies.clients, np.asarray(list(attackers), dtype=np.int64)))
    suspect = ~finite
    if bool(finite.any()):
        suspect = suspect.index_put((finite.nonzero()[:, 0],), flagged(replies.stack()[finite]))
    return {"attackers": int(liars.sum()), "flagged": int(suspect.sum()), "caught": int((suspect & liars).sum())}
