"""A data set as plain numpy arrays, with where it comes from."""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from octolab.data.arrays import check_alike, is_missing
from octolab.faces import Shown

if TYPE_CHECKING:
    from octolab.data.partition import Partition
    from octolab.data.splits.base import Split

KINDS = ("classification", "multi-label", "regression", "text")


@dataclass(frozen=True)
class Provenance:
    """Where the samples come from: `source`, `licence`, `sha256` of the `bytes` bytes read, `n` samples
    (train + test).

    For scikit-learn's data sets the hash is over the arrays (x as little-endian float64, then y as int64),
    for everything else over the file or files.
    """

    source: str
    licence: str
    sha256: str
    bytes: int
    n: int

    def as_dict(self) -> dict[str, Any]:
        """The five fields as a JSON-able dict."""
        return asdict(self)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset(Shown):
    """Samples, labels and their provenance.

    Attributes:
        name: what `load` was called with.
        x: (N, ...) features; float32, or int64 character codes (N, seq_len) for text.
        y: (N,) int64 class codes 0..C-1 (`classes[code]` is the class), (N, C) zeros and ones where a sample
            may have several labels, (N,) or (N, T) real targets for regression, or (N, seq_len) int64 next
            characters for text.
        x_test, y_test: the global test set in the same form, None if there is none.
        clients: (N,) int64 index into `client_names` of the natural client of each sample, None if there are none.
        client_names: the natural clients' names, in the order of their indices.
        classes: the classes' names or values; the characters of the vocabulary for text.
        kind: "classification", "multi-label", "regression" or "text".
        provenance: source, licence, sha256, bytes, n.
        feature_names: one name per feature where the source has names.
        options: the options `load` was called with: `load(ds.name, **ds.options)` gives the same data set again.
        groups: (N,) int64 index into `group_names` of the group (sex, region, carrier) of each sample, for
            fairness between groups that are not the clients; None if there are none.
        notes: what was done to the data on the way in, in sentences ("gaps in 'age' hold the median of ...").
        given: whether the samples came from memory, so that no name can load them again.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray | None
    y_test: np.ndarray | None
    clients: np.ndarray | None
    client_names: tuple[str, ...]
    classes: tuple[Hashable, ...]
    kind: str
    provenance: Provenance
    feature_names: tuple[str, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    groups: np.ndarray | None = None
    group_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    given: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; allowed are {', '.join(KINDS)}. Choose one of them.")
        if len(self.x) != len(self.y):
            raise ValueError(
                f"{self.name}: x has {len(self.x):,} samples and y has {len(self.y):,}; they must be "
                "equally many. Check that both come from the same file."
            )
        if (self.x_test is None) != (self.y_test is None):
            raise ValueError(f"{self.name}: only one of x_test and y_test is given; give both or neither.")
        if self.x_test is not None and self.y_test is not None and len(self.x_test) != len(self.y_test):
            raise ValueError(
                f"{self.name}: x_test has {len(self.x_test):,} samples and y_test has {len(self.y_test):,}; "
                "they must be equally many. Check that both come from the same file."
            )
        for ids, names, what in (
            (self.clients, self.client_names, "client"),
            (self.groups, self.group_names, "group"),
        ):
            self._check_ids(ids, names, what)
        for part, x, y in (("x", self.x, self.y), ("x_test", self.x_test, self.y_test)):
            if x is not None and y is not None:
                self._check_numbers(part, x)
                object.__setattr__(self, part.replace("x", "y"), self._checked_targets(part.replace("x", "y"), y))
        if self.x_test is not None:
            check_alike(self.x, self.x_test, f"{self.name}: the test features")

    def _check_ids(self, ids: np.ndarray | None, names: tuple[str, ...], what: str) -> None:
        """ValueError unless there is one index into `names` for every sample."""
        if ids is None:
            return
        if len(ids) != len(self.y):
            raise ValueError(
                f"{self.name}: {what}s has {len(ids):,} entries for {len(self.y):,} samples; give one natural "
                f"{what} index per sample, or None."
            )
        if np.asarray(ids).dtype.kind not in "iu" or (len(ids) and not 0 <= ids.min() <= ids.max() < len(names)):
            raise ValueError(
                f"{self.name}: {what}s must be indices 0..{len(names) - 1} into the {len(names):,} {what}_names. "
                "ol.data.from_arrays(X, y, clients=...) makes them from any names."
            )

    def _check_numbers(self, part: str, x: np.ndarray) -> None:
        if x.dtype.kind not in "biuf":
            raise ValueError(f"{self.name}: {part} holds no numbers (dtype {x.dtype}); see ol.data.from_frame.")
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            bad = int((~np.isfinite(x).reshape(len(x), -1).all(axis=1)).sum())
            raise ValueError(
                f"{self.name}: {bad:,} of {len(x):,} samples of {part} have missing or non-finite features; all must "
                "be finite numbers. Fill them in or remove those samples."
            )

    def _checked_targets(self, part: str, y: np.ndarray) -> np.ndarray:
        """y as its kind needs it; ValueError for codes beyond the classes, NaN, other shapes."""
        if self.kind in ("classification", "text"):
            if y.dtype.kind not in "biu" or (self.kind == "classification" and y.ndim != 1):
                raise ValueError(
                    f"{self.name}: {part} has shape {y.shape} and dtype {y.dtype}; class codes are whole numbers, one "
                    "per sample. ol.data.from_arrays(X, y) makes them from any labels."
                )
            if y.size and not 0 <= int(y.min()) <= int(y.max()) < len(self.classes):
                raise ValueError(
                    f"{self.name}: the class codes in {part} run from {y.min()} to {y.max()}, and there are "
                    f"{len(self.classes)} classes, with the codes 0..{len(self.classes) - 1}. "
                    "ol.data.from_arrays(X, y) makes codes from any labels."
                )
            return y.astype(np.int64, copy=False)
        if y.dtype.kind not in "biuf" or (y.dtype.kind == "f" and not np.isfinite(y).all()):
            raise ValueError(f"{self.name}: {part} holds inf, nan or no numbers (dtype {y.dtype}). Clean it first.")
        if self.kind == "multi-label" and (y.ndim != 2 or y.shape[1] != len(self.classes)):
            raise ValueError(
                f"{self.name}: {part} has shape {y.shape}; several labels a sample are rows of zeros and ones, one "
                f"column for each of the {len(self.classes)} classes."
            )
        return y

    def __len__(self) -> int:
        """Number of training samples N (the global test set not counted)."""
        return len(self.y)

    @property
    def n_classes(self) -> int:
        """Number of classes (characters for text, 0 for regression)."""
        return len(self.classes)

    @property
    def n_features(self) -> int:
        """Number of features of one sample (784 for a 28 x 28 image; seq_len for text)."""
        return int(np.prod(self.x.shape[1:], dtype=np.int64))

    @property
    def n_clients(self) -> int | None:
        """Number of natural clients, None if the data set has none."""
        return None if self.clients is None else len(self.client_names)

    @property
    def spec(self) -> dict[str, Any]:
        """JSON-able name, options and sha256: enough to load it again and to see that it is the same."""
        known = {"name": self.name, "options": dict(self.options), "sha256": self.provenance.sha256}
        return {**known, "given": True} if self.given else known

    def split(self, split: Split, n: int | None = None, seed: int = 0, test_share: float = 0.2) -> Partition:
        """Give the N training samples to n clients: short for `split.split(self, n, seed, ...)`."""
        return split.split(self, n, seed=seed, test_share=test_share)

    def text(self, codes: np.ndarray) -> str:
        """The string that a (T,) array of character codes spells (text data sets only)."""
        if self.kind != "text":
            raise ValueError(f"{self.name} is a {self.kind} data set; text() spells character codes of a text one.")
        return "".join(str(self.classes[int(c)]) for c in np.asarray(codes).ravel())

    def __repr__(self) -> str:
        shape = " x ".join(str(s) for s in self.x.shape[1:])
        test = "no global test set" if self.y_test is None else f"{len(self.y_test):,} global test samples"
        what = {
            "classification": f"classification, {self.n_classes} classes",
            "multi-label": f"{self.n_classes} labels, any number of them a sample",
            "regression": "regression",
            "text": f"next-character prediction, {self.n_classes} characters",
        }[self.kind]
        if self.clients is None:
            natural = "none of its own: split it, e.g. ds.split(Dirichlet(alpha=0.3), 10)"
        else:
            natural = f"{self.n_clients:,} natural ones ({listed(self.client_names, 3)}): ds.split(Natural())"
        lines = [
            f"Dataset {self.name}: {what}",
            f"  samples  {len(self):,} of {shape} {self.x.dtype}, {test}",
        ]
        if self.kind in ("classification", "multi-label"):
            lines.append(f"  classes  {listed(self.classes, 10)}")
        elif self.kind == "text":
            lines.append(f"  symbols  {''.join(map(str, self.classes))!r}")
        p = self.provenance
        lines += [
            f"  clients  {natural}",
            f"  source   {p.source}",
            f"  licence  {p.licence}",
            f"  sha256   {p.sha256} ({p.bytes:,} bytes)",
        ]
        if self.groups is not None:
            lines.insert(-3, f"  groups   {len(self.group_names):,}: {listed(self.group_names, 5)}")
        lines += [f"  note     {note}" for note in self.notes]
        return "\n".join(lines)


def listed(items: Iterable[object], most: int) -> str:
    """The first `most` items separated by commas, and how many more there are: "a, b, ... (5 in all)"."""
    items = list(items)
    text = ", ".join(str(i) for i in items[:most])
    return text if len(items) <= most else f"{text}, ... ({len(items):,} in all)"


def sha256_of_arrays(x: np.ndarray, y: np.ndarray) -> str:
    """SHA-256 of x as little-endian float64, then y as little-endian int64: the same everywhere."""
    digest = hashlib.sha256(np.ascontiguousarray(x, dtype="<f8").tobytes())
    digest.update(np.ascontiguousarray(y, dtype="<i8").tobytes())
    return digest.hexdigest()


def hold_out(n: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices (train, test): the last `share` of default_rng(0)'s permutation of n samples is the test part.

    The test part has share * n samples, rounded up (0.2 of 1,797 digits: 360). Raises ValueError unless
    share is in [0, 1).
    """
    check_share(share, "test_share")
    order = np.random.default_rng(0).permutation(n)
    n_test = min(n - 1, math.ceil(share * n - 1e-9))
    if share == 0:
        return np.arange(n), order[:0]
    return order[: n - n_test], order[n - n_test :]


