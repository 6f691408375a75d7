"""From named columns (a table file, a hub data set) to a Dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from octolab.data.dataset import Dataset, Provenance, encode_labels, hold_out, listed

Columns = Mapping[str, np.ndarray]


def column(columns: Columns, name: str, option: str, where: str) -> np.ndarray:
    """columns[name]; ValueError, in words, naming the columns there are if that one is missing."""
    if name not in columns:
        raise ValueError(
            f"{where} has no column {name!r}; its columns are {listed(columns, 20)}. Say which one to use "
            f"with {option}=..."
        )
    return columns[name]


def from_columns(
    name: str,
    columns: Columns,
    provenance: Provenance,
    *,
    target: str = "label",
    client: str | None = "client",
    features: Sequence[str] | None = None,
    test_share: float = 0.0,
    test: Columns | None = None,
) -> Dataset:
    """A Dataset from columns of equal length.

    Args:
        target: column of the labels. Whole numbers and strings are classes, other floats make a regression.
        client: column of the natural client ids; a missing column named "client" (the default) means there
            are none.
        features: columns of x, default all others. Numbers give (N, d) float32; a single column of arrays
            (N, ...).
        test_share: share of the samples to keep as global test set, where `test` gives none.
        test: the columns of the global test set.
        provenance: its n is set to the number of samples found.
    """
    where = name
    y_raw = column(columns, target, "target", where)
    lengths = {name: len(values) for name, values in columns.items()}
    for used in [target, *([client] if client in columns else []), *(features or [])]:
        if used in lengths and lengths[str(used)] != len(y_raw):
            raise ValueError(
                f"{where}: {used!r} has {lengths[str(used)]:,} entries and {target!r} has {len(y_raw):,}; "
                "both need one per sample. Save them again with equal lengths."
            )
    if len(y_raw) == 0:
        raise ValueError(f"{where} has no rows; a data set needs at least one sample. Check the file.")
    has_clients = client is not None and (client in columns or client != "client")
    ids = column(columns, str(client), "client", where) if has_clients else None
    names = [c for c in columns if c not in (target, client)] if features is None else list(features)
    x = stack_features(columns, names, where)
    if test is not None:
        x_test = stack_features(test, names, f"{where} (test part)")
        y_all = np.concatenate([y_raw, column(test, target, "target", f"{where} (test part)")])
    else:
        x_test, y_all = None, y_raw
    y_all, classes, kind = targets(y_all, f"{where}, column {target!r}")
    y, y_test = y_all[: len(x)], y_all[len(x) :] if test is not None else None
    clients, client_names = (None, ()) if ids is None else encode_labels(ids, f"{where}, column {client!r}")
    if test is None and test_share:
        kept, held = hold_out(len(x), test_share)
        x, y, x_test, y_test = x[kept], y[kept], x[held], y[held]
        if clients is not None:
            clients, client_names = compact(clients[kept], client_names)
    return Dataset(
        name=name,
        x=x,
        y=y,
        x_test=x_test,
        y_test=y_test,
        clients=clients,
        client_names=tuple(str(c) for c in client_names),
        classes=classes,
        kind=kind,
        provenance=replace(provenance, n=len(x) + (0 if x_test is None else len(x_test))),
        feature_names=tuple(names) if x.ndim == 2 and x.shape[1] == len(names) else None,
    )


def targets(y: np.ndarray, where: str) -> tuple[np.ndarray, tuple[Any, ...], str]:
    """(codes, classes, "classification"), or (float32 targets, (), "regression") if not all are whole."""
    if y.dtype.kind == "f" and np.isfinite(y).all() and (y != np.round(y)).any():
        return y.astype(np.float32), (), "regression"
    codes, classes = encode_labels(y, where)
    return codes, classes, "classification"


def compact(codes: np.ndarray, names: Sequence[Any]) -> tuple[np.ndarray, tuple[Any, ...]]:
    """Renumber codes so that every one of the remaining names occurs."""
    used, renumbered = np.unique(codes, return_inverse=True)
    return renumbered.astype(np.int64), tuple(names[int(u)] for u in used)


def stack_features(columns: Columns, names: Sequence[str], where: str) -> np.ndarray:
    """x (N, d) float32 from numeric columns, or (N, ...) float32 from one column of equally shaped arrays.

    Bytes (uint8 images) are divided by 255 when they come as arrays. Raises ValueError for text, missing
    values, or arrays of different shapes.
    """
    if not names:
        raise ValueError(f"{where} has no feature column left; give features=[...] or a file with more columns.")
    parts = [column(columns, n, "features", where) for n in names]
    bad = [n for n, p in zip(names, parts, strict=True) if p.dtype.kind not in "biuf" and not _holds_arrays(p)]
    if bad:
        raise ValueError(
            f"{where}: the columns {listed(bad, 10)} hold no numbers; features must be numbers or arrays of "
            "them. Encode them as numbers first, or choose others with features=[...]."
        )
    if len(parts) == 1 and (_holds_arrays(parts[0]) or parts[0].ndim > 1):
        x = _stack_arrays(parts[0], f"{where}, column {names[0]!r}")
    elif any(_holds_arrays(p) or p.ndim > 1 for p in parts):
        raise ValueError(f"{where}: a column of arrays must be the only feature; choose one with features=[...].")
    else:
        x = np.stack([p.astype(np.float32) for p in parts], axis=1)
    if not np.isfinite(x).all():
        bad_rows = int((~np.isfinite(x).reshape(len(x), -1).all(axis=1)).sum())
        raise ValueError(
            f"{where}: {bad_rows:,} of {len(x):,} samples have missing or non-finite features; all must be "
            "finite numbers. Fill them in or remove those samples."
        )
    return x


def _holds_arrays(values: np.ndarray) -> bool:
    return values.dtype.kind == "O" and len(values) > 0 and isinstance(values[0], (np.ndarray, list, tuple))


def _stack_arrays(values: np.ndarray, where: str) -> np.ndarray:
    try:
        x = np.stack([np.asarray(_plain(v)) for v in values]) if values.dtype.kind == "O" else values
    except (ValueError, TypeError):
        raise ValueError(f"{where}: the arrays have different shapes; all samples need one shape.") from None
    if x.dtype.kind not in "biuf":
        raise ValueError(f"{where}: the arrays hold no numbers (dtype {x.dtype}); features must be numbers.")
    return np.multiply(x, np.float32(1 / 255), dtype=np.float32) if x.dtype == np.uint8 else x.astype(np.float32)


def _plain(value: Any) -> Any:
    """Nested arrays of arrays (what pyarrow gives for lists of lists) as nested lists."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [_plain(v) for v in value]
    return value
