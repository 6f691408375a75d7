"""What personalised methods share: numbers of each client's own, and mixtures with each client's own optimum x_i*."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from octolab.methods.page import Cohort, Federation, Method, Problem, param, torch
from octolab.params import allowed, params

AFFORDABLE = 2e11
"""n d^3 up to which solver="auto" finds the x_i* exactly: seconds of Newton steps."""


class PerClient(tuple):
    """(n,) numbers, one per client. A tuple, so that they can be compared and written as JSON; formatted as a range."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return f"{min(self):{spec}} to {max(self):{spec}}" if spec else repr(self)


def per_client(method: Any, *names: str) -> None:
    """Fields that are arrays or lists become `PerClient`, those that are one number stay: for `__post_init__`."""
    for name in names:
        value = getattr(method, name)
        if hasattr(value, "__len__") and not isinstance(value, str) and np.ndim(value):
            object.__setattr__(method, name, PerClient(map(float, value)))


def check_each(method: Any, name: str, n: int) -> None:
    """Refuse a field with one number per client that has too many or too few, or one out of the field's range."""
    value, facts = getattr(method, name), params(type(method))[name]
    if not isinstance(value, tuple):
        return
    owner = type(method).__name__
    if len(value) != n:
        raise ValueError(
            f"{owner}: {name} has {len(value)} entries and there are {n} clients: give one number, or {n}."
        )
    for i, v in enumerate(value):
        if not facts.inside(v):
            raise ValueError(f"{owner}: {name}={v!r} for client {i}: give {allowed(facts)}.")


def column(values: Any) -> Any:
    """One number as it is; one per client as (n, 1)."""
    return torch.tensor(values, dtype=torch.float64)[:, None] if isinstance(values, tuple) else float(values)


def rows(cohort: Cohort, values: Any) -> Any:
    """The cohort's rows of a `column`, in the simulation's dtype."""
    return values if isinstance(values, float) else values[cohort.rows].to(cohort.problem.dtype)


class Mixture(Method):
    """Clients that use alpha_i x + (1 - alpha_i) x_i*, where x_i* is the optimum of f_i, found beforehand and alone."""

    alpha: float | Sequence[float] = param(
        0.5, "share of the common model, alpha_i, for all or one each; where 0 is meant, use local-only", gt=0, le=1,
        main=True,
    )  # fmt: skip
    solver: str = param(
        "auto", "how x_i* is found: exactly (needs Hessians), by own_steps, or auto", choices=("auto", "exact", "sgd")
    )
    own_steps: int = param(100, "local steps that find x_i* where it is not solved exactly", ge=1)
    own_lr: float | None = param(None, "their size; None: 1/L_i, or what lr amounts to where L_i is unknown", gt=0)
    batch_size: int | None = param(None, "samples per gradient; None: all", ge=1)

    def __post_init__(self) -> None:
        per_client(self, "alpha")
        super().__post_init__()

    def check(self, problem: Problem) -> None:
        super().check(problem)
        check_each(self, "alpha", problem.n)

    def resolve(self, problem: Problem) -> Method:
        """solver "auto" is "exact" where every f_i is strongly convex, has Hessians, and n d^3 is affordable."""
        if self.solver != "auto":
            return super().resolve(problem)
        exact = problem.has_hessian and problem.mu_min > 0 and problem.n * problem.d**3 <= AFFORDABLE
        return dataclasses.replace(self, solver="exact" if exact else "sgd").resolve(problem)

    @cached_property
    def shares(self) -> Any:
        """alpha: one number, or (n, 1)."""
        return column(self.alpha)

    @property
    def personalised(self) -> bool:
        """Whether any client needs its own optimum: with alpha_i = 1 nobody does."""
        return bool(np.min(self.alpha) < 1)

    def find_own(self, fed: Federation) -> None:
        """Have the clients with alpha_i < 1 find x_i*, at a cost that the ledger counts and row 0 of the history shows."""
        before = fed.ledger.mean("gradients")
        alone = np.flatnonzero(np.broadcast_to(self.alpha, (fed.n,)) < 1)
        fed.call(self.search, to=None if len(alone) == fed.n else alone)
        fed.log(own_gradients=fed.ledger.mean("gradients") - before)

    def search(self, cohort: Cohort) -> None:
        """From memory.own, where it holds the point to start from."""
        x, L_i = cohort.memory.own, cohort.problem.L_i
        if self.solver == "exact":
            cohort.memory.own = cohort.prox(x, 0.0)
            return
        lr: Any = self.own_lr
        if lr is None:
            lr = self.equivalent(cohort) if L_i is None else 1 / cohort.own(L_i)
        cohort.memory.own = cohort.local_sgd(x, lr=lr, steps=self.own_steps, batch_size=self.batch_size)

    def equivalent(self, cohort: Cohort) -> Any:
        """A step size on f_i that `lr` amounts to: one number, or (m,)."""
        raise NotImplementedError

    def mixed(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        """(m, d) alpha_i x_i + (1 - alpha_i) x_i*, for x (d,) or (m, d)."""
        if not self.personalised:
            return x
        return cohort.memory.own.lerp_(x, rows(cohort, self.shares))  # a copy

    def models(self, fed: Federation, x: torch.Tensor) -> torch.Tensor:
        """(n, d) the same for everybody, seen from outside."""
        if not self.personalised:
            return x.expand(fed.n, -1).contiguous()
        a = self.shares if isinstance(self.shares, float) else self.shares.to(x.dtype)
        return a * x + (1 - a) * fed.memory.own
