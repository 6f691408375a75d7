"""What users hold (NumPy, torch, pandas, SciPy's sparse matrices, lists) as plain NumPy arrays, or a sentence why not."""

from __future__ import annotations

import warnings
from decimal import Decimal
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from octolab.data.errors import DataWarning

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from scipy.sparse import sparray

DENSE = 2**28  # numbers that a sparse matrix may become: 1 GB in float32
FAR = 50.0  # test features that are so many times larger or smaller than training features are on another scale
EXACT = {4: 2**24, 2: 2**11}  # whole numbers up to which floats of so many bytes are exact


def plain(given: object, what: str) -> np.ndarray:
    """`given` as a NumPy array. Missing values become NaN (numbers) or stay None (objects).

    Tensors are detached and brought to the CPU, half precision to float32; sparse matrices become dense; pandas'
    nullable numbers become floats; lists of arrays of one shape are stacked. `what` names it in sentences.
    """
    if _is_tensor(given):
        return _tensor(given)
    if _is_sparse(given):
        return _dense(given, what)
    if isinstance(given, np.ma.MaskedArray):
        return np.ma.filled(given.astype(float), np.nan) if np.ma.is_masked(given) else np.asarray(given.data)
    if is_frame(given):
        return np.stack([_series(given.iloc[:, k]) for k in range(given.shape[1])] or [np.empty(0)], axis=1)
    if _is_series(given):
        return _series(given)
    if isinstance(given, (list, tuple)) and len(given) and _is_tensor(given[0]):
        given = [_tensor(part) for part in given]
    try:
        values = np.asarray(given)
    except ValueError:
        raise ValueError(f"{what}: the entries have different shapes; all samples need one shape.") from None
    if values.dtype.kind in "US" and isinstance(given, (list, tuple)) and values.ndim == 1:
        values = np.array(given, object)  # NumPy would make text of numbers and None beside it
    if values.dtype.kind == "c":
        raise ValueError(f"{what} hold complex numbers (dtype {values.dtype}): give real numbers.")
    return _objects(values) if values.dtype.kind == "O" else values


def is_missing(value: object) -> bool:
    """None, NaN, pandas' NA and NaT."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, np.floating)) and value != value


def _is_tensor(given: object) -> TypeGuard[torch.Tensor]:
    return hasattr(given, "detach") and hasattr(given, "cpu")


def _is_sparse(given: object) -> TypeGuard[sparray]:
    return hasattr(given, "toarray") and hasattr(given, "nnz")


def is_frame(given: object) -> TypeGuard[pd.DataFrame]:
    """A pandas DataFrame, or what is used like one."""
    return hasattr(given, "iloc") and hasattr(given, "columns")


def has_index(given: object) -> TypeGuard[pd.DataFrame | pd.Series]:
    """A DataFrame or Series of pandas: its rows have names."""
    return hasattr(given, "iloc") and hasattr(given, "index")


def _is_series(given: object) -> TypeGuard[pd.Series]:
    """Series, Index and pandas' arrays."""
    return hasattr(given, "dtype") and hasattr(given, "isna")


def numbers(given: object, what: str) -> np.ndarray:
    """`given` as finite real numbers (booleans, integers or floats); ValueError, in words, for anything else."""
    values = plain(given, what)
    if values.dtype.kind not in "biuf":
        kind = {"c": "complex numbers", "M": "dates", "m": "spans of time", "U": "text", "S": "text"}
        raise ValueError(
            f"{what} hold {kind.get(values.dtype.kind, 'what is no number')} (dtype {values.dtype}); they must be real "
            "numbers. Encode them first; a table is encoded by ol.data.from_frame(df, target=...)."
        )
    if values.dtype.kind == "f":
        bad = ~np.isfinite(values)
        if bad.any():
            rows = int(bad.reshape(len(values), -1).any(axis=1).sum()) if values.ndim else 1
            raise ValueError(
                f"{what}: {rows:,} of {len(values) if values.ndim else 1:,} samples hold inf or nan (a missing value). "
                "Fill these in, or remove the samples."
            )
    return values


def labels(given: object, what: str) -> np.ndarray:
    """`given` as finite numbers, one row per sample; a sentence about text, which must be encoded before."""
    values = plain(given, what)
    if values.dtype.kind in "OUS":
        some = ", ".join(repr(v) for v in values.ravel()[:3].tolist())
        raise ValueError(
            f"{what} are text or objects ({some}, ...); here labels are numbers, classes 0, 1, 2, .... Give "
            "np.unique(labels, return_inverse=True)[1], or let ol.data.from_arrays(X, y) encode them."
        )
    return numbers(values, what)


