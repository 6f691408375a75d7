"""Bits on the wire: writing and reading fields of any width, Elias gamma codes and index sets.

A bit string is a numpy uint8 array of zeros and ones, most significant bit first. Messages are joined as bit
strings and padded to whole bytes once, at the very end, so that ``len(bytes) == ceil(bits / 8)``.
"""

from __future__ import annotations

from functools import lru_cache
from math import comb
from typing import cast

import numpy as np
import torch

FLOAT_BITS = 32
"""Bits of one real number on the wire, whatever precision the simulation uses."""

INDEX_CODES = ("auto", "list", "bitmap", "enum", "none")
"""How the positions of k kept entries out of d travel; see :func:`index_bits`."""


def ceil_log2(n: int) -> int:
    """ceil(log2 n) for n >= 1: the bits that tell n things apart. Example: ``ceil_log2(10**6) == 20``."""
    return (n - 1).bit_length()


def floor_log2(values: torch.Tensor) -> torch.Tensor:
    """floor(log2 v) of positive integers v < 2^53, exactly (through the float's exponent)."""
    return torch.frexp(values.to(torch.float64)).exponent.to(torch.int64) - 1


def gamma_bits(values: torch.Tensor) -> torch.Tensor:
    """Length 2 floor(log2 v) + 1 of the Elias gamma code of each positive integer v (Elias 1975)."""
    return 2 * floor_log2(values) + 1


@lru_cache(maxsize=1024)
def enum_bits(d: int, k: int) -> int:
    """ceil(log2 C(d, k)), exactly: the shortest fixed-length name of a k-subset of d."""
    return ceil_log2(comb(d, k))


def resolve_index(index: str, d: int, k: int) -> str:
    """The code really used: "auto" becomes the cheaper of "list" and "bitmap"; k = d or 0 needs none."""
    if index not in INDEX_CODES:
        raise ValueError(f"index is {index!r}; choose one of {', '.join(INDEX_CODES)}.")
    if k in (0, d) or index == "none":
        return "none"
    if index == "auto":
        return "list" if k * ceil_log2(d) <= d else "bitmap"
    return index


@lru_cache(maxsize=1024)
def index_bits(index: str, d: int, k: int) -> int:
    """Bits of a k-subset of d: list k ceil(log2 d), bitmap d, enum ceil(log2 C(d,k)), none 0, auto min(list, bitmap).

    "none" is honest when both ends know the set (shared seed, fixed mask, k = d); for TopK it reproduces the
           axis of
    papers that do not charge indices. The choice that "auto" makes follows from d and k, so its flag is not charged.

    >>> index_bits("list", 10**6, 10**4), index_bits("bitmap", 10**6, 10**4)
    (200000, 1000000)
    """
    code = resolve_index(index, d, k)
    if code == "none":
        return 0
    if code == "list":
        return k * ceil_log2(d)
    return d if code == "bitmap" else enum_bits(d, k)


def index_bits_each(index: str, d: int, counts: torch.Tensor) -> torch.Tensor:
    """:func:`index_bits` of many counts k at once, int64 of the same shape."""
    if resolve_index(index, d, 1) == "enum":
        found, where = torch.unique(counts, return_inverse=True)
        return torch.tensor([index_bits(index, d, k) for k in found.tolist()], dtype=torch.int64)[where]
    if index == "none":
        return torch.zeros_like(counts)
    each, whole = counts * ceil_log2(d), torch.full_like(counts, d)
    cost = {"list": each, "bitmap": whole, "auto": torch.minimum(each, whole)}[index]
    return cost.masked_fill((counts == 0) | (counts == d), 0)


def pack(values: np.ndarray, widths: np.ndarray | int) -> np.ndarray:
    """Write unsigned integers (n,) in fields of the given widths (0..64 bits), one after the other."""
    numbers = np.asarray(values).astype(np.uint64)
    width = np.broadcast_to(np.asarray(widths, dtype=np.int64), numbers.shape)
    last = np.cumsum(width) - 1
    out = np.zeros(int(width.sum()), dtype=np.uint8)
    for j in range(int(width.max(initial=0))):
        wide = width > j
        out[last[wide] - j] = (numbers[wide] >> np.uint64(j)) & np.uint64(1)
    return out


def pack_floats(values: torch.Tensor) -> np.ndarray:
    """Write reals as IEEE float32, 32 bits each."""
    flat = values.detach().reshape(-1).to(device="cpu", dtype=torch.float32).numpy()
    return np.unpackbits(flat.astype(">f4").view(np.uint8))


