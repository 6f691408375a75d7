"""Optimisers of the local training, for a whole cohort at once: `y`, `g` and their states are (m, d), one row a client."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from octolab.batches import Batch, Drawn, moves
from octolab.faces import Shown
from octolab.params import param, settle
from octolab.rooms import register

if TYPE_CHECKING:
    from octolab.problems.problem import Clients, Problem

State = dict[str, torch.Tensor]
"""What an optimiser remembers of each client: tensors (m, ...), all zero for a client that begins."""


@dataclass(frozen=True)
class LocalOptimizer(Shown):
    """The base of local optimisers: `step(y, g, lr, state)` gives the models after one gradient.

    keep_state: False: every round begins afresh (the usual choice); True: each client goes on with its own state. Server
    and clients send no state, so it costs no bits; an optimiser that is kept describes an older model than it meets.
    """

    @property
    def momentum_alone(self) -> float | None:
        """The momentum if this is heavy-ball SGD and nothing more, which the fast kernels do; else None."""
        return None

    @property
    def keeps(self) -> bool:
        return bool(getattr(self, "keep_state", False))

    def step(
        self, y: torch.Tensor, g: torch.Tensor, lr: float | torch.Tensor, state: State
    ) -> tuple[torch.Tensor, State]:
        """One local step of everybody. y, g: (m, d); lr: a number or (m, 1); returns the models and the states after it."""
        raise NotImplementedError

    def begin(self, y: torch.Tensor, remembered: State) -> State:
        """The states before the first step: what is remembered, or nothing yet (zeros)."""
        return dict(remembered)

    def train(
        self,
        problem: Problem,
        x: torch.Tensor,
        clients: Clients,
        *,
        lr: float | torch.Tensor,
        steps: int,
        batch: Drawn | None = None,
        stop: torch.Tensor | None = None,
        prox: float = 0.0,
        correction: torch.Tensor | None = None,
        remembered: State | None = None,
    ) -> tuple[torch.Tensor, State]:
        """`steps` local steps from x: the models (m, d) and the states. Arguments as in `Problem.local_sgd`.

        The gradient that the optimiser sees is g_i(y) + correction_i + prox (y - x). A client that rests keeps model
        and state.
        """
        start = x.expand(problem.count(clients), -1)
        y, state = start.clone(), self.begin(start, remembered or {})
        rate = lr[:, None].to(y.dtype) if isinstance(lr, torch.Tensor) and lr.dim() else lr
        moving = moves(steps, batch, stop)
        for t in range(steps):
            now = batch(t) if callable(batch) else _at(batch, t)
            g = problem.grad(y, clients, now)
            if correction is not None:
                g = g + correction
            if prox:
                g = g + prox * (y - start)
            stepped, after = self.step(y, g, rate, state)
            if moving is not None and not bool(moving[t].all()):
                stepped = torch.where(moving[t, :, None], stepped, y)
                after = {name: _where(moving[t], value, state.get(name)) for name, value in after.items()}
            y, state = stepped, after
        return y, state


def _at(batch: Batch | None, t: int) -> Batch | None:
    return None if batch is None else Batch(*(None if part is None else part[t] for part in batch))


def _where(moving: torch.Tensor, new: torch.Tensor, old: torch.Tensor | None) -> torch.Tensor:
    shape = (-1, *(1,) * (new.dim() - 1))
    return torch.where(moving.view(shape), new, torch.zeros_like(new) if old is None else old)


@register("local")
@dataclass(frozen=True)
class SGD(LocalOptimizer):
    """g <- clip(g) + weight_decay y;  v <- momentum v + g;  y <- y - lr v  (nesterov: y - lr (g + momentum v)).

    clip: the largest norm of a client's gradient; a longer one is scaled down to it. As `torch.optim.SGD` otherwise.

    >>> SGD(momentum=0.9).momentum_alone
    0.9
    """

    momentum: float = param(0.0, "heavy-ball momentum", ge=0, lt=1, main=True)
    nesterov: bool = param(False, "Nesterov's momentum")
    weight_decay: float = param(0.0, "weight decay", ge=0)
    clip: float | None = param(None, "largest norm of a gradient; None: any", gt=0)
    keep_state: bool = param(False, "each client goes on with its own state")

    def __post_init__(self) -> None:
        settle(self)
        if self.nesterov and not self.momentum:
            raise ValueError("SGD: nesterov=True needs momentum > 0: give momentum=0.9, or leave nesterov out.")

    @property
    def momentum_alone(self) -> float | None:
        more = self.nesterov or self.weight_decay or self.clip is not None or (self.keep_state and self.momentum)
        return None if more else self.momentum

    def step(
        self, y: torch.Tensor, g: torch.Tensor, lr: float | torch.Tensor, state: State
    ) -> tuple[torch.Tensor, State]:
        g = _clipped(g, self.clip)
        if self.weight_decay:
            g = g + self.weight_decay * y
        if not self.momentum:
            return y - lr * g, {}
        v = g if "v" not in state else self.momentum * state["v"] + g
        return y - lr * (g + self.momentum * v if self.nesterov else v), {"v": v}


@register("local")
@dataclass(frozen=True)
class Adam(LocalOptimizer):
    """Adam (Kingma, Ba 2015, arXiv 1412.6980) with bias correction, as `torch.optim.Adam`; weight_decay is part of the gradient.

    >>> Adam().betas
    (0.9, 0.999)
    """

    betas: tuple[float, float] = param((0.9, 0.999), "decay of the two averages")
    eps: float = param(1e-8, "added to the root", gt=0)
    weight_decay: float = param(0.0, "weight decay", ge=0)
    clip: float | None = param(None, "largest norm of a gradient; None: any", gt=0)
    keep_state: bool = param(False, "each client goes on with its own state")

    def __post_init__(self) -> None:
        settle(self)
        name = type(self).__name__
        if not isinstance(self.betas, Sequence) or len(self.betas) != 2:
            raise ValueError(f"{name}: betas={self.betas!r}: give two numbers in [0, 1), such as (0.9, 0.999).")
        if not all(_number(beta) and 0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"{name}: betas={self.betas!r}: give two numbers in [0, 1), such as (0.9, 0.999).")
        object.__setattr__(self, "betas", tuple(self.betas))

    def step(
        self, y: torch.Tensor, g: torch.Tensor, lr: float | torch.Tensor, state: State
    ) -> tuple[torch.Tensor, State]:
        y, g = self._decayed(y, _clipped(g, self.clip), lr)
        first, second = self.betas
        zeros = torch.zeros_like(g)
        m = state.get("m", zeros).lerp(g, 1 - first)
        v = second * state.get("v", zeros) + (1 - second) * g * g
        count = state.get("count", zeros[:, 0]) + 1
        bias_m, bias_v = 1 - first ** count[:, None], 1 - second ** count[:, None]
        y = y - (lr / bias_m) * m / ((v / bias_v).sqrt() + self.eps)
        return y, {"m": m, "v": v, "count": count}

    def _decayed(self, y: torch.Tensor, g: torch.Tensor, lr: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return y, g + self.weight_decay * y if self.weight_decay else g


@register("local")
@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov, Hutter 2019, arXiv 1711.05101): y <- (1 - lr weight_decay) y first."""

    weight_decay: float = param(0.01, "weight decay, decoupled", ge=0)

    def _decayed(self, y: torch.Tensor, g: torch.Tensor, lr: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return y * (1 - lr * self.weight_decay), g


def _clipped(g: torch.Tensor, clip: float | None) -> torch.Tensor:
    """The rows of g, those longer than `clip` scaled down to it."""
    if clip is None:
        return g
    return g * (clip / g.norm(dim=1, keepdim=True).clamp(min=torch.finfo(g.dtype).tiny)).clamp(max=1.0)


def _number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
