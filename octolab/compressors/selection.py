"""Which entries a sparsifier keeps, and norms: the row kernels under the compressors.

Each row's result depends on that row alone, bit for bit: stacked and one by one agree, with any number of threads.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

FEW = 4  # entries up to which looking k times for the largest is the fastest
SHORT = 1024  # length of rows up to which torch.topk beats numpy's partition
CACHE_ENTRIES = 2**16  # rows are scanned in blocks of about this many entries, which stay in the L2 cache


def largest(x: Tensor, k: int) -> Tensor:
    """Positions of the k largest magnitudes of each row, ascending; ties go to the lowest index. (m, d) ->
    (m, k).

    Selection is np.partition's k-th value as a threshold, then one comparison; only rows with a tie across
    the threshold are looked at again. NaN counts as infinitely large, so a diverging run is seen by the receiver.
    """
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        # a stable descending sort keeps the lowest index first among equals
        order = torch.sort(x.abs().nan_to_num(nan=torch.inf, posinf=torch.inf), dim=1, descending=True, stable=True)
        return order.indices[:, :k].sort(dim=1).values
    m, d = x.shape
    if k <= FEW:
        return _few_largest(x, k)
    if d <= SHORT and k < d:
        found_short = _largest_of_short(x, k)
        if found_short is not None:
            return found_short
    rows = x.numpy()
    found = np.empty((m, k), dtype=np.int64)
    step = max(1, CACHE_ENTRIES // d)
    for start in range(0, m, step):
        magnitude = np.abs(rows[start : start + step])
        threshold = np.partition(magnitude, d - k, axis=1)[:, d - k]
        keep = magnitude >= threshold[:, None]
        flat = np.flatnonzero(keep)
        count = len(magnitude)
        first = np.arange(count) * d
        if len(flat) != count * k or (flat[k - 1 :: k] >= first + d).any() or (flat[::k] < first).any():
            _settle_ties(magnitude, k, keep)
            flat = np.flatnonzero(keep)
        found[start : start + step] = flat.reshape(count, k) - first[:, None]
    return torch.from_numpy(found)


def _few_largest(x: Tensor, k: int) -> Tensor:
    """The same by looking for the largest k times, each time the first of equals."""
    left = np.abs(x.numpy())
    if k == 1:
        return torch.from_numpy(left.argmax(1, keepdims=True))
    found, rows = np.empty((len(left), k), dtype=np.int64), np.arange(len(left))
    for j in range(k):
        found[:, j] = at = left.argmax(1)
        left[rows, at] = -1
    found.sort(axis=1)
    return torch.from_numpy(found)


def _largest_of_short(x: Tensor, k: int) -> Tensor | None:
    """The same for short rows by torch.topk, which breaks ties at will: None if one lies across the threshold."""
    values, indices = x.abs().topk(k + 1, dim=1)
    edge = values.numpy()
    if (edge[:, k - 1] == edge[:, k]).any():
        return None
    return torch.from_numpy(np.sort(indices.numpy()[:, :k], axis=1))


def _settle_ties(magnitude: np.ndarray, k: int, keep: np.ndarray) -> None:
    """Make every row of ``keep`` mark exactly k entries: all above the k-th value, then its first equals."""
    tied = np.flatnonzero(keep.sum(axis=1) != k)
    rows = np.where(np.isnan(magnitude[tied]), np.inf, magnitude[tied])
    threshold = np.partition(rows, rows.shape[1] - k, axis=1)[:, rows.shape[1] - k, None]
    keep[tied] = _first_of(rows, threshold, np.full((len(tied), 1), k))


def _first_of(rows: np.ndarray, threshold: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Marks exactly k (r, 1) entries of each row: all above its threshold (r, 1), then the first that equal it."""
    above, equal = rows > threshold, rows == threshold
    room = k - above.sum(axis=1, keepdims=True)
    return np.asarray(above | (equal & (np.cumsum(equal, axis=1) <= room)))


def largest_each(x: Tensor, k: Tensor) -> Tensor:
    """The k[r] largest magnitudes of row r, marked: x (m, d), k (m,) in 1..d -> bool (m, d). Ties and NaN: `largest`.

    One sort of the magnitudes gives every row its own threshold.
    """
    d = x.shape[1]
    magnitude = x.abs().cpu().nan_to_num_(nan=torch.inf, posinf=torch.inf).numpy()
    wanted = k.cpu().numpy()[:, None]
    threshold = np.take_along_axis(np.sort(magnitude, axis=1), d - wanted, axis=1)
    keep = magnitude >= threshold
    tied = np.flatnonzero(keep.sum(axis=1) != wanted[:, 0])
    if len(tied):
        keep[tied] = _first_of(magnitude[tied], threshold[tied], wanted[tied])
    return torch.from_numpy(keep).to(x.device)


def energies(x: Tensor) -> np.ndarray:
    """Captured energy E_k, k = 1..d: the share of |x|^2 in the k largest entries. (m, d) -> (m, d) float64, rising to 1.

    A zero row, and one that is not finite, has E_k = 1 throughout.
    """
    squares = np.sort(x.detach().cpu().numpy().astype(np.float64) ** 2, axis=1)[:, ::-1]
    sums = np.cumsum(squares, axis=1)
    total = sums[:, -1:]
    whole = np.isfinite(total) & (total > 0)
    return np.where(whole, sums / np.where(whole, total, 1.0), 1.0)


def row_sums(x: Tensor) -> Tensor:
    """Sum of each row, (m, d) -> (m, 1), in an order that depends on d alone (numpy's pairwise summation)."""
    if x.device.type != "cpu":
        return x.sum(1, keepdim=True)
    return torch.from_numpy(np.ascontiguousarray(x.numpy()).sum(axis=1, keepdims=True))


def row_norms(x: Tensor, norm: int | str) -> Tensor:
    """Norm of each row, (m, d) -> (m, 1); norm 1, 2 or "inf"."""
    if norm == "inf":
        return x.abs().amax(1, keepdim=True)
    return row_sums(x.abs()) if norm == 1 else row_sums(x * x).sqrt()
