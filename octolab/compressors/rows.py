"""Compressors that give every client its own share: TopK with k per row, and rules that choose it from a link's budget.

RowTopK(k)                 k[i] entries of row i, as the server said
BalancedTopK(free)         the k that captures most energy per second
FittedTopKQSGD(budget)     k and the number of bits together, within a budget of bits
LayerTopK(budget, sizes)   a budget of bits divided among the layers (exact knapsack)

They hold one number per row, so a client function makes them afresh: they are no part of a spec or of the catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from octolab.compressors.compressor import Compressor
from octolab.compressors.knapsack import knapsack
from octolab.compressors.selection import energies, largest_each, row_norms, row_sums
from octolab.payloads import FLOAT_BITS, Payload, Ragged
from octolab.payloads.bitstream import ceil_log2, index_bits_each
from octolab.payloads.ragged import WIDTH_BITS
from octolab.randomness import Draws

LEVELS = (1, 3, 7, 15, 127)
"""QSGD levels s that `FittedTopKQSGD` tries beside reals: 2, 3, 4, 5 and 8 bits a value."""
SHARES = (0.01, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Shares of a layer that `LayerTopK` chooses from (Kimad+)."""


def topk_bits(d: int, index: str = "auto", value_bits: int = FLOAT_BITS) -> np.ndarray:
    """(d,) bits of k values and their positions, k = 1..d."""
    k = torch.arange(1, d + 1)
    return (value_bits * k + index_bits_each(index, d, k)).numpy()


def k_within(budget: Any, d: int, index: str = "auto") -> np.ndarray:
    """The largest k whose message fits `budget` bits (any shape), 0 if none does, d where dense fits.

    >>> k_within([33, 90, 3200], 100)
    array([  0,   2, 100])
    """
    if index not in ("auto", "list", "bitmap", "none"):
        raise ValueError(f"k_within: index={index!r}: choose one of 'auto', 'list', 'bitmap', 'none'.")
    room = np.asarray(budget, dtype=np.float64) * (
        1 + 1e-12
    )  # what the server computed as tau * speed may be an ulp less
    listed = np.floor(np.minimum(room, FLOAT_BITS * d) / (FLOAT_BITS + (0 if index == "none" else ceil_log2(d))))
    mapped = np.floor((np.minimum(room, FLOAT_BITS * d) - d) / FLOAT_BITS)
    k = {"auto": np.maximum(listed, mapped), "bitmap": mapped}.get(index, listed)
    return np.where(room >= FLOAT_BITS * d, d, np.clip(k, 0, d - 1)).astype(np.int64)


def dense_if_cheaper(k: Tensor, d: int, index: str = "auto") -> Tensor:
    """k, or d where k values and positions cost no less than all d values."""
    return torch.where(FLOAT_BITS * k + index_bits_each(index, d, k) >= FLOAT_BITS * d, d, k)


@dataclass(frozen=True, repr=False, eq=False)
class RowTopK(Compressor):
    """TopK with its own k for every row; where a message would cost no less than a dense one, everything is sent.

    k: (m,) counts, cut to 1..d. told: the receiver assigned them and knows them; else each travels in front.
    """

    k: Tensor
    told: bool = True
    index: str = "auto"

    deterministic = True
    homogeneous = True

    def compress(self, x: Tensor, draws: Draws) -> Payload:
        d = x.shape[1]
        return _message(x, largest_each(x, dense_if_cheaper(self.k.clamp(1, d), d, self.index)), self.told, self.index)

    def alpha(self, d: int) -> float:
        return int(dense_if_cheaper(self.k.clamp(1, d), d, self.index).min()) / d

    def bits(self, d: int) -> int | None:
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__} for {len(self.k)} clients"


@dataclass(frozen=True, repr=False, eq=False)
class BalancedTopK(Compressor):
    """TopK with the k that captures most energy per second, for each row: max E_k/(free + bits(k)), ties to the least k.

    With seconds = fixed + bits/speed this is E_k/seconds: free = fixed * speed, (m,), the bits that the link could have
    carried while nothing was sent (inf: a link without limit, which captures everything). low: the least k, so that
    alpha >= low/d. The k travels in front of the message.
    """

    free: Tensor
    low: int = 1

    deterministic = True
    homogeneous = True

    def compress(self, x: Tensor, draws: Draws) -> Payload:
        d = x.shape[1]
        free = self.free.cpu().numpy().astype(np.float64)[:, None]
        seconds = np.where(np.isinf(free), 1.0, np.where(np.isinf(free), 0.0, free) + topk_bits(d))
        gain = energies(x)[:, self.low - 1 :] / seconds[:, self.low - 1 :]
        k = torch.from_numpy(gain.argmax(axis=1)) + self.low
        return RowTopK(k, told=False).compress(x, draws)

    def alpha(self, d: int) -> float:
        return min(self.low, d) / d

    def bits(self, d: int) -> int | None:
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__} for {len(self.free)} clients"


