"""Small problems of every kind, and central differences to check them against."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from octolab.problems import MLP, Logistic, Network, Problem, Quadratics, Softmax, Tridiagonal

SIZES = {"equal": [6, 6, 6, 6], "ragged": [5, 6, 7, 4], "very ragged": [1, 3, 40, 2]}


def samples(sizes: list[int], p: int, classes: int, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(m, p)) for m in sizes], [rng.integers(0, classes, m) for m in sizes]


def logistic(sizes: list[int], **options) -> Logistic:
    x, y = samples(sizes, 5, 2)
    return Logistic(x, [2 * t - 1 for t in y], 0.1, **options)


def softmax(sizes: list[int], **options) -> Softmax:
    x, y = samples(sizes, 4, 3)
    return Softmax(x, y, 3, 0.1, **options)


def network(sizes: list[int], **options) -> Network:
    x, y = samples(sizes, 4, 3)
    return Network(MLP(4, 5, 3), "cross_entropy", x, y, dtype=torch.float64, **options)


def quadratic(sizes: list[int], **options) -> Quadratics:
    rng = np.random.default_rng(1)
    A = rng.normal(size=(len(sizes), 5, 5))
    return Quadratics(A @ A.transpose(0, 2, 1) + np.eye(5), rng.normal(size=(len(sizes), 5)), **options)


MAKERS: dict[str, Callable[[list[int]], Problem]] = {
    "quadratics": quadratic,
    "tridiagonal": lambda sizes: Tridiagonal(d=6, n=len(sizes), noise=0.0),
    "logistic": logistic,
    "nonconvex logistic": lambda sizes: logistic(sizes, nonconvex=0.3, weights="examples"),
    "softmax": softmax,
    "network": lambda sizes: network(sizes, l2=0.2),
}


@pytest.fixture(params=list(MAKERS))
def kind(request) -> str:
    return request.param


@pytest.fixture(params=list(SIZES))
def sizes(request) -> list[int]:
    return SIZES[request.param]


@pytest.fixture
def problem(kind, sizes) -> Problem:
    return MAKERS[kind](sizes)


@pytest.fixture(params=["logistic", "nonconvex logistic", "softmax", "network"])
def sampled(request, sizes) -> Problem:
    """A problem whose clients hold samples."""
    return MAKERS[request.param](sizes)


@pytest.fixture(params=["logistic", "nonconvex logistic"])
def binary(request, sizes) -> Problem:
    return MAKERS[request.param](sizes)


@pytest.fixture(params=["logistic", "softmax"])
def linear(request, sizes) -> Problem:
    return MAKERS[request.param](sizes)


@pytest.fixture(params=["quadratics", "tridiagonal"])
def constant_curvature(request, sizes) -> Problem:
    return MAKERS[request.param](sizes)


def random_point(problem: Problem) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).normal(size=problem.d)) / 2


@pytest.fixture
def point(problem) -> torch.Tensor:
    return random_point(problem)


@pytest.fixture
def at() -> Callable[[Problem], torch.Tensor]:
    """The same kind of point for a problem that comes from another fixture."""
    return random_point


@pytest.fixture
def slope() -> Callable:
    def central(f: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, h: float = 1e-5) -> torch.Tensor:
        """f: (d,) -> (m, ...); returns (m, ..., d) with an error of O(h^2)."""
        steps = h * torch.eye(len(x), dtype=x.dtype)
        return torch.stack([(f(x + e) - f(x - e)) / (2 * h) for e in steps], -1)

    return central
