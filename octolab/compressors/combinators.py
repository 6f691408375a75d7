"""Compressors made of compressors: Chain, Scaled, Bernoulli, Bucketed, PerTensor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import cast

import torch
from torch import Tensor

from octolab.arguments import expects, switch, whole
from octolab.compressors.compressor import Compressor, check_whole
from octolab.compressors.quantizers import QSGD, Natural
from octolab.compressors.sparsifiers import Identity, RandK, Sparsifier, TopK
from octolab.params import param
from octolab.payloads import Blocks, Buckets, Gated, Payload, Rescaled
from octolab.randomness import Draws
from octolab.rooms import register


@register("compressors")
@dataclass(frozen=True, repr=False)
class Chain(Compressor):
    """second applied to the values that first keeps: ``first | second``.

    Both unbiased: 1 + omega = (1 + omega_1)(1 + omega_2). Otherwise alpha = alpha_1 alpha_2, where an
    unbiased second with omega_2 < 1 counts as alpha_2 = 1 - omega_2: |C(x) - x|^2 = |x - x_S|^2 + |C_2(x_S) -
    x_S|^2. omega_2 and alpha_2 are those of length k. Bits: second's for k values + first's positions.

    first must keep coordinates (TopK, RandK, ...). RandK's factor d/k is applied after second, by the receiver.

    >>> (TopK(0.1) | QSGD(7)).bits(100)
    142
    """

    first: Compressor = param(..., "what keeps coordinates", example=TopK(0.05))
    second: Compressor = param(..., "what is done to the values kept", example=Natural())

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.first, Sparsifier):
            raise ValueError(
                f"Chain: first is {self.first!r}, which keeps no coordinates for another compressor to "
                "work on; start with TopK, BlockTopK, RandK, PermK or Identity."
            )
        if self.second.axes != 1:
            raise ValueError(f"Chain: second is {self.second!r}, a compressor of matrices; give one of vectors.")

    @property
    def unbiased(self) -> bool:  # type: ignore[override]
        return self.first.unbiased and self.second.unbiased

    @property
    def deterministic(self) -> bool:  # type: ignore[override]
        return self.first.deterministic and self.second.deterministic

    @property
    def homogeneous(self) -> bool:  # type: ignore[override]
        return self.first.homogeneous and self.second.homogeneous

    @property
    def _first(self) -> Sparsifier:
        return cast(Sparsifier, self.first)

    def compress(self, x: Tensor, draws: Draws) -> Payload:
        kept = self._first.keep(x, draws)
        if kept.count is not None:
            raise ValueError(
                f"{self!r}: d = {x.shape[1]} is no multiple of the {draws.cohort_size} clients, so they keep "
                "different numbers of values; use a cohort whose size divides d."
            )
        payload = kept.payload(x.shape[1], self.second.for_size(kept.values.shape[1])(kept.values, draws))
        return payload if kept.factor == 1 else Rescaled(payload, kept.factor)

    def _second(self, d: int) -> tuple[Compressor, int]:
        k = self._first.kept(d)
        return self.second.for_size(k), k

    def omega(self, d: int) -> float | None:
        if not self.unbiased:
            return None
        second, k = self._second(d)
        return (1 + _known(self.first.omega(d))) * (1 + _known(second.omega(k))) - 1

    def mean_omega(self, d: int, weights: Tensor) -> float:
        second, k = self._second(d)
        return self.first.mean_omega(d, weights) + (1 + self.first.variance(d)) * second.mean_omega(k, weights)

    def alpha(self, d: int) -> float | None:
        if self.unbiased:
            return super().alpha(d)
        second, k = self._second(d)
        # first.omega: a scaled sparsifier before a biased second has no constant of this form
        one = None if self.first.unbiased and self.first.omega(d) != 0 else self.first.alpha(d)
        two = second.alpha(k)
        return None if one is None or two is None else one * two

    def bits(self, d: int) -> int | None:
        second, k = self._second(d)
        inner = second.bits(k)
        return None if inner is None else inner + self._first.index_bits(d)

    def expected_bits(self, d: int) -> float | None:
        second, k = self._second(d)
        inner = second.expected_bits(k)
        return None if inner is None else inner + self._first.index_bits(d)

    def for_size(self, d: int) -> Compressor:
        return replace(self, first=self.first.for_size(d))

    def __or__(self, other: Compressor) -> Compressor:
        return Chain(self.first, self.second | other)

    def __repr__(self) -> str:
        return f"{self.first!r} | {self.second!r}"


def _known(value: float | None) -> float:
    assert value is not None
    return value


@expects(levels=whole(1), scaled=switch())
def TopKQSGD(k: int | float, levels: int, *, scaled: bool = True, index: str = "auto", coding: str = "fixed") -> Chain:
    """TopK, then QSGD of the k kept values, as a chain: 32 + k ceil(log2(2s + 1)) + positions.

    With w = min(k/s^2, sqrt(k)/s): scaled (divided by 1 + w): alpha = (k/d)/(1 + w). Unscaled: alpha =
    (k/d)(1 - w), which needs w < 1; otherwise ``alpha`` is None.

    >>> TopKQSGD(0.1, 7, scaled=False)
    TopK(0.1) | QSGD(7)
    """
    quantizer = QSGD(levels, coding=coding)
    return Chain(TopK(k, index), Scaled(quantizer) if scaled else quantizer)


@dataclass(frozen=True, repr=False)
class _Around(Compressor):
    """A compressor around one other."""

    compressor: Compressor = param(..., "the compressor inside", example=RandK(0.1))

    @property
    def axes(self) -> int:  # type: ignore[override]
        return self.compressor.axes

    @property
    def deterministic(self) -> bool:  # type: ignore[override]
        return self.compressor.deterministic

    @property
    def homogeneous(self) -> bool:  # type: ignore[override]
        return self.compressor.homogeneous

    def for_layers(self, shapes: list[tuple[int, ...]]) -> Compressor:
        return replace(self, compressor=self.compressor.for_layers(shapes))

    def for_size(self, d: int) -> Compressor:
        return replace(self, compressor=self.compressor.for_size(d))


@register("compressors")
@dataclass(frozen=True, repr=False)
class Scaled(_Around):
    """Q(x)/(1 + omega): makes an unbiased compressor contractive, alpha = 1/(1 + omega). Same bits.

    >>> Scaled(QSGD(2)).alpha(16)  # omega = min(16/4, 4/2) = 2
    0.3333333333333333
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.compressor.unbiased:
            raise ValueError(
                f"Scaled: compressor is {self.compressor!r}, which is biased; give an unbiased one (RandK)."
            )

    def compress(self, x: Tensor, draws: Draws) -> Payload:
        factor = 1 / (1 + _known(self.compressor.omega(x.shape[-1])))
        payload = self.compressor(x, draws)
        return payload if factor == 1 else Rescaled(payload, factor)

    def alpha(self, d: int) -> float:
        return 1 / (1 + _known(self.compressor.omega(d)))

    def bits(self, d: int) -> int | None:
        return self.compressor.bits(d)

    def expected_bits(self, d: int) -> float | None:
        return self.compressor.expected_bits(d)


