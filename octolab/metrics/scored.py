"""What a model says of test samples, beside what is so."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Scored(NamedTuple):
    """labels (N,): class numbers, or targets; scores: (N, C) for C classes, (N,) for two (positive: class 1) or for targets.

    owner (N,): whose sample it is, out of `clients`.
    """

    labels: np.ndarray
    scores: np.ndarray
    owner: np.ndarray
    clients: int

    def of(self, client: int) -> Scored:
        """One client's samples."""
        mine = self.owner == client
        return Scored(self.labels[mine], self.scores[mine], self.owner[mine], self.clients)
