"""What the independent references share: a problem as plain functions, and the library's own trajectory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import octolab as ol


def iterates(method: ol.Method, problem: ol.problems.Problem, rounds: int, **settings) -> np.ndarray:
    """(rounds + 1, d): the library's server model after init and after every step."""
    run = ol.run(method, problem, rounds=rounds, keep="x", live=False, **settings)
    assert run.status == "finished", run.error
    return run.iterates.numpy()


def gradients(problem: ol.problems.Quadratics) -> list[Callable[[np.ndarray], np.ndarray]]:
    """grad f_i(x) = A_i x - b_i, one function per client."""
    A, b = problem.A.numpy(), problem.b.numpy()
    return [lambda x, i=i: A[i] @ x - b[i] for i in range(problem.n)]


def mean(vectors: list[np.ndarray]) -> np.ndarray:
    return sum(vectors) / len(vectors)


def top(v: np.ndarray, k: int) -> np.ndarray:
    """The k entries of largest magnitude; ties go to the lowest index."""
    out = np.zeros_like(v)
    for j in sorted(range(len(v)), key=lambda j: (-abs(v[j]), j))[:k]:
        out[j] = v[j]
    return out


def rand(v: np.ndarray, k: int, permutation: np.ndarray) -> np.ndarray:
    """d/k times the entries at the first k places of a permutation."""
    out = np.zeros_like(v)
    for j in permutation[:k]:
        out[j] = v[j] * len(v) / k
    return out


def permutations(rounds: int, n: int, d: int, seed: int = 0) -> list[np.ndarray]:
    """One array (n, d) per round: a permutation for each client."""
    rng = np.random.default_rng(seed)
    return [np.stack([rng.permutation(d) for _ in range(n)]) for _ in range(rounds)]


def close(a, b, tol: float = 1e-10) -> bool:
    """Equal to `tol`, relative to the largest entry."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape, (a.shape, b.shape)
    gap = np.max(np.abs(a - b)) / max(1.0, np.max(np.abs(b)))
    assert gap <= tol, f"they differ by {gap:.3g}"
    return True


def gap_to(problem: ol.problems.Problem, x) -> float:
    """f(x) - f*, from the difference of the points, so that it is exact near the optimum."""
    v = np.asarray(x) - problem.x_star.numpy()
    A = np.tensordot(problem.weights.numpy(), problem.A.numpy(), 1)
    return float(v @ A @ v / 2)