@register("compressors")
@dataclass(frozen=True, repr=False)
class Bernoulli(Compressor):
    """C(x) with probability p, else nothing: 0 bits, read as zero (``scaled=True``: C(x)/p).

    Unscaled: alpha = p alpha_C. Scaled: unbiased if C is, 1 + omega = (1 + omega_C)/p. Each client tosses its own coin.
    """

    p: float = param(..., "probability of sending", gt=0, le=1, main=True, example=0.5)
    compressor: Compressor = param(Identity(), "what is sent then")
    scaled: bool = param(False, "divided by p, which makes it unbiased")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scaled and not self.compressor.unbiased:
            raise ValueError(f"Bernoulli: scaled=True needs an unbiased compressor; {self.compressor!r} is biased.")

    @property
    def axes(self) -> int:  # type: ignore[override]
        return self.compressor.axes

    @property
    def unbiased(self) -> bool:  # type: ignore[override]
        return self.compressor.unbiased and (self.scaled or self.p == 1)

    @property
    def homogeneous(self) -> bool:  # type: ignore[override]
        return self.compressor.homogeneous

    def compress(self, x: Tensor, draws: Draws) -> Payload:
        sent = (draws.uniform(1, "send")[:, 0] < self.p).to(x.device)
        gated = Gated(self.compressor(x, draws), sent)
        return Rescaled(gated, 1 / self.p) if self.scaled and self.p < 1 else gated

    def omega(self, d: int) -> float | None:
        return (1 + _known(self.compressor.omega(d))) / self.p - 1 if self.unbiased else None

    def mean_omega(self, d: int, weights: Tensor) -> float:
        coin = (1 / self.p - 1) * (1 + self.compressor.variance(d)) * float(weights.max())
        return self.compressor.mean_omega(d, weights) + coin

    def alpha(self, d: int) -> float | None:
        inner = self.compressor.alpha(d)
        return super().alpha(d) if self.scaled else None if inner is None else self.p * inner

    def bits(self, d: int) -> int | None:
        return self.compressor.bits(d) if self.p == 1 else None

    def expected_bits(self, d: int) -> float | None:
        inner = self.compressor.expected_bits(d)
        return None if inner is None else self.p * inner

    def for_layers(self, shapes: list[tuple[int, ...]]) -> Compressor:
        return replace(self, compressor=self.compressor.for_layers(shapes))

    def for_size(self, d: int) -> Compressor:
        return replace(self, compressor=self.compressor.for_size(d))