def check_share(share: float, name: str) -> None:
    """Raise ValueError, in words, unless share is a number in [0, 1)."""
    if isinstance(share, bool) or not isinstance(share, (int, float, np.floating)) or not 0 <= share < 1:
        raise ValueError(
            f"{name} is {share!r}; it is the share of samples kept for testing, a number in [0, 1). Try 0.2."
        )


def check_count(value: SupportsIndex, name: str, least: int = 1) -> int:
    """The integer `value` as an int; ValueError, in words, if it is not an integer >= least."""
    try:
        if isinstance(value, bool):
            raise TypeError
        count = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}; it must be an integer of at least {least}.") from None
    if count < least:
        raise ValueError(f"{name} is {count:,}; it must be an integer of at least {least}. Give a larger one.")
    return count


def encode_labels(labels: np.ndarray, name: str = "labels") -> tuple[np.ndarray, tuple[Hashable, ...]]:
    """Codes and classes of one-dimensional labels: codes (N,) int64 in 0..C-1, classes sorted.

    Works for integers, whole-number floats, booleans and strings; integers and whole-number floats give int
    classes. Raises ValueError for missing values and for objects that cannot be sorted.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(f"{name} has shape {labels.shape}; labels are one-dimensional, one per sample.")
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all():
            bad = int((~np.isfinite(labels)).sum())
            raise ValueError(f"{name}: {bad:,} of {len(labels):,} are missing or not finite; remove those samples.")
        if (labels == np.round(labels)).all():
            labels = labels.astype(np.int64)
    elif labels.dtype.kind == "O":
        missing = sum(map(is_missing, labels))
        if missing:
            raise ValueError(f"{name}: {missing:,} of {len(labels):,} are missing; remove those samples.")
        kinds = {"str" if isinstance(v, str) else type(v).__name__ for v in labels}
        if len(kinds) > 1 and "str" in kinds:
            raise ValueError(f"{name} mix {' and '.join(sorted(kinds))}; give text or numbers throughout.")
        labels = labels.astype(str)
    if labels.dtype.kind in "iu" and len(labels) and labels.min() >= 0 and labels.max() < 4 * len(labels) + 256:
        small = labels.astype(np.int64, copy=False)  # counting is some ten times faster than sorting
        classes = np.flatnonzero(np.bincount(small))
        lookup = np.zeros(int(classes[-1]) + 1, np.int64)
        lookup[classes] = np.arange(len(classes))
        return lookup[small], tuple(classes.tolist())
    unique, codes = np.unique(labels, return_inverse=True)
    return codes.astype(np.int64).reshape(-1), tuple(unique.tolist())
