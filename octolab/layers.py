"""The named pieces of a flat model."""

from __future__ import annotations

from typing import NamedTuple


class Layer(NamedTuple):
    """A named piece of the flat model. role: matrix, embedding, head, vector or conv."""

    name: str
    shape: tuple[int, ...]
    role: str
    start: int
    stop: int
