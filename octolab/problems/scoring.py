"""Held-out samples: which client owns each, and how well models do on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

Pair = tuple[np.ndarray, np.ndarray]
Hits = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
AT_ONCE = 2**20
"""Numbers of several clients' test samples that are held side by side."""


class TestPart:
    """Test samples of several clients in one tensor each: X (N, ...), Y (N, ...), owner (N,).

    hits(x, X, Y) gives the share of right answers for each sample, float64: (N,) for one model x (d,) and X (N, ...);
    (k, N) for models (k, d), each with samples of its own, X (k, N, ...).
    """

    __test__ = False  # pytest: not a test

    def __init__(self, pairs: Sequence[Pair], kind: torch.dtype | None):
        """pairs: one (features, labels) per client. kind: dtype of the features; None keeps whole numbers."""
        held = [(np.asarray(x), np.asarray(y)) for x, y in pairs]
        X = np.concatenate([x for x, y in held if len(y)] or [held[0][0]])
        self.X = torch.from_numpy(X).to(torch.int64 if kind is None else kind)
        self.Y = torch.from_numpy(np.concatenate([y for _, y in held if len(y)] or [held[0][1]]))
        self.n = len(held)
        self.counts = torch.tensor([len(y) for _, y in held])
        self.owner = torch.arange(self.n).repeat_interleave(self.counts)

    def __len__(self) -> int:
        return len(self.Y)

    def to(self, dtype: torch.dtype) -> TestPart:
        twin = object.__new__(TestPart)
        twin.__dict__.update(self.__dict__, X=self.X.to(dtype))
        return twin

    def accuracy(self, x: torch.Tensor, hits: Hits) -> dict[str, float]:
        """{"accuracy": over all samples}; empty if there are none."""
        return {"accuracy": float(hits(x, self.X, self.Y).mean())} if len(self) else {}

    def by_client(self, x: torch.Tensor, ids: torch.Tensor, hits: Hits) -> np.ndarray:
        """Accuracy (m,) of clients ids on their own samples, NaN where there are none. x: (d,) or personal (m, d)."""
        if x.dim() == 1:
            right = torch.zeros(self.n, dtype=torch.float64)
            if len(self):
                right.index_add_(0, self.owner, hits(x, self.X, self.Y))
            return (right / self.counts)[ids].numpy()
        out, held, first = torch.full((len(ids),), torch.nan, dtype=torch.float64), self.counts[ids], self._first[ids]
        for rows in self._blocks(held):
            place = torch.arange(int(held[rows[0]]))
            inside = place < held[rows][:, None]
            index = first[rows][:, None] + place * inside
            right = hits(x[rows], self.X[index], self.Y[index])
            out[rows] = (right * inside).sum(1) / held[rows]
        return out.numpy()

    @property
    def _first(self) -> torch.Tensor:
        """(n,) where each client's samples begin."""
        return self.counts.cumsum(0) - self.counts

    def _blocks(self, held: torch.Tensor) -> Iterator[torch.Tensor]:
        """Rows of clients with samples, the largest first: alike in size (at most twice the smallest) and few at a time."""
        order = held.argsort(descending=True, stable=True)
        sizes, at, most = held[order].tolist(), 0, max(1, AT_ONCE // max(1, self.X[0].numel()) if len(self) else 1)
        while at < len(sizes) and sizes[at] > 0:
            stop = min(len(sizes), at + max(1, most // sizes[at]))
            while sizes[stop - 1] * 2 < sizes[at]:
                stop -= 1
            yield order[at:stop]
            at = stop
