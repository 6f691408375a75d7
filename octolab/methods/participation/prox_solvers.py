"""Solvers of a cohort's prox problem that count exchanges: min_z phi(z) = F(z) + |z - x|^2/(2 gamma), F = f_C.

A solver is a generator. It yields an `Ask`: where the cohort is to answer, and the point it would return if the cohort
went home now; it is sent F's gradient there (d,), or F's Hessian at x times the vector asked for. It returns its last z.
No function value travels, so line searches go by slopes. `rounds` exchanges are used, fewer only if phi is solved.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import NamedTuple

import torch

CURVED = 1e-12  # a pair of step s and change of gradient y counts as curvature if s'y > CURVED |s| |y|


class Ask(NamedTuple):
    """at: (d,) the point, or the vector to multiply. z: (d,) the best point so far. product: Hessian times vector?"""

    at: torch.Tensor
    z: torch.Tensor
    product: bool = False


Solver = Generator[Ask, torch.Tensor, torch.Tensor]


def gd(x: torch.Tensor, gamma: float, rounds: int, lr: float) -> Solver:
    """Gradient steps on phi. The first one is F's alone: the prox term vanishes at z = x."""
    z = x
    for _ in range(rounds):
        g = yield Ask(z, z)
        z = z - lr * (g + (z - x) / gamma)
    return z


def adam(x: torch.Tensor, gamma: float, rounds: int, lr: float) -> Solver:
    """Adam's steps on phi (0.9, 0.999, 1e-8), with moments of this cohort alone: for networks."""
    z, m, v = x, torch.zeros_like(x), torch.zeros_like(x)
    for t in range(1, rounds + 1):
        g = (yield Ask(z, z)) + (z - x) / gamma
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        z = z - lr * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    return z


def cg(x: torch.Tensor, gamma: float, rounds: int, lr: float) -> Solver:
    """Linear conjugate gradients on phi's quadratic model at x: one gradient, then rounds - 1 Hessian products.

    On quadratics d + 1 rounds give the exact prox; elsewhere it is one truncated Newton step.
    """
    r = -(yield Ask(x, x))
    if rounds == 1:
        return x + lr * r
    s, p, size = torch.zeros_like(x), r, float(r @ r)
    solved = 1e-30 * size
    for _ in range(rounds - 1):
        if size <= solved:
            break
        Hp = (yield Ask(p, x + s, product=True)) + p / gamma
        bend = float(p @ Hp)
        if bend <= 0:  # the model has no minimum this way
            break
        s, r = s + (size / bend) * p, r - (size / bend) * Hp
        size, old = float(r @ r), size
        p = r + (size / old) * p
    return x + s


def nonlinear_cg(x: torch.Tensor, gamma: float, rounds: int, lr: float) -> Solver:
    """Polak-Ribiere+ with a secant line search: a probe gives the length (exact on quadratics), then a gradient.

    Two exchanges per direction; a gradient that is left over at the end is worth a step of length lr.
    """
    z, length = x, lr
    g = yield Ask(z, z)
    p, left = -g, rounds - 1
    while left > 0:
        slope = float(g @ p)
        if slope >= 0:
            p, slope = -g, -float(g @ g)
        if slope == 0:
            return z
        probe = z + length * p
        ahead = (yield Ask(probe, z)) + (probe - x) / gamma
        left -= 1
        bend = float(ahead @ p) - slope
        if bend > 0:
            length *= min(-slope / bend, 100.0)
            z = z + length * p
            if left == 0:
                return z
            ahead = (yield Ask(z, z)) + (z - x) / gamma
            left -= 1
        else:  # no minimum in sight: go to the probe, and look twice as far next time
            z, length = probe, 2 * length
        beta = max(0.0, float(ahead @ (ahead - g)) / float(g @ g))
        g, p = ahead, -ahead + beta * p
    return z - lr * g


def lbfgs(x: torch.Tensor, gamma: float, rounds: int, lr: float) -> Solver:
    """Quasi-Newton steps of full length, with all pairs of this cohort (BFGS from a scaled identity): one exchange a step.

    A step whose slope at its end is steeper uphill than it was downhill has gone too far: it is not taken, but its
    curvature shortens the next one. The last step is taken unseen.
    """
    pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
    z = x
    g = yield Ask(z, z)
    for _ in range(rounds - 1):
        s = -_inverse_hessian(g, pairs, lr)
        ahead = (yield Ask(z + s, z)) + (z + s - x) / gamma
        y = ahead - g
        if float(s @ y) > CURVED * float(s.norm() * y.norm()):
            pairs.append((s, y))
        if float(ahead @ s) <= abs(float(g @ s)):
            z, g = z + s, ahead
    return z - _inverse_hessian(g, pairs, lr)


def _inverse_hessian(g: torch.Tensor, pairs: list[tuple[torch.Tensor, torch.Tensor]], lr: float) -> torch.Tensor:
    """The two-loop recursion: the quasi-Newton matrix times g; lr times g before any curvature is known."""
    if not pairs:
        return lr * g
    q, weights = g, []
    for s, y in reversed(pairs):
        a = (s @ q) / (s @ y)
        weights.append(a)
        q = q - a * y
    s, y = pairs[-1]
    r = (s @ y) / (y @ y) * q
    for (s, y), a in zip(pairs, reversed(weights), strict=True):
        r = r + (a - (y @ r) / (s @ y)) * s
    return r


SOLVERS: dict[str, Callable[[torch.Tensor, float, int, float], Solver]] = {
    "gd": gd,
    "cg": cg,
    "nonlinear-cg": nonlinear_cg,
    "lbfgs": lbfgs,
    "adam": adam,
}
