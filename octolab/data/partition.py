"""A partition: which client holds which samples, and which of them it keeps for testing."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from octolab.data.dataset import Dataset, check_share
from octolab.faces import face

if TYPE_CHECKING:
    import plotly.graph_objects as go


class Transforms(Protocol):
    """What clients do to their features: `apply(client, x)` returns an array of x's shape (m, ...)."""

    def apply(self, client: int, x: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True, eq=False, repr=False)
class Partition:
    """The samples of a data set divided among n clients.

    Attributes:
        train, test: for each client the int64 indices of its samples; no index occurs twice.
        codes: (N,) or (N, T) int64 class codes of all N samples of the data set (zeros where there are no classes).
        classes: the classes' names; one code each.
        spec: JSON-able {"split": {...}, "n", "seed", "test_share"}; `split_from_spec(spec["split"])`
            rebuilds the split object, and the same data, n, seed and test_share give this partition again.
        notes: what a user should know about this draw, in sentences ("client 3 has a single class").
        client_names: the natural clients' names, empty if clients are only numbers.
        transforms: per-client changes of the features (FeatureShift), None for the others.
    """

    train: list[np.ndarray]
    test: list[np.ndarray]
    codes: np.ndarray
    classes: tuple[Hashable, ...]
    spec: dict[str, Any]
    notes: tuple[str, ...] = ()
    client_names: tuple[str, ...] = ()
    transforms: Transforms | None = None

    @property
    def n(self) -> int:
        """Number of clients."""
        return len(self.train)

    def __len__(self) -> int:
        return self.n

    @cached_property
    def train_sizes(self) -> np.ndarray:
        """(n,) int64: training samples of each client (the N_i of a weighted objective)."""
        return np.array([len(part) for part in self.train], np.int64)

    @cached_property
    def test_sizes(self) -> np.ndarray:
        """(n,) int64: test samples of each client."""
        return np.array([len(part) for part in self.test], np.int64)

    @property
    def sizes(self) -> np.ndarray:
        """(n,) int64: all samples of each client, train and test."""
        return self.train_sizes + self.test_sizes

    @cached_property
    def owners(self) -> np.ndarray:
        """(N,) int64: the client of each sample, -1 for a sample that was left out."""
        owners = np.full(len(self.codes), -1, np.int64)
        for parts, sizes in ((self.train, self.train_sizes), (self.test, self.test_sizes)):
            owners[np.concatenate(parts)] = np.repeat(np.arange(self.n), sizes)
        return owners

    def histogram(self, part: str = "all") -> np.ndarray:
        """(n, n_classes) int64: how often each class occurs at each client; `part` "all", "train" or "test".

        For text it counts the next characters.
        """
        if part not in ("all", "train", "test"):
            raise ValueError(f"part is {part!r}; allowed are 'all', 'train' and 'test'.")
        lists = {"all": (self.train, self.test), "train": (self.train,), "test": (self.test,)}[part]
        width = max(1, len(self.classes))
        counts = np.zeros(self.n * width, np.int64)
        for parts in lists:
            client = np.repeat(np.arange(self.n), [len(p) for p in parts])
            codes = self.codes[np.concatenate(parts)]
            flat = client.reshape(-1, *[1] * (codes.ndim - 1)) * width + codes
            counts += np.bincount(flat.ravel(), minlength=len(counts))
        return counts.reshape(self.n, width)

    def client(self, i: int, dataset: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Client i's (x_train, y_train, x_test, y_test) of `dataset`, its own change of the features applied.

        Raises IndexError if there is no client i, ValueError if the data set has another number of samples.
        """
        if not -self.n <= i < self.n:
            raise IndexError(f"There is no client {i}; this partition has clients 0 to {self.n - 1:,}.")
        i = int(i) % self.n
        if len(dataset) != len(self.codes):
            raise ValueError(
                f"{dataset.name} has {len(dataset):,} samples; this partition is of a data set with "
                f"{len(self.codes):,}. Give the data set that was split."
            )
        x_train, x_test = dataset.x[self.train[i]], dataset.x[self.test[i]]
        if self.transforms is not None:
            x_train, x_test = self.transforms.apply(i, x_train), self.transforms.apply(i, x_test)
        return x_train, dataset.y[self.train[i]], x_test, dataset.y[self.test[i]]

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over every client's train and test indices: two partitions are the same if these are."""
        digest = hashlib.sha256()
        for parts, sizes in ((self.train, self.train_sizes), (self.test, self.test_sizes)):
            digest.update(sizes.astype("<i8").tobytes())
            digest.update(np.concatenate(parts).astype("<i8").tobytes())
        return digest.hexdigest()

    def figure(self, part: str = "all") -> go.Figure:
        """A plotly figure: a stacked bar per client, a colour per class. ImportError without plotly."""
        figure: go.Figure = face("partition.figure")(self, part)
        return figure

    def plot(self, part: str = "all") -> go.Figure:
        """The old name of `figure`."""
        warnings.warn("partition.plot() is now partition.figure().", DeprecationWarning, stacklevel=2)
        return self.figure(part)

    def __repr__(self) -> str:
        from octolab.data.summary import text

        return text(self)

    def _repr_html_(self) -> str:
        return str(face("partition.html")(self))


def cut(
    owners: np.ndarray, n: int, test_share: float, rng: np.random.Generator
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Every client's samples in random order, divided into train and test.

    A client with s >= 2 samples keeps round(test_share * s) of them for testing, at least 1 (if test_share >
    0) and at most s - 1; a client with one sample trains on it. owners (N,) is the client of each sample, -1
    for none.
    """
    check_share(test_share, "test_share")
    order = rng.permutation(len(owners))
    narrow = owners[order].astype(np.int16 if n < 2**15 else np.int64)  # 16 bits: numpy sorts them by radix
    order = order[np.argsort(narrow, kind="stable")]
    sizes = np.bincount(owners[owners >= 0], minlength=n)
    stop = np.cumsum(sizes) + np.count_nonzero(owners < 0)
    wanted = np.maximum((test_share * sizes + 0.5).astype(np.int64), 1 if test_share > 0 else 0)
    middle = stop - np.minimum(wanted, np.maximum(sizes - 1, 0))
    start = stop - sizes
    train = [order[a:b] for a, b in zip(start.tolist(), middle.tolist(), strict=True)]
    test = [order[a:b] for a, b in zip(middle.tolist(), stop.tolist(), strict=True)]
    return train, test


def counted(ids: Sequence[int] | np.ndarray, n: int, what: str) -> str:
    """A note on some of n clients: "client 3 has ...", "clients 3 and 7 have ...", "40 of 100 ..."."""
    ids = [int(i) for i in ids]
    verb = "has" if len(ids) == 1 else "have"
    if len(ids) == 1:
        return f"client {ids[0]} {verb} {what}"
    if len(ids) <= 6:
        return f"clients {', '.join(map(str, ids[:-1]))} and {ids[-1]} {verb} {what}"
    return f"{len(ids):,} of {n:,} clients {verb} {what} (clients {', '.join(map(str, ids[:3]))}, ...)"
