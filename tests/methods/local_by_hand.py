"""What the references of local training share: a client's local steps, and where they lead on quadratics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import octolab as ol


def train(
    grad: Callable, x: np.ndarray, lr: float, tau: int, momentum=0.0, prox=0.0, correction: Any = 0.0
) -> np.ndarray:
    """y = x, v = 0; tau times v = momentum v + grad(y) + correction, y = y - lr (v + prox (y - x))."""
    y, v = x, np.zeros_like(x)
    for _ in range(tau):
        v = momentum * v + grad(y) + correction
        y = y - lr * (v + prox * (y - x))
    return y


def mixed(sizes=(5, 2, 9), weights="examples") -> ol.problems.Logistic:
    """Logistic regression with clients of unequal size and weight."""
    rng = np.random.default_rng(4)
    a = [rng.normal(size=(m, 4)) for m in sizes]
    return ol.problems.Logistic(a, [np.sign(rng.normal(size=m)) for m in sizes], l2=0.1, weights=weights)


def weighted(problem: ol.problems.Quadratics, w) -> ol.problems.Quadratics:
    """The same quadratics with other weights."""
    return ol.problems.Quadratics(problem.A.numpy(), problem.b.numpy(), weights=w)


def centre(matrices, problem: ol.problems.Quadratics) -> np.ndarray:
    """x with sum_i M_i (x - x_i*) = 0, x_i* the minimiser of f_i."""
    own = [np.linalg.solve(A, b) for A, b in zip(problem.A.numpy(), problem.b.numpy(), strict=True)]
    return np.linalg.solve(sum(matrices), sum(M @ v for M, v in zip(matrices, own, strict=True)))


def progress(A: np.ndarray, lr: float, tau: int) -> np.ndarray:
    """I - (I - lr A)^tau: the part of the way to its minimiser that a client goes in tau steps."""
    return np.eye(len(A)) - np.linalg.matrix_power(np.eye(len(A)) - lr * A, tau)


def distance(problem: ol.problems.Problem, x) -> float:
    return float(np.linalg.norm(np.asarray(x) - problem.x_star.numpy()))


def never_again(client: int, n: int) -> ol.Fleet:
    """A fleet in which one client is gone for ever."""
    return ol.Fleet(dropout=np.eye(n)[client])
