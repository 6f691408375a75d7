"""Additive gradient noise: what makes a quadratic's gradients stochastic."""

from __future__ import annotations

from typing import Any

import torch

from octolab.batches import Batch
from octolab.randomness import Draws


def noisy(g: torch.Tensor, batch: Batch | None) -> torch.Tensor:
    return g if batch is None or batch.noise is None else g + batch.noise


class Noise:
    """Additive gradient noise: `scalar` adds one N(0, sigma^2) number to all coordinates, `iid` one to each.

    A batch of b averages b of them: standard deviation sigma/sqrt(b). The variance is sigma^2 d either way.
    """

    def __init__(self, sigma: float, kind: str):
        if not sigma >= 0:
            raise ValueError(f"noise={sigma!r}: the noise's standard deviation is a number >= 0.")
        if kind not in ("scalar", "iid"):
            raise ValueError(f"noise_kind={kind!r}: choose 'scalar' (one number for all coordinates) or 'iid'.")
        self.sigma, self.kind = float(sigma), kind

    def draw(self, size: Any, m: int, d: int, draws: Draws, dtype: torch.dtype) -> Batch:
        if self.sigma == 0:
            given = draws.source.scripts("noise")  # a script may bring noise to a problem that has none of its own
            return Batch(None, None, draws.normal(d).to(dtype) if given else None)
        z = draws.normal(1 if self.kind == "scalar" else d).to(dtype)
        sizes = torch.as_tensor(size, dtype=dtype)
        scale = self.sigma / sizes.sqrt()
        return Batch(None, None, (z * (scale[:, None] if scale.dim() else scale)).expand(m, d))
