"""What came back from a call: the payloads of the clients that replied, and the ways a server adds them up."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cached_property
from typing import NoReturn

import numpy as np
import torch

from octolab.errors import MethodMistake, NoReplies
from octolab.federation.rule import Rule, RuleContext, combined
from octolab.payloads import Payload

Reply = torch.Tensor | Payload | None | tuple[torch.Tensor | Payload, ...]
"""What a client function may return: rows (m, ...), a stacked payload, several of them, or nothing."""


class Replies:
    """Results of the clients that replied, stacked in ascending slots.

    clients: (r,) client numbers; len(replies) = r. Averages use the objective's weights w_i (1/n each by default):
    `mean()` = sum over S of w_i v_i / sum over S of w_i, and `weighted_sum()` = sum over S of w_i v_i, where an
    absent client counts as zero: what methods with memory need, since an absent client's memory did not change.
    """

    def __init__(
        self,
        payload: Payload | None,
        clients: np.ndarray,
        weights: torch.Tensor,
        same: float | None,
        d: int,
        where: str,
    ):
        """weights: (n,) of all clients; same: the weight of every client if they are all equal."""
        self.payload, self.clients = payload, clients
        self._weights, self._same, self._d, self._where = weights, same, d, where
        self.attacked: torch.Tensor | None = None  # (r, d) what arrived, where attackers changed it
        self.seconds: np.ndarray | None = None  # (r,) virtual seconds of the upload; None where links take no time
        self.judge: Callable[[Replies, torch.Tensor], RuleContext] = _no_world

    @cached_property
    def weights(self) -> torch.Tensor:
        """(r,) weights w_i of those who replied, in the simulation's dtype."""
        return self._weights[self.index]

    @cached_property
    def index(self) -> torch.Tensor:
        """(r,) the clients' numbers, to index tensors of all clients with."""
        return torch.from_numpy(self.clients).to(self._weights.device)

    def __len__(self) -> int:
        return len(self.clients)

    def __repr__(self) -> str:
        return f"Replies of {len(self)} clients: {self.payload!r}"

    def _no_vector(self, _: object) -> NoReturn:
        raise MethodMistake(
            f"{self._where}: the replies of {len(self)} clients are not one vector yet. Say how they are joined:  "
            f"fed.call(...).mean()  (or .weighted_sum(), .sum(), .stack())"
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _no_vector

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one reply."""
        return (self._d,) if self.payload is None else tuple(self.payload.shape[1:])

    def stack(self) -> torch.Tensor:
        """All replies as one tensor (r, d)."""
        if self.attacked is not None:
            return self.attacked
        if self.payload is None:
            return self._weights.new_zeros(0, *self.shape)
        return self.payload.dense()

    def sum(self, weights: torch.Tensor | None = None) -> torch.Tensor:
        """Sum over those who replied, with weights (r,) if given. Nobody replied: zeros."""
        if len(self.clients) == 0 or self.payload is None:
            return self._weights.new_zeros(self.shape)
        if self.attacked is not None:
            rows = self.attacked if weights is None else self.attacked * _column(weights, self.attacked)
            return rows.sum(0)
        return self.payload.sum(weights)

    def weighted_sum(self) -> torch.Tensor:
        """sum_i w_i v_i over those who replied; the absent count as zero."""
        return self.sum(self.weights) if self._same is None else self.sum() * self._same

    def total(self) -> torch.Tensor:
        """The old name of `weighted_sum`."""
        warnings.warn("Replies.total() is now Replies.weighted_sum().", DeprecationWarning, stacklevel=2)
        return self.weighted_sum()

    def mean(self) -> torch.Tensor:
        """Weighted mean over those who replied. Nobody replied: `NoReplies`."""
        self._someone()
        return self.sum(self.weights / self.weights.sum()) if self._same is None else self.sum() / len(self)

    def aggregate(self, rule: Rule | None) -> torch.Tensor:
        """`rule(stack, weights, context)`, e.g. a robust aggregator; None: `mean()`.

        A row that is not finite is never given to a rule: it is left out, as if its client had not replied.
        """
        if rule is None:
            return self.mean()
        self._someone()
        rows, weights = self.stack(), self.weights
        finite = torch.isfinite(rows.reshape(len(rows), -1).sum(1))
        context = self.judge(self, finite)
        if not bool(finite.all()):
            rows, weights = rows[finite], weights[finite]
            if len(rows) == 0:
                raise NoReplies(f"{self._where}: no reply was finite, so there is nothing to average.")
        return combined(rule, rows, weights, context)

    def _someone(self) -> None:
        if len(self) == 0:
            raise NoReplies(
                f"{self._where}: nobody replied, so there is nothing to average. Ask more clients, lower the drop-out, "
                f"or extend the deadline."
            )


def _no_world(replies: Replies, finite: torch.Tensor) -> RuleContext:
    """What a rule may use where there is no federation."""
    return RuleContext()


def _column(weights: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return weights.to(like.dtype).reshape(-1, *[1] * (like.dim() - 1))
