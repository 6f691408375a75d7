"""What is to be predicted: classes, several labels at once, or real numbers, from whatever holds them."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from octolab.data.arrays import is_missing, plain
from octolab.data.dataset import encode_labels, listed
from octolab.data.errors import DataWarning

CLASSIFICATION, MULTI_LABEL, REGRESSION = "classification", "multi-label", "regression"
CLASSES = "classes"  # one label a sample or several, as the values suggest, and never a regression
TARGET_KINDS = (CLASSIFICATION, MULTI_LABEL, REGRESSION)
MANY, FEW = 20, 5  # more than so many whole numbers, each so seldom, are rather measurements than classes


class Targets(NamedTuple):
    """y: (N,) int64 codes of `classes`; (N, L) float32 zeros and ones; (N,) or (N, T) floats. notes: what was made of them."""

    y: np.ndarray
    classes: tuple[Hashable, ...]
    kind: str
    notes: tuple[str, ...] = ()


def read_targets(given: object, where: str, kind: str | None = None, names: Sequence[str] = ()) -> Targets:
    """The targets in `given`, one per sample; `where` names them in sentences.

    Text, booleans, categories and whole numbers are classes; numbers that are not whole make a regression; rows of
    zeros and ones, or lists of tags, are several labels; rows with a single one are one-hot and become classes. (N, 1)
    means (N,). `kind` overrules what the values suggest; `names`: of the columns, where there are several.

    Raises ValueError for missing values, for kinds that do not fit, for text in a regression.
    """
    if kind not in (None, CLASSES, *TARGET_KINDS):
        raise ValueError(f"kind is {kind!r}; allowed are {', '.join(TARGET_KINDS)}, or None: as the values suggest.")
    ordered = _categories(given)
    y = values_of(given, where)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim > 2:
        raise ValueError(
            f"{where} have shape {y.shape}: give one target per sample, (N,), or several, (N, L). For a target per "
            "position (segmentation, text) use ol.problems.Network with one array per client."
        )
    if y.ndim == 2 or (y.dtype.kind == "O" and len(y) and _is_list(y[0])):
        return _several(y, where, kind, names)
    _refuse_missing(y, where)
    if y.dtype.kind == "O" and not all(isinstance(v, (str, bytes, int, float, np.generic)) for v in y):
        kinds = listed(sorted({type(v).__name__ for v in y}), 3)
        raise ValueError(f"{where} hold objects ({kinds}); labels are text or numbers. Turn them into such first.")
    if y.dtype.kind in "Mm":
        raise ValueError(f"{where} are dates or times; turn them into numbers or classes first.")
    number = y.dtype.kind in "iuf"
    whole = not number or bool((y == np.round(y)).all())
    if kind == MULTI_LABEL:
        raise ValueError(
            f"{where} hold one label per sample; kind='multi-label' needs several, rows of zeros and ones."
        )
    if kind == REGRESSION or (kind is None and not whole):
        return Targets(_real(y, where), (), REGRESSION)
    if not whole:
        raise ValueError(
            f"{where} are numbers that are not whole ({listed(y[:3].tolist(), 3)}): a regression. Use "
            "ol.problems.regression, or bin them into classes."
        )
    codes, classes = encode_labels(y, where)
    if kind is None and number:
        _warn_of_measurements(len(y), len(classes), where)
    if ordered is not None:
        codes, classes = _reordered(codes, classes, ordered)
    return Targets(codes, classes, CLASSIFICATION)


def values_of(given: object, where: str) -> np.ndarray:
    """The targets as an array with one row per sample; lists of different lengths as an array of lists."""
    if isinstance(given, (list, tuple)) and len({len(v) for v in given if _is_list(v)}) > 1:
        y = np.empty(len(given), object)
        y[:] = [list(v) if _is_list(v) else v for v in given]
        return y
    y = plain(given, where)
    if y.ndim == 0:
        raise ValueError(f"{where} is a single value; give one per sample.")
    return y


def _categories(given: object) -> list[Hashable] | None:
    """The categories of a pandas categorical, in their order."""
    categories = getattr(getattr(given, "dtype", None), "categories", None)
    return None if categories is None else list(categories)


def _reordered(
    codes: np.ndarray, classes: tuple[Hashable, ...], wanted: list[Hashable]
) -> tuple[np.ndarray, tuple[Hashable, ...]]:
    """Codes in the order of a categorical's categories, as far as these occur."""
    place = {value: k for k, value in enumerate(wanted)}
    if any(c not in place for c in classes):
        return codes, classes
    order = sorted(range(len(classes)), key=lambda k: place[classes[k]])
    return np.argsort(order)[codes].astype(np.int64), tuple(classes[k] for k in order)


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple, set, frozenset, np.ndarray))


