"""Clients' samples in one place: what stacked passes read.

All samples lie once in one tensor `flat` (R, p), client after client. Clients of like size are padded to the
same number of rows (zero rows of weight zero), so that a group of them is a stacked view (k, N, p); with
equal sizes there is one group and no padding. A full pass goes through blocks of about 1 MB, so that scores
and gradient read the data once.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from octolab.batches import Batch
from octolab.data.arrays import labels as given_labels
from octolab.data.arrays import numbers
from octolab.problems.problem import Clients

BLOCK = 3 * 2**18  # bytes of data that one pass should touch at a time: the second look at them is in the L2 cache


Share = float | torch.Tensor
"""The weight of a sample in its client's mean: one number if all count alike, or (k, N)."""


class Part(NamedTuple):
    """Some of a cohort's clients: their places in it (None: all), rows (k, N, p), labels (k, N), shares (k, N)."""

    at: slice | torch.Tensor | np.ndarray | None
    rows: torch.Tensor
    y: torch.Tensor
    share: Share


class Samples:
    """Rows `flat` (R, p) and labels `flat_y` (R,) of n clients; `first` (n,): each one's first row; sizes (n,).

    arrays: n arrays (m_i, p); targets: n arrays (m_i,), whole numbers or real ones. ones: append a column of ones.
    """

    def __init__(self, arrays: Sequence[np.ndarray], targets: Sequence[np.ndarray], dtype: torch.dtype, ones: bool):
        self.n, self.p, self.dtype = len(arrays), arrays[0].shape[1] + ones, dtype
        self.sizes = np.array([len(a) for a in arrays], dtype=np.int64)
        self._place()
        self.flat = torch.zeros(self.held, self.p, dtype=dtype)
        whole = all(t.dtype.kind in "iu" for t in targets)
        self.flat_y = torch.zeros(self.held, dtype=torch.int64 if whole else dtype)
        for first, a, y in zip(self.first.tolist(), arrays, targets, strict=True):
            self.flat[first : first + len(a), : a.shape[1]] = torch.from_numpy(np.ascontiguousarray(a))
            self.flat_y[first : first + len(a)] = torch.from_numpy(y)
            if ones:
                self.flat[first : first + len(a), -1] = 1

    def _place(self) -> None:
        """Group clients so that padding at most doubles the rows."""
        most = int(self.sizes.max())
        if self.n * most <= 2 * self.sizes.sum():
            self._members = [(np.arange(self.n), most)]
        else:
            order, self._members, at = np.argsort(-self.sizes, kind="stable"), [], 0
            while at < self.n:
                rows = int(self.sizes[order[at]])
                stop = at + int((self.sizes[order[at:]] * 2 >= rows).sum())
                self._members.append((order[at:stop], rows))
                at = stop
        first, self.held = np.empty(self.n, dtype=np.int64), 0
        self._group, self._slot = np.empty(self.n, dtype=np.int64), np.empty(self.n, dtype=np.int64)
        for g, (clients, rows) in enumerate(self._members):
            self._group[clients], self._slot[clients] = g, np.arange(len(clients))
            first[clients] = self.held + rows * np.arange(len(clients))
            self.held += rows * len(clients)
        self.first = torch.from_numpy(first)

    @cached_property
    def groups(self) -> list[Part]:
        groups, at = [], 0
        for clients, rows in self._members:
            stop, sizes = at + rows * len(clients), self.sizes[clients, None]
            if (sizes == rows).all():
                share: Share = 1 / rows
            else:
                share = torch.from_numpy((np.arange(rows) < sizes) / sizes).to(self.dtype)
            shape = (len(clients), rows)
            groups.append(Part(clients, self.flat[at:stop].view(*shape, -1), self.flat_y[at:stop].view(shape), share))
            at = stop
        return groups

    def parts(self, clients: Clients, batch: Batch | None) -> list[Part]:
        """What a pass over `clients` reads: a batch, or all their samples, cut into blocks."""
        if batch is not None and batch.index is not None:
            return [self._drawn(clients, batch)]
        if len(self.groups) == 1:
            if clients is None or (isinstance(clients, slice) and clients.start == 0 and clients.stop == self.n):
                return self._everybody
            _, rows, y, share = self.groups[0]
            share = share if isinstance(share, float) else share[clients]
            return self._blocks(Part(None, rows[clients], y[clients], share))
        ids = np.arange(self.n)[clients.numpy() if isinstance(clients, torch.Tensor) else clients or slice(None)]
        parts = []
        for g, group in enumerate(self.groups):
            at = np.flatnonzero(self._group[ids] == g)
            if len(at):
                slots = torch.from_numpy(self._slot[ids[at]])
                share = group.share if isinstance(group.share, float) else group.share[slots]
                part = Part(None, group.rows[slots], group.y[slots], share)
                parts += _cut(part, at, self._block(group.rows))
        return parts

    @cached_property
    def _everybody(self) -> list[Part]:
        """The blocks of a pass over all clients, where they form one group."""
        return self._blocks(self.groups[0]._replace(at=None))

    def _blocks(self, part: Part) -> list[Part]:
        size = self._block(part.rows)
        whole = len(part.rows) <= size + size // 2  # a little more than one block is not worth two
        return [part] if whole else _cut(part, np.arange(len(part.rows)), size)

    def _block(self, rows: torch.Tensor) -> int:
        """Clients per block."""
        return max(1, BLOCK // (rows.shape[1] * self.p * self.dtype.itemsize))

    def _drawn(self, clients: Clients, batch: Batch) -> Part:
        first = self.first if clients is None else self.first[clients]
        assert batch.index is not None
        shape, index = batch.index.shape, (batch.index + first[:, None]).reshape(-1)
        share: Share = 1 / shape[1]
        if batch.mask is not None:
            share = batch.mask / batch.mask.sum(1, keepdim=True).clamp(min=1).to(self.dtype)
        rows, y = self.flat.index_select(0, index), self.flat_y.index_select(0, index)
        return Part(None, rows.view(*shape, self.p), y.view(shape), share)

    def pool(self, weights: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """All samples as one client's, in blocks of rows (1, R', p), labels and weights w_i/N_i (1, R')."""
        each = torch.zeros(self.held, dtype=torch.float64)
        for first, size, w in zip(self.first.tolist(), self.sizes.tolist(), weights.tolist(), strict=True):
            each[first : first + size] = w / size
        each, size = each.to(self.dtype), max(1, BLOCK // (self.p * self.dtype.itemsize))
        cuts = [slice(a, a + size) for a in range(0, self.held, size)]
        return [(self.flat[None, c], self.flat_y[None, c], each[None, c]) for c in cuts]

    def client(self, i: int) -> np.ndarray:
        """Client i's samples (N_i, p) in float64."""
        first = int(self.first[i])
        return self.flat[first : first + int(self.sizes[i])].double().numpy()

    def rows_of(self, clients: Sequence[int]) -> torch.Tensor:
        """Where the samples of these clients lie in `flat`."""
        spans = [torch.arange(int(self.sizes[c])) + int(self.first[c]) for c in clients]
        return torch.cat(spans) if spans else torch.zeros(0, dtype=torch.int64)

    def twin(self) -> Samples:
        """The same samples, with nothing remembered that was computed of them."""
        twin = copy.copy(self)
        for cached in ("groups", "_everybody"):
            twin.__dict__.pop(cached, None)
        return twin

    def to(self, dtype: torch.dtype) -> Samples:
        twin = self.twin()
        twin.dtype, twin.flat = dtype, self.flat.to(dtype)
        if self.flat_y.is_floating_point():
            twin.flat_y = self.flat_y.to(dtype)
        return twin


def _cut(part: Part, at: np.ndarray, size: int) -> list[Part]:
    """Blocks of `size` clients; at: their places in the cohort."""
    consecutive, parts = bool((np.diff(at) == 1).all()), []
    for a in range(0, len(at), size):
        b = min(a + size, len(at))
        place = slice(int(at[a]), int(at[b - 1]) + 1) if consecutive else torch.from_numpy(at[a:b])
        share = part.share if isinstance(part.share, float) else part.share[a:b]
        parts.append(Part(place, part.rows[a:b], part.y[a:b], share))
    return parts


def check_samples(
    features: Sequence[ArrayLike], labels: Sequence[ArrayLike], whole: bool = True
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The clients' arrays (m_i, p) and labels (m_i,), whole numbers or real targets; ValueError, in words, for what does
    not fit. Labels (m_i, 1) are taken as (m_i,).
    """
    if len(features) == 0 or len(features) != len(labels):
        given = f"features has {len(features)} clients and labels {len(labels)}"
        raise ValueError(f"{given}: give one array per client each.")
    arrays = [numbers(a, f"Client {i}: the features") for i, a in enumerate(features)]
    read = classes if whole else floats
    targets = [read(y, f"Client {i}: labels") for i, y in enumerate(labels)]
    p = arrays[0].shape[1] if arrays[0].ndim == 2 else "p"
    for i, (a, y) in enumerate(zip(arrays, targets, strict=True)):
        if a.ndim != 2 or a.shape[1] != p or y.shape != a.shape[:1]:
            given = f"Client {i}: features {a.shape} and labels {y.shape}"
            hint = " If the labels are one-hot rows, give labels.argmax(1)." if y.ndim == 2 else ""
            raise ValueError(f"{given} do not fit; give (m_i, {p}) and (m_i,).{hint}")
        if len(a) == 0:
            raise ValueError(f"Client {i} has no samples: leave it out, or use a split that gives all some.")
    return arrays, targets


def classes(given: ArrayLike, what: str) -> np.ndarray:
    """Labels (m,) as int64 class numbers; ValueError where they are no whole numbers."""
    y = real(given, what)
    if y.dtype.kind == "f" and not (y == np.round(y)).all():
        raise ValueError(f"{what} are {np.unique(y)[:5].tolist()}; classes are whole numbers.")
    return y.astype(np.int64)


def floats(given: ArrayLike, what: str) -> np.ndarray:
    """Real targets (m,) as float64."""
    return real(given, what).astype(np.float64)


def real(given: ArrayLike, what: str) -> np.ndarray:
    """Targets (m,) or (m, 1) as numbers (m,)."""
    y = given_labels(given, what)
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
