"""What every split has in common: its arguments, its draw, its specification."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, fields
from typing import Any
from zlib import crc32

import numpy as np

from octolab.data.dataset import Dataset, check_count, check_share, encode_labels
from octolab.data.partition import Partition, Transforms, counted, cut
from octolab.data.targets import values_of
from octolab.faces import Shown


@dataclass(frozen=True)
class Samples:
    """What a split may look at: `codes` (N,) or (N, T) int64, `classes`, natural `clients` (N,) or None."""

    codes: np.ndarray
    classes: tuple[Hashable, ...]
    clients: np.ndarray | None
    client_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)

    def class_codes(self, split: str) -> np.ndarray:
        """The (N,) class codes; ValueError, in words, where samples have no single class."""
        if self.codes.ndim > 1:
            raise ValueError(
                f"{split} divides by label, and these samples have {self.codes.shape[1]} labels each "
                "(text). Use Natural(), IID() or QuantitySkew()."
            )
        if not self.classes:
            raise ValueError(
                f"{split} divides by class label, and these targets are numbers (a regression) or several labels "
                "each, no single one. Use IID(), QuantitySkew() or Natural(), or bin the targets into classes first."
            )
        return self.codes


@dataclass(frozen=True)
class Draft:
    """A split's decision: `owners` (N,) int64 (the client of each sample, -1: left out) of n clients."""

    owners: np.ndarray
    n: int
    notes: tuple[str, ...] = ()
    client_names: tuple[str, ...] = ()
    transforms: Transforms | None = field(default=None)


@dataclass(frozen=True)
class Split(Shown):
    """A rule that gives every sample to one client. Subclasses: frozen dataclasses that define `assign`."""

    def assign(self, samples: Samples, n: int | None, seed: int) -> Draft:
        """Decide which client gets which sample."""
        raise NotImplementedError(f"{type(self).__name__} does not define assign(samples, n, seed).")

    @property
    def spec(self) -> dict[str, Any]:
        """JSON-able {"kind": class name, field: value, ...}; `split_from_spec` rebuilds the split from it."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"kind": type(self).__name__} | {k: v.spec if isinstance(v, Split) else v for k, v in values.items()}

    def split(
        self,
        labels: Dataset | np.ndarray,
        n: int | None = None,
        seed: int = 0,
        clients: np.ndarray | None = None,
        test_share: float = 0.2,
    ) -> Partition:
        """Divide samples among n clients, and each client's samples into train and test.

        Args:
            labels: a Dataset, or the (N,) labels (integers, strings; floats that are not whole make a
                regression), or (N, T) integer labels of text.
            n: number of clients; Natural() and FromPartitioner() may leave it out.
            seed: the same labels, n, seed and test_share give the same partition. Which client holds a
                sample does not depend on test_share.
            clients: (N,) natural client ids, for Natural(); a Dataset brings its own.
            test_share: share of each client's samples kept for its test part. With 2 or more samples a
                client has at least 1 in each part (if test_share > 0); a client with 1 sample has an empty
                test part.

        Raises ValueError, in words, for what does not fit (more clients than samples, alpha <= 0, ...).
        """
        seed = check_count(seed, "seed", least=0)
        check_share(test_share, "test_share")
        samples = read_samples(labels, clients)
        if n is not None:
            n = check_count(n, "the number of clients n")
            if n > len(samples):
                raise ValueError(
                    f"{n:,} clients for {len(samples):,} samples: every client needs at least one sample. "
                    f"Ask for at most {len(samples):,} clients, or load more data."
                )
        draft = self.assign(samples, n, seed)
        train, test = cut(draft.owners, draft.n, test_share, stream(seed, "test"))
        spec = {"split": self.spec, "n": draft.n, "seed": seed, "test_share": float(test_share)}
        made = Partition(
            train,
            test,
            samples.codes,
            samples.classes,
            spec,
            client_names=draft.client_names,
            transforms=draft.transforms,
        )
        object.__setattr__(made, "notes", draft.notes + observations(made))
        return made

    def clients_asked(self, n: int | None) -> int:
        """n, or a ValueError that asks for it."""
        if n is None:
            raise ValueError(f"{type(self).__name__} needs the number of clients; give n, e.g. split(dataset, n=10).")
        return n


def stream(seed: int, purpose: str, *more: int) -> np.random.Generator:
    """The random generator of one purpose under one seed: streams of different purposes are independent."""
    return np.random.default_rng([seed, crc32(purpose.encode()), *more])


def read_samples(labels: Dataset | np.ndarray, clients: np.ndarray | None) -> Samples:
    """Codes, classes and natural clients of a Dataset or of plain labels. Raises ValueError, in words."""
    names: tuple[Hashable, ...] = ()
    if isinstance(labels, Dataset):
        codes, classes = labels.y, labels.classes
        if labels.kind in ("regression", "multi-label"):
            codes, classes = np.zeros(len(labels), np.int64), ()
        if clients is None:
            clients, names = labels.clients, labels.client_names
            return Samples(codes, classes, clients, names)
    else:
        codes, classes = _codes(values_of(labels, "labels"))
    if clients is not None:
        given = np.asarray(clients)
        if given.ndim != 1 or len(given) != len(codes):
            raise ValueError(
                f"clients has shape {given.shape} for {len(codes):,} samples; give one natural client id per sample."
            )
        clients, names = encode_labels(given, "clients")
    return Samples(codes, classes, clients, tuple(str(name) for name in names))


def _codes(labels: np.ndarray) -> tuple[np.ndarray, tuple[Hashable, ...]]:
    if labels.ndim == 0 or len(labels) == 0:
        raise ValueError("The labels are empty; a split needs one label per sample, for at least one sample.")
    if labels.ndim == 2 and labels.shape[1] == 1:
        return _codes(labels[:, 0])
    if labels.ndim == 2 and (labels.dtype.kind in "fb" or _binary(labels)):  # several labels, or several real targets
        return np.zeros(len(labels), np.int64), ()
    if labels.ndim == 2:
        if labels.dtype.kind not in "iu" or labels.shape[1] == 0:
            raise ValueError(f"Two-dimensional labels (text) must be integers; given is dtype {labels.dtype}.")
        codes, classes = encode_labels(labels.ravel())
        return codes.reshape(labels.shape), classes
    if labels.ndim == 1 and labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels % 1 != 0).any():
        return np.zeros(len(labels), np.int64), ()
    return encode_labels(labels)


def _binary(labels: np.ndarray) -> bool:
    return labels.shape[1] > 1 and bool(((labels == 0) | (labels == 1)).all())


def observations(p: Partition) -> tuple[str, ...]:
    """Notes that hold for any split: clients with a single class, clients without a test part."""
    notes = []
    if p.codes.ndim == 1 and len(p.classes) > 1:
        single = np.flatnonzero((p.histogram() > 0).sum(axis=1) == 1)
        if len(single):
            notes.append(counted(single, p.n, "a single class"))
    untested = np.flatnonzero(p.test_sizes == 0)
    if len(untested) and p.spec["test_share"] > 0:
        notes.append(counted(untested, p.n, "a single sample, so an empty test part"))
    return tuple(notes)


def check_positive(value: float, name: str, why: str) -> None:
    """Raise ValueError, in words, unless value is a finite number > 0."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not np.isfinite(value) or value <= 0:
        raise ValueError(f"{name} is {value!r}; it must be a finite number > 0. {why}")


