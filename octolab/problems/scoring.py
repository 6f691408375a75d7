"""Held-out samples: which client owns each, and how well models do on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from octolab.data.arrays import check_alike, labels, numbers
from octolab.metrics import Scored

Pair = tuple[ArrayLike, ArrayLike]
Hits = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
Training = tuple[torch.Tensor, torch.Tensor]
AT_ONCE = 2**20
"""Numbers of several clients' test samples that are held side by side."""


class TestPart:
    """Test samples of several clients in one tensor each: X (N, ...), Y (N, ...), owner (N,).

    hits(x, X, Y) gives the share of right answers for each sample, float64: (N,) for one model x (d,) and X (N, ...);
    (k, N) for models (k, d), each with samples of its own, X (k, N, ...).
    """

    __test__ = False  # pytest: not a test

    def __init__(self, pairs: Sequence[Pair], kind: torch.dtype | None, training: Training | None = None):
        """pairs: one (features, labels) per client. kind: dtype of the features; None keeps whole numbers. training:
        features and labels to be compared with. ValueError, in words, for what does not fit.
        """
        form = None if training is None else Form.of(*training)
        held = [checked_pair(pair, i, form) for i, pair in enumerate(pairs)]
        if not held:
            raise ValueError("test holds no pair: give one (features, labels) per client, or leave it out.")
        X = np.concatenate([x for x, y in held if len(y)] or [held[0][0]])
        if training is not None:
            check_alike(training[0].numpy(), X, "The test features")
        self.X = torch.from_numpy(X).to(torch.int64 if kind is None else kind)
        self.Y = torch.from_numpy(np.concatenate([y for _, y in held if len(y)] or [held[0][1]]))
        self.n = len(held)
        self.counts = torch.tensor([len(y) for _, y in held])
        self.owner = torch.arange(self.n).repeat_interleave(self.counts)

    def check_clients(self, n: int) -> None:
        """ValueError unless there is a part for each of n clients."""
        if self.n != n:
            raise ValueError(
                f"test holds {self.n} parts for {n} clients: give one (features, labels) per client, an empty one where there "
                "is none, or global_test=."
            )

    def check_labels(self, classes: int) -> None:
        """ValueError unless all labels are class numbers 0..classes-1."""
        check_range(self.Y, classes, "The test labels")

    def __len__(self) -> int:
        return len(self.Y)

    def to(self, dtype: torch.dtype) -> TestPart:
        twin = object.__new__(TestPart)
        twin.__dict__.update(self.__dict__, X=self.X.to(dtype))
        return twin

    def accuracy(self, x: torch.Tensor, hits: Hits) -> dict[str, float]:
        """{"accuracy": over all samples}; empty if there are none."""
        return {"accuracy": float(hits(x, self.X, self.Y).mean())} if len(self) else {}

    def errors(self, x: torch.Tensor, predict: Hits) -> dict[str, float]:
        """{"mse", "mae", "r2"} over all samples, predict(x, X, Y) being as Y is; empty if there are none, r2 left out
        where the targets do not vary. Of several outputs: the mean over them.
        """
        if not len(self):
            return {}
        truth = self.Y.double()
        residual = predict(x, self.X, self.Y).double().view(truth.shape) - truth
        spread = (truth - truth.mean(0)).square().sum(0)
        out = {"mse": float(residual.square().mean()), "mae": float(residual.abs().mean())}
        if bool((spread > 0).all()):
            out["r2"] = float((1 - residual.square().sum(0) / spread).mean())
        return out

    def scored(self, x: torch.Tensor, outputs: Hits) -> Scored | None:
        """All samples with what outputs(x, X, Y) says of them: (N,), (N, C), or of text one row per position. None: empty."""
        if not len(self):
            return None
        said, labels, owner = outputs(x, self.X, self.Y), self.Y, self.owner
        if labels.dim() > 1 and said.dim() == labels.dim() + 1:  # text: every position is a sample
            owner = owner.repeat_interleave(labels[0].numel())
            said, labels = said.flatten(0, -2), labels.flatten()
        if said.shape[-1:] == (1,) and said.dim() == labels.dim() + 1:
            said = said[..., 0]
        return Scored(labels.numpy(), said.double().numpy(), owner.numpy(), self.n)

    def by_client(self, x: torch.Tensor, ids: torch.Tensor, hits: Hits) -> np.ndarray:
        """Mean of `hits` (m,) of clients ids on their own samples, NaN where there are none. x: (d,) or personal (m, d)."""
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


class Form(NamedTuple):
    """What a training sample and its label look like: their shapes, and whether labels are real numbers."""

    x: tuple[int, ...]
    y: tuple[int, ...]
    real: bool

    @classmethod
    def of(cls, X: torch.Tensor, Y: torch.Tensor) -> Form:
        return cls(tuple(X.shape[1:]), tuple(Y.shape[1:]), Y.is_floating_point())


def checked_pair(pair: Pair, client: int, form: Form | None) -> tuple[np.ndarray, np.ndarray]:
    """One client's test features and labels as arrays, equally long and of the training samples' shape."""
    try:
        features, targets = pair
    except (TypeError, ValueError):
        raise ValueError(
            f"test part {client} is {type(pair).__name__}: give a pair (features, labels) of arrays per client."
        ) from None
    what = f"Test part {client}"
    x, y = numbers(features, f"{what}: the features"), labels(targets, f"{what}: labels")
    if form is not None and {y.shape[1:], form.y} == {(), (1,)}:  # (m,) and (m, 1) mean the same
        y = y.reshape(len(y), *form.y)
    if x.ndim < 1 or y.ndim < 1 or len(x) != len(y):
        raise ValueError(
            f"{what}: features {x.shape} and labels {y.shape} are not equally many; give one label per sample."
        )
    if form is not None and len(y) and (x.shape[1:], y.shape[1:]) != (form.x, form.y):
        raise ValueError(
            f"{what}: a sample has shape {x.shape[1:]} and its label {y.shape[1:]}; in training they have {form.x} and "
            f"{form.y}. Both must be alike."
        )
    if form is not None and not form.real and y.dtype.kind == "f":
        if not (y == np.round(y)).all():
            raise ValueError(f"{what}: labels are {np.unique(y)[:5].tolist()}; in training they are whole numbers.")
        y = y.astype(np.int64)
    real = y.dtype.kind == "f" or (form is not None and form.real)
    return x, y.astype(np.float64) if real else y.astype(np.int64)


def check_range(y: torch.Tensor, classes: int, what: str) -> None:
    """ValueError unless y holds class numbers 0..classes-1; a one-hot row per sample is named as such."""
    if not y.numel():
        return
    low, top = y.min().item(), y.max().item()
    if y.is_floating_point() or low < 0 or top >= classes:
        raise ValueError(f"{what} run from {low} to {top}: {classes} scores need class numbers 0..{classes - 1}.")
