"""What personalised methods share: shares alpha_i in (0, 1], and each client's own optimum x_i*."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from octolab.federation import Cohort


def check_shares(owner: str, alpha: Any, n: int) -> None:
    """alpha is one number, or n of them, in (0, 1]."""
    given = np.atleast_1d(np.asarray(alpha, dtype=float))
    if given.shape not in ((1,), (n,)):
        raise ValueError(f"{owner}: alpha has {given.size} entries and there are {n} clients: give one number, or {n}.")
    if not ((given > 0) & (given <= 1)).all():
        raise ValueError(
            f"{owner}: alpha={alpha!r}: every alpha_i lies in (0, 1]. Where 0 is meant, a client shares nothing: use "
            f"local-only."
        )


def column(cohort: Cohort, values: Any) -> torch.Tensor:
    """(m, 1) of a number or of one number per client (n,), in the simulation's dtype."""
    each = np.broadcast_to(np.asarray(values, dtype=float), (cohort.n,)).copy()
    return cohort.own(each).to(cohort.problem.dtype)[:, None]


def own_optimum(cohort: Cohort, x: torch.Tensor, lr: Any, steps: int) -> torch.Tensor:
    """(m, d) argmin f_i, exact where f is strongly convex with Hessians, else what `steps` full gradient steps reach.

    Charged as the work it is: Newton steps, or gradients.
    """
    problem: Any = cohort.problem
    if problem.strongly_convex and problem.has_hessian:
        return cohort.prox(x.expand(cohort.m, -1), 0.0)
    return cohort.local_sgd(x, lr=lr, steps=steps)
