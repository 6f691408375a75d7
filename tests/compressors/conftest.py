"""Draws that replay given randomness, and the vectors that compressors are tried on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from octolab.randomness import Draws, Randomness


class Given:
    """Draws in which every call returns the given tensors."""

    def __init__(self, m: int, *, uniforms=None, permutation=None, subset=None, slots=None, cohort_size=None):
        self.m, self._uniforms, self._permutation, self._subset = m, uniforms, permutation, subset
        self.slots = torch.arange(m) if slots is None else torch.as_tensor(slots)
        self.cohort_size = m if cohort_size is None else cohort_size

    def uniform(self, width: int, purpose: str = "uniform") -> torch.Tensor:
        return self._uniforms

    def subset(self, size: int, k: int, purpose: str = "permutation") -> torch.Tensor:
        return self._subset[:, :k]

    def shared_permutation(self, size: int, purpose: str = "shared") -> torch.Tensor:
        assert len(self._permutation) == size
        return torch.as_tensor(self._permutation)


@pytest.fixture
def given() -> type[Given]:
    return Given


@pytest.fixture
def draws() -> Callable[..., Draws]:
    """draws(m, event=0): real, addressed draws with a fixed seed."""
    return lambda m, event=0: Randomness(7).draws(m, event=event)


@pytest.fixture
def normals() -> Callable[..., torch.Tensor]:
    """normals(*shape): fixed standard normals in float64."""

    def make(*shape: int, seed: int = 0) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    return make
