"""Secure aggregation, simulated: a server that learns a sum and nothing else, as far as the arithmetic goes.

Every pair of clients shares a mask that one adds and the other subtracts, over whole numbers modulo 2^bits: all masks cancel
in the sum, and a single message is uniformly random (Bonawitz et al., CCS 2017). A client that drops out leaves its masks in
the sum; the seeds of its pairs are then put together from the shares that the others hold (Shamir), if enough of them report.

What this is not: all keys are drawn by one process that also holds the data, so that nothing is hidden from whoever runs it.
It shows the arithmetic, its exactness and its cost. It protects from no attacker among the clients, and a server that sees
sums alone can use no robust rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from octolab.errors import OctolabError
from octolab.params import param, settle
from octolab.randomness import Randomness

PRIME = 2**61 - 1
KEY_BITS = 256  # of a public key, or of a share of a seed as it is sent, encrypted for its holder


class TooFewReports(OctolabError, ValueError):
    """Fewer clients reported than the threshold: the masks of those who are gone cannot be taken out."""


@dataclass(frozen=True)
class SecureSum:
    """Masked sums of fixed-point numbers.

    bits: of each whole number. scale: what 1.0 becomes. threshold: how many have to report, at least; None: two thirds.
    A sum is exact in whole numbers: off by at most m/(2 scale) in every coordinate from the real one.
    """

    bits: int = param(32, "of each whole number", ge=2, le=62, main=True)
    scale: float = param(2.0**16, "what 1.0 becomes", gt=0, main=True)
    threshold: int | None = param(None, "least number of reports; None: two thirds of those asked", ge=1)

    def __post_init__(self) -> None:
        settle(self)

    def needed(self, m: int) -> int:
        return -(-2 * m // 3) if self.threshold is None else self.threshold

    def encode(self, rows: torch.Tensor, m: int | None = None) -> np.ndarray:
        """(r, d) whole numbers in [0, 2^bits). ValueError where m of them (None: r) could run over."""
        whole = np.rint(rows.detach().double().cpu().numpy() * self.scale)
        if not np.isfinite(whole).all() or float(np.abs(whole).max(initial=0.0)) * (m or len(whole)) >= 2.0 ** (
            self.bits - 1
        ):
            raise ValueError(
                f"SecureSum(bits={self.bits}, scale={self.scale:g}): {m or len(whole)} values up to "
                f"{float(rows.abs().max()):.3g} do not fit. Take more bits, a smaller scale, or clip."
            )
        return whole.astype(np.int64) & self._last

    def masked(
        self,
        rows: torch.Tensor,
        source: Randomness,
        event: int = 0,
        slots: Sequence[int] | None = None,
        m: int | None = None,
    ) -> np.ndarray:
        """(r, d) what the server receives of the clients `slots` (None: all) out of m: their numbers and all their masks."""
        m = len(rows) if m is None else m
        here = range(m) if slots is None else slots
        out = self.encode(rows, m)
        for row, i in enumerate(here):
            for j in range(m):
                if i != j:
                    mask = self.mask(source, event, min(i, j), max(i, j), m, out.shape[1])
                    out[row] = (out[row] + mask if i < j else out[row] - mask) & self._last
        return out

    def mask(self, source: Randomness, event: int, i: int, j: int, m: int, d: int) -> np.ndarray:
        """(d,) the mask of a pair i < j, from the seed that the two share."""
        seed = self._seed(source, event, i, j, m)
        return _stream(seed, d) & self._last

    def total(
        self,
        rows: torch.Tensor,
        source: Randomness,
        event: int = 0,
        slots: Sequence[int] | None = None,
        m: int | None = None,
    ) -> torch.Tensor:
        """(d,) the sum of the rows (r, d) of those who reported, from masked messages alone.

        slots: who they are among the m who were asked; None: all of them. TooFewReports if they are fewer than the threshold.
        """
        m = len(rows) if m is None else m
        here = list(range(m)) if slots is None else [int(i) for i in slots]
        if len(here) < self.needed(m):
            raise TooFewReports(
                f"{len(here)} of {m} clients reported, and {self.needed(m)} must: their masks cannot be taken out. Ask again, "
                f"or lower the threshold."
            )
        total = np.zeros(rows.shape[1], np.int64)
        for message in self.masked(rows, source, event, here, m):
            total = (total + message) & self._last
        holders = here[: self.needed(m)]
        for gone in sorted(set(range(m)) - set(here)):
            for i in here:
                seed = self._recovered(source, event, min(gone, i), max(gone, i), m, holders)
                mask = _stream(seed, len(total)) & self._last
                total = (total - mask if i < gone else total + mask) & self._last
        return self.decode(total).to(rows.dtype)

    def decode(self, total: np.ndarray) -> torch.Tensor:
        """(d,) reals of a sum: the upper half of the whole numbers is negative."""
        signed = np.where(total >= 2 ** (self.bits - 1), total - 2**self.bits, total)
        return torch.from_numpy(signed / self.scale)

    def traffic(self, m: int, d: int, dropped: int = 0) -> tuple[int, int]:
        """Bits that one client sends and receives in a sum over m: its numbers, keys, shares of its seeds for the others, and
        its shares of the seeds of those who dropped out."""
        keys = KEY_BITS + (m - 1) * KEY_BITS
        return self.bits * d + keys + dropped * KEY_BITS, 2 * (m - 1) * KEY_BITS

    @property
    def _last(self) -> int:
        return 2**self.bits - 1

    # -- seeds and their shares -----------------------------------------------------------------------------------------
    @staticmethod
    def _seed(source: Randomness, event: int, i: int, j: int, m: int) -> int:
        draw = source.uniform("secure/seed", [i * m + j], event, 1)
        return int(float(draw[0, 0]) * 2**53)

    def _recovered(self, source: Randomness, event: int, i: int, j: int, m: int, holders: list[int]) -> int:
        """A pair's seed from the shares of enough clients: the value at zero of the polynomial through them."""
        degree = self.needed(m) - 1
        draws = source.uniform("secure/shares", [i * m + j], event, max(1, degree))[0]
        terms = [self._seed(source, event, i, j, m), *(int(float(u) * 2**53) for u in draws[:degree])]
        points = [(h + 1, sum(c * pow(h + 1, k, PRIME) for k, c in enumerate(terms)) % PRIME) for h in holders]
        return interpolated(points)


def interpolated(points: Sequence[tuple[int, int]]) -> int:
    """The value at zero of the polynomial through the points, modulo PRIME (Shamir 1979).

    >>> interpolated([(1, 7), (2, 9)])
    5
    """
    total = 0
    for k, (x, y) in enumerate(points):
        above = below = 1
        for other, (z, _) in enumerate(points):
            if other != k:
                above, below = above * -z % PRIME, below * (x - z) % PRIME
        total = (total + y * above * pow(below, -1, PRIME)) % PRIME
    return total


def _stream(seed: int, d: int) -> np.ndarray:
    """(d,) whole numbers in [0, 2^63) from a seed."""
    bits = np.random.Philox(key=np.array([seed & (2**64 - 1), 0x5EC], dtype=np.uint64))
    return np.random.Generator(bits).integers(0, 2**63, d, dtype=np.uint64).astype(np.int64)