class _BucketDraws(Draws):
    """Draws for m * count buckets out of those for m clients: row r * count + b is bucket b of client r."""

    def __init__(self, draws: Draws, count: int) -> None:
        self.source, self._draws, self._times = draws.source, draws, count  # every draw is the draws' own
        self.m = draws.m * count
        self.cohort_size = draws.cohort_size

    @property
    def slots(self) -> Tensor:
        return self._draws.slots.repeat_interleave(self._times)

    def uniform(self, width: int, purpose: str = "uniform") -> Tensor:
        return self._draws.uniform(self._times * width, purpose).reshape(self.m, width)

    def normal(self, width: int, purpose: str = "noise") -> Tensor:
        return self._draws.normal(self._times * width, purpose).reshape(self.m, width)

    def subset(self, size: int, k: int, purpose: str = "permutation") -> Tensor:
        columns = [self._draws.subset(size, k, purpose) for _ in range(self._times)]
        return torch.stack(columns, dim=1).reshape(self.m, k)

    def shared_permutation(self, size: int, purpose: str = "shared") -> Tensor:
        return self._draws.shared_permutation(size, purpose)


@register("compressors")
@dataclass(frozen=True, repr=False)
class Bucketed(_Around):
    """The compressor on every ``size`` neighbouring entries by itself (the last bucket may be shorter).

    alpha = min and omega = max over the buckets' lengths: what makes QSGD usable on long vectors. Bits: the
    buckets' sum.

    >>> Bucketed(QSGD(127), 512).omega(10**6) < 0.04
    True
    """

    size: int = param(512, "entries of a bucket", ge=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compressor.axes != 1:
            raise ValueError(f"Bucketed: compressor is {self.compressor!r}, one of matrices; give one of vectors.")

    @property
    def unbiased(self) -> bool:  # type: ignore[override]
        return self.compressor.unbiased

    def _pieces(self, d: int) -> list[tuple[int, int, Compressor]]:
        """(length, how many, compressor) of the full buckets and of the rest."""
        full, rest = divmod(d, self.size)
        pieces = [(self.size, full), (rest, 1)]
        return [(length, n, self.compressor.for_size(length)) for length, n in pieces if length and n]

    def compress(self, x: Tensor, draws: Draws) -> Payload:
        parts: list[Payload] = []
        start = 0
        for length, n, compressor in self._pieces(x.shape[1]):
            piece = x[:, start : start + n * length].reshape(x.shape[0] * n, length)
            start += n * length
            if n == 1:
                parts.append(compressor(piece, draws))
                continue
            bucket_draws = None if compressor.deterministic else _BucketDraws(draws, n)
            parts.append(Buckets(compressor(piece, bucket_draws), n))
        return parts[0] if len(parts) == 1 else Blocks(tuple(parts))

    def alpha(self, d: int) -> float | None:
        return _least([c.alpha(length) for length, _, c in self._pieces(d)])

    def omega(self, d: int) -> float | None:
        return _greatest([c.omega(length) for length, _, c in self._pieces(d)])

    def mean_omega(self, d: int, weights: Tensor) -> float:
        return max(c.mean_omega(length, weights) for length, _, c in self._pieces(d))

    def bits(self, d: int) -> int | None:
        each = [(n, c.bits(length)) for length, n, c in self._pieces(d)]
        return None if any(b is None for _, b in each) else sum(n * b for n, b in each if b is not None)

    def expected_bits(self, d: int) -> float | None:
        each = [(n, c.expected_bits(length)) for length, n, c in self._pieces(d)]
        return None if any(b is None for _, b in each) else sum(n * b for n, b in each if b is not None)

    def for_size(self, d: int) -> Compressor:
        return self


@register("compressors")
@dataclass(frozen=True, repr=False)
class PerTensor(_Around):
    """The compressor on every tensor of the model by itself: small-gradient layers are not starved.

    alpha = min and omega = max over the tensors. ``for_layers(shapes)`` binds it to a model; a run does that
    by itself. A count k is per tensor, and all of a tensor that is smaller; a share is of each tensor.

    sizes: entries of each tensor, in order.
    """

    sizes: tuple[int, ...] | None = param(None, "entries of each tensor; None: a run fills it in")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compressor.axes != 1:
            raise ValueError(f"PerTensor: compressor is {self.compressor!r}, one of matrices; give one of vectors.")
        for size in self.sizes or ():
            check_whole("PerTensor", "sizes", size, 1)

    @property
    def unbiased(self) -> bool:  # type: ignore[override]
        return self.compressor.unbiased

    def for_layers(self, shapes: list[tuple[int, ...]]) -> Compressor:
        return replace(self, sizes=tuple(prod(shape) for shape in shapes))

    def _pieces(self, d: int) -> list[tuple[int, Compressor]]:
        if self.sizes is None:
            raise ValueError(f"{self!r} does not know the model's tensors; bind it with for_layers(shapes) first.")
        if sum(self.sizes) != d:
            raise ValueError(f"{self!r}: the tensors have {sum(self.sizes)} entries together, the vector has {d}.")
        return [(size, self.compressor.for_size(size)) for size in self.sizes]

    def compress(self, x: Tensor, draws: Draws) -> Payload:
        pieces = self._pieces(x.shape[1])
        parts = x.split([size for size, _ in pieces], dim=1)
        return Blocks(tuple(c(part.contiguous(), draws) for part, (_, c) in zip(parts, pieces, strict=True)))

    def alpha(self, d: int) -> float | None:
        return _least([c.alpha(size) for size, c in self._pieces(d)])

    def omega(self, d: int) -> float | None:
        return _greatest([c.omega(size) for size, c in self._pieces(d)])

    def mean_omega(self, d: int, weights: Tensor) -> float:
        return max(c.mean_omega(size, weights) for size, c in self._pieces(d))

    def bits(self, d: int) -> int | None:
        each = [c.bits(size) for size, c in self._pieces(d)]
        return None if None in each else sum(b for b in each if b is not None)

    def expected_bits(self, d: int) -> float | None:
        each = [c.expected_bits(size) for size, c in self._pieces(d)]
        return None if None in each else sum(b for b in each if b is not None)

    def for_size(self, d: int) -> Compressor:
        return self


def _least(values: list[float | None]) -> float | None:
    return None if None in values else min(v for v in values if v is not None)


def _greatest(values: list[float | None]) -> float | None:
    return None if None in values else max(v for v in values if v is not None)