def _refuse_missing(y: np.ndarray, where: str) -> None:
    gaps = (
        sum(map(is_missing, y)) if y.dtype.kind == "O" else int((~np.isfinite(y)).sum()) if y.dtype.kind == "f" else 0
    )
    if gaps:
        raise ValueError(f"{where}: {gaps:,} of {len(y):,} are missing or not finite; remove those samples.")


def _real(y: np.ndarray, where: str) -> np.ndarray:
    if y.dtype.kind not in "biuf":
        raise ValueError(f"{where} are no numbers ({listed(y[:3].tolist(), 3)}): a regression needs real numbers.")
    return y if y.dtype.kind == "f" else y.astype(np.float64)


def _several(y: np.ndarray, where: str, kind: str | None, names: Sequence[str]) -> Targets:
    """Several targets a sample: (N, L) numbers, or lists of tags."""
    if y.dtype.kind not in "biuf":
        return _tags(y, where, kind)
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        bad = int((~np.isfinite(y)).any(axis=1).sum())
        raise ValueError(f"{where}: {bad:,} of {len(y):,} are missing or not finite; remove those samples.")
    binary = bool(((y == 0) | (y == 1)).all())
    labels = tuple(names) if len(names) == y.shape[1] else tuple(range(y.shape[1]))
    if kind == REGRESSION or (kind is None and y.dtype.kind == "f" and not binary):
        return Targets(_real(y, where), (), REGRESSION)
    if not binary:
        raise ValueError(
            f"{where} have shape {y.shape} and hold other numbers than 0 and 1: several labels a sample are rows of "
            "zeros and ones. For several real targets say kind='regression'."
        )
    if kind != MULTI_LABEL and bool((y.sum(axis=1) == 1).all()) and bool((y.sum(axis=0) > 0).all()):
        note = "the targets were one-hot rows and became classes (kind='multi-label' keeps the rows)"
        return Targets(y.argmax(axis=1).astype(np.int64), labels, CLASSIFICATION, (note,))
    if kind == CLASSIFICATION:
        raise ValueError(
            f"{where} have several labels in a row: no single class. Use kind='multi-label' (ol.problems."
            "classification takes it too), or choose one label."
        )
    return Targets(y.astype(np.float32), labels, MULTI_LABEL)


def _tags(y: np.ndarray, where: str, kind: str | None) -> Targets:
    """Lists of tags, of any length, as zeros and ones over all tags that occur."""
    if kind not in (None, CLASSES, MULTI_LABEL):
        raise ValueError(f"{where} hold a list of labels per sample, which is no {kind}; use kind='multi-label'.")
    rows = [list(v) if _is_list(v) else [v] for v in y]
    missing = sum(any(is_missing(t) for t in row) for row in rows)
    if missing:
        raise ValueError(f"{where}: {missing:,} of {len(rows):,} are missing; an empty list says that none applies.")
    try:
        classes = sorted({tag for row in rows for tag in row})
    except TypeError:
        raise ValueError(
            f"{where}: the lists of labels mix kinds of values; give text or numbers throughout."
        ) from None
    place = {tag: k for k, tag in enumerate(classes)}
    out = np.zeros((len(rows), len(classes)), np.float32)
    for i, row in enumerate(rows):
        out[i, [place[tag] for tag in row]] = 1
    tags = tuple(t.item() if isinstance(t, np.generic) else t for t in classes)
    return Targets(out, tags, MULTI_LABEL)


def _warn_of_measurements(n: int, classes: int, where: str) -> None:
    if classes > MANY and n < FEW * classes:
        warnings.warn(
            f"{where}: the whole numbers are taken as {classes:,} classes, of which {n:,} samples show few each. Are "
            "they measurements (prices, counts, ages)? Then say kind='regression', or use ol.problems.regression.",
            DataWarning,
            stacklevel=4,
        )
