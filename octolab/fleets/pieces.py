"""Piecewise-constant functions of time, one per device, in three arrays: no object per device."""

from __future__ import annotations

import numpy as np


class Pieces:
    """p_i(t) >= 0: `values[k]` holds from `times[k]` on, k in starts[i]..starts[i+1]; 0 before the first."""

    def __init__(self, starts: np.ndarray, times: np.ndarray, values: np.ndarray):
        self.starts, self.times, self.values = starts, times, values

    def value(self, clients: np.ndarray, now: float) -> np.ndarray:
        """(m,) p_i(now)."""
        out = np.zeros(len(clients))
        for row, i in enumerate(np.asarray(clients).tolist()):
            a, b = self.starts[i], self.starts[i + 1]
            k = int(np.searchsorted(self.times[a:b], now, side="right")) - 1
            out[row] = self.values[a + k] if k >= 0 else 0.0
        return out

    def finish(self, clients: np.ndarray, start: np.ndarray, amount: np.ndarray) -> np.ndarray:
        """(m,) the first t with integral_start^t p_i >= amount; inf if that never comes."""
        clients = np.asarray(clients)
        start, amount = np.broadcast_to(start, clients.shape), np.broadcast_to(amount, clients.shape)
        rows = zip(clients.tolist(), start.tolist(), amount.tolist(), strict=True)
        return np.array([self._one(i, t, w) for i, t, w in rows], dtype=float)

    def _one(self, i: int, now: float, left: float) -> float:
        if not np.isfinite(left) or not np.isfinite(now):
            return np.inf
        if left <= 0:
            return now
        a, b = int(self.starts[i]), int(self.starts[i + 1])
        k = a + int(np.searchsorted(self.times[a:b], now, side="right")) - 1
        while k < b:
            end = float(self.times[k + 1]) if k + 1 < b else np.inf
            power = float(self.values[k]) if k >= a else 0.0
            if power > 0 and now + left / power <= end:
                return now + left / power
            if end == np.inf:
                return np.inf
            left -= power * (end - now)
            now, k = end, k + 1
        return np.inf
