"""From arrays in memory to a Dataset, and what every way in ends with: samples in two parts, clients and groups."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from octolab.arguments import expects, like, sequence
from octolab.data.arrays import has_index, numbers, plain
from octolab.data.dataset import Dataset, Provenance, encode_labels, hold_out
from octolab.data.errors import DataWarning
from octolab.data.targets import Targets, read_targets, values_of

Pair = tuple[ArrayLike, ArrayLike]
Rows = slice | np.ndarray


class Members(NamedTuple):
    """Which client or group each training row belongs to: codes (N,) into `names`; None: there are none."""

    codes: np.ndarray | None
    names: tuple[str, ...]


@expects(
    X=like("an array (N, ...)", "__len__"),
    y=like("one target per sample", "__len__"),
    names=sequence("a name for each client"),
    classes=sequence("the classes"),
    test=sequence("a pair (X, y)", least=2),
)
def from_arrays(
    X: ArrayLike,
    y: ArrayLike,
    clients: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    test: Pair | None = None,
    *,
    kind: str | None = None,
    classes: Sequence[Hashable] | None = None,
    test_share: float = 0.0,
    name: str = "arrays",
    licence: str = "not stated",
) -> Dataset:
    """A Dataset from arrays in memory: NumPy, torch, pandas, lists, SciPy's sparse matrices (made dense).

    Args:
        X: (N, ...) features, kept in the precision they have.
        y: (N,) labels of any kind (text, whole numbers, categories, booleans), real targets, one-hot rows, or (N, L)
            zeros and ones (several labels a sample); see `kind`.
        clients: (N,) which client each sample belongs to, by any name.
        groups: (N,) which group (sex, region, ...) each sample belongs to, for fairness between groups.
        names: of the features, one per column.
        test: a pair (X, y) kept for testing alone.
        kind: "classification", "multi-label" or "regression"; None: as the values of y suggest.
        classes: names of the classes, where y holds their numbers 0, 1, ....
        test_share: share of the samples kept as global test set, where `test` gives none.
        name, licence: noted.

    Raises ValueError, in words, for what does not fit: other lengths, NaN, text among the features.
    """
    _check_order({"X": X, "y": y, "clients": clients, "groups": groups}, name)
    x = numbers(X, f"{name}: the features X")
    if x.ndim < 1 or len(x) == 0:
        raise ValueError(f"{name}: X has shape {x.shape}; give at least one sample, (N, ...).")
    x = x[:, None] if x.ndim == 1 else x
    if x[0].size == 0:
        raise ValueError(f"{name}: X has shape {x.shape}: a sample has no features. Give at least one.")
    if x.dtype == np.uint8 and x.ndim > 2:
        warnings.warn(
            f"{name}: the features are bytes and stay as they are, 0..255; networks train better on X / 255.",
            DataWarning,
            stacklevel=2,
        )
    frame_columns = getattr(X, "columns", None)
    names = [str(c) for c in frame_columns] if names is None and frame_columns is not None else names
    if names is not None and (x.ndim != 2 or len(names) != x.shape[1]):
        raise ValueError(f"{name}: {len(names)} names for features of shape {x.shape[1:]}; give one per column.")
    n, targets = len(x), values_of(y, f"{name}: the targets y")
    if len(targets) != n:
        raise ValueError(f"{name}: X has {n:,} samples and y has {len(targets):,}; they must be equally many.")
    if test is not None:
        x, targets = _with_test(x, targets, test, name)
    read = read_targets(y if test is None else targets, f"{name}: the targets y", kind)
    if classes is not None:
        read = _named(read, classes, name)
    made = assemble(
        name,
        x,
        read,
        *parts(n, len(x), test_share),
        Provenance(
            "arrays given by the user", licence, sha256_of(x, read.y, [str(c) for c in read.classes]), x.nbytes, len(x)
        ),
        clients=members(clients, n, f"{name}: clients"),
        groups=members(groups, n, f"{name}: groups"),
    )
    return replace(made, feature_names=None if names is None else tuple(names), given=True)


def _with_test(x: np.ndarray, y: np.ndarray, test: Pair, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Training and test samples one after the other."""
    if not isinstance(test, (tuple, list)) or len(test) != 2:
        raise ValueError(f"{name}: test is {type(test).__name__}; give a pair (X, y) of the test samples.")
    xt, yt = numbers(test[0], f"{name}: the test features"), values_of(test[1], f"{name}: the test targets")
    xt = xt[:, None] if xt.ndim == 1 and x.shape[1:] == (1,) else xt
    if len(xt) != len(yt):
        raise ValueError(f"{name}: the test part has {len(xt):,} samples and {len(yt):,} targets; give equally many.")
    if xt.shape[1:] != x.shape[1:] or (yt.shape[1:] != y.shape[1:] and {yt.shape[1:], y.shape[1:]} != {(), (1,)}):
        raise ValueError(
            f"{name}: a training sample has shape {x.shape[1:]} and target {y.shape[1:]}, a test sample "
            f"{xt.shape[1:]} and {yt.shape[1:]}; both must be alike."
        )
    same_bytes(x, xt, name)
    if (y.dtype.kind in "OUS") != (yt.dtype.kind in "OUS"):
        raise ValueError(f"{name}: the targets are {y.dtype} in training and {yt.dtype} in testing; give one kind.")
    flat = [v.reshape(len(v)) if v.shape[1:] == (1,) else v for v in (y, yt)]
    return np.concatenate([x, xt]), np.concatenate(flat)


