"""Local SGD of a cohort on the stacked buffer: what every tier runs between two communications.

    y = x; v = 0;  repeat: v = momentum v + (g(y) + l2 y + correction);  y = y - lr (v + prox (y - x))

Without momentum the affine parts are gathered first, y <- (1 - lr (prox + l2)) y + lr (prox x - correction),
and the kernel adds -lr g straight into the models. Clients that have finished are cut off, not masked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from octolab.problems.kernels.kernel import Kernel, Share, State

Rate = float | torch.Tensor


@dataclass
class Now:
    """One local step: inputs and targets of the first k clients, the weight of each sample, who moves (None: all), which
    samples are no padding (None: all), and what else the pass has (None: evaluation mode).
    """

    k: int
    xb: torch.Tensor
    yb: torch.Tensor
    share: Share
    moves: torch.Tensor | None
    there: torch.Tensor | None = None
    state: State | None = None

    def beside(self, state: State) -> Now:
        return replace(self, state=state)


class Schedule:
    """Minibatches of m clients for all local steps, clients ordered by how many steps they take (most first).

    index: (steps, m, B) rows of the data; mask: (steps, m, B) or None; counts: (steps, m, B) what samples count in their
    mean, None: one each. order: (m,) the clients' order, None: as given.
    """

    def __init__(
        self, index: torch.Tensor, mask: torch.Tensor | None, dtype: torch.dtype, counts: torch.Tensor | None = None
    ):
        self.index, self.share, self.order, self.there = index, None, None, None
        self.steps, m, B = index.shape
        if counts is not None and mask is None:
            mask = torch.ones(index.shape, dtype=torch.bool)
        self.active, self.idle, self.whole = [m] * self.steps, [False] * self.steps, [True] * self.steps
        self.even = 1.0 / max(B, 1)
        if mask is None or (counts is None and bool(mask.all())):
            return
        count = mask.sum(2)
        live = count > 0
        length = (live * torch.arange(1, self.steps + 1)[:, None]).amax(0)
        if bool((length != length[0]).any()):
            self.order = length.argsort(descending=True, stable=True)
            self.index, mask = index[:, self.order], mask[:, self.order]
            count, live, length = count[:, self.order], live[:, self.order], length[self.order]
            counts = None if counts is None else counts[:, self.order]
        there = length > torch.arange(self.steps)[:, None]
        self.active = there.sum(1).tolist()
        self.idle = (there & ~live).any(1).tolist()
        self.whole = ((count == B) | ~there).all(1).tolist()
        self.live = live.to(dtype)
        self.share = mask / count.clamp(min=1)[:, :, None].to(dtype)
        self.there = mask
        if counts is not None:
            counts, self.whole = counts * mask, [False] * self.steps
            self.share = counts / counts.sum(2, keepdim=True).clamp(min=1e-30)

    @cached_property
    def rows(self) -> tuple[torch.Tensor, ...]:
        """Of each step, rows (k, B) of the data for the k clients that take it."""
        m = self.index.shape[1]
        return tuple(r if k == m else r[:k] for r, k in zip(self.index.unbind(0), self.active, strict=True))

    def at(self, t: int, xb: torch.Tensor, yb: torch.Tensor) -> Now:
        k = self.active[t]
        share = self.even if self.share is None or self.whole[t] else self.share[t, :k]
        there = None if self.there is None else self.there[t, :k]
        return Now(k, xb, yb, share, self.live[t, :k, None] if self.idle[t] else None, there)


def descend(
    kernel: Kernel,
    start: torch.Tensor,
    now: Callable[[int], Now],
    steps: int,
    *,
    lr: Rate,
    momentum: float = 0.0,
    prox: float = 0.0,
    l2: float = 0.0,
    correction: torch.Tensor | None = None,
) -> torch.Tensor:
    """The models (m, P) after `steps` local steps from start (m, P). lr: one number or (m, 1)."""
    y = start.clone(memory_format=torch.contiguous_format)
    run = (
        _heavy(kernel, y, start, momentum, prox, l2, correction)
        if momentum
        else _plain(kernel, y, start, prox, l2, correction)
    )
    for t in range(steps):
        step = now(t)
        if step.k:
            run(step, lr if isinstance(lr, float) else lr[: step.k])
    return y


def _views(kernel: Kernel, flat: torch.Tensor) -> Callable[[int], list[torch.Tensor]]:
    """Views of the first k rows, made once for each k."""
    kept: dict[int, list[torch.Tensor]] = {}

    def of(k: int) -> list[torch.Tensor]:
        if k not in kept:
            kept[k] = kernel.views(flat[:k])
        return kept[k]

    return of


def _plain(
    kernel: Kernel,
    y: torch.Tensor,
    start: torch.Tensor,
    prox: float,
    l2: float,
    correction: torch.Tensor | None,
) -> Callable[[Now, Any], None]:
    views, shrink, constant = _views(kernel, y), prox + l2, None
    if prox:
        constant = prox * start
    if correction is not None:
        constant = -correction if constant is None else constant - correction

    def run(now: Now, rate: Any) -> None:
        k, at = now.k, views(now.k)
        if now.moves is not None:
            rate = rate * now.moves
        even = isinstance(rate, float)
        if now.state is not None:
            now.state.rate = rate if even else 1.0  # of parameters that stay with their clients
        pieces, _ = kernel.pieces(at, now.xb, now.yb, now.share if even else now.share * rate, now.state)
        if shrink:
            y[:k].mul_(1 - rate * shrink)
        if constant is not None:
            y[:k].add_(constant[:k], alpha=rate) if even else y[:k].addcmul_(constant[:k], rate)
        kernel.add(pieces, at, -rate if even else -1.0)

    return run


def _heavy(
    kernel: Kernel,
    y: torch.Tensor,
    start: torch.Tensor,
    momentum: float,
    prox: float,
    l2: float,
    correction: torch.Tensor | None,
) -> Callable[[Now, Any], None]:
    """With momentum: the gradient goes into the buffer v."""
    v = torch.zeros_like(y)
    views, buffers = _views(kernel, y), _views(kernel, v)

    def run(now: Now, rate: Any) -> None:
        k, moves = now.k, now.moves
        Y, V, at = y[:k], v[:k], views(now.k)
        if now.state is not None:
            now.state.rate = rate
        pieces, _ = kernel.pieces(at, now.xb, now.yb, now.share, now.state)
        V.mul_(momentum if moves is None else 1 - (1 - momentum) * moves)
        if correction is not None:
            V.add_(correction[:k] if moves is None else correction[:k] * moves)
        if l2:
            V.add_(Y if moves is None else Y * moves, alpha=l2)
        kernel.add(pieces, buffers(k), 1.0)
        if moves is not None:
            rate = rate * moves
        even = isinstance(rate, float)
        if prox:
            Y.mul_(1 - rate * prox)
            Y.add_(start[:k], alpha=rate * prox) if even else Y.addcmul_(start[:k], rate * prox)
        Y.sub_(V, alpha=rate) if even else Y.sub_(V * rate)

    return run
