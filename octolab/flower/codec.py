"""What travels as bytes: payloads up, arguments down, memory. JSON beside raw bytes, never a pickle.

Two wires. "float32" is the deployed one: a payload travels as `payload.encode()`, so that len(bytes) == ceil(bits / 8)
for the bits that the ledger charges; where the simulation computes in float64 the receiver gets every real rounded to
float32. "exact" sends the simulation's own numbers, whatever they cost, while the ledger goes on counting 32 bits a
real: it is there to show that two worlds run the same method, bit for bit.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import numpy as np
import torch

from octolab.federation.executor import Each
from octolab.payloads import Dense, Grid, Payload
from octolab.payloads.base import dtype_name, dtype_named

WIRES = ("float32", "exact")


def check_wire(wire: str) -> str:
    if wire not in WIRES:
        raise ValueError(
            f"wire={wire!r}: choose 'float32' (what is charged travels) or 'exact' (for comparing worlds)."
        )
    return wire


# -- payloads: one client's message --------------------------------------------------------------------------------
def pack(payload: Payload, wire: str) -> tuple[bytes, Any]:
    """A stack of one message as bytes, and the JSON that the receiver needs to read them."""
    if wire == "exact":
        blobs: list[bytes] = []
        tree = _exact(payload, blobs)
        return b"".join(blobs), tree
    if isinstance(payload, Dense) and payload.dtype.is_floating_point:  # as encode(), without a detour over bits
        values = payload.values[0]
        meta = {"kind": "Dense", "shape": list(values.shape), "dtype": dtype_name(values.dtype)}
        return _reals(values), meta
    one = payload[0]
    return one.encode(), one.meta


def unpack(data: bytes, meta: Any, wire: str) -> Payload:
    """The way back, a stack of one message."""
    if wire == "exact":
        return _read_exact(meta, memoryview(data), [0])
    if meta["kind"] == "Dense":
        values = _from_reals(data, tuple(meta["shape"]), meta["dtype"])
        return Dense(values[None], axes=len(meta["shape"]))
    return Payload.decode(data, meta).stack()


def _reals(values: torch.Tensor) -> bytes:
    return values.detach().to(torch.float32).contiguous().numpy().astype(">f4").tobytes()


def _from_reals(data: bytes, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    count = int(np.prod(shape, dtype=np.int64))
    if len(data) != 4 * count:
        raise ValueError(f"A message of {len(data)} bytes came where {4 * count} were announced: it was cut short.")
    return torch.from_numpy(np.frombuffer(data, dtype=">f4").astype(np.float32)).to(dtype_named(dtype)).reshape(shape)


def _raw(data: Any, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A tensor from its own bytes; copied, so that it is aligned as torch's own are, and BLAS rounds the same."""
    if not len(data):
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=dtype).clone().reshape(shape)


