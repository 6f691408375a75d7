"""Compressors that keep some coordinates: Identity, TopK, BlockTopK, RandK, PermK."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from octolab.compressors.compressor import Compressor, check_count, count_of
from octolab.compressors.selection import largest
from octolab.params import param
from octolab.payloads import FLOAT_BITS, INDEX_CODES, Dense, Payload, Sparse, index_bits
from octolab.payloads.bitstream import ceil_log2
from octolab.randomness import Draws
from octolab.rooms import register


@dataclass(frozen=True)
class Kept:
    """What a sparsifier keeps of stacked x (m, d): values, where they were, and what to multiply them by."""

    values: Tensor  # (m, k)
    indices: Tensor | None  # (m, k) int64; None: all of them
    factor: float = 1.0
    index: str = "auto"
    blocks: tuple[int, int] | None = None
    count: Tensor | None = None

    def payload(self, d: int, values: Tensor | Payload | None = None) -> Payload:
        """The message with these positions, and other values if given."""
        kept = self.values if values is None else values
        if self.indices is None:
            return kept if isinstance(kept, Payload) else Dense(kept)
        return Sparse(kept, self.indices, d, self.index, self.blocks, self.count)


@dataclass(frozen=True, repr=False)
class Sparsifier(Compressor):
    """The base of those that keep coordinates."""

    sparsifier: ClassVar[bool] = True

    def keep(self, x: Tensor, draws: Draws) -> Kept:
        """Stacked x (m, d) -> what is kept of it."""
        raise NotImplementedError

    def kept(self, d: int) -> int:
        """How many of d coordinates are kept."""
        raise NotImplementedError

    def index_bits(self, d: int) -> int:
        """Bits of their positions."""
        return 0

    def compress(self, x: Tensor, draws: Draws) -> Payload:
        kept = self.keep(x, draws)
        return kept.payload(x.shape[1], kept.values if kept.factor == 1 else kept.values * kept.factor)

    def bits(self, d: int) -> int | None:
        return FLOAT_BITS * self.kept(d) + self.index_bits(d)


@register("compressors")
@dataclass(frozen=True, repr=False)
class Identity(Sparsifier):
    """C(x) = x. alpha = 1, omega = 0, 32 d bits."""

    unbiased: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True
    homogeneous: ClassVar[bool] = True

    def keep(self, x: Tensor, draws: Draws) -> Kept:
        return Kept(x, None)

    def kept(self, d: int) -> int:
        return d

    def omega(self, d: int) -> float:
        return 0.0


@register("compressors")
@dataclass(frozen=True, repr=False)
class TopK(Sparsifier):
    """The k entries of largest magnitude; ties go to the lowest index.

    alpha = k/d in the worst case, attained by constant |x| (Beznosikov et al. 2020). Bits: 32 k + positions.

    k:     a count (int), or a share (float): k = max(1, round(share * d)).
    index: how positions travel and are charged: "auto" (the cheaper of list and bitmap), "list" k ceil(log2
           d), "bitmap" d, "enum" ceil(log2 C(d, k)), or "none": 0 bits, the axis of papers that leave
           positions out (no real link can: the receiver then reads them from the payload's meta).

    Where 32 k + positions >= 32 d, everything is sent (k = d): it is cheaper, and exact.

    >>> TopK(1)(torch.tensor([1.0, -3.0, 3.0])).dense()
    tensor([ 0., -3.,  0.])
    """

    k: int | float = param(..., "how many are kept: a count, or a share of d", main=True, example=0.05)
    index: str = param("auto", "how positions travel", choices=INDEX_CODES)

    deterministic: ClassVar[bool] = True
    homogeneous: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("TopK", "k", self.k)

    def kept(self, d: int) -> int:
        k = count_of(self, self.k, d)
        return d if FLOAT_BITS * k + index_bits(self.index, d, k) >= FLOAT_BITS * d else k

    def index_bits(self, d: int) -> int:
        return index_bits(self.index, d, self.kept(d))

    def keep(self, x: Tensor, draws: Draws) -> Kept:
        k = self.kept(x.shape[1])
        if k == x.shape[1]:
            return Kept(x, None)
        indices = largest(x, k)
        return Kept(x.gather(1, indices), indices, index=self.index)

    def compress(self, x: Tensor, draws: Draws) -> Payload:
        """`keep` and `payload` in one: this is the hottest path of error feedback."""
        d = x.shape[1]
        k = self.kept(d)
        if k == d:
            return Dense(x)
        indices = largest(x, k)
        return Sparse(x.gather(1, indices), indices, d, self.index)

    def alpha(self, d: int) -> float:
        return self.kept(d) / d

    def omega(self, d: int) -> float | None:
        return None

    def for_size(self, d: int) -> Compressor:
        return replace(self, k=d) if isinstance(self.k, int) and self.k > d else self


@register("compressors")
@dataclass(frozen=True, repr=False)
class BlockTopK(Sparsifier):
    """TopK in every block of ``block`` neighbouring entries (the last block keeps min(k, its length)).

    alpha = min over blocks of kept/length. Bits: 32 + ceil(log2 block) for each kept entry: cheaper positions
    than TopK's. Where that reaches 32 d, everything is sent.

    >>> BlockTopK(2, 1)(torch.tensor([1.0, -3.0, 5.0, 4.0])).dense()
    tensor([ 0., -3.,  5.,  0.])
    """

    block: int = param(..., "entries of a block", ge=1, example=8)
    k: int = param(1, "how many of a block are kept", ge=1)

    deterministic: ClassVar[bool] = True
    homogeneous: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k > self.block:
            raise ValueError(f"BlockTopK: k={self.k}: give a whole number in 1..{self.block}, the size of a block.")

    def _pieces(self, d: int) -> tuple[int, int]:
        """(number of full blocks, length of the last, short one)."""
        return d // self.block, d % self.block

    def _cost(self, kept: int) -> int:
        return kept * (FLOAT_BITS + ceil_log2(self.block))

    def _wanted(self, d: int) -> int:
        full, rest = self._pieces(d)
        return full * self.k + min(self.k, rest)

    def kept(self, d: int) -> int:
        wanted = self._wanted(d)
        return d if self._cost(wanted) >= FLOAT_BITS * d else wanted

    def index_bits(self, d: int) -> int:
        kept = self.kept(d)
        return 0 if kept == d else kept * ceil_log2(self.block)

    def keep(self, x: Tensor, draws: Draws) -> Kept:
        m, d = x.shape
        if self.kept(d) == d:
            return Kept(x, None)
        full, rest = self._pieces(d)
        pieces = []
        if full:
            inside = largest(x[:, : full * self.block].reshape(m * full, self.block), self.k).reshape(m, full, self.k)
            starts = torch.arange(full, device=x.device)[:, None] * self.block
            pieces.append((inside + starts).reshape(m, full * self.k))
        if rest:
            pieces.append(largest(x[:, full * self.block :], min(self.k, rest)) + full * self.block)
        indices = torch.cat(pieces, dim=1)
        return Kept(x.gather(1, indices), indices, index="list", blocks=(self.block, self.k))

    def alpha(self, d: int) -> float:
        if self.kept(d) == d:
            return 1.0
        full, rest = self._pieces(d)
        return min([self.k / self.block] * (full > 0) + [min(1.0, self.k / (rest or 1))] * (rest > 0))

    def omega(self, d: int) -> float | None:
        return None


@register("compressors")
@dataclass(frozen=True, repr=False)
class RandK(Sparsifier):
    """(d/k) x on a uniformly random k-subset (``scaled=False``: x on the subset).

    Scaled: unbiased, omega = d/k - 1. Unscaled: contractive, alpha = k/d (Beznosikov et al. 2020). Bits: 32 k;
    the subset comes from a seed that both ends share, so positions are free.

    k: a count (int), or a share (float): k = max(1, round(share * d)).

    >>> RandK(0.1).omega(100), RandK(0.1).bits(100)
    (9.0, 320)
    """

    k: int | float = param(..., "how many are kept: a count, or a share of d", main=True, example=0.05)
    scaled: bool = param(True, "times d/k, which makes it unbiased")

    homogeneous: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("RandK", "k", self.k)

    @property
    def unbiased(self) -> bool:  # type: ignore[override]
        return self.scaled

    def kept(self, d: int) -> int:
        return count_of(self, self.k, d)

    def keep(self, x: Tensor, draws: Draws) -> Kept:
        d, k = x.shape[1], self.kept(x.shape[1])
        if k == d:
            return Kept(x, None)
        indices = draws.subset(d, k).to(x.device)
        return Kept(x.gather(1, indices), indices, d / k if self.scaled else 1.0, "none")

    def omega(self, d: int) -> float | None:
        return d / self.kept(d) - 1 if self.scaled else None

    def alpha(self, d: int) -> float | None:
        return super().alpha(d) if self.scaled else self.kept(d) / d

    def for_size(self, d: int) -> Compressor:
        return replace(self, k=d) if isinstance(self.k, int) and self.k > d else self


@register("compressors")
@dataclass(frozen=True, repr=False)
class PermK(Sparsifier):
    """The n clients of a cohort share out the coordinates by one common random permutation pi.

    d >= n: with q = d/n, client i keeps coordinates pi[iq..(i+1)q), times n; omega = n - 1.
    n >= d: client i keeps coordinate pi[i] mod d, times d; omega = d - 1.
    Jointly E|mean C_i(a_i) - mean a_i|^2 = A (mean|a_i|^2 - |mean a_i|^2), with A = 1, or (d - 1)/(n - 1)
    where n = q d: no error at all where all clients agree (Szlendak, Tyurin, Richtarik, arXiv 2110.03300).

    Not divisible: pi permutes n ceil(d/n) coordinates (those past d do not exist: some clients send one value
    less), or d ceil(n/d) clients (those past n stay silent); see :meth:`joint` for what the second costs.
    Bits: 32 a value, positions free (shared seed).

    n: the cohort's size, where omega and bits must be known beforehand; None takes it from the draws, and
       omega(d) is then the bound d - 1 that holds for every n.
    """

    n: int | None = param(None, "the cohort's size, where constants must be known beforehand", ge=1)

    unbiased: ClassVar[bool] = True
    homogeneous: ClassVar[bool] = True

    def kept(self, d: int) -> int:
        if self.n is None:
            raise ValueError("PermK: how much a client keeps depends on the cohort's size; give PermK(n=...).")
        return -(-d // self.n) if d >= self.n else 1

    def bits(self, d: int) -> int | None:
        if self.n is None or (d > self.n and d % self.n):
            return None
        return FLOAT_BITS * self.kept(d)

    def expected_bits(self, d: int) -> float | None:
        return None if self.n is None else FLOAT_BITS * max(d / self.n, 1.0)

    def omega(self, d: int) -> float:
        return float(min(d, d if self.n is None else self.n) - 1)

    def joint(self, d: int, n: int | None = None) -> tuple[float, float]:
        """(A, B) with E|mean C_i(a_i) - mean a_i|^2 = A mean|a_i|^2 - B |mean a_i|^2; A = B where d >= n or d
        divides n.

        n clients padded to N = d ceil(n/d): A = (N/n) B, B = (d - 1)/(N - 1) (derived; checked by enumeration).
        """
        n = n or self.n
        if n is None:
            raise ValueError("PermK: joint constants depend on the cohort's size; give n.")
        if n == 1 or d == 1:
            return 0.0, 0.0
        if d >= n:
            return 1.0, 1.0
        padded = d * -(-n // d)
        b = (d - 1) / (padded - 1)
        return padded / n * b, b

    def mean_omega(self, d: int, weights: Tensor) -> float:
        """n max w_i times A of `joint`, by the inequality for a_i = n w_i v_i."""
        n = len(weights)
        return self.joint(d, n)[0] * n * float(weights.max())

    def keep(self, x: Tensor, draws: Draws) -> Kept:
        d, n = x.shape[1], int(draws.cohort_size)
        if self.n is not None and self.n != n:
            raise ValueError(f"PermK: n is {self.n}, but the cohort has {n} clients; give PermK() or n={n}.")
        slots = draws.slots.to(x.device)
        if n == 1:
            return Kept(x, None)
        if d < n:
            permutation = draws.shared_permutation(d * -(-n // d)).to(x.device)
            indices = (permutation[slots] % d)[:, None]
            return Kept(x.gather(1, indices), indices, float(d), "none")
        q = -(-d // n)
        permutation = draws.shared_permutation(n * q).to(x.device)
        indices = permutation[slots[:, None] * q + torch.arange(q, device=x.device)]
        if d % n == 0:
            return Kept(x.gather(1, indices), indices, float(n), "none")
        real = indices < d  # put the real coordinates first, in their order; what is left is padding
        indices = indices.gather(1, torch.argsort(~real, dim=1, stable=True))
        count = real.sum(1)
        padding = torch.arange(q, device=x.device) >= count[:, None]
        indices = indices.masked_fill(padding, 0)
        return Kept(x.gather(1, indices).masked_fill(padding, 0), indices, float(n), "none", count=count)
