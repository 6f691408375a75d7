"""Exact local solutions: argmin_y f_i(y) - <tilt_i, y> + (mu/2)|y - x_i|^2 for many clients at once, by Newton's method.

What FedProx and FedDyn ask of their clients in theory, and with mu = 0 a client's own optimum.
"""

from __future__ import annotations

import torch

from octolab.problems.problem import Clients, Problem

HELD = 2**26  # bytes of Hessians that are held at a time


def prox(
    problem: Problem,
    x: torch.Tensor,
    clients: Clients = None,
    mu: float | torch.Tensor = 0.0,
    tilt: torch.Tensor | None = None,
    most: int = 100,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The minimisers (m, d), to rounding, and the Newton steps (m,) that each client took.

    x: (d,) or (m, d). mu: one number >= 0, or (m,). tilt: (m, d) or None. Needs Hessians; ValueError in words where the
    problem has none, or where f_i + (mu/2)|.|^2 is not strongly convex on the way, so that there may be no minimiser.
    Damped steps, halved until the gradient shrinks, which for a strongly convex function leads to its minimiser, and
    when it is small a last, full one.
    """
    m, d = problem.count(clients), problem.d
    y, taken = x.expand(m, -1).clone(), torch.zeros(m, dtype=torch.int64)
    ids, size = problem.ids(clients), max(1, HELD // (d * d * y.dtype.itemsize))
    mus = torch.as_tensor(mu, dtype=y.dtype).expand(m)
    for a in range(0, m, size):
        part = slice(a, min(a + size, m))
        own = None if tilt is None else tilt[part]
        y[part], taken[part] = _newton(problem, y[part], ids[part], mus[part], own, most)
    return y, taken


def _newton(
    problem: Problem, x: torch.Tensor, ids: torch.Tensor, mu: torch.Tensor, tilt: torch.Tensor | None, most: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """One block of clients ids (m,) from x (m, d)."""

    def slope(y: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        g = problem.grad(y, ids[rows]) + mu[rows, None] * (y - x[rows])
        return g if tilt is None else g - tilt[rows]

    y, rows = x.clone(), torch.arange(len(x))
    g, taken = slope(y, rows), torch.zeros(len(x), dtype=torch.int64)
    # A gradient of half the digits is one step from rounding. How many steps are taken must not hang on the last digits.
    near = torch.finfo(y.dtype).eps ** 0.5 * (1 + g.norm(dim=1) + (0.0 if tilt is None else tilt.norm(dim=1)))
    for _ in range(most):
        if len(rows) == 0:
            break
        taken[rows] += 1
        step, last = _direction(problem, y, g, ids, mu, rows), g[rows].norm(dim=1) <= near[rows]
        y[rows[last]] -= step[last]
        rows, step = rows[~last], step[~last]
        before, length, left = g[rows].norm(dim=1), 1.0, torch.arange(len(rows))
        while len(left) and length > 1e-9:  # those who still look for a length
            at = rows[left]
            trial = y[at] - length * step[left]
            there = slope(trial, at)
            good = there.norm(dim=1) <= (1 - length / 10) * before[left]
            y[at[good]], g[at[good]] = trial[good], there[good]
            left, length = left[~good], length / 2
    return y, taken


def _direction(
    problem: Problem, y: torch.Tensor, g: torch.Tensor, ids: torch.Tensor, mu: torch.Tensor, rows: torch.Tensor
) -> torch.Tensor:
    """(H_i + mu)^-1 g_i for the clients in rows."""
    H = problem.hessian(y[rows], ids[rows])
    H.diagonal(dim1=1, dim2=2).add_(mu[rows, None])
    factor, failed = torch.linalg.cholesky_ex(H)
    if bool(failed.any()):
        client = int(ids[rows][failed != 0][0])
        raise ValueError(
            f"Client {client}'s subproblem is not strongly convex (mu={float(mu[rows][failed != 0][0]):g}), so it may have "
            f"no minimiser. Choose a larger mu, or SGD steps instead of the exact solution."
        )
    return torch.cholesky_solve(g[rows][:, :, None], factor)[:, :, 0]
