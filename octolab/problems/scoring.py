"""Held-out samples: which client owns each, and how well models do on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

Pair = tuple[np.ndarray, np.ndarray]
Hits = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class TestPart:
    """Test samples of several clients in one tensor each: X (N, ...), Y (N, ...), owner (N,).

    hits(x, X, Y) gives the share of right answers for each sample, (N,) float64.
    """

    __test__ = False  # pytest: not a test

    def __init__(self, pairs: Sequence[Pair], kind: torch.dtype | None):
        """pairs: one (features, labels) per client. kind: dtype of the features; None keeps whole numbers."""
        held = [(np.asarray(x), np.asarray(y)) for x, y in pairs]
        X = np.concatenate([x for x, y in held if len(y)] or [held[0][0]])
        self.X = torch.from_numpy(X).to(torch.int64 if kind is None else kind)
        self.Y = torch.from_numpy(np.concatenate([y for _, y in held if len(y)] or [held[0][1]]))
        self.n = len(held)
        self.owner = torch.arange(self.n).repeat_interleave(torch.tensor([len(y) for _, y in held]))

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
        """Accuracy (m,) of clients ids on their own samples, NaN where there are none. x: (d,) or personal
        (m, d).
        """
        if x.dim() == 1:
            right, count = (
                torch.zeros(self.n, dtype=torch.float64),
                torch.bincount(self.owner, minlength=self.n),
            )
            if len(self):
                right.index_add_(0, self.owner, hits(x, self.X, self.Y))
            return (right / count)[ids].numpy()
        out, stop = np.full(len(ids), np.nan), torch.bincount(self.owner, minlength=self.n).cumsum(0).tolist()
        for k, i in enumerate(ids.tolist()):
            mine = slice(stop[i - 1] if i else 0, stop[i])
            if mine.stop > mine.start:
                out[k] = float(hits(x[k], self.X[mine], self.Y[mine]).mean())
        return out
