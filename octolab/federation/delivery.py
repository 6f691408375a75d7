"""Messages that must arrive: said again to those who missed them, and clients that have lost what the server thinks they hold.

`behind` is a mask (n,) that a method keeps in its state: who missed a message and has to be sent everything anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from octolab.federation.federation import Federation

TIMES = 100  # a client that misses a message so often is dead


def deliver(fed: Federation, fn: Callable[..., Any], *down: Any, to: np.ndarray) -> np.ndarray:
    """Call `fn(cohort, *down)` on the clients `to`, again on those who missed it; returns who never answered."""
    for _ in range(TIMES):
        if len(to) == 0:
            break
        arrived = fed.call(fn, *down, to=None if len(to) == fed.n else to).clients
        to = np.setdiff1d(to, arrived)
    return to


def current(behind: torch.Tensor) -> np.ndarray | None:
    """Who holds what the server thinks they hold, as client numbers; None: everybody."""
    return np.flatnonzero((~behind).cpu()) if bool(behind.any()) else None


def missed(behind: torch.Tensor, arrived: np.ndarray) -> torch.Tensor:
    """Who is behind after a message to all that only the clients `arrived` received, (n,)."""
    if len(arrived) == len(behind):
        return behind
    return behind | torch.ones_like(behind).index_fill(0, _index(arrived, behind), False)


def repair(fed: Federation, behind: torch.Tensor, restore: Callable[..., Any], *whole: Any) -> torch.Tensor:
    """Send everything (`whole`) anew to those who are behind; returns who still is, (n,)."""
    if not bool(behind.any()):
        return behind
    arrived = fed.call(restore, *whole, to=np.flatnonzero(behind.cpu())).clients
    return behind.index_fill(0, _index(arrived, behind), False)


def spread(fed: Federation, behind: torch.Tensor, fn: Callable[..., Any], change: Any) -> torch.Tensor:
    """Send a change to those who can use it, who are not behind; returns who is behind after it, (n,)."""
    arrived = fed.call(fn, change, to=current(behind)).clients
    return torch.ones_like(behind).index_fill(0, _index(arrived, behind), False)


def _index(clients: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(clients).to(like.device)
