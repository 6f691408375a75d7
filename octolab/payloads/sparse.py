"""Sparse messages: k values and, where the receiver cannot know them, their positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from octolab.payloads.base import Payload, dtype_name, dtype_named
from octolab.payloads.bitstream import (
    FLOAT_BITS,
    BitReader,
    ceil_log2,
    index_bits,
    index_bits_each,
    pack,
    pack_floats,
    pack_subset,
    resolve_index,
    unpack_subset,
)


@dataclass(frozen=True, eq=False, repr=False)
class Sparse(Payload):
    """k of d entries: the values' bits + the positions' bits (``index``: auto | list | bitmap | enum | none).

    values:  (k,) or (m, k) reals (32 bits each), or a payload of that shape (quantised values).
    indices: int64 of the same shape, distinct in a row; ascending where values is a payload sent with a bitmap.
    index:   how positions travel, see :func:`~octolab.payloads.bitstream.index_bits`. With "none"
             both ends know them (shared seed, fixed mask), so they are part of ``meta``.
    blocks:  (B, k_B) when the entries are k_B per block of B in ascending order (the last block: min(k_B, its
             length)): positions then cost ceil(log2 B) bits each.
    count:   (m,) when rows keep different numbers of entries: those from count on are padding (any index,
             value 0) and do not travel. The count itself is charged ceil(log2(d + 1)) bits unless index is "none".

    >>> p = Sparse(torch.tensor([3.0, -1.0]), torch.tensor([7, 2]), d=100)
    >>> p.bits, p.dense()[7].item()
    (78, 3.0)
    """

    values: Tensor | Payload
    indices: Tensor
    d: int
    index: str = "auto"
    blocks: tuple[int, int] | None = None
    count: Tensor | None = None

    row_fields: ClassVar[tuple[str, ...]] = ("values", "indices", "count")

    def __post_init__(self) -> None:
        if self.values.shape != self.indices.shape:
            raise ValueError(
                f"values have shape {tuple(self.values.shape)} and indices {tuple(self.indices.shape)}; "
                "give one index per value."
            )
        if self.indices.dtype != torch.int64:
            raise ValueError(f"indices are {self.indices.dtype}; give int64.")
        k = self.k
        if k > self.d:
            raise ValueError(f"{k} entries of a vector of length {self.d}; at most d are possible.")
        if self.count is not None and (isinstance(self.values, Payload) or self.blocks):
            raise ValueError("count (rows of different lengths) goes with plain real values and no blocks.")
        resolve_index(self.index, self.d, k)

    @property
    def k(self) -> int:
        """Entries per row (with ``count``: the longest row's places)."""
        return int(self.indices.shape[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.indices.shape[:-1], self.d)

    @property
    def dtype(self) -> torch.dtype:
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        return self.indices.device

    @property
    def kept(self) -> Tensor:
        """The k values as a tensor."""
        return self.values.dense() if isinstance(self.values, Payload) else self.values

    # -- tensors ---------------------------------------------------------------------------------------------
    def dense(self) -> Tensor:
        zeros = torch.zeros(self.shape, dtype=self.dtype, device=self.device)
        if self.count is None:
            return zeros.scatter_(-1, self.indices, self.kept)
        return zeros.scatter_add_(-1, self.indices, self.kept)

    def _added_to(self, other: Tensor, sign: int) -> Tensor:
        kept = self.kept
        if other.dtype != kept.dtype or other.shape not in (self.shape, (self.d,)):
            return super()._added_to(other, sign)
        if other.dim() < self.indices.dim():
            other = other.expand(self.shape)
        return other.scatter_add(-1, self.indices, kept if sign > 0 else -kept)

    def _sum(self, weights: Tensor | None) -> Tensor:
        values = self.kept if weights is None else self.kept * weights[:, None]
        total = torch.zeros(self.d, dtype=self.dtype, device=self.device)
        return total.index_add_(0, self.indices.reshape(-1), values.reshape(-1))

    # -- bits ------------------------------------------------------------------------------------------------
    def _index_cost(self) -> int | Tensor:
        if self.blocks is not None and resolve_index(self.index, self.d, self.k) != "none":
            return self.k * ceil_log2(self.blocks[0])
        if self.count is None:
            return index_bits(self.index, self.d, self.k)
        header = 0 if self.index == "none" else ceil_log2(self.d + 1)
        return header + index_bits_each(self.index, self.d, self.count.cpu())

    def _cost(self) -> int | Tensor:
        if isinstance(self.values, Payload):
            return self.values.bits + self._index_cost()  # type: ignore[no-any-return]
        kept = self.k if self.count is None else self.count.cpu()
        return FLOAT_BITS * kept + self._index_cost()

    def _bitstring(self) -> np.ndarray:
        k = self.k if self.count is None else int(self.count)
        indices, values = self.indices[:k], self.values
        header = np.zeros(0, dtype=np.uint8)
        if self.count is not None and self.index != "none":
            header = pack(np.array([k]), ceil_log2(self.d + 1))
        code = resolve_index(self.index, self.d, k)
        if self.blocks is not None and code != "none":
            code, width = "blocks", ceil_log2(self.blocks[0])
        ascending = bool((indices[1:] > indices[:-1]).all())
        if not ascending and (code in ("bitmap", "enum", "blocks") or (k == self.d and self.index != "none")):
            if isinstance(values, Payload):
                raise ValueError(f"quantised values sent with a {code} need ascending indices.")
            indices, order = indices.sort()
            values = values[:k][order]
        positions = indices.cpu().numpy()
        in_blocks = code == "blocks"
        named = pack(positions % self.blocks[0], width) if in_blocks else pack_subset(positions, self.d, code)  # type: ignore[index]
        body = values._bitstring() if isinstance(values, Payload) else pack_floats(values[:k])
        return np.concatenate([header, named, body])

    def _meta(self) -> dict[str, Any]:
        meta: dict[str, Any] = {
            "d": self.d,
            "k": self.k,
            "index": self.index,
            "dtype": dtype_name(self.dtype),
        }
        if isinstance(self.values, Payload):
            meta["values"] = self.values.meta
        if self.blocks is not None:
            meta["blocks"] = list(self.blocks)
        if self.index == "none":
            meta["indices"] = self.indices.tolist()
        if self.count is not None:
            meta["count"] = int(self.count) if self.index == "none" else "sent"
        return meta

    @classmethod
    def _parse(cls, reader: BitReader, meta: dict[str, Any]) -> Payload:
        d, places, index = meta["d"], meta["k"], meta["index"]
        blocks = tuple(meta["blocks"]) if "blocks" in meta else None
        count = meta.get("count")
        k = places if count is None else (int(reader.fixed(1, ceil_log2(d + 1))[0]) if count == "sent" else count)
        code = resolve_index(index, d, k)
        if index == "none":
            found = np.array(meta["indices"], dtype=np.int64)[:k]
        elif code == "none":
            found = np.arange(k, dtype=np.int64)
        elif blocks is not None:
            found = reader.fixed(k, ceil_log2(blocks[0])) + np.arange(k) // blocks[1] * blocks[0]
        else:
            found = unpack_subset(reader, d, k, code)
        indices = torch.zeros(places, dtype=torch.int64)
        indices[:k] = torch.from_numpy(found)
        if "values" in meta:
            return cls(Payload._read(reader, meta["values"]), indices, d, index, blocks)
        values = torch.zeros(places, dtype=dtype_named(meta["dtype"]))
        values[:k] = torch.from_numpy(reader.floats(k)).to(values.dtype)
        return cls(values, indices, d, index, blocks, None if count is None else torch.tensor(k))
