"""Messages made of messages: scaled, withheld, in blocks, in buckets, or several of the same client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from octolab.payloads.base import Payload, dtype_name, dtype_named, ordered_sum
from octolab.payloads.bitstream import BitReader
from octolab.payloads.plain import Dense

NO_BITS = np.zeros(0, dtype=np.uint8)


class _Wrapping(Payload):
    """A payload around one other, ``inner``; shape, dtype and bits are its own unless said otherwise."""

    inner: Payload

    @property
    def shape(self) -> tuple[int, ...]:
        return self.inner.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.inner.dtype

    @property
    def order(self) -> int:
        return self.inner.order

    def _cost(self) -> Any:
        return self.inner.bits

    def _index_cost(self) -> Any:
        return self.inner.index_bits

    def _bitstring(self) -> np.ndarray:
        return self.inner._bitstring()


@dataclass(frozen=True, eq=False, repr=False)
class Rescaled(_Wrapping):
    """factor * inner, where both ends know the factor: the inner payload's bits."""

    inner: Payload
    factor: float

    row_fields: ClassVar[tuple[str, ...]] = ("inner",)

    def dense(self) -> Tensor:
        return self.inner.dense() * self.factor

    def _sum(self, weights: Tensor | None) -> Tensor:
        return self.inner.sum(weights) * self.factor

    def _meta(self) -> dict[str, Any]:
        return {"inner": self.inner.meta, "factor": self.factor}

    @classmethod
    def _parse(cls, reader: BitReader, meta: dict[str, Any]) -> Payload:
        return cls(Payload._read(reader, meta["inner"]), meta["factor"])


@dataclass(frozen=True, eq=False, repr=False)
class Gated(_Wrapping):
    """inner where ``sent`` is True; else nothing travels: 0 bits, an empty message, and the receiver reads zero.

    sent: bool, (m,) or (). Silence is free because the round itself says whose message is missing.
    """

    inner: Payload
    sent: Tensor

    row_fields: ClassVar[tuple[str, ...]] = ("inner", "sent")

    def dense(self) -> Tensor:
        values = self.inner.dense()
        gate = self.sent.reshape(*self.sent.shape, *[1] * self.order)
        return torch.where(gate, values, torch.zeros((), dtype=values.dtype, device=values.device))

    def _sum(self, weights: Tensor | None) -> Tensor:
        rows = torch.nonzero(self.sent).flatten()
        return self.inner.select(rows).sum(None if weights is None else weights[rows])

    def _gated(self, cost: Any) -> Any:
        return cost * self.sent.cpu()

    def _cost(self) -> Any:
        return self._gated(self.inner.bits)

    def _index_cost(self) -> Any:
        return self._gated(self.inner.index_bits)

    def _bitstring(self) -> np.ndarray:
        return self.inner._bitstring() if bool(self.sent) else NO_BITS

    def _joined(self, payloads: Sequence[Any]) -> Gated:
        heard = next((p.inner for p in payloads if bool(p.sent.any())), payloads[0].inner)

        def fitting(p: Gated) -> Payload:
            """A silent row, decoded from nothing, takes the form of those that were heard."""
            if type(p.inner) is type(heard) or bool(p.sent.any()):
                return p.inner
            return heard.select(torch.zeros(len(p), dtype=torch.int64))

        inner = type(heard).cat([fitting(p) for p in payloads])
        return Gated(inner, torch.cat([p.sent for p in payloads]))

    def _meta(self) -> dict[str, Any]:
        if bool(self.sent):
            return {"inner": self.inner.meta, "sent": True}
        return {"shape": list(self.shape), "dtype": dtype_name(self.dtype), "sent": False}

    @classmethod
    def _parse(cls, reader: BitReader, meta: dict[str, Any]) -> Payload:
        if meta["sent"]:
            return cls(Payload._read(reader, meta["inner"]), torch.tensor(True))
        zeros = torch.zeros(meta["shape"], dtype=dtype_named(meta["dtype"]))
        return cls(Dense(zeros, axes=zeros.dim()), torch.tensor(False))


