"""What clients keep beside the model: running statistics, other buffers, parameters of their own.

One row (s,) per client lies in the clients' memory under `statistics`, with the turn in which it was written behind it.
Each number follows a policy: averaged over the clients of the latest round, kept by its client, or left as it was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import nn

from octolab.problems.kernels import Conduct
from octolab.problems.modules import batch_norms

NAME = "statistics"
BUFFERS = ("averaged", "local", "server")
AVERAGED, LOCAL, SERVER = range(3)
RECENT = 10  # arrivals of jobs over which statistics are averaged: what torch's momentum of 0.1 remembers


class Memory(Protocol):
    """The clients' memory, by name (n, ...)."""

    def __contains__(self, name: object) -> bool: ...

    def __getitem__(self, name: str) -> torch.Tensor: ...


@dataclass(frozen=True)
class Statistics:
    """initial, now: (s,) at the start and at the server. policy: (s,) of each number. rows: (n, s) the clients' own.
    turn: how many calls or jobs have moved them. begun: whether initial is what a starting point brought.
    """

    initial: torch.Tensor
    policy: torch.Tensor
    now: torch.Tensor
    rows: torch.Tensor | None = None
    turn: int = 0
    begun: bool = False

    @property
    def traffic(self) -> int:
        """Numbers that travel down and up with a round."""
        return int((self.policy == AVERAGED).sum())

    @property
    def personal(self) -> bool:
        return bool((self.policy == LOCAL).any())

    def start(self, m: int, held: torch.Tensor | None) -> torch.Tensor:
        """(m, s) what m clients begin with, given what their memory holds (m, s + 1), if it holds anything."""
        if held is None or not self.personal:
            return self.now.expand(m, -1).clone()
        own = (self.policy == LOCAL) & (held[:, -1:] > 0)
        return torch.where(own, held[:, :-1], torch.where(self.policy == LOCAL, self.initial, self.now))

    def remembered(self, kept: torch.Tensor, job: bool) -> torch.Tensor:
        """(m, s + 1) for the clients' memory: what they keep, and the turn; that of a job is half a turn on."""
        return torch.cat([kept, kept.new_full((len(kept), 1), self.turn + (1.5 if job else 1.0))], 1)

    def after(self, memory: Memory, weights: torch.Tensor) -> Statistics:
        """As the clients' memory has them: the server's are the weighted mean over the latest round's clients."""
        if NAME not in memory:
            return replace(self, now=self.initial, rows=None, turn=0)
        held = memory[NAME]
        rows, turn = held[:, :-1], held[:, -1]
        last = float(turn.max())
        mean = _mean(rows, (turn > 0) & (turn > last - (RECENT if last % 1 else 1)), weights)
        everybody = _mean(rows, turn > 0, weights)
        now = torch.where(self.policy == AVERAGED, mean, torch.where(self.policy == LOCAL, everybody, self.initial))
        own = torch.where(turn[:, None] > 0, rows, self.initial)
        return replace(self, now=now, rows=own, turn=int(last))

    def beginning(self, initial: torch.Tensor) -> Statistics:
        """These with other values (s,) at the start."""
        if initial.shape != self.initial.shape:
            raise ValueError(f"{len(initial)} running statistics were given for {len(self.initial)}.")
        initial = initial.to(self.initial.dtype)
        return replace(self, initial=initial, now=initial, begun=True)

    def to(self, dtype: torch.dtype) -> Statistics:
        rows = None if self.rows is None else self.rows.to(dtype)
        return replace(self, initial=self.initial.to(dtype), now=self.now.to(dtype), rows=rows)


def statistics(
    module: nn.Module, conduct: Conduct, buffers: str, batchnorm: str | None, dtype: torch.dtype
) -> Statistics | None:
    """Those of a module whose buffers move, or that has parameters of its clients' own; None: it has neither."""
    if buffers not in BUFFERS:
        raise ValueError(f"buffers={buffers!r}: choose one of {', '.join(map(repr, BUFFERS))}.")
    if not conduct.moving and not conduct.local:
        return None
    norms, values, policies = set(batch_norms(module)), [], []
    for name in conduct.moving:
        own = batchnorm if name.rpartition(".")[0] in norms else buffers
        code = {"local": LOCAL, "server": SERVER}.get(own or "averaged", AVERAGED)
        values.append(module.get_buffer(name).detach().to(dtype).reshape(-1))
        policies.append(torch.full((values[-1].numel(),), code))
    for name in conduct.local:
        values.append(module.get_parameter(name).detach().to(dtype).reshape(-1))
        policies.append(torch.full((values[-1].numel(),), LOCAL))
    initial = torch.cat(values)
    return Statistics(initial, torch.cat(policies), initial)


def _mean(rows: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    w = weights * chosen
    total = float(w.sum())
    w = w / total if total > 0 else chosen.double() / max(1, int(chosen.sum()))
    return (w @ rows.double()).to(rows.dtype)
