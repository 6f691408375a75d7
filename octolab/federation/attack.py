"""The omniscient hook: attackers sit between the clients' results and the server, and see everything.

An attack is set on the federation, not in a method: `ol.run(method, problem, attack=SignFlip(clients=[0, 1]))`. After
all honest results of a call are computed and before the server sees them, it returns one row per attacker asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from octolab.params import param, settle

if TYPE_CHECKING:
    from octolab.federation.federation import Federation
    from octolab.federation.replies import Replies
    from octolab.problems import Problem


@dataclass(frozen=True)
class AttackContext:
    """What an attacker knows.

    honest: (g, d) what the honest clients send; own: (b, d) what each attacker asked would send if it were honest;
    clients: (b,) the attackers asked; down: what the server sent; event: number of the call; part: which vector of the
    reply this is; fed: the federation itself (x0, n, the clock, the problem); fn: the client function that was called;
    asked: how many honest clients were asked, where an attack also sees others; honest_clients: their numbers.
    """

    honest: torch.Tensor
    own: torch.Tensor
    clients: np.ndarray
    fed: Federation
    down: tuple
    event: int
    part: int
    fn: Callable[..., Any] | None = None
    asked: int = 0
    honest_clients: np.ndarray | Sequence[int] = ()

    @property
    def state(self) -> Any:
        """The server's state before this step (None before the first)."""
        return self.fed.state

    @property
    def message(self) -> str | None:
        """What the reply is: "gradient", "difference" (of gradients) or "update" (of the model), as the page declares."""
        method = getattr(self.fn, "__self__", None)
        declared: dict[str, str] = getattr(method, "messages", {})
        return declared.get(getattr(self.fn, "__name__", ""))


@dataclass(frozen=True, eq=False)
class Attack:
    """The base of all attacks. clients: the attackers' numbers.

    sees_all: also sees honest clients not asked. compares: looks at other clients' messages, so that it needs a call of
    many, not an asynchronous job of one.
    """

    clients: Sequence[int] = param((), "the attackers' numbers")
    sees_all = False
    compares = False

    def __post_init__(self) -> None:
        settle(self)

    def __call__(self, context: AttackContext) -> torch.Tensor:
        """One row per attacker asked, (b, d)."""
        raise NotImplementedError

    def data(self, problem: Problem) -> Problem:
        """The problem as the clients have it: an attack on the data changes the attackers' part."""
        return problem

    def check(self, n: int) -> None:
        bad = [c for c in self.clients if not 0 <= int(c) < n]
        if bad:
            raise ValueError(f"{type(self).__name__}: attackers {bad} do not exist; clients are numbered 0 to {n - 1}.")

    def apply(
        self, fed: Federation, replies: Replies, fn: Callable[..., Any], down: tuple, event: int, part: int
    ) -> torch.Tensor | None:
        liars = np.isin(replies.clients, np.asarray(list(self.clients), dtype=np.int64))
        if not liars.any():
            return None
        rows = replies.stack().clone()
        mask = torch.from_numpy(liars)
        honest = rows[~mask]
        asked = len(honest)
        if self.sees_all:
            honest = torch.cat([honest, self._unasked(fed, replies, fn, down, event, part)])
        context = AttackContext(
            honest, rows[mask], replies.clients[liars], fed, down, event, part, fn, asked, replies.clients[~liars]
        )
        rows[mask] = self(context)
        return rows

    def _unasked(self, fed: Federation, replies: Replies, fn: Any, down: tuple, event: int, part: int) -> torch.Tensor:
        """What honest clients outside the cohort would have sent; computed aside, charged to nobody, remembered by nobody."""
        known = np.union1d(replies.clients, np.asarray(list(self.clients), dtype=np.int64))
        others = np.setdiff1d(np.arange(fed.n), known)
        if len(others) == 0:
            return replies.stack()[:0]
        payload = fed.executor.run(fed, fn, others, down, event).payloads[part]
        return replies.stack()[:0] if payload is None else payload.dense()
