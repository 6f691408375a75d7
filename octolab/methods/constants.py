"""What a theorem may ask of a problem: its constants, as numbers."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch

from octolab.errors import UnknownConstant
from octolab.problems import Problem


class Constants(Protocol):
    """A problem as `stepsize`, `theory_...` and `rate` see it. A constant that is not known raises `UnknownConstant`."""

    @property
    def n(self) -> int: ...
    @property
    def d(self) -> int: ...
    @property
    def sizes(self) -> np.ndarray:
        """(n,) samples of each client."""
        ...

    @property
    def weights(self) -> torch.Tensor:
        """(n,) float64, the w_i of f = sum w_i f_i; their sum is 1."""
        ...

    @property
    def strongly_convex(self) -> bool: ...
    @property
    def homogeneous(self) -> bool:
        """Whether all clients have the same f_i."""
        ...

    @property
    def nonnegative(self) -> bool: ...
    @property
    def L(self) -> float:
        """Smoothness of f; L_i (n,) those of the f_i; L_mean, L_max and L_qm their means and the largest."""
        ...

    @property
    def L_i(self) -> np.ndarray: ...
    @property
    def L_mean(self) -> float: ...
    @property
    def L_max(self) -> float: ...
    @property
    def L_qm(self) -> float: ...
    @property
    def mu(self) -> float:
        """Strong convexity of f; mu_i (n,) those of the f_i; mu_min what every f_i has, 0 if there is one without."""
        ...

    @property
    def mu_i(self) -> np.ndarray: ...
    @property
    def mu_min(self) -> float: ...
    @property
    def x_star(self) -> torch.Tensor:
        """(d,)"""
        ...

    @property
    def f_star(self) -> float: ...
    def variance(self, batch_size: int | None) -> float:
        """A bound on the variance of a client's gradient over `batch_size` samples."""
        ...

    @property
    def x0(self) -> torch.Tensor:
        """(d,) where the run begins."""
        ...

    def grad(self, x: torch.Tensor) -> torch.Tensor:
        """(n, d) the clients' gradients at x (d,)."""
        ...

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        """(n,) the clients' losses at x (d,)."""
        ...


class Known:
    """The `Constants` of a problem: asking for one that is None raises a sentence."""

    def __init__(self, problem: Problem, method: str, field: str | None = None):
        """method, field: who asks, for the sentence."""
        self._problem, self._method, self._field = problem, method, field

    def variance(self, batch_size: int | None) -> float:
        return float(self._known("variance", self._problem.variance(batch_size)))

    def __getattr__(self, name: str) -> Any:
        return self._known(name, getattr(self._problem, name))

    def _known(self, name: str, value: Any) -> Any:
        if value is None:
            note = getattr(self._problem, "constants_note", None) or "Its constants are unknown."
            asks = f"{self._method}: {self._field}=Theory()" if self._field else f"{self._method}: its theorem"
            give = f" Give {self._field}=... as a number." if self._field else ""
            raise UnknownConstant(f"{asks} needs the constant {name} of {self._problem.name}. {note}{give}")
        return value