def best_pairs(energy: np.ndarray, budget: Any, header: int = 0, low: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(k, s) with the largest E_k/(1 + omega(k, s)) among those whose message fits; s = 0: reals. Ties: reals, least k.

    energy: (m, d), see `energies`; budget: (m,) bits; header: bits that come on top. `low` values as reals always count
    as fitting, so that something is sent.
    """
    m, d = energy.shape
    room = np.broadcast_to(np.asarray(budget, dtype=np.float64), (m,))[:, None] - header
    rows, counts = np.arange(m), np.arange(1, d + 1)
    fits = (topk_bits(d) <= room) | (counts == min(low, d))
    k = np.where(fits, energy, -1.0).argmax(axis=1)
    best, levels = energy[rows, k], np.zeros(m, dtype=np.int64)
    for s in LEVELS:
        omega = np.minimum(counts / s**2, np.sqrt(counts) / s)
        fits = (FLOAT_BITS + topk_bits(d, value_bits=ceil_log2(2 * s + 1)) <= room) & (counts >= low)
        value = np.where(fits, energy / (1 + omega), -1.0)
        at = value.argmax(axis=1)
        better = value[rows, at] > best
        best, k, levels = (np.where(better, a, b) for a, b in ((value[rows, at], best), (at, k), (s, levels)))
    return k + 1, levels


@dataclass(frozen=True, repr=False, eq=False)
class FittedTopKQSGD(Compressor):
    """TopK, then QSGD divided by 1 + omega, with the pair (k, levels) that keeps most within a budget: `best_pairs`.

    budget: (m,) bits of a whole message. k and the width travel in front of it.
    """

    budget: Tensor
    low: int = 1

    homogeneous = True

    def compress(self, x: Tensor, draws: Draws) -> Payload:
        d = x.shape[1]
        header = ceil_log2(d + 1) + WIDTH_BITS
        k, levels = (torch.from_numpy(a) for a in best_pairs(energies(x), self.budget.cpu(), header, self.low))
        real = levels == 0
        k = torch.where(real, dense_if_cheaper(k, d), k)
        kept = largest_each(x, k)
        values = torch.where(kept, x, 0.0)
        s, count = levels.clamp(min=1).to(x.dtype)[:, None], k.to(x.dtype)[:, None]
        norm = row_norms(values, 2)
        omega = torch.minimum(count / s**2, count.sqrt() / s)
        steps = norm / (s * (1 + omega))
        level = torch.floor(values.abs() / torch.where(norm == 0, 1.0, norm) * s + draws.uniform(d).to(x.device)).to(
            x.dtype
        )
        quantised = torch.where(kept, values.sign() * torch.minimum(level, s) * steps, 0.0)
        values = torch.where(real[:, None], values, quantised)
        widths = torch.tensor([0, *(ceil_log2(2 * s + 1) for s in LEVELS)])[
            torch.searchsorted(torch.tensor([0, *LEVELS]), levels)
        ]
        whole = row_sums(x * x)
        alpha = _share(whole - row_sums((x - values) ** 2), whole)
        return Ragged(values, kept, widths=widths, steps=steps[:, 0], alpha=alpha)

    def alpha(self, d: int) -> float:
        return min(self.low, d) / d

    def bits(self, d: int) -> int | None:
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__} for {len(self.budget)} clients"


@dataclass(frozen=True, repr=False, eq=False)
class LayerTopK(Compressor):
    """TopK in every layer, the layers' shares (`SHARES`) chosen so that the squared error is least within a budget.

    budget: (m,) bits of a whole message; the cheapest shares where nothing fits. sizes: entries of each layer, in order.
    The counts travel in front. Kimad+ (Xin et al., arXiv 2312.08053).
    """

    budget: Tensor
    sizes: tuple[int, ...]

    deterministic = True
    homogeneous = True

    def options(self) -> np.ndarray:
        """(layers, options) counts that a layer may keep."""
        ks = [torch.tensor([max(1, round(share * d)) for share in SHARES]) for d in self.sizes]
        return np.stack([dense_if_cheaper(k, d).numpy() for k, d in zip(ks, self.sizes, strict=True)])

    def compress(self, x: Tensor, draws: Draws) -> Payload:
        parts, counts = x.split(list(self.sizes), dim=1), self.options()
        cost = np.stack([ceil_log2(d + 1) + topk_bits(d)[k - 1] for d, k in zip(self.sizes, counts, strict=True)])
        error = np.stack(
            [
                row_sums(p.double() ** 2).numpy() * (1 - energies(p)[:, k - 1])
                for p, k in zip(parts, counts, strict=True)
            ],
            axis=1,
        )
        chosen = knapsack(np.nan_to_num(error, nan=0.0, posinf=0.0), cost, self.budget.cpu().numpy())
        ks = np.take_along_axis(counts, chosen.T, axis=1)  # (layers, m)
        kept = torch.cat([largest_each(p, torch.from_numpy(k)) for p, k in zip(parts, ks, strict=True)], dim=1)
        return _message(x, kept, told=False, sizes=self.sizes)

    def alpha(self, d: int) -> float:
        return min(int(k.min()) / size for k, size in zip(self.options(), self.sizes, strict=True))

    def bits(self, d: int) -> int | None:
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__} for {len(self.budget)} clients, {len(self.sizes)} layers"


def _message(x: Tensor, kept: Tensor, told: bool, index: str = "auto", sizes: tuple[int, ...] | None = None) -> Ragged:
    values = torch.where(kept, x, 0.0)
    return Ragged(values, kept, index, sizes, told, alpha=_share(row_sums(values * values), row_sums(x * x)))


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """(m,) part/whole of two columns; 1 where there is nothing to share."""
    return torch.where(whole > 0, part / whole, 1.0)[:, 0]
