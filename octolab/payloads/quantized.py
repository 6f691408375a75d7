"""Quantised messages: a code per entry on a grid that both ends know, and the reals that scale it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from octolab.payloads.base import Payload, dtype_name, dtype_named, ordered_sum, rows_at_once
from octolab.payloads.bitstream import (
    FLOAT_BITS,
    BitReader,
    ceil_log2,
    gamma_bits,
    pack,
    pack_floats,
)

CODINGS = ("fixed", "elias-dense", "elias-sparse")
NATURAL_BIAS = 127  # float32's exponent bias: code c stands for 2^(c - 127), code 0 for zero
GRIDS = ("linear", "dyadic", "affine", "natural", "sign")


def power_of_two(exponents: Tensor) -> Tensor:
    """2^e exactly, e in -1022..1023, as float64: the exponent bits of the number are written down."""
    return ((exponents.to(torch.int64) + 1023) << 52).view(torch.float64)


@dataclass(frozen=True)
class Grid:
    """What a code c means, given the row's scales.

    linear:  norm * c / s,           c in -s..s                      (QSGD, TernGrad)
    dyadic:  norm * sign(c) 2^{|c|-s}, 0 for c = 0, c in -s..s       (natural dithering)
    affine:  low + c (high - low) / s, s = 2^b - 1, c in 0..s        (uniform quantiser)
    natural: sign(c) 2^{|c|-127}, 0 for c = 0, infinite for |c| = 255 (float32's exponent field), no scale
    sign:    scale * (2c - 1),       c in 0..1                       (sign + norm)
    """

    kind: str
    levels: int = 1

    def values(self, codes: Tensor, scales: Tensor) -> Tensor:
        """Codes (.., d) and scales (.., r) -> reals (.., d) in the scales' dtype."""
        if self.kind == "natural":  # the code is float32's exponent field, with its sign
            bits = (codes.abs() << 23) | (codes & -(2**31))
            return bits.to(torch.int32).view(torch.float32).to(scales.dtype)
        c = codes.to(scales.dtype)
        if self.kind == "linear":
            return scales * (c / self.levels)
        if self.kind == "dyadic":
            return scales * (c.sign() * power_of_two(codes.abs() - self.levels).to(c.dtype))
        if self.kind == "affine":
            low, high = scales[..., :1], scales[..., 1:]
            return low + c * ((high - low) / self.levels)
        return scales * (2 * c - 1)

    @property
    def width(self) -> int:
        """Bits of one code at fixed width."""
        if self.kind == "natural":
            return 9
        if self.kind in ("linear", "dyadic"):
            return ceil_log2(2 * self.levels + 1)
        return ceil_log2(self.levels + 1)

    def to_wire(self, codes: np.ndarray) -> np.ndarray:
        """Unsigned integers below 2^width."""
        if self.kind == "natural":
            return np.where(codes < 0, 256, 0) + np.abs(codes)
        return codes + self.levels if self.kind in ("linear", "dyadic") else codes

    def from_wire(self, wire: np.ndarray) -> np.ndarray:
        if self.kind == "natural":
            return np.where(wire >= 256, -(wire % 256), wire)
        return wire - self.levels if self.kind in ("linear", "dyadic") else wire


@dataclass(frozen=True, eq=False, repr=False)
class Quantized(Payload):
    """Codes on a grid: 32 bits per scale + the codes, at fixed width or Elias coded.

    codes:  (d,) or (m, d) int32;  scales: (r,) or (m, r) reals, r = 0, 1 (a norm) or 2 (low, high).
    coding: "fixed" d * width; "elias-dense" sum_j gamma(l_j + 1) + 1{l_j > 0};
            "elias-sparse" gamma(nnz + 1) + sum over nonzeros gamma(gap) + 1 + gamma(l_j), gap = distance from
                           the
            previous nonzero (first: index + 1); gamma(v) = 2 floor(log2 v) + 1 bits. Elias codings need a
            signed grid.

    >>> Quantized(torch.tensor([0, 2, -1]), torch.tensor([4.0]), Grid("linear", 2)).dense()
    tensor([ 0.,  4., -2.])
    """

    codes: Tensor
    scales: Tensor
    grid: Grid
    coding: str = "fixed"

    row_fields: ClassVar[tuple[str, ...]] = ("codes", "scales")

    def __post_init__(self) -> None:
        if self.coding not in CODINGS:
            raise ValueError(f"coding is {self.coding!r}; choose one of {', '.join(CODINGS)}.")
        if self.grid.kind not in GRIDS:
            raise ValueError(f"grid is {self.grid.kind!r}; choose one of {', '.join(GRIDS)}.")
        if self.coding != "fixed" and self.grid.kind not in ("linear", "dyadic"):
            raise ValueError(f"coding {self.coding!r} needs signed levels; a {self.grid.kind} grid has fixed width.")

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.codes.shape)

    @property
    def dtype(self) -> torch.dtype:
        return self.scales.dtype

    def dense(self) -> Tensor:
        return self.grid.values(self.codes, self.scales)

    def _sum(self, weights: Tensor | None) -> Tensor:
        """In blocks of clients: decoded all at once, a thousand messages would take several times their own memory."""
        (m, d), total = self.codes.shape, self.scales.new_zeros(self.codes.shape[1:])
        size = rows_at_once(d)
        for a in range(0, m, size):
            rows = self.grid.values(self.codes[a : a + size], self.scales[a : a + size])
            ordered_sum(rows, None if weights is None else weights[a : a + size], into=total)
        return total

    def _cost(self) -> int | Tensor:
        head, d = FLOAT_BITS * self.scales.shape[-1], self.codes.shape[-1]
        if self.coding == "fixed":
            return head + d * self.grid.width
        level = self.codes.abs().to(torch.int64)
        nonzero = level > 0
        if self.coding == "elias-dense":
            return head + (gamma_bits(level + 1) + nonzero).sum(-1)
        place = torch.arange(d, device=level.device).expand(level.shape)
        latest = torch.where(nonzero, place, -1).cummax(-1).values
        before = torch.nn.functional.pad(latest[..., :-1], (1, 0), value=-1)
        each = gamma_bits((place - before).clamp(min=1)) + 1 + gamma_bits(level.clamp(min=1))
        return head + gamma_bits(nonzero.sum(-1) + 1) + torch.where(nonzero, each, 0).sum(-1)

    def _bitstring(self) -> np.ndarray:
        codes, head = self.codes.cpu().numpy().astype(np.int64), pack_floats(self.scales)
        if self.coding == "fixed":
            return np.concatenate([head, pack(self.grid.to_wire(codes), self.grid.width)])
        return np.concatenate([head, _elias(codes, sparse=self.coding == "elias-sparse")])

    def _meta(self) -> dict[str, Any]:
        return {
            "d": self.codes.shape[-1],
            "scales": self.scales.shape[-1],
            "grid": [self.grid.kind, self.grid.levels],
            "coding": self.coding,
            "dtype": dtype_name(self.dtype),
        }

    @classmethod
    def _parse(cls, reader: BitReader, meta: dict[str, Any]) -> Payload:
        grid = Grid(*meta["grid"])
        scales = torch.from_numpy(reader.floats(meta["scales"])).to(dtype_named(meta["dtype"]))
        if meta["coding"] == "fixed":
            codes = grid.from_wire(reader.fixed(meta["d"], grid.width))
        else:
            codes = _from_elias(reader, meta["d"], sparse=meta["coding"] == "elias-sparse")
        return cls(torch.from_numpy(codes.astype(np.int32)), scales, grid, meta["coding"])


