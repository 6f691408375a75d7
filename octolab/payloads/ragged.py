"""Sparse messages of different lengths: every client keeps its own number of entries, at its own precision."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from octolab.payloads.base import Payload, dtype_name, dtype_named
from octolab.payloads.bitstream import (
    FLOAT_BITS,
    BitReader,
    ceil_log2,
    index_bits_each,
    pack,
    pack_floats,
    pack_subset,
    resolve_index,
    unpack_subset,
)

WIDTH_BITS = 4
"""What names the width of quantised values: 0 (reals) or 2..15 bits."""


@dataclass(frozen=True, eq=False, repr=False)
class Ragged(Payload):
    """k_i of d entries, k_i different for every client: values + positions + k_i itself.

    values: (d,) or (m, d), 0 where nothing is kept; kept: bool of the same shape.
    index:  how positions travel, see :func:`~octolab.payloads.bitstream.index_bits`.
    sizes:  lengths of the pieces (layers) that the vector is made of; each has its own count and positions. None: one.
    told:   both ends know the counts (and widths) beforehand, because the server assigned them: they cost nothing. Else
            a count costs ceil(log2(size + 1)) bits, and a width, where there are widths, 4.
    widths: (m,) int64: 0 for reals of 32 bits; b in 2..15 for values that are ``steps`` times whole numbers below
            2^(b-1) in magnitude: b bits each, and 32 for the step. None: reals everywhere.
    steps:  (m,) reals that go with widths.
    alpha:  (m,) or None: the realised 1 - |C(x) - x|^2/|x|^2, a remark of the simulation that does not travel.

    >>> kept = torch.tensor([[True, False, True, False], [True, True, True, True]])
    >>> Ragged(torch.ones(2, 4) * kept, kept, told=True).bits
    tensor([ 68, 128])
    """

    values: Tensor
    kept: Tensor
    index: str = "auto"
    sizes: tuple[int, ...] | None = None
    told: bool = False
    widths: Tensor | None = None
    steps: Tensor | None = None
    alpha: Tensor | None = None

    row_fields: ClassVar[tuple[str, ...]] = ("values", "kept", "widths", "steps", "alpha")

    def __post_init__(self) -> None:
        if self.kept.dtype != torch.bool or self.kept.shape != self.values.shape:
            raise ValueError(
                f"kept is {self.kept.dtype} of shape {tuple(self.kept.shape)}; give a bool tensor of the values' shape "
                f"{tuple(self.values.shape)}."
            )
        if self.sizes is not None and sum(self.sizes) != self.values.shape[-1]:
            raise ValueError(f"sizes={self.sizes} add up to {sum(self.sizes)}, the vector has {self.values.shape[-1]}.")
        if (self.widths is None) != (self.steps is None):
            raise ValueError("widths and steps go together: give both or none.")
        resolve_index(self.index, self.values.shape[-1], 1)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    @property
    def dtype(self) -> torch.dtype:
        return self.values.dtype

    @property
    def pieces(self) -> tuple[int, ...]:
        return (self.shape[-1],) if self.sizes is None else self.sizes

    @cached_property
    def counts(self) -> Tensor:
        """How many entries every piece keeps: (pieces,) or (m, pieces) int64."""
        parts = self.kept.cpu().split(list(self.pieces), dim=-1)
        return torch.stack([torch.as_tensor(np.count_nonzero(p.numpy(), axis=-1)) for p in parts], dim=-1)

    def dense(self) -> Tensor:
        return self.values

    # -- bits ------------------------------------------------------------------------------------------------
    def _positions(self, counts: Tensor) -> Tensor:
        each = [index_bits_each(self.index, d, counts[..., j]) for j, d in enumerate(self.pieces)]
        return torch.stack(each, dim=-1).sum(-1)

    def _index_cost(self) -> Tensor:
        heads = 0 if self.told else sum(ceil_log2(d + 1) for d in self.pieces)
        return heads + self._positions(self.counts)

    def _cost(self) -> Tensor:
        total = self.counts.sum(-1)
        if self.widths is None:
            return FLOAT_BITS * total + self._index_cost()
        widths = self.widths.cpu()
        values = torch.where(widths == 0, FLOAT_BITS * total, FLOAT_BITS + widths * total)
        return values + self._index_cost() + (0 if self.told else WIDTH_BITS)

    def _bitstring(self) -> np.ndarray:
        counts, kept, parts = self.counts.tolist(), self.kept.cpu(), []
        width = 0 if self.widths is None else int(self.widths)
        if not self.told:
            parts.append(pack(np.array(counts), np.array([ceil_log2(d + 1) for d in self.pieces])))
            parts.append(pack(np.array([width]), 0 if self.widths is None else WIDTH_BITS))
        for piece, d, k in zip(kept.split(list(self.pieces)), self.pieces, counts, strict=True):
            parts.append(pack_subset(np.flatnonzero(piece.numpy()), d, resolve_index(self.index, d, k)))
        values = self.values[self.kept]
        if width == 0:
            return np.concatenate([*parts, pack_floats(values)])
        assert self.steps is not None
        step = float(self.steps)
        codes = np.rint(values.cpu().numpy() / step).astype(np.int64) if step else np.zeros(len(values), np.int64)
        return np.concatenate([*parts, pack_floats(self.steps), pack(codes + (1 << (width - 1)) - 1, width)])

    def _meta(self) -> dict[str, Any]:
        meta: dict[str, Any] = {"pieces": list(self.pieces), "index": self.index, "dtype": dtype_name(self.dtype)}
        meta["layers"], meta["quantised"] = self.sizes is not None, self.widths is not None
        if self.told:
            meta["counts"], meta["width"] = self.counts.tolist(), 0 if self.widths is None else int(self.widths)
        if self.index == "none":
            meta["indices"] = [np.flatnonzero(p.numpy()).tolist() for p in self.kept.cpu().split(list(self.pieces))]
        return meta

    @classmethod
    def _parse(cls, reader: BitReader, meta: dict[str, Any]) -> Payload:
        pieces, index, quantised = meta["pieces"], meta["index"], meta["quantised"]
        told = "counts" in meta
        counts = meta["counts"] if told else [int(reader.fixed(1, ceil_log2(d + 1))[0]) for d in pieces]
        width = meta["width"] if told else int(reader.fixed(1, WIDTH_BITS)[0]) if quantised else 0
        kept = torch.zeros(sum(pieces), dtype=torch.bool)
        start = 0
        for j, (d, k) in enumerate(zip(pieces, counts, strict=True)):
            code = resolve_index(index, d, k)
            if index == "none":
                found = np.array(meta["indices"][j], dtype=np.int64)
            else:
                found = np.arange(k) if code == "none" else unpack_subset(reader, d, k, code)
            kept[start + torch.from_numpy(np.asarray(found, dtype=np.int64))] = True
            start += d
        values = torch.zeros(sum(pieces), dtype=dtype_named(meta["dtype"]))
        step = torch.ones((), dtype=values.dtype)
        if width:
            step = torch.from_numpy(reader.floats(1)).to(values.dtype)[0]
            codes = reader.fixed(sum(counts), width) - (1 << (width - 1)) + 1
            values[kept] = torch.from_numpy(codes).to(values.dtype) * step
        else:
            values[kept] = torch.from_numpy(reader.floats(sum(counts))).to(values.dtype)
        sizes = tuple(pieces) if meta["layers"] else None
        widths = torch.tensor(width) if quantised else None
        return cls(values, kept, index, sizes, told, widths, step if quantised else None)
