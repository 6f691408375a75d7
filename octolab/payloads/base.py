"""What every message has in common: rows, bits, bytes and arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from octolab.payloads.bitstream import BitReader

P = TypeVar("P", bound="Payload")


def rows_at_once(d: int) -> int:
    """How many rows of length d a sum takes at once, so that what it makes of them stays in the cache."""
    return max(1, 2**16 // max(1, d))


def ordered_sum(rows: Tensor, weights: Tensor | None = None, into: Tensor | None = None) -> Tensor:
    """sum_r w_r rows[r], in row order: bitwise the same with any number of threads. (m, ...) -> (...).

    into: (...), contiguous, to which they are added in place.
    """
    if weights is not None:
        scale = weights.to(rows.dtype).reshape(-1, *[1] * (rows.dim() - 1))
        size = rows_at_once(rows.shape[1:].numel())
        if len(rows) <= size:
            return ordered_sum(rows * scale, into=into)
        total = rows.new_zeros(rows.shape[1:]) if into is None else into
        for a in range(0, len(rows), size):
            ordered_sum(rows[a : a + size] * scale[a : a + size], into=total)
        return total
    plain = into is None and rows.shape[1:].numel() > 1 and rows.is_contiguous()  # otherwise NumPy adds in pairs
    if plain and rows.is_cpu and rows.dtype in (torch.float32, torch.float64) and not rows.requires_grad:
        return torch.from_numpy(np.add.reduce(rows.numpy(), axis=0))
    flat = rows.reshape(rows.shape[0], rows.shape[1:].numel())
    total = rows.new_zeros((1, flat.shape[1])) if into is None else into.view(1, -1)
    total.index_add_(0, torch.zeros(flat.shape[0], dtype=torch.int64, device=rows.device), flat)
    return total.reshape(rows.shape[1:])


def take(value: Any, rows: Any) -> Any:
    """Rows of a tensor, a stacked payload, a tuple of them, or None."""
    if isinstance(value, tuple):
        return tuple(take(v, rows) for v in value)
    return None if value is None else value[rows]


def join(values: Sequence[Any]) -> Any:
    """Concatenate the rows of tensors, stacked payloads, tuples of them, or Nones."""
    first = values[0]
    if isinstance(first, tuple):
        return tuple(join(column) for column in zip(*values, strict=True))
    if first is None:
        return None
    return type(first).cat(list(values)) if isinstance(first, Payload) else torch.cat(list(values))


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def dtype_named(name: str) -> torch.dtype:
    return getattr(torch, name)  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class Payload:
    """A message, or the stacked messages of m clients. It knows its exact bits and turns into real bytes.

    One message stands for a vector (d,), stacked ones for (m, d) (matrices: (d, d) and (m, d, d); scalars: ()
    and (m,)). Reals travel as float32, whatever the simulation's dtype: ``dense()`` is the simulation's
    value, ``decode(encode())`` the same with every transmitted real rounded to float32.

    Arithmetic with tensors gives tensors: ``x + c``, ``x - c``, ``c - x``, ``2 * c``, ``memory += c``.

    >>> from octolab.payloads import Dense
    >>> Dense(torch.zeros(3, 10)).bits
    tensor([320, 320, 320])
    """

    row_fields: ClassVar[tuple[str, ...]] = ()  # the fields whose first axis are the clients
    kinds: ClassVar[dict[str, type[Payload]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Payload.kinds[cls.__name__] = cls

    # -- what a kind defines ---------------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of ``dense()``."""
        raise NotImplementedError

    @property
    def dtype(self) -> torch.dtype:
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        for name in self.row_fields:
            value = getattr(self, name)
            value = value[0] if isinstance(value, tuple) else value
            if value is not None:
                return value.device  # type: ignore[no-any-return]
        return torch.device("cpu")

    @property
    def order(self) -> int:
        """Axes of one message: 1 for a vector, 2 for a matrix, 0 for a scalar."""
        return 1

    def dense(self) -> Tensor:
        """The tensor that the message stands for, in the simulation's dtype."""
        raise NotImplementedError

    def _cost(self) -> int | Tensor:
        """Bits of one message (int), or (m,) where the messages of a stack differ."""
        raise NotImplementedError

    def _bitstring(self) -> np.ndarray:
        """The bits of one (unstacked) message."""
        raise NotImplementedError

    def _meta(self) -> dict[str, Any]:
        """What both ends of one (unstacked) message know beforehand."""
        raise NotImplementedError

    @classmethod
    def _parse(cls, reader: BitReader, meta: dict[str, Any]) -> Payload:
        """One message from its bits."""
        raise NotImplementedError

    # -- rows ------------------------------------------------------------------------------------------------
    @property
    def stacked(self) -> bool:
        """True for the messages of m clients, False for one message."""
        return len(self.shape) > self.order

    def __len__(self) -> int:
        """Number of messages m (1 for an unstacked one)."""
        return self.shape[0] if self.stacked else 1

    def __getitem__(self: P, rows: Any) -> P:
        """``payload[i]``: the message of row i; a slice or an index tensor gives a stacked payload."""
        if not self.stacked:
            raise TypeError("this payload is one message, it has no rows to index.")
        if isinstance(rows, (int, np.integer)):
            if not -len(self) <= rows < len(self):
                raise IndexError(f"row {rows} does not exist: the payload holds {len(self)} messages.")
            return self._row(int(rows) % len(self))
        if isinstance(rows, slice):
            rows = torch.arange(len(self), device=self.device)[rows]
        return self.select(torch.as_tensor(rows, device=self.device))

    def _row(self: P, i: int) -> P:
        return replace(self, **{name: take(getattr(self, name), i) for name in self.row_fields})

    def select(self: P, rows: Tensor) -> P:
        """Stacked payload of the given rows (LongTensor, or bool mask), in that order."""
        if rows.dtype == torch.bool:
            rows = torch.nonzero(rows).flatten()
        return replace(self, **{name: take(getattr(self, name), rows) for name in self.row_fields})

    @classmethod
    def cat(cls: type[P], payloads: Sequence[P]) -> P:
        """Stack the rows of several stacked payloads of the same kind and compressor, in order."""
        if not payloads:
            raise ValueError("cat needs at least one payload; an empty list has no shape.")
        kinds = {type(p).__name__ for p in payloads}
        if len(kinds) > 1:
            raise ValueError(f"cat joins payloads of one kind, given {', '.join(sorted(kinds))}.")
        return payloads[0]._joined(payloads)

    def _joined(self: P, payloads: Sequence[Any]) -> P:
        columns = {name: join([getattr(p, name) for p in payloads]) for name in self.row_fields}
        return replace(self, **columns)

    def stack(self: P) -> P:
        """One message as a stack of one row; a stacked payload stays as it is."""
        return self if self.stacked else self._stack_one()

    def _stack_one(self: P) -> P:
        def lift(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(lift(v) for v in value)
            if value is None:
                return None
            return value.stack() if isinstance(value, Payload) else value.unsqueeze(0)

        return replace(self, **{name: lift(getattr(self, name)) for name in self.row_fields})

    # -- bits and bytes --------------------------------------------------------------------------------------
    @property
    def bits(self) -> Any:
        """Exact wire bits: int for one message, (m,) int64 for stacked ones. 32 per real number."""
        return self._per_row(self._cost())

    @property
    def cost(self) -> tuple[int | Tensor, int | Tensor]:
        """(bits, paper_bits) of every row: an int each if all rows cost the same, else (m,) int64."""
        whole, index = self._cost(), self._index_cost()
        return whole, (whole - index if isinstance(index, Tensor) or index else whole)

    @property
    def index_bits(self) -> Any:
        """The part of ``bits`` that names positions."""
        return self._per_row(self._index_cost())

    @property
    def paper_bits(self) -> Any:
        """``bits - index_bits``: the axis of papers that do not charge positions, to show beside ``bits``."""
        return self._per_row(self._cost() - self._index_cost())

    def _per_row(self, cost: int | Tensor) -> Any:
        if not self.stacked:
            return int(cost)
        if isinstance(cost, Tensor):
            return cost.to(torch.int64)
        return torch.full((len(self),), cost, dtype=torch.int64)

    def _index_cost(self) -> int | Tensor:
        return 0

    @property
    def meta(self) -> Any:
        """JSON-able dict that both ends know and ``decode`` needs (not charged); stacked: a list of them."""
        if self.stacked:
            return [self[i].meta for i in range(len(self))]
        return {"kind": type(self).__name__, **self._meta()}

    def encode(self) -> Any:
        """bytes with ``len == ceil(bits / 8)`` for one message; a list of them for stacked ones."""
        if self.stacked:
            return [self[i].encode() for i in range(len(self))]
        return np.packbits(self._bitstring()).tobytes()

    @staticmethod
    def decode(data: Any, meta: Any) -> Payload:
        """The message from ``encode()`` and ``meta``: bytes and a dict, or lists of them (stacked)."""
        if isinstance(data, (list, tuple)):
            rows = [Payload.decode(b, m).stack() for b, m in zip(data, meta, strict=True)]
            return type(rows[0]).cat(rows) if rows else Payload.cat(rows)
        return Payload._read(BitReader(data), meta)

    @staticmethod
    def _read(reader: BitReader, meta: dict[str, Any]) -> Payload:
        kind = meta.get("kind")
        if kind not in Payload.kinds:
            raise ValueError(f"meta names the payload kind {kind!r}; known are {', '.join(sorted(Payload.kinds))}.")
        return Payload.kinds[kind]._parse(reader, meta)

    # -- arithmetic ------------------------------------------------------------------------------------------
    def sum(self, weights: Tensor | Sequence[float] | None = None) -> Tensor:
        """sum_r w_r C_r, in row order (fixed, whatever the number of threads); weights (m,), default 1."""
        if not self.stacked:
            raise TypeError("sum adds the rows of a stacked payload; this is one message, use dense().")
        return self._sum(self._weights(weights))

    def _weights(self, weights: Tensor | Sequence[float] | None) -> Tensor | None:
        if weights is None:
            return None
        given = torch.as_tensor(weights, dtype=self.dtype if self.dtype.is_floating_point else torch.float64)
        if given.shape != (len(self),):
            raise ValueError(f"weights has shape {tuple(given.shape)}; give one weight per message, ({len(self)},).")
        return given.to(self.device)

    def _sum(self, weights: Tensor | None) -> Tensor:
        return ordered_sum(self.dense(), weights)

    def mean(self) -> Tensor:
        """Average over the rows: ``sum() / m``."""
        return self.sum() / len(self)

    def _added_to(self, other: Tensor, sign: int) -> Tensor:
        """other + sign * dense()."""
        return other + self.dense() if sign > 0 else other - self.dense()

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """``tensor op payload`` comes here at once; without it torch builds an error first, dearer than the sum.

        Anything else, ``+=`` among it, is left to the operators below: no tensor is changed in place.
        """
        if kwargs or len(args) != 2 or not isinstance(args[1], Payload):
            return NotImplemented
        tensor, payload = args
        if func is Tensor.add:
            return payload._added_to(tensor, 1)
        if func is Tensor.sub:
            return payload._added_to(tensor, -1)
        return payload.__rmul__(tensor) if func is Tensor.mul else NotImplemented

    def __add__(self, other: Any) -> Tensor:
        other = other.dense() if isinstance(other, Payload) else other
        return self._added_to(other, 1) if isinstance(other, Tensor) else self.dense() + other

    __radd__ = __add__

    def __rsub__(self, other: Any) -> Tensor:
        return self._added_to(other, -1) if isinstance(other, Tensor) else other - self.dense()

    def __sub__(self, other: Any) -> Tensor:
        return self.dense() - (other.dense() if isinstance(other, Payload) else other)

    def __mul__(self, other: Any) -> Tensor:
        return self.dense() * (other.dense() if isinstance(other, Payload) else other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Tensor:
        return self.dense() / other

    def __neg__(self) -> Tensor:
        return -self.dense()

    def __repr__(self) -> str:
        rows = f"{len(self)} messages of " if self.stacked else ""
        bits = self.bits if not self.stacked else int(self.bits.sum())
        return f"{type(self).__name__}({rows}{tuple(self.shape[len(self.shape) - self.order :])}, {bits} bits)"