def as_float(values: np.ndarray, dtype: np.dtype, what: str) -> np.ndarray:
    """`values` in a float dtype; a DataWarning where different whole numbers become one."""
    most = EXACT.get(np.dtype(dtype).itemsize)
    if most is not None and values.dtype.kind in "iu" and values.size and int(np.abs(values).max()) > most:
        made = values.astype(dtype)
        if (made.astype(np.float64) != values.astype(np.float64)).any():
            warnings.warn(
                f"{what} hold whole numbers up to {int(values.max()):,}, which {np.dtype(dtype).name} cannot tell "
                "apart (identifiers or timestamps?). Leave them out, or subtract their least value.",
                DataWarning,
                stacklevel=2,
            )
        return made
    return values.astype(dtype, copy=False)


def check_alike(train: np.ndarray, test: np.ndarray, what: str) -> None:
    """Whether test features are like the training features: ValueError for another shape, a DataWarning for another scale."""
    if test.shape[1:] != train.shape[1:]:
        raise ValueError(
            f"{what} have shape {tuple(test.shape[1:])} a sample and the training features {tuple(train.shape[1:])}; "
            "both must be alike."
        )
    if train.size and test.size and train.dtype.kind == "f":
        a, b = (max(abs(float(v.max())), abs(float(v.min()))) for v in (train, test))
        if min(a, b) > 0 and max(a / b, b / a) > FAR:
            warnings.warn(
                f"{what} reach {b:.4g} and the training features {a:.4g}: they seem to be on two scales. Bring both "
                "to one, else test metrics mean nothing.",
                DataWarning,
                stacklevel=2,
            )


def _tensor(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if getattr(tensor, "is_quantized", False):
        tensor = tensor.dequantize()
    if str(tensor.layout) != "torch.strided":
        tensor = tensor.to_dense()
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.float()  # exact: NumPy has no bfloat16
    return tensor.resolve_conj().resolve_neg().numpy()


def _dense(given: sparray, what: str) -> np.ndarray:
    size = int(np.prod(given.shape, dtype=np.int64))
    if size > DENSE:
        raise ValueError(
            f"{what} are a sparse matrix of shape {tuple(given.shape)}, {size:,} numbers when dense; octolab trains on "
            f"dense ones, up to {DENSE:,}. Keep fewer columns (feature selection, hashing, truncated SVD)."
        )
    return np.asarray(given.toarray())


def _series(given: pd.Series) -> np.ndarray:
    """A pandas Series, Index or array: missing numbers as NaN, other missing values as None."""
    dtype = given.dtype
    if getattr(dtype, "kind", "O") in "biuf" and not isinstance(dtype, np.dtype):  # nullable, sparse or Arrow numbers
        return given.to_numpy(dtype="float64", na_value=np.nan) if given.isna().any() else given.to_numpy()
    values = np.asarray(given, dtype=object) if not isinstance(dtype, np.dtype) else np.asarray(given)
    if values.dtype.kind == "O":
        gaps = np.asarray(given.isna())
        if gaps.any():
            values = values.copy()
            values[gaps] = None
        values = _objects(values)
    return values


def _objects(values: np.ndarray) -> np.ndarray:
    """An array of objects as numbers where all are numbers (or missing), or as one array of arrays of one shape."""
    flat = values.ravel()
    if len(flat) == 0:
        return values
    if all(is_missing(v) or isinstance(v, (bool, int, float, np.number, np.bool_, Decimal)) for v in flat):
        if all(isinstance(v, (bool, np.bool_)) for v in flat):
            return values.astype(bool)
        if all(isinstance(v, (int, np.integer)) for v in flat):
            return values.astype(np.int64) if max(abs(int(v)) for v in flat) < 2**63 else values.astype(np.float64)
        return np.array([np.nan if is_missing(v) else float(v) for v in flat]).reshape(values.shape)
    first = flat[0]
    if values.ndim == 1 and (isinstance(first, (list, tuple, np.ndarray)) or hasattr(first, "detach")):
        try:
            return np.stack([_tensor(v) if hasattr(v, "detach") else np.asarray(_lists(v)) for v in flat])
        except (ValueError, TypeError):
            return values
    return values


def _lists(value: object) -> object:
    """Nested arrays of arrays (what pyarrow gives for lists of lists) as nested lists."""
    return [_lists(v) for v in value] if isinstance(value, np.ndarray) and value.dtype == object else value
