"""Messages that know their exact bits: what clients and server send each other.

Every kind gives ``dense()``, ``bits``, ``encode()`` with ``len == ceil(bits / 8)`` and ``Payload.decode(data,
meta)``, for one message or for the stacked messages of m clients; see :class:`Payload`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from octolab.arguments import short
from octolab.errors import WrongArgument
from octolab.payloads.base import Payload, ordered_sum
from octolab.payloads.bitstream import FLOAT_BITS, INDEX_CODES, index_bits
from octolab.payloads.composed import Blocks, Buckets, Bundle, Gated, Rescaled
from octolab.payloads.matrices import LowRank, Symmetric, upper
from octolab.payloads.plain import Dense, Masked, Scalars
from octolab.payloads.quantized import Grid, Quantized
from octolab.payloads.ragged import Ragged
from octolab.payloads.sparse import Sparse

__all__ = [
    "FLOAT_BITS",
    "INDEX_CODES",
    "Blocks",
    "Buckets",
    "Bundle",
    "Dense",
    "Gated",
    "Grid",
    "LowRank",
    "Masked",
    "Payload",
    "Quantized",
    "Ragged",
    "Rescaled",
    "Scalars",
    "Sparse",
    "Symmetric",
    "as_payload",
    "index_bits",
    "ordered_sum",
    "upper",
]


def as_payload(message: Any) -> Payload:
    """A payload as it is; a tensor (d,), (m, d) or (m, d, p) as Dense. One number per client: ``Scalars``."""
    if isinstance(message, Payload):
        return message
    if not isinstance(message, Tensor):
        raise WrongArgument(
            f"message={short(message)} cannot be sent: give a tensor or a payload, no {type(message).__name__}."
        )
    if message.dim() == 0:
        return Scalars(message)
    if message.dim() > 3:
        raise ValueError(f"a tensor of shape {tuple(message.shape)} is no stack of vectors or matrices; flatten it.")
    return Dense(message, axes=2 if message.dim() == 3 else 1)