def _exact(value: Any, blobs: list[bytes]) -> Any:
    """A payload's fields as JSON; its tensors, as they are in memory, go to blobs."""
    if isinstance(value, torch.Tensor):
        blobs.append(value.detach().contiguous().numpy().tobytes())
        return {"tensor": [list(value.shape), dtype_name(value.dtype)]}
    if isinstance(value, (Payload, Grid)):
        return {
            "kind": type(value).__name__,
            "fields": {f.name: _exact(getattr(value, f.name), blobs) for f in dataclasses.fields(value)},
        }
    if isinstance(value, tuple):
        return {"tuple": [_exact(v, blobs) for v in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"A payload holds a {type(value).__name__}, which cannot travel: use tensors, numbers and texts.")


def _read_exact(tree: Any, data: memoryview, at: list[int]) -> Any:
    if not isinstance(tree, dict):
        return tree
    if "tensor" in tree:
        shape, dtype = tree["tensor"][0], dtype_named(tree["tensor"][1])
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        piece = data[at[0] : at[0] + size]
        at[0] += size
        return _raw(piece, tuple(shape), dtype)
    if "tuple" in tree:
        return tuple(_read_exact(v, data, at) for v in tree["tuple"])
    kinds: dict[str, Any] = {"Grid": Grid, **Payload.kinds}
    if tree["kind"] not in kinds:
        raise ValueError(f"A message of the kind {tree['kind']!r} came; known are {', '.join(sorted(kinds))}.")
    return kinds[tree["kind"]](**{name: _read_exact(v, data, at) for name, v in tree["fields"].items()})


# -- what the server sends down --------------------------------------------------------------------------------------
class Down:
    """A call's arguments, packed once for the whole cohort; `of(slot)` is what the client in this slot gets.

    trees: JSON; blobs: the bytes of everybody's arguments; an `Each` has a blob for every slot.
    """

    def __init__(self, down: tuple, wire: str):
        self.wire = wire
        self._shared: list[Any] = []  # bytes, or a function of the slot
        self.tree = [self._put(value) for value in down]
        self._own = any(callable(blob) for blob in self._shared)

    def of(self, slot: int) -> list[bytes]:
        return [blob(slot) if callable(blob) else blob for blob in self._shared] if self._own else self._shared

    def _put(self, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, (tuple, list)):
            return {"list": [self._put(v) for v in value], "tuple": isinstance(value, tuple)}
        if isinstance(value, Each):
            rows = value.values
            self._shared.append(lambda slot: self._tensor(rows[slot : slot + 1])[0])
            return self._tensor(rows[:1])[1]
        if isinstance(value, torch.Tensor):
            blob, tree = self._tensor(value)
        elif isinstance(value, Payload):
            row = value.stack()
            blob, meta = pack(row, self.wire)
            tree = {"payload": meta, "stacked": value.stacked}
        else:
            blob, tree = self._number(value)
        self._shared.append(blob)
        return tree

    def _tensor(self, value: torch.Tensor) -> tuple[bytes, Any]:
        tree = {"tensor": [list(value.shape), dtype_name(value.dtype)]}
        if self.wire == "exact":
            return value.detach().contiguous().numpy().tobytes(), tree
        if value.dtype.is_floating_point:
            return _reals(value), tree
        whole = value.detach().to(torch.int64)
        if whole.numel() and int(whole.abs().max()) >= 2**31:
            raise ValueError("A whole number of 2**31 or more was sent down; it does not fit into the 32 bits charged.")
        return whole.contiguous().numpy().astype(">i4").tobytes(), tree

    def _number(self, value: Any) -> tuple[bytes, Any]:
        if isinstance(value, (bool, np.bool_)):
            return bytes([bool(value)]), {"number": "bool"}
        if isinstance(value, (int, np.integer)):
            form = ">q" if self.wire == "exact" else ">i"
            try:
                return struct.pack(form, int(value)), {"number": "int"}
            except struct.error:
                raise ValueError(f"{value} was sent down; a whole number has 32 bits: send it as a float.") from None
        if isinstance(value, (float, np.floating)):
            return struct.pack(">d" if self.wire == "exact" else ">f", float(value)), {"number": "float"}
        raise TypeError(
            f"Cannot send a {type(value).__name__}: send tensors, payloads, numbers, bools, tuples of them."
        )


def read_down(tree: list[Any], blobs: list[bytes], wire: str) -> list[Any]:
    """The arguments that a client function receives."""
    left = iter(blobs)
    return [_read(node, left, wire) for node in tree]


def _read(node: Any, left: Any, wire: str) -> Any:
    if node is None:
        return None
    if "list" in node:
        values = [_read(v, left, wire) for v in node["list"]]
        return tuple(values) if node["tuple"] else values
    data = next(left)
    if "payload" in node:
        payload = unpack(data, node["payload"], wire)
        return payload if node["stacked"] else payload[0]
    if "tensor" in node:
        return _read_tensor(data, tuple(node["tensor"][0]), node["tensor"][1], wire)
    if node["number"] == "bool":
        return bool(data[0])
    form = {"int": ">q", "float": ">d"} if wire == "exact" else {"int": ">i", "float": ">f"}
    return struct.unpack(form[node["number"]], data)[0]


def _read_tensor(data: bytes, shape: tuple[int, ...], dtype: str, wire: str) -> torch.Tensor:
    kind = dtype_named(dtype)
    if not int(np.prod(shape, dtype=np.int64)):
        return torch.empty(shape, dtype=kind)
    if wire == "exact":
        return _raw(data, shape, kind)
    if kind.is_floating_point:
        return _from_reals(data, shape, dtype)
    return torch.from_numpy(np.frombuffer(data, dtype=">i4").astype(np.int64)).to(kind).reshape(shape)


# -- memory ----------------------------------------------------------------------------------------------------------
def pack_rows(rows: dict[str, torch.Tensor]) -> bytes:
    """Named tensors as one safetensors file."""
    from safetensors.torch import save

    return save({name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in rows.items()})


def unpack_rows(data: bytes) -> dict[str, torch.Tensor]:
    """The way back, copied as in `_raw`."""
    from safetensors.torch import load

    return {name: value.clone() for name, value in load(data).items()}
