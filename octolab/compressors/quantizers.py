"""Compressors that send every coordinate in few bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import torch
from torch import Tensor

from octolab.compressors.compressor import Compressor
from octolab.compressors.selection import CACHE_ENTRIES, row_norms
from octolab.params import param
from octolab.payloads import FLOAT_BITS, Grid, Payload, Quantized
from octolab.payloads.bitstream import ceil_log2
from octolab.payloads.quantized import CODINGS, NATURAL_BIAS
from octolab.randomness import Draws
from octolab.rooms import register


def _safe(scale: Tensor) -> Tensor:
    """The scale to divide by: 1 where it is 0, so that zero vectors give zero."""
    return torch.where(scale == 0, torch.ones_like(scale), scale)


def _codes(rule: Callable[..., Tensor], x: Tensor, draws: Draws, *scales: Tensor) -> Tensor:
    """int32 codes (m, d) = rule(x, u, *scales), u uniform in [0, 1); in blocks of rows that stay in cache.

    NaN becomes code 0: it is the scale, NaN too, that shows it to the receiver.
    """
    m, d = x.shape
    u = draws.uniform(d).to(x.device)
    codes = torch.empty((m, d), dtype=torch.int32, device=x.device)
    step = max(1, CACHE_ENTRIES // d)
    for start in range(0, m, step):
        rows = slice(start, start + step)
        codes[rows] = rule(x[rows], u[rows], *(s[rows] for s in scales)).nan_to_num(nan=0.0)
    return codes


def _signed(x: Tensor, level: Tensor) -> Tensor:
    return torch.where(x < 0, -level, level)


def _split(y: Tensor) -> tuple[Tensor, Tensor]:
    """y > 0 = 2^e (1 + f): e int64 and f float64 in [0, 1), read from its bits as a float64."""
    bits = y.to(torch.float64).view(torch.int64)
    fraction = (bits & (2**52 - 1)).to(torch.float64).mul_(2.0**-52)
    return (bits >> 52).sub_(1023), fraction


def _powers(y: Tensor, u: Tensor, lowest: int) -> Tensor:
    """Stochastic rounding of y >= 0 to 2^e, e >= lowest, or 0: returns e - lowest + 1, and 0 for 0.

    Between neighbours 2^e <= y < 2^{e+1} the upper one has probability (y - 2^e)/2^e.
    """
    floor, fraction = _split(y)
    steps = floor - lowest + 1 + (u < fraction)
    small = u < y * 2.0**-lowest
    return torch.where(y < 2.0**lowest, small.to(torch.int64), steps)


@register("compressors")
@dataclass(frozen=True, repr=False)
class QSGD(Compressor):
    """|x| sign(x_j) l_j / s with l_j = stochastic rounding of s |x_j|/|x|.

    Unbiased, omega = min(d/s^2, sqrt(d)/s) for the Euclidean norm (Alistarh et al., arXiv 1610.02132); for
    the max norm omega = min(d/(4 s^2), (1 + sqrt(d))/(2 s)), as :class:`LinfDithering`. Bits: 32 + d
    ceil(log2(2s + 1)), or Elias coded.

    levels: s >= 1. b bits an entry at fixed width are s = 2^(b-1) - 1 levels (127, 7, ...), see
            :meth:`with_bits`.
    norm:   2 or "inf".
    coding: "fixed", "elias-dense", or "elias-sparse" (best for s much below sqrt(d)); Elias bits depend on
            the data.

    Apply it per bucket of 512 on long vectors: ``Bucketed(QSGD(127), 512)``.
    """

    levels: int = param(..., "levels s", ge=1, le=2**20, main=True, example=8)
    norm: int | str = param(2, "Euclidean or maximum", choices=(2, "inf"))
    coding: str = param("fixed", "code of the levels", choices=CODINGS)

    unbiased: ClassVar[bool] = True
    homogeneous: ClassVar[bool] = True

    @staticmethod
    def with_bits(bits: int) -> QSGD:
        """QSGD of b bits an entry: s = 2^(b-1) - 1. With 1 bit there is none: use SignNorm."""
        if bits == 1:
            raise ValueError("QSGD: bits is 1, but one level needs 2 bits an entry; use SignNorm() for 1 bit.")
        if not isinstance(bits, int) or not 2 <= bits <= 16:
            raise ValueError(f"QSGD: bits={bits!r}: give a whole number in 2..16.")
        return QSGD(2 ** (bits - 1) - 1)

    def compress(self, x: Tensor, draws: Draws) -> Payload:
        norm = row_norms(x, self.norm)
        codes = _codes(self._level, x, draws, _safe(norm))
        return Quantized(codes, norm, Grid("linear", self.levels), self.coding)

    def _level(self, x: Tensor, u: Tensor, norm: Tensor) -> Tensor:
        level = torch.floor(x.abs() / norm * self.levels + u)
        return _signed(x, level.clamp(max=self.levels))

    def omega(self, d: int) -> float:
        s = self.levels
        if self.norm == 2:
            return min(d / s**2, sqrt(d) / s)
        return min(d / (4 * s**2), (1 + sqrt(d)) / (2 * s))

    def bits(self, d: int) -> int | None:
        return FLOAT_BITS + d * ceil_log2(2 * self.levels + 1) if self.coding == "fixed" else None


@register("compressors")
@dataclass(frozen=True, repr=False)
class LinfDithering(QSGD):
    """QSGD with the max norm; one level is TernGrad (Wen et al., arXiv 1705.07878).

    Unbiased, omega = min(d/(4 s^2), (1 + sqrt(d))/(2 s)). Bits: 32 + d ceil(log2(2s + 1)), or Elias coded.
    """

    levels: int = param(1, "levels s", ge=1, le=2**20, main=True)
    norm: int | str = param("inf", "Euclidean or maximum", choices=(2, "inf"))


@register("compressors")
@dataclass(frozen=True, repr=False)
class UniformQuantizer(Compressor):
    """Stochastic rounding to the 2^b points of an even grid from min x_j to max x_j.

    Unbiased, omega = d/(2 (2^b - 1)^2): a step is (max - min)/(2^b - 1), and (max - min)^2 <= 2|x|^2. A
    constant vector is sent exactly. Bits: 64 + b d.
    """

    bits_per_entry: int = param(..., "bits b of an entry", ge=1, le=16, main=True, example=8)

    unbiased: ClassVar[bool] = True
    homogeneous: ClassVar[bool] = True

    @property
    def steps(self) -> int:
        return int(2**self.bits_per_entry - 1)

    def compress(self, x: Tensor, draws: Draws) -> Payload:
        low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
        codes = _codes(self._step, x, draws, low, high)
        return Quantized(codes, torch.cat([low, high], dim=1), Grid("affine", self.steps))

    def _step(self, x: Tensor, u: Tensor, low: Tensor, high: Tensor) -> Tensor:
        step = _safe((high - low) / self.steps)
        codes = torch.floor((x - low) / step + u).clamp(0, self.steps)
        return codes.masked_fill(high == low, 0)

    def omega(self, d: int) -> float:
        return d / (2 * self.steps**2)

    def bits(self, d: int) -> int:
        return 2 * FLOAT_BITS + self.bits_per_entry * d


@register("compressors")
@dataclass(frozen=True, repr=False)
class Natural(Compressor):
    """Stochastic rounding of each entry to a neighbouring power of two: P(up) = (|x_j| - 2^e)/2^e; 0 stays 0.

    Unbiased, omega = 1/8 (Horvath et al., arXiv 1905.10988). Bits: 9 d (sign and 8 exponent bits). Below
    2^-126, the smallest power of float32's exponent, entries are rounded to it or to 0, still unbiased; from
    2^128 on they overflow. C(t x) = t C(x) holds for t = 2^j only.
    """

    unbiased: ClassVar[bool] = True

    def compress(self, x: Tensor, draws: Draws) -> Payload:
        codes = _codes(self._power, x, draws)
        return Quantized(codes, x.new_zeros((x.shape[0], 0)), Grid("natural"))

    @staticmethod
    def _power(x: Tensor, u: Tensor) -> Tensor:
        code = _powers(x.abs(), u, 1 - NATURAL_BIAS).clamp(max=255)
        return _signed(x, torch.where(torch.isfinite(x), code, 255))

    def omega(self, d: int) -> float:
        return 1 / 8

    def bits(self, d: int) -> int:
        return 9 * d


@register("compressors")
@dataclass(frozen=True, repr=False)
class NaturalDithering(Compressor):
    """QSGD with the levels 1, 1/2, ..., 2^(1-s), 0.

    Unbiased, omega = 1/8 + q min(1, q), q = sqrt(d) 2^(1-s) (Horvath et al., arXiv 1905.10988; recalled, and
    not contradicted by our Monte-Carlo tests). Bits: 32 + d ceil(log2(2s + 1)), or Elias coded.
    """

    levels: int = param(..., "levels s", ge=1, le=64, main=True, example=8)
    coding: str = param("fixed", "code of the levels", choices=CODINGS)

    unbiased: ClassVar[bool] = True
    homogeneous: ClassVar[bool] = True

    def compress(self, x: Tensor, draws: Draws) -> Payload:
        norm = row_norms(x, 2)
        codes = _codes(self._level, x, draws, _safe(norm))
        return Quantized(codes, norm, Grid("dyadic", self.levels), self.coding)

    def _level(self, x: Tensor, u: Tensor, norm: Tensor) -> Tensor:
        y = (x.abs() / norm).clamp(max=1)
        return _signed(x, _powers(y, u, 1 - self.levels).clamp(max=self.levels))

    def omega(self, d: int) -> float:
        q = sqrt(d) * 2.0 ** (1 - self.levels)
        return 1 / 8 + q * min(1.0, q)

    def bits(self, d: int) -> int | None:
        return FLOAT_BITS + d * ceil_log2(2 * self.levels + 1) if self.coding == "fixed" else None


@register("compressors")
@dataclass(frozen=True, repr=False)
class SignNorm(Compressor):
    """(|x|_1/d) sign(x), with sign(0) = +1: one bit an entry.

    Contractive: alpha(x) = |x|_1^2/(d |x|_2^2) >= 1/d (Karimireddy et al., arXiv 1901.09847). Bits: 32 + d.

    >>> SignNorm()(torch.tensor([1.0, -2.0, 0.0])).dense()
    tensor([ 1., -1.,  1.])
    """

    deterministic: ClassVar[bool] = True
    homogeneous: ClassVar[bool] = True

    def compress(self, x: Tensor, draws: Draws) -> Payload:
        return Quantized((x >= 0).to(torch.int32), row_norms(x, 1) / x.shape[1], Grid("sign"))

    def alpha(self, d: int) -> float:
        return 1 / d

    def bits(self, d: int) -> int:
        return FLOAT_BITS + d
