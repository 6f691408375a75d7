"""Memory that torch frees stays with the process."""

from __future__ import annotations

from functools import lru_cache

import torch

LARGE = 31 * 2**20  # bytes; just below the largest block that glibc learns from


@lru_cache(1)
def keep_freed() -> None:
    """glibc gives memory back to the system in every local step, and then asks for it page by page again, until it has seen
    a large block freed: it then keeps about 60 MB. The block is never touched, so it costs nothing.
    """
    torch.empty(LARGE, dtype=torch.uint8)
