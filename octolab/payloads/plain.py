"""Uncompressed messages: Dense vectors, Masked vectors and Scalars."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from octolab.payloads.base import Payload, dtype_name, dtype_named
from octolab.payloads.bitstream import FLOAT_BITS, BitReader, pack_floats


@dataclass(frozen=True, eq=False, repr=False)
class Dense(Payload):
    """Every entry as a real: 32 d bits.

    values: (d,) or (m, d); with ``axes=2`` a matrix (d, p) or (m, d, p).

    >>> Dense(torch.ones(5)).bits
    160
    """

    values: Tensor
    axes: int = 1

    row_fields: ClassVar[tuple[str, ...]] = ("values",)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    @property
    def dtype(self) -> torch.dtype:
        return self.values.dtype

    @property
    def order(self) -> int:
        return self.axes

    def dense(self) -> Tensor:
        return self.values

    def _cost(self) -> int:
        return FLOAT_BITS * math.prod(self.values.shape[self.values.dim() - self.axes :])

    def _bitstring(self) -> np.ndarray:
        return pack_floats(self.values)

    def _meta(self) -> dict[str, Any]:
        return {"shape": list(self.shape), "dtype": dtype_name(self.dtype)}

    @classmethod
    def _parse(cls, reader: BitReader, meta: dict[str, Any]) -> Payload:
        shape = tuple(meta["shape"])
        flat = torch.from_numpy(reader.floats(math.prod(shape)))
        return cls(flat.to(dtype_named(meta["dtype"])).reshape(shape), axes=len(shape))


@dataclass(frozen=True, eq=False, repr=False)
class Masked(Payload):
    """The entries where a mask known to both ends is True: 32 bits each, nothing for positions; 0 elsewhere.

    values: (d,) or (m, d), only their masked entries count; mask: bool (d,), the same for all, or (m, d).

    >>> Masked(torch.arange(4.0), torch.tensor([True, False, True, False])).bits
    64
    """

    values: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        if self.mask.dtype != torch.bool or self.mask.shape[-1:] != self.values.shape[-1:]:
            raise ValueError(
                f"mask is {self.mask.dtype} of shape {tuple(self.mask.shape)}; give a bool tensor that "
                f"matches values of shape {tuple(self.values.shape)}."
            )
        if self.mask.shape != self.values.shape:
            object.__setattr__(self, "mask", self.mask.expand(self.values.shape))

    row_fields: ClassVar[tuple[str, ...]] = ("values", "mask")

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    @property
    def dtype(self) -> torch.dtype:
        return self.values.dtype

    def dense(self) -> Tensor:
        return torch.where(self.mask, self.values, torch.zeros((), dtype=self.dtype, device=self.device))

    def _cost(self) -> Tensor:
        return FLOAT_BITS * self.mask.sum(-1)

    def _bitstring(self) -> np.ndarray:
        return pack_floats(self.values[self.mask])

    def _meta(self) -> dict[str, Any]:
        packed = np.packbits(self.mask.cpu().numpy()).tobytes().hex()
        return {"d": self.shape[-1], "mask": packed, "dtype": dtype_name(self.dtype)}

    @classmethod
    def _parse(cls, reader: BitReader, meta: dict[str, Any]) -> Payload:
        raw = np.frombuffer(bytes.fromhex(meta["mask"]), dtype=np.uint8)
        mask = torch.from_numpy(np.unpackbits(raw)[: meta["d"]].astype(bool))
        values = torch.zeros(meta["d"], dtype=dtype_named(meta["dtype"]))
        values[mask] = torch.from_numpy(reader.floats(int(mask.sum()))).to(values.dtype)
        return cls(values, mask)


@dataclass(frozen=True, eq=False, repr=False)
class Scalars(Payload):
    """One number per client: 32 bits for a real or a count, 1 bit for a bool.

    values: (m,) for m clients, () for one message.

    >>> Scalars(torch.tensor([0.5, 2.0])).bits
    tensor([32, 32])
    """

    values: Tensor

    row_fields: ClassVar[tuple[str, ...]] = ("values",)

    def __post_init__(self) -> None:
        if self.values.dim() > 1:
            raise ValueError(
                f"Scalars holds one number per client, (m,) or (), given shape {tuple(self.values.shape)}; "
                "use Dense for vectors."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    @property
    def dtype(self) -> torch.dtype:
        return self.values.dtype

    @property
    def order(self) -> int:
        return 0

    def dense(self) -> Tensor:
        return self.values

    def _sum(self, weights: Tensor | None) -> Tensor:
        values = self.values.to(torch.int64) if self.dtype == torch.bool and weights is None else self.values
        if weights is not None:
            values = values.to(weights.dtype) * weights
        total = values.new_zeros(1)
        return total.index_add_(0, torch.zeros(len(self), dtype=torch.int64, device=self.device), values)[0]

    def _cost(self) -> int:
        return 1 if self.dtype == torch.bool else FLOAT_BITS

    def _bitstring(self) -> np.ndarray:
        if self.dtype == torch.bool:
            return np.array([int(self.values)], dtype=np.uint8)
        if self.dtype.is_floating_point:
            return pack_floats(self.values)
        limit = 2 ** (FLOAT_BITS - 1)
        if not -limit <= int(self.values) < limit:
            raise ValueError(f"the count {int(self.values)} does not fit in 32 bits; send it as a real.")
        return np.unpackbits(np.array([int(self.values)], dtype=">i4").view(np.uint8))

    def _meta(self) -> dict[str, Any]:
        return {"dtype": dtype_name(self.dtype)}

    @classmethod
    def _parse(cls, reader: BitReader, meta: dict[str, Any]) -> Payload:
        dtype = dtype_named(meta["dtype"])
        if dtype == torch.bool:
            return cls(torch.tensor(bool(reader.bit())))
        if dtype.is_floating_point:
            return cls(torch.tensor(float(reader.floats(1)[0]), dtype=dtype))
        raw = np.packbits(reader.take(FLOAT_BITS)).view(">i4")
        return cls(torch.tensor(int(raw[0]), dtype=dtype))
