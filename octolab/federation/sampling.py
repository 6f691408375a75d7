"""Who takes part in a round: samplers, and the probabilities with which they choose.

A sampler turns the server's addressed draws into client numbers. `probabilities(n)` are the inclusion probabilities
that unbiased estimators divide by. Clients come out in ascending order (repeated if drawn with replacement).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from octolab.federation.randomness import Randomness


def _subset(source: Randomness, event: int, n: int, m: int, purpose: str = "cohort") -> np.ndarray:
    """m distinct of n clients, ascending: the first m distinct of an independent sequence, or of a permutation."""
    if 4 * m <= n:
        drawn = source.server(purpose, event, 2 * m + 16) * n
        distinct = list(dict.fromkeys(drawn.astype(np.int64).tolist()))[:m]
        if len(distinct) == m:
            return np.sort(np.array(distinct, dtype=np.int64))
    order = source.server(f"{purpose}/all", event, n).argsort(kind="stable")
    return np.sort(order[:m])


class Sampler:
    """The base of all samplers."""

    def draw(self, n: int, source: Randomness, event: int) -> np.ndarray:
        raise NotImplementedError

    def probabilities(self, n: int) -> np.ndarray:
        raise NotImplementedError

    def check(self, n: int) -> None:
        """Raise a ValueError, before the run starts, if this sampler cannot serve n clients."""


@dataclass(frozen=True)
class Full(Sampler):
    """Everybody, always."""

    def draw(self, n: int, source: Randomness, event: int) -> np.ndarray:
        return np.arange(n)

    def probabilities(self, n: int) -> np.ndarray:
        return np.ones(n)


@dataclass(frozen=True)
class Nice(Sampler):
    """m clients, uniformly without replacement ("tau-nice"). p_i = m/n. A float in (0, 1) is a share of n."""

    m: int | float

    def __post_init__(self) -> None:
        share = isinstance(self.m, float) and not self.m.is_integer()
        if isinstance(self.m, bool) or self.m <= 0 or (share and self.m >= 1):
            raise ValueError(f"cohort={self.m!r}: a cohort is a whole number >= 1 or a share of the clients in (0, 1).")

    def size(self, n: int) -> int:
        return max(1, round(self.m * n)) if 0 < self.m < 1 else int(self.m)

    def check(self, n: int) -> None:
        if self.size(n) > n:
            raise ValueError(f"cohort={self.m}: there are only {n} clients. Choose a cohort of 1 to {n}.")

    def draw(self, n: int, source: Randomness, event: int) -> np.ndarray:
        self.check(n)
        m = self.size(n)
        return np.arange(n) if m == n else _subset(source, event, n, m)

    def probabilities(self, n: int) -> np.ndarray:
        return np.full(n, self.size(n) / n)


@dataclass(frozen=True)
class Poisson(Sampler):
    """Every client by its own coin with probability p (one number, or one per client). May be empty."""

    p: Any

    def __post_init__(self) -> None:
        p = np.asarray(self.p, dtype=float)
        if not ((p > 0) & (p <= 1)).all():
            raise ValueError(f"p={self.p!r}: participation probabilities lie in (0, 1].")

    def check(self, n: int) -> None:
        if np.ndim(self.p) and len(self.p) != n:
            raise ValueError(f"p has {len(self.p)} entries: there are {n} clients. Give one probability, or {n}.")

    def draw(self, n: int, source: Randomness, event: int) -> np.ndarray:
        return np.flatnonzero(source.cohort(event, n) < self.p)

    def probabilities(self, n: int) -> np.ndarray:
        return np.broadcast_to(np.asarray(self.p, dtype=float), (n,)).copy()


@dataclass(frozen=True)
class Importance(Sampler):
    """m draws with replacement, client i with probability q_i; a client may appear more than once."""

    q: Any
    m: int = 1

    def __post_init__(self) -> None:
        q = np.asarray(self.q, dtype=float)
        if q.ndim != 1 or (q < 0).any() or not np.isclose(q.sum(), 1):
            raise ValueError(f"q sums to {q.sum():.6g}: importance probabilities are >= 0 and sum to 1.")
        if self.m < 1:
            raise ValueError(f"m={self.m}: draw at least one client.")

    @cached_property
    def _cumulative(self) -> np.ndarray:
        return np.cumsum(np.asarray(self.q, dtype=float))

    def check(self, n: int) -> None:
        if len(self.q) != n:
            raise ValueError(f"q has {len(self.q)} entries: there are {n} clients.")

    def draw(self, n: int, source: Randomness, event: int) -> np.ndarray:
        u = source.cohort(event, self.m) * self._cumulative[-1]
        return np.sort(np.searchsorted(self._cumulative, u, side="right"))

    def probabilities(self, n: int) -> np.ndarray:
        return 1 - (1 - np.asarray(self.q, dtype=float)) ** self.m


@dataclass(frozen=True)
class Weighted(Importance):
    """m distinct clients drawn one after the other, client i with probability proportional to q_i among those left.

    Inclusion probabilities have no closed form: `probabilities` refuses, so biased estimators stay visible.
    """

    def check(self, n: int) -> None:
        super().check(n)
        if self.m > np.count_nonzero(self.q):
            raise ValueError(f"m={self.m}: only {np.count_nonzero(self.q)} clients have a positive weight.")

    def draw(self, n: int, source: Randomness, event: int) -> np.ndarray:
        chosen: np.ndarray = np.empty(0, dtype=np.int64)
        width = 2 * self.m + 16
        while len(chosen) < self.m:  # the first m distinct of an independent sequence
            u = source.cohort(event, width) * self._cumulative[-1]
            drawn = np.searchsorted(self._cumulative, u, side="right")
            _, first = np.unique(drawn, return_index=True)
            chosen = drawn[np.sort(first)]
            width *= 4
        return np.sort(chosen[: self.m])

    def probabilities(self, n: int) -> np.ndarray:
        raise ValueError("Weighted sampling without replacement has no closed inclusion probabilities: use Importance.")


def _blocks(blocks: Any, n: int) -> list[np.ndarray]:
    parts = [np.asarray(b, dtype=np.int64) for b in blocks]
    if sorted(np.concatenate(parts).tolist()) != list(range(n)):
        raise ValueError(f"blocks must hold each of the {n} clients exactly once.")
    return parts


@dataclass(frozen=True)
class Block(Sampler):
    """One of the given blocks, block j with probability q_j (default: equal)."""

    blocks: Any
    q: Any = None

    def _q(self) -> np.ndarray:
        return np.full(len(self.blocks), 1 / len(self.blocks)) if self.q is None else np.asarray(self.q, dtype=float)

    def check(self, n: int) -> None:
        _blocks(self.blocks, n)

    def draw(self, n: int, source: Randomness, event: int) -> np.ndarray:
        u = float(source.cohort(event, 1)[0])
        j = min(int(np.searchsorted(np.cumsum(self._q()), u, side="right")), len(self.blocks) - 1)
        return np.sort(np.asarray(self.blocks[j], dtype=np.int64))

    def probabilities(self, n: int) -> np.ndarray:
        p = np.empty(n)
        for block, q in zip(_blocks(self.blocks, n), self._q(), strict=True):
            p[block] = q
        return p


@dataclass(frozen=True)
class Stratified(Sampler):
    """One uniform client from each block. p_i = 1/|block of i|."""

    blocks: Any

    def check(self, n: int) -> None:
        _blocks(self.blocks, n)

    def draw(self, n: int, source: Randomness, event: int) -> np.ndarray:
        u = source.cohort(event, len(self.blocks))
        return np.sort([int(b[int(v * len(b))]) for b, v in zip(self.blocks, u, strict=True)])

    def probabilities(self, n: int) -> np.ndarray:
        p = np.empty(n)
        for block in _blocks(self.blocks, n):
            p[block] = 1 / len(block)
        return p


@dataclass(frozen=True)
class Cyclic(Sampler):
    """Fixed groups visited in order; in a group's turn, m of its clients uniformly (m=None: all of them)."""

    groups: Any
    m: int | None = None

    def check(self, n: int) -> None:
        smallest = min(len(g) for g in _blocks(self.groups, n))
        if self.m is not None and not 1 <= self.m <= smallest:
            raise ValueError(f"m={self.m}: the smallest group has {smallest} clients. Choose m in 1..{smallest}.")

    def draw(self, n: int, source: Randomness, event: int) -> np.ndarray:
        group = np.asarray(self.groups[event % len(self.groups)], dtype=np.int64)
        if self.m is None or self.m == len(group):
            return np.sort(group)
        return np.sort(group[_subset(source, event, len(group), self.m)])

    def probabilities(self, n: int) -> np.ndarray:
        """In its own turn; a client of another group has probability 0 then."""
        p = np.empty(n)
        for group in _blocks(self.groups, n):
            p[group] = 1.0 if self.m is None else self.m / len(group)
        return p


def as_sampler(cohort: Sampler | int | float | None) -> Sampler:
    """None: everybody. A whole number m: m clients, uniformly. A float in (0, 1): that share of the clients."""
    if cohort is None:
        return Full()
    if isinstance(cohort, Sampler):
        return cohort
    if isinstance(cohort, (int, float, np.integer)) and not isinstance(cohort, bool):
        return Nice(float(cohort) if isinstance(cohort, float) else int(cohort))
    raise ValueError(f"cohort={cohort!r}: give None (all), a number of clients, a share in (0, 1), or a Sampler.")
