"""Messages that stand for matrices: low-rank factors and symmetric matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from octolab.payloads.base import Payload, dtype_name, dtype_named
from octolab.payloads.bitstream import FLOAT_BITS, BitReader, pack_floats


@dataclass(frozen=True, eq=False, repr=False)
class LowRank(Payload):
    """left diag(values) right^T: 32 bits per number of the factors that are there.

    left:   (d, R) or (m, d, R);  right: (p, R) or (m, p, R), None = left (a symmetric matrix, R(d + 1) reals);
    values: (R,) or (m, R), None = ones (R(d + p) reals, as in PowerSGD).

    >>> LowRank(torch.eye(4)[:, :1], None, torch.tensor([2.0])).bits
    160
    """

    left: Tensor
    right: Tensor | None = None
    values: Tensor | None = None

    row_fields: ClassVar[tuple[str, ...]] = ("left", "right", "values")

    @property
    def shape(self) -> tuple[int, ...]:
        other = self.left if self.right is None else self.right
        return (*self.left.shape[:-1], other.shape[-2])

    @property
    def dtype(self) -> torch.dtype:
        return self.left.dtype

    @property
    def order(self) -> int:
        return 2

    def dense(self) -> Tensor:
        scaled = self.left if self.values is None else self.left * self.values.unsqueeze(-2)
        if self.right is not None:
            return scaled @ self.right.mT
        product = scaled @ self.left.mT
        return (product + product.mT) / 2  # symmetric to the last bit

    @property
    def _factors(self) -> list[Tensor]:
        return [f for f in (self.left, self.right, self.values) if f is not None]

    def _cost(self) -> int:
        lead = 1 if self.stacked else 0
        return FLOAT_BITS * sum(int(np.prod(f.shape[lead:], dtype=np.int64)) for f in self._factors)

    def _bitstring(self) -> np.ndarray:
        return np.concatenate([pack_floats(f) for f in self._factors])

    def _meta(self) -> dict[str, Any]:
        names = ("left", "right", "values")
        shapes = {n: list(getattr(self, n).shape) for n in names if getattr(self, n) is not None}
        return {"shapes": shapes, "dtype": dtype_name(self.dtype)}

    @classmethod
    def _parse(cls, reader: BitReader, meta: dict[str, Any]) -> Payload:
        factors = {}
        for name, shape in meta["shapes"].items():
            flat = torch.from_numpy(reader.floats(int(np.prod(shape, dtype=np.int64))))
            factors[name] = flat.to(dtype_named(meta["dtype"])).reshape(shape)
        return cls(factors["left"], factors.get("right"), factors.get("values"))


def triangle(d: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Rows and columns of the d(d+1)/2 entries on and above the diagonal, row by row."""
    rows, columns = torch.triu_indices(d, d, device=device)
    return rows, columns


def upper(matrix: Tensor) -> Tensor:
    """(.., d, d) symmetric -> (.., d(d+1)/2), the entries on and above the diagonal, row by row."""
    rows, columns = triangle(matrix.shape[-1], matrix.device)
    return matrix[..., rows, columns]


@dataclass(frozen=True, eq=False, repr=False)
class Symmetric(Payload):
    """A symmetric d x d matrix, sent as its upper triangle: any payload over a vector of d(d+1)/2 entries.

    >>> from octolab.payloads import Dense
    >>> Symmetric(Dense(upper(torch.eye(3)))).bits
    192
    """

    inner: Payload

    row_fields: ClassVar[tuple[str, ...]] = ("inner",)

    def __post_init__(self) -> None:
        p = self.inner.shape[-1]
        if self.d * (self.d + 1) // 2 != p:
            raise ValueError(f"the payload has {p} entries, which is no d(d+1)/2; use upper(matrix) to make them.")

    @property
    def d(self) -> int:
        return int((np.sqrt(8 * self.inner.shape[-1] + 1) - 1) // 2)

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.inner.shape[:-1], self.d, self.d)

    @property
    def dtype(self) -> torch.dtype:
        return self.inner.dtype

    @property
    def order(self) -> int:
        return 2

    def _unpack(self, flat: Tensor) -> Tensor:
        rows, columns = triangle(self.d, flat.device)
        matrix = flat.new_zeros((*flat.shape[:-1], self.d, self.d))
        matrix[..., rows, columns] = flat
        matrix[..., columns, rows] = flat
        return matrix

    def dense(self) -> Tensor:
        return self._unpack(self.inner.dense())

    def _sum(self, weights: Tensor | None) -> Tensor:
        return self._unpack(self.inner.sum(weights))

    def _cost(self) -> Any:
        return self.inner.bits

    def _index_cost(self) -> Any:
        return self.inner.index_bits

    def _bitstring(self) -> np.ndarray:
        return self.inner._bitstring()

    def _meta(self) -> dict[str, Any]:
        return {"inner": self.inner.meta}

    @classmethod
    def _parse(cls, reader: BitReader, meta: dict[str, Any]) -> Payload:
        return cls(Payload._read(reader, meta["inner"]))