def _gamma_width(values: np.ndarray) -> np.ndarray:
    return gamma_bits(torch.from_numpy(np.ascontiguousarray(values))).numpy()  # type: ignore[no-any-return]


def _elias(codes: np.ndarray, *, sparse: bool) -> np.ndarray:
    """The gamma code of v is v itself, written in 2 floor(log2 v) + 1 bits."""
    level, negative = np.abs(codes), (codes < 0).astype(np.int64)
    if not sparse:
        values = np.stack([level + 1, negative], axis=1)
        widths = np.stack([_gamma_width(level + 1), (level > 0).astype(np.int64)], axis=1)
        return pack(values.reshape(-1), widths.reshape(-1))
    places = np.flatnonzero(level)
    gaps = np.diff(places, prepend=-1)
    count = np.array([len(places) + 1])
    values = np.stack([gaps, negative[places], level[places]], axis=1).reshape(-1)
    widths = np.stack([_gamma_width(gaps), np.ones_like(gaps), _gamma_width(level[places])], axis=1).reshape(-1)
    return pack(np.concatenate([count, values]), np.concatenate([_gamma_width(count), widths]))


def _from_elias(reader: BitReader, d: int, *, sparse: bool) -> np.ndarray:
    codes = np.zeros(d, dtype=np.int64)
    if not sparse:
        for j in range(d):
            level = reader.gamma() - 1
            codes[j] = -level if level and reader.bit() else level
        return codes
    place = -1
    for _ in range(reader.gamma() - 1):
        place += reader.gamma()
        negative = reader.bit()
        codes[place] = -reader.gamma() if negative else reader.gamma()
    return codes