def same_bytes(x: np.ndarray, x_test: np.ndarray, name: str) -> None:
    """ValueError where one part is bytes and the other is not: they are on two scales."""
    if (x.dtype == np.uint8) != (x_test.dtype == np.uint8):
        raise ValueError(
            f"{name}: the training features are {x.dtype} and the test features {x_test.dtype}; bytes and other "
            "numbers are on two scales. Give both in one form, e.g. both as floats divided by 255."
        )


def _named(read: Targets, classes: Sequence[Hashable], name: str) -> Targets:
    """Targets whose class numbers get these names."""
    if read.kind == "multi-label" and len(classes) == len(read.classes):
        return read._replace(classes=tuple(classes))
    numbers_given = all(isinstance(c, (int, np.integer)) and 0 <= c < len(classes) for c in read.classes)
    if read.kind != "classification" or not numbers_given:
        raise ValueError(
            f"{name}: classes names {len(classes)} classes; then y must hold their numbers 0..{len(classes) - 1}."
        )
    return read._replace(y=np.asarray(read.classes, np.int64)[read.y], classes=tuple(classes))


def members(ids: ArrayLike | None, n: int, where: str) -> Members | None:
    """Codes and names of the clients or groups of n rows; ValueError for missing ones."""
    if ids is None:
        return None
    values = plain(ids, where)
    if values.ndim != 1 or len(values) != n:
        raise ValueError(f"{where} has shape {values.shape} for {n:,} samples; give one per sample.")
    codes, names = encode_labels(values, where)
    return Members(codes, tuple(str(name) for name in names))


def present(held: Members | None, rows: Rows) -> Members:
    """The members of some rows alone, renumbered so that every name occurs; none of none."""
    if held is None:
        return Members(None, ())
    assert held.codes is not None
    used, codes = np.unique(held.codes[rows], return_inverse=True)
    return Members(codes.astype(np.int64), tuple(held.names[u] for u in used.tolist()))


def parts(n: int, total: int, test_share: float) -> tuple[Rows, Rows]:
    """Which of `total` rows are for training and which for testing: the first n and the rest, or a share held out."""
    if total > n or not test_share:
        return slice(0, n), slice(n, total)
    return hold_out(n, test_share)


def assemble(
    name: str,
    x: np.ndarray,
    read: Targets,
    train: Rows,
    test: Rows,
    provenance: Provenance,
    *,
    clients: Members | None,
    groups: Members | None,
    notes: Sequence[str] = (),
) -> Dataset:
    """A Dataset of all rows' features and targets, divided into the training and the test part."""
    tested = len(x[test]) > 0
    of_client, of_group = present(clients, train), present(groups, train)
    return Dataset(
        name=name,
        x=x[train],
        y=read.y[train],
        x_test=x[test] if tested else None,
        y_test=read.y[test] if tested else None,
        clients=of_client.codes,
        client_names=of_client.names,
        classes=read.classes,
        kind=read.kind,
        provenance=replace(provenance, n=len(x)),
        groups=of_group.codes,
        group_names=of_group.names,
        notes=(*read.notes, *notes),
    )


def sha256_of(*arrays: ArrayLike) -> str:
    """SHA-256 of arrays' shapes, dtypes and values."""
    digest = hashlib.sha256()
    for given in arrays:
        a = np.ascontiguousarray(given)
        digest.update(str((a.shape, a.dtype.str)).encode())
        digest.update(a.tobytes())
    return digest.hexdigest()


def _check_order(given: dict[str, object], name: str) -> None:
    """Rows belong together by their place. ValueError where pandas' indices say that they lie in another order."""
    indices = {what: part.index for what, part in given.items() if has_index(part)}
    for what, index in list(indices.items())[1:]:
        first, other = next(iter(indices.items()))
        if not other.equals(index) and len(other) == len(index) and set(other) == set(index):
            raise ValueError(
                f"{name}: the rows of {first} and {what} have the same index in another order; they are taken by their place. "
                f"Give {what}.loc[{first}.index], or .to_numpy() if the order is meant."
            )