def pack_big(value: int, width: int) -> np.ndarray:
    """Write one integer of any size in ``width`` bits."""
    if width == 0:
        return np.zeros(0, dtype=np.uint8)
    whole = np.unpackbits(np.frombuffer(value.to_bytes((width + 7) // 8, "big"), dtype=np.uint8))
    return whole[len(whole) - width :]


class BitReader:
    """Reads back what the ``pack`` functions wrote. Example: ``BitReader(data).fixed(10, 3)``."""

    def __init__(self, data: bytes) -> None:
        self.bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))
        self._raw = self.bits.tobytes()
        self.position = 0

    def take(self, count: int) -> np.ndarray:
        """The next ``count`` bits; ValueError when the message is shorter than its meta says."""
        if self.position + count > len(self.bits):
            raise ValueError(
                f"the message ends after {len(self.bits)} bits, but {self.position + count} are needed: "
                "it was cut short, or decoded with the meta of another message."
            )
        out = self.bits[self.position : self.position + count]
        self.position += count
        return out

    def fixed(self, count: int, width: int) -> np.ndarray:
        """``count`` unsigned integers of ``width`` bits each, as int64 (count,)."""
        if width == 0:
            return np.zeros(count, dtype=np.int64)
        weights = 1 << np.arange(width - 1, -1, -1, dtype=np.int64)
        return self.take(count * width).reshape(count, width).astype(np.int64) @ weights

    def floats(self, count: int) -> np.ndarray:
        """``count`` reals, as float32 (count,)."""
        return np.packbits(self.take(count * FLOAT_BITS)).view(">f4").astype(np.float32)

    def big(self, width: int) -> int:
        """One integer of ``width`` bits, of any size."""
        bits = self.take(width)
        return int.from_bytes(np.packbits(np.concatenate([np.zeros(-width % 8, np.uint8), bits])).tobytes(), "big")

    def bit(self) -> int:
        return int(self.take(1)[0])

    def gamma(self) -> int:
        """One Elias gamma number >= 1: L zeros, then L + 1 binary digits that start with a 1."""
        zeros = self._raw.find(b"\x01", self.position) - self.position
        if zeros < 0:
            raise ValueError("the message ends inside an Elias code: it was cut short or has another coding.")
        self.position += zeros
        return self.big(zeros + 1)


def subset_rank(indices: np.ndarray, d: int) -> int:
    """Rank of an ascending k-subset c of range(d), combinatorial number system: sum_i C(c_i, i), i = 1..k."""
    members, rank = set(indices.tolist()), 0
    i, c = len(members), d - 1
    choose = comb(c, i) if i else 0
    while i > 0:
        if c in members:
            rank += choose
            choose = choose * i // c if c else 0
            i -= 1
        else:
            choose = choose * (c - i) // c
        c -= 1
    return rank


def subset_unrank(rank: int, d: int, k: int) -> np.ndarray:
    """Inverse of :func:`subset_rank`: the ascending subset (k,) with that rank."""
    found: list[int] = []
    i, c = k, d - 1
    choose = comb(c, i) if i else 0
    while i > 0:
        if choose <= rank:
            found.append(c)
            rank -= choose
            choose = choose * i // c if c else 0
            i -= 1
        else:
            choose = choose * (c - i) // c
        c -= 1
    return np.array(found[::-1], dtype=np.int64)


def pack_subset(indices: np.ndarray, d: int, code: str) -> np.ndarray:
    """Write a set of positions with a resolved code; "bitmap" and "enum" need them ascending."""
    k = len(indices)
    if code == "none":
        return np.zeros(0, dtype=np.uint8)
    if code == "list":
        return pack(indices, ceil_log2(d))
    if code == "bitmap":
        bitmap = np.zeros(d, dtype=np.uint8)
        bitmap[indices] = 1
        return bitmap
    return pack_big(subset_rank(indices, d), enum_bits(d, k))


def unpack_subset(reader: BitReader, d: int, k: int, code: str) -> np.ndarray:
    """Read back what :func:`pack_subset` wrote (codes "list", "bitmap", "enum")."""
    if code == "list":
        return reader.fixed(k, ceil_log2(d))
    if code == "bitmap":
        return cast(np.ndarray, np.flatnonzero(reader.take(d)))
    return subset_unrank(reader.big(enum_bits(d, k)), d, k)
