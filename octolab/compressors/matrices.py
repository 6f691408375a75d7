"""Compressors of symmetric matrices (FedNL): x is (d, d), or (m, d, d) for m clients; alpha(d), omega(d) take
the side d.

Norms are Frobenius norms. Source: Safaryan, Islamov, Qian, Richtarik, FedNL, arXiv 2106.02969.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from octolab.compressors.compressor import Compressor, check_count, count_of
from octolab.compressors.selection import largest
from octolab.params import param
from octolab.payloads import (
    FLOAT_BITS,
    INDEX_CODES,
    Dense,
    LowRank,
    Payload,
    Sparse,
    Symmetric,
    index_bits,
    upper,
)
from octolab.randomness import Draws
from octolab.rooms import register


def _entries(d: int) -> int:
    return d * (d + 1) // 2


def _check_symmetric(owner: Compressor, x: Tensor) -> None:
    """ValueError unless every matrix of x (m, d, d) is square and symmetric to 1e-5 of its largest entry."""
    if x.shape[1] != x.shape[2]:
        raise ValueError(f"{owner!r} compresses symmetric matrices; given a shape of {tuple(x.shape[1:])}.")
    if x.numel() and bool(((x - x.mT).abs().amax((1, 2)) > 1e-5 * x.abs().amax((1, 2))).any()):
        raise ValueError(f"{owner!r} compresses symmetric matrices; this one is not. Give (M + M^T)/2.")


@register("compressors")
@dataclass(frozen=True, repr=False)
class RankR(Compressor):
    """The R eigenpairs of largest |eigenvalue| of a symmetric matrix.

    alpha = R/d, attained by equal |eigenvalues|. Bits: 32 R (d + 1), eigenvalues included. At R = d the upper
    triangle is sent, exactly.
    """

    rank: int = param(1, "eigenpairs kept, R", ge=1, main=True)

    deterministic: ClassVar[bool] = True
    homogeneous: ClassVar[bool] = True
    axes: ClassVar[int] = 2

    def compress(self, x: Tensor, draws: Draws) -> Payload:
        _check_symmetric(self, x)
        d = x.shape[1]
        if count_of(self, self.rank, d) == d:
            return Symmetric(Dense(upper(x)))
        values, vectors = torch.linalg.eigh(x)
        top = torch.sort(values.abs(), dim=1, descending=True, stable=True).indices[:, : self.rank]
        left = vectors.gather(2, top[:, None, :].expand(-1, d, -1))
        return LowRank(left, None, values.gather(1, top))

    def alpha(self, d: int) -> float:
        return count_of(self, self.rank, d) / d

    def bits(self, d: int) -> int:
        rank = count_of(self, self.rank, d)
        return FLOAT_BITS * (_entries(d) if rank == d else rank * (d + 1))


@register("compressors")
@dataclass(frozen=True, repr=False)
class MatrixTopK(Compressor):
    """The K largest entries of a symmetric matrix's upper triangle, off-diagonals ranked by sqrt(2)|M_ij|.

    An off-diagonal entry stands for two of the matrix: with this ranking alpha = 2K/(d(d+1)) is exact
    (ranking by |M_ij|, as the authors' code does, can violate it; K/d^2 would be safe for both). Ties go to
    the lowest index, row by row.
    Bits: 32 K + positions among d(d+1)/2.

    k: a count K (int), or a share of the d(d+1)/2 entries (float).
    """

    k: int | float = param(..., "how many are kept: a count, or a share", main=True, example=0.05)
    index: str = param("auto", "how positions travel", choices=INDEX_CODES)

    deterministic: ClassVar[bool] = True
    homogeneous: ClassVar[bool] = True
    axes: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("MatrixTopK", "k", self.k)

    def kept(self, d: int) -> int:
        """K, or all d(d+1)/2 entries where that is no dearer."""
        size = _entries(d)
        k = count_of(self, self.k, size)
        return size if FLOAT_BITS * k + index_bits(self.index, size, k) >= FLOAT_BITS * size else k

    def compress(self, x: Tensor, draws: Draws) -> Payload:
        _check_symmetric(self, x)
        d, k = x.shape[1], self.kept(x.shape[1])
        flat = upper(x)
        if k == flat.shape[1]:
            return Symmetric(Dense(flat))
        weight = upper(torch.full((d, d), 2**0.5, dtype=x.dtype, device=x.device).fill_diagonal_(1.0))
        indices = largest(flat * weight, k)
        return Symmetric(Sparse(flat.gather(1, indices), indices, flat.shape[1], self.index))

    def alpha(self, d: int) -> float:
        return self.kept(d) / _entries(d)

    def bits(self, d: int) -> int:
        k = self.kept(d)
        return FLOAT_BITS * k + index_bits(self.index, _entries(d), k)


@register("compressors")
@dataclass(frozen=True, repr=False)
class MatrixRandK(Compressor):
    """K uniformly random entries of a symmetric matrix's upper triangle, times d(d+1)/(2K).

    Unbiased, omega = d(d+1)/(2K) - 1. Bits: 32 K; positions come from a shared seed.

    k: a count K (int), or a share of the d(d+1)/2 entries (float).
    """

    k: int | float = param(..., "how many are kept: a count, or a share", main=True, example=0.05)

    unbiased: ClassVar[bool] = True
    homogeneous: ClassVar[bool] = True
    axes: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("MatrixRandK", "k", self.k)

    def kept(self, d: int) -> int:
        return count_of(self, self.k, _entries(d))

    def compress(self, x: Tensor, draws: Draws) -> Payload:
        _check_symmetric(self, x)
        flat, k = upper(x), self.kept(x.shape[1])
        size = flat.shape[1]
        if k == size:
            return Symmetric(Dense(flat))
        indices = draws.subset(size, k).to(x.device)
        return Symmetric(Sparse(flat.gather(1, indices) * (size / k), indices, size, "none"))

    def omega(self, d: int) -> float:
        return _entries(d) / self.kept(d) - 1

    def bits(self, d: int) -> int:
        return FLOAT_BITS * self.kept(d)