def fill_small(
    owners: np.ndarray, n: int, least: int, rng: np.random.Generator, who: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Move samples so that every client has at least `least`, and a note about how many were moved.

    Clients with too few receive what they lack; it is taken one sample at a time from the client that is
    largest at that moment (all at once here: the largest clients are lowered to a common level). Which
    samples of a donor go, and to whom, is drawn from rng. Raises ValueError if n * least exceeds the number
    of samples.
    """
    if n * least > len(owners):
        raise ValueError(
            f"{who} cannot give {n:,} clients at least {least:,} samples each: there are {len(owners):,} "
            "samples. Ask for fewer clients or a smaller min_size."
        )
    sizes = np.bincount(owners, minlength=n)
    lack = np.maximum(least - sizes, 0)
    need = int(lack.sum())
    if need == 0:
        return owners, ()
    low, high = (
        least,
        int(sizes.max()),
    )  # the largest level at which the excess above it still covers the need
    while low < high:
        level = (low + high + 1) // 2
        low, high = (level, high) if np.maximum(sizes - level, 0).sum() >= need else (low, level - 1)
    give = np.maximum(sizes - low, 0)
    donors = np.flatnonzero(give)
    give[donors[: int(give.sum()) - need]] -= 1
    order = rng.permutation(len(owners))
    order = order[np.argsort(owners[order], kind="stable")]
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    donated = rng.permutation(order[rank < give[owners[order]]])
    owners = owners.copy()
    owners[donated] = np.repeat(np.arange(n), lack)
    filled = np.flatnonzero(lack)
    moved = f"{need:,} sample{'s were' if need > 1 else ' was'} moved from the largest clients to fill up "
    return owners, (f"{moved}{len(filled):,} below min_size={least}",)


def divide(weights: np.ndarray, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give the samples of each group to clients in proportion to that group's weights, in random order.

    weights (G, n) >= 0 with rows that sum to 1; group (N,) int64 in 0..G-1. Returns owners (N,) int64. A
    client's count in a group differs from its exact share by less than one sample.
    """
    groups, n = weights.shape
    sizes = np.bincount(group, minlength=groups)
    order = rng.permutation(len(group))
    order = order[np.argsort(group[order].astype(np.int16 if groups < 2**15 else np.int64), kind="stable")]
    rank = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    sorted_group = np.repeat(np.arange(groups), sizes)
    upper = np.cumsum(weights, axis=1)
    upper = np.minimum(upper / upper[:, -1:], 1.0)  # the last one is exactly 1
    edges = (upper + np.arange(groups)[:, None]).ravel()
    at = sorted_group + (rank + 0.5) / sizes[sorted_group]
    found = np.searchsorted(edges, at, side="right") - sorted_group * n
    owners = np.empty(len(group), np.int64)
    owners[order] = np.clip(found, 0, n - 1)
    return owners


def dirichlet(alpha: float, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Rows of the symmetric Dirichlet(alpha), (G, n), also where alpha is so small that gammas underflow.

    Uses Gamma(alpha) = Gamma(alpha + 1) * U^(1/alpha), in logarithms (Marsaglia, Tsang 2000).
    """
    alpha = min(max(float(alpha), 1e-200), 1e15)  # beyond these nothing changes any more
    log = np.log(rng.standard_gamma(alpha + 1, shape)) + np.log1p(-rng.random(shape)) / alpha
    weights = np.exp(log - log.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)