@dataclass(frozen=True, eq=False, repr=False)
class Blocks(Payload):
    """Several payloads end to end: the pieces of a long vector (layers, say), each with its own bits."""

    parts: tuple[Payload, ...]

    row_fields: ClassVar[tuple[str, ...]] = ("parts",)

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.parts[0].shape[:-1], sum(p.shape[-1] for p in self.parts))

    @property
    def dtype(self) -> torch.dtype:
        return self.parts[0].dtype

    def dense(self) -> Tensor:
        return torch.cat([p.dense() for p in self.parts], dim=-1)

    def _sum(self, weights: Tensor | None) -> Tensor:
        return torch.cat([p.sum(weights) for p in self.parts])

    def _cost(self) -> Any:
        return sum(p.bits for p in self.parts)

    def _index_cost(self) -> Any:
        return sum(p.index_bits for p in self.parts)

    def _bitstring(self) -> np.ndarray:
        return np.concatenate([p._bitstring() for p in self.parts])

    def _meta(self) -> dict[str, Any]:
        return {"parts": [p.meta for p in self.parts]}

    @classmethod
    def _parse(cls, reader: BitReader, meta: dict[str, Any]) -> Payload:
        return cls(tuple(Payload._read(reader, part) for part in meta["parts"]))


@dataclass(frozen=True, eq=False, repr=False)
class Buckets(Payload):
    """Vectors cut into ``count`` equal buckets, each compressed on its own.

    inner: stacked payload of m * count rows; row r * count + b is bucket b of client r. alone: one message, m
           = 1.
    """

    inner: Payload
    count: int
    alone: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        d = self.count * self.inner.shape[-1]
        return (d,) if self.alone else (len(self.inner) // self.count, d)

    @property
    def dtype(self) -> torch.dtype:
        return self.inner.dtype

    @property
    def device(self) -> torch.device:
        return self.inner.device

    def dense(self) -> Tensor:
        return self.inner.dense().reshape(self.shape)

    def _sum(self, weights: Tensor | None) -> Tensor:
        return ordered_sum(self.dense(), weights)

    def _per_client(self, cost: Tensor) -> int | Tensor:
        return int(cost.sum()) if self.alone else cost.reshape(-1, self.count).sum(1)

    def _cost(self) -> int | Tensor:
        return self._per_client(self.inner.bits)

    def _index_cost(self) -> int | Tensor:
        return self._per_client(self.inner.index_bits)

    def select(self, rows: Tensor) -> Buckets:
        if rows.dtype == torch.bool:
            rows = torch.nonzero(rows).flatten()
        buckets = rows[:, None] * self.count + torch.arange(self.count, device=rows.device)
        return replace(self, inner=self.inner.select(buckets.reshape(-1)))

    def _row(self, i: int) -> Buckets:
        return replace(self.select(torch.tensor([i], device=self.device)), alone=True)

    def _stack_one(self) -> Buckets:
        return replace(self, alone=False)

    def _joined(self, payloads: Sequence[Any]) -> Buckets:
        inners = [p.inner for p in payloads]
        return replace(self, inner=type(self.inner).cat(inners))

    def _bitstring(self) -> np.ndarray:
        return np.concatenate([self.inner[i]._bitstring() for i in range(self.count)])

    def _meta(self) -> dict[str, Any]:
        return {"rows": [self.inner[i].meta for i in range(self.count)]}

    @classmethod
    def _parse(cls, reader: BitReader, meta: dict[str, Any]) -> Payload:
        rows = [Payload._read(reader, row).stack() for row in meta["rows"]]
        return cls(type(rows[0]).cat(rows), len(rows), alone=True)


@dataclass(frozen=True, eq=False, repr=False)
class Bundle(Payload):
    """Several messages of the same client: ``dense()`` adds them, bits are summed per client.

    inner: stacked payload of any number of rows; owner: int64 (rows,), row r belongs to client owner[r] in range(m).
    A client without a row sends nothing (0 bits) and stands for zero. m = None: one client's messages.

    >>> from octolab.payloads import Dense
    >>> Bundle(Dense(torch.ones(3, 2)), torch.tensor([0, 0, 1]), m=2).dense()
    tensor([[2., 2.],
            [1., 1.]])
    """

    inner: Payload
    owner: Tensor
    m: int | None

    def __post_init__(self) -> None:
        if tuple(self.owner.shape) != (len(self.inner),):
            raise ValueError(
                f"owner has shape {tuple(self.owner.shape)}; give one client per row, ({len(self.inner)},)."
            )
        if len(self.owner) and not 0 <= int(self.owner.min()) <= int(self.owner.max()) < self._clients:
            raise ValueError(f"owner names clients outside 0..{self._clients - 1}.")

    @property
    def _clients(self) -> int:
        return 1 if self.m is None else self.m

    @property
    def shape(self) -> tuple[int, ...]:
        one = self.inner.shape[1:]
        return one if self.m is None else (self.m, *one)

    @property
    def order(self) -> int:
        return self.inner.order

    @property
    def dtype(self) -> torch.dtype:
        return self.inner.dtype

    @property
    def device(self) -> torch.device:
        return self.inner.device

    def dense(self) -> Tensor:
        rows = self.inner.dense()
        flat = rows.new_zeros((self._clients, int(np.prod(rows.shape[1:], dtype=np.int64))))
        flat.index_add_(0, self.owner, rows.reshape(rows.shape[0], flat.shape[1]))
        return flat.reshape(self.shape)

    def _sum(self, weights: Tensor | None) -> Tensor:
        return self.inner.sum(None if weights is None else weights[self.owner])

    def _per_client(self, cost: Tensor) -> int | Tensor:
        total = torch.zeros(self._clients, dtype=torch.int64).index_add_(0, self.owner.cpu(), cost)
        return int(total[0]) if self.m is None else total

    def _cost(self) -> int | Tensor:
        return self._per_client(self.inner.bits)

    def _index_cost(self) -> int | Tensor:
        return self._per_client(self.inner.index_bits)

    def select(self, rows: Tensor) -> Bundle:
        if rows.dtype == torch.bool:
            rows = torch.nonzero(rows).flatten()
        places = [torch.nonzero(self.owner == r).flatten() for r in rows]
        owner = torch.repeat_interleave(
            torch.arange(len(places), device=self.owner.device),
            torch.tensor([len(p) for p in places], dtype=torch.int64, device=self.owner.device),
        )
        chosen = torch.cat(places) if places else owner
        return Bundle(self.inner.select(chosen), owner, len(places))

    def _row(self, i: int) -> Bundle:
        return replace(self.select(torch.tensor([i], device=self.device)), m=None)

    def _stack_one(self) -> Bundle:
        return replace(self, m=1)

    def _joined(self, payloads: Sequence[Any]) -> Bundle:
        start, owners = 0, []
        for p in payloads:
            owners.append(p.owner + start)
            start += p._clients
        return Bundle(type(self.inner).cat([p.inner for p in payloads]), torch.cat(owners), start)

    def _bitstring(self) -> np.ndarray:
        return np.concatenate([NO_BITS, *(self.inner[i]._bitstring() for i in range(len(self.inner)))])

    def _meta(self) -> dict[str, Any]:
        one = [self.inner[i].meta for i in range(len(self.inner))]
        return {"rows": one, "shape": list(self.shape)}

    @classmethod
    def _parse(cls, reader: BitReader, meta: dict[str, Any]) -> Payload:
        rows = [Payload._read(reader, row).stack() for row in meta["rows"]]
        if not rows:
            empty = Dense(torch.zeros((0, *meta["shape"])), axes=len(meta["shape"]))
            return cls(empty, torch.zeros(0, dtype=torch.int64), None)
        return cls(type(rows[0]).cat(rows), torch.zeros(len(rows), dtype=torch.int64), None)
